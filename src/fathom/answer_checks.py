"""What the doctor says of a finished run, from its kept answers to test rows: A1, A2, A3.

The same at the end of `fathom fit` and later by `fathom doctor RUN`: both read the folder. What a reader would get
wrong: with rows in order of time the test is the future, and may be easier for good reasons; A1 is then not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fathom import recipe, rooms
from fathom.data import Task
from fathom.decision import at_temperature, temperature_of
from fathom.doctor.finding import Finding, in_order_of_blame
from fathom.doctor.miscalibrated import find_miscalibrated
from fathom.doctor.too_good import find_perfect_with_leak, find_too_good, of_units
from fathom.doctor.worse_than_simple import find_biased_slices, find_failing_slices, find_worse_than_simple
from fathom.measures import calibration
from fathom.reference import Reference, read_reference, scores_of, spaced
from fathom.run import RunFolder

MOST_ROWS = 20_000  # test rows that are looked at
LEAST_LEVEL = 30  # rows of a category to be a group
SIMPLE = 1  # the rank of the simplest baselines: a constant, a weight for each column
WORSE, SURE = 0.10, 0.001  # of a text's measure: a tenth, by the referee's p


def examine(folder: RunFolder, metrics: Mapping[str, Any]) -> list[Finding]:
    """The findings of family A, causes first. `metrics` is what metrics.json holds or will hold."""
    task = Task.from_json(folder.read_json("spec.json")["task"])
    if task.kind not in ("classify", "regress"):
        return _of_texts(metrics)
    kept = Kept(folder, metrics, task)
    found = [*_too_good(kept), *_worse(kept), *_slices(kept)]
    if task.kind == "classify":
        found += _miscalibrated(kept)
    return in_order_of_blame(found)


class Kept:
    """The answers to some test rows, as a run keeps them."""

    def __init__(self, folder: RunFolder, metrics: Mapping[str, Any], task: Task) -> None:
        self.folder, self.metrics, self.task = folder, metrics, task
        self.reference: Reference | None = read_reference(folder)
        self.predictions = folder.read_table("predictions.parquet")
        every = np.arange(len(self.predictions["truth"]))
        # Groups and categories were kept for some rows only.
        self.rows = spaced(every, MOST_ROWS) if self.reference is None else self.reference.at
        self.units = None if self.reference is None else self.reference.units
        self.advised: str = metrics["advised"]
        truth = self.predictions["truth"][self.rows]
        place = {name: k for k, name in enumerate(task.classes)}
        self.targets = truth if task.kind == "regress" else np.array([place[name] for name in truth], np.int64)
        self.places = [str(place) for place in self.predictions["place"][self.rows]]

    def answers(self, name: str) -> np.ndarray:
        """Probabilities [N, C] or numbers [N] of a candidate."""
        if self.task.kind == "regress":
            return self.predictions[name][self.rows]
        return np.stack([self.predictions[f"{name}:{one}"][self.rows] for one in self.task.classes], axis=1)

    def scores(self, name: str) -> np.ndarray:
        """Of each row or, where rows belong together, of each unit."""
        return of_units(scores_of(self.task.kind, self.answers(name), self.targets), self.units)


def _too_good(kept: Kept) -> list[Finding]:
    reference, of_shares = kept.reference, kept.task.kind == "classify"
    found: list[Finding] = []
    if reference is not None and not reference.about["is_ordered"]:
        train = of_units(reference.train, reference.train_units)
        found = find_too_good(train, kept.scores(kept.advised), of_shares=of_shares)
    score = kept.metrics["test"][kept.advised].get("accuracy" if of_shares else "r2")
    used = list(kept.folder.read_json("spec.json")["fields"])
    known = kept.folder.read_json("findings.json")
    return found or find_perfect_with_leak(float(score or 0), known, used, len(kept.predictions["truth"]))


def _worse(kept: Kept) -> list[Finding]:
    """The advised model and each network beside the simple baseline that was best on validation rows."""
    metrics, names = kept.metrics, rooms.names("baselines")
    measure = rooms.find("measures", metrics["metric"])
    simple = [name for name in metrics["test"] if name in names and rooms.find("baselines", name).RANK <= SIMPLE]
    if not simple:
        return []
    sign = 1 if measure.HIGHER_IS_BETTER else -1
    best = max(simple, key=lambda name: sign * (metrics["validation"][name].get(metrics["metric"]) or 0))
    models = [name for name in metrics["test"] if name not in simple and (name not in names or name == kept.advised)]
    found: list[Finding] = []
    for name in models:
        is_advised = name == kept.advised
        both = kept.scores(name), kept.scores(best)
        found += find_worse_than_simple(name, best, *both, of_shares=kept.task.kind == "classify", advised=is_advised)
    return found


def _slices(kept: Kept) -> list[Finding]:
    if kept.units is not None:
        return []  # rows of one group are wrong together: their number would count for more than it is
    groups: dict[str, np.ndarray] = {}
    for column, values in (kept.reference.slices if kept.reference is not None else {}).items():
        levels, counts = np.unique([str(value) for value in values if value is not None], return_counts=True)
        groups |= {f"{column} = {level}": values == level for level in levels[counts >= LEAST_LEVEL]}
    answers = kept.answers(kept.advised)
    if kept.task.kind == "regress":
        return find_biased_slices(answers - kept.targets, groups, kept.places)
    honest = at_temperature(answers, temperature_of(answers, kept.targets))
    return find_failing_slices(honest, kept.targets, kept.task.classes, groups, kept.places)


def _miscalibrated(kept: Kept) -> list[Finding]:
    if kept.units is not None:
        return []  # the bootstrap takes rows for independent
    answers = kept.answers(kept.advised)
    temperature = kept.reference.about["temperature"] if kept.reference is not None else None
    softened = None if temperature is None else at_temperature(answers, temperature)
    train = recipe.load(kept.folder.inside("recipe.yaml")).train
    return find_miscalibrated(
        answers,
        kept.targets,
        calibration.measure,
        softened=softened,
        temperature=temperature,
        is_softened=bool(train.label_smoothing or train.mixup or train.cutmix or train.focal),
    )


def _of_texts(metrics: Mapping[str, Any]) -> list[Finding]:
    """A network of texts or pairs that is beaten by what it was compared with, by the referee's own paired test."""
    found = metrics.get("difference") or {}
    p, value = found.get("p"), found.get("value")
    names = rooms.names("baselines")
    if p is None or value is None or not p <= SURE or found["of"] in names or found["to"] not in names:
        return []
    measure = rooms.find("measures", found["measure"])
    then, now = (metrics["test"][found[side]][found["measure"]] for side in ("to", "of"))
    worse = (then - now if measure.HIGHER_IS_BETTER else now - then) / max(abs(then), 1e-12)
    if worse < WORSE:
        return []
    seen = f"'{found['of']}' has {measure.LABEL} {now:.4g} on the test rows, and '{found['to']}' {then:.4g}"
    cause = "The network has learned less than a far simpler baseline knows."
    remedy = "The run advises the baseline already; give the network more budget, or see what else is found."
    evidence = {"model": now, "baseline": then, "p": p}
    return [Finding("A2", seen, cause, remedy, by="test", confidence=1 - p, evidence=evidence)]
