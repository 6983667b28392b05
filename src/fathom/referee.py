"""The verdict: which model to use. Decided on validation rows alone; test rows choose nothing and only report.

The simplest candidate that nothing more complex beats is advised. So ties go to the simpler model, and "not beaten" is
not "as good": few validation rows beat nobody. Give out-of-fold predictions where rows are few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from fathom import intervals
from fathom.data import Task, jsonable
from fathom.decision import Candidate, decide
from fathom.ensemble import average, select
from fathom.evaluate import conformal, confusion, coverage, evaluate, interval, measures_of, resampled_measure
from fathom.rooms import nearest
from fathom.wording import sentence

RULE = "the simplest candidate that nothing more complex beats on validation rows"

__all__ = ["Candidate", "Verdict", "average", "difference", "judge", "select"]


@dataclass(frozen=True)
class Verdict:
    """What is advised and why; `to_json` is what metrics.json keeps of it."""

    advised: str
    sentence: str
    task: str
    metric: str
    validation: dict[str, dict[str, Any]]  # candidate → measure → value, "interval" of the metric, "intervals"
    test: dict[str, dict[str, Any]]  # the same, with "seconds_per_row", and "coverage" of a number's intervals
    difference: dict[str, Any]  # on test rows: {"of", "to", "measure", "value", "interval", "p"}
    decision: dict[str, Any]  # on validation rows: {"rule", "order", "looks": [...], "rows"}
    classes: tuple[str, ...] = ()
    confusion: list[list[int]] | None = None
    members: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Its part of metrics.json; numbers that are not defined are null."""
        value = {"version": 1, "task": self.task, "metric": self.metric, "advised": self.advised,
                 "sentence": self.sentence, "validation": self.validation, "test": self.test,
                 "difference": self.difference, "decision": self.decision, "members": self.members,
                 "confusion": self.confusion, "classes": list(self.classes)}  # fmt: skip
        return jsonable(value)


def judge(
    candidates: Sequence[Candidate],
    validation_targets: np.ndarray,
    test_targets: np.ndarray,
    task: Task,
    metric: str,
    *,
    seed: int,
    validation_units: np.ndarray | None = None,
    test_units: np.ndarray | None = None,
    noun: str = "row",
) -> Verdict:
    """Advise one of the candidates: the first, from the simplest, that no more complex one beats on validation rows.

    What beats what, and why so, stands in `decision.decide`. `*_units` label rows that belong together (patients,
    days). `noun` is what a row is called ("picture"). The sentence compares the advised network with the best
    baseline, an advised baseline with the best network, and an ensemble with the best single model, all on test rows.

    Raises ValueError for an unknown metric, no candidates, or predictions that do not fit the targets.
    """
    _check(candidates, validation_targets, test_targets, task, metric)
    ordered = sorted(candidates, key=lambda candidate: candidate.rank)
    modules = measures_of(task)
    by = _defined(metric, ordered, validation_targets, modules)
    advised, looks = decide(ordered, validation_targets, by, modules[by], seed=seed, units=validation_units)
    validation = {
        c.name: _report(c.validation, validation_targets, task, metric, seed, validation_units) for c in ordered
    }
    test = {
        c.name: _report(c.test, test_targets, task, metric, seed, test_units) | {"seconds_per_row": c.seconds_per_row}
        for c in ordered
    }
    if task.kind == "regress" and len(validation_targets) > 1:
        for one in ordered:
            spec = conformal(one.validation, validation_targets, seed=seed, ends=one.validation_ends)
            validation[one.name]["conformal"] = spec
            test[one.name]["coverage"] = coverage(*interval(one.test, spec, one.test_ends), test_targets)
    other = _rival(advised, ordered, validation_targets, modules[by])
    found: dict[str, Any] = {}
    if other is not None:
        of, to = sorted((advised, other), key=ordered.index, reverse=True)
        found = difference(of, to, test_targets, metric, modules[metric], units=test_units, seed=seed)
    reasons = dict.fromkeys(look["reason"] for look in looks if "reason" in look)
    return Verdict(
        advised=advised.name,
        sentence="; ".join([sentence(advised, other, found, test, modules[metric], noun), *reasons]),
        task=task.kind,
        metric=metric,
        validation=validation,
        test=test,
        difference=found,
        decision={"rule": RULE, "metric": by, "order": [c.name for c in ordered], "looks": looks,
                  "rows": len(validation_targets)},
        classes=task.classes,
        confusion=confusion(advised.test, test_targets, task.num_outputs) if task.kind == "classify" else None,
        # Whether or not it is advised: it can be named.
        members=next((one.members for one in ordered if one.members), {}),
    )  # fmt: skip


def _check(
    candidates: Sequence[Candidate], validation_targets: np.ndarray, test_targets: np.ndarray, task: Task, metric: str
) -> None:
    known = measures_of(task)
    if metric not in known:
        raise ValueError(f"There is no measure '{metric}' for a {task.kind} task. {nearest(metric, known)}")
    if not candidates or not len(validation_targets):
        raise ValueError("A verdict needs at least one candidate and one validation row.")
    for one in candidates:
        for part, values, targets in (
            ("validation", one.validation, validation_targets),
            ("test", one.test, test_targets),
        ):
            shape = (len(targets), task.num_outputs) if task.kind in ("classify", "pair") else (len(targets),)
            if values.shape != shape:
                raise ValueError(f"{one.name}: {part} predictions have shape {values.shape}; expected {shape}.")
            if values.dtype != object and not np.isfinite(values).all():
                raise ValueError(f"{one.name}: {int((~np.isfinite(values)).sum())} {part} predictions are not finite.")


def _defined(metric: str, candidates: Sequence[Candidate], targets: np.ndarray, modules: dict[str, ModuleType]) -> str:
    """The metric, or the one that always has a value where validation rows leave it undefined (one class for AUC)."""
    if all(math.isfinite(modules[metric].measure(c.validation, targets)) for c in candidates):
        return metric
    return next((name for name in ("log_loss", "rmse") if name in modules), metric)


def _rival(advised: Candidate, ordered: list[Candidate], targets: np.ndarray, module: ModuleType) -> Candidate | None:
    """Whom the sentence compares with: the best network where a baseline is advised, the best baseline where a network
    is, the best single model where an ensemble is; chosen on validation rows."""
    others = [c for c in ordered if c is not advised]
    wanted = {"baseline": ("network",), "network": ("baseline",), "ensemble": ("baseline", "network")}[advised.kind]
    pool = [c for c in others if c.kind in wanted] or others
    sign = 1 if module.HIGHER_IS_BETTER else -1
    return max(pool, key=lambda c: sign * module.measure(c.validation, targets)) if pool else None


def _report(
    predictions: np.ndarray, targets: np.ndarray, task: Task, metric: str, seed: int, units: np.ndarray | None
) -> dict[str, Any]:
    found = evaluate(predictions, targets, task, seed, units=units)
    return {name: entry["value"] for name, entry in found.items()} | {
        "interval": found[metric]["interval"],
        "intervals": {name: entry["interval"] for name, entry in found.items()},
    }


def difference(
    of: Candidate,
    to: Candidate,
    targets: np.ndarray,
    metric: str,
    module: ModuleType,
    units: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """The metric of one candidate less that of another on the same test rows, with a paired interval of 95 % and p.

    In the measure's own unit (0.179 is 17.9 points). p is McNemar's exact one for accuracy, else of the bootstrap;
    it is of this one pair, which validation rows have chosen, and so needs no correction.
    """
    values = [module.measure(c.test, targets) for c in (of, to)]
    value = values[0] - values[1]
    p, ends = math.nan, (math.nan, math.nan)
    if math.isfinite(value) and intervals.num_units(len(targets), units) > 1:
        both = [of.test, to.test]
        found = resampled_measure(module, both, targets, units, seed)
        if found is None:
            pairs = intervals.resampled_values(
                lambda rows: np.array([module.measure(test[rows], targets[rows]) for test in both]),
                len(targets),
                units,
                seed=seed,
            )
            samples = pairs[:, 0] - pairs[:, 1]
            low, high = np.quantile(samples, [0.025, 0.975])
            ends = (float(low), float(high))
        else:
            samples, without = (v[:, 0] - v[:, 1] for v in (found.samples, found.without))
            ends = intervals.bca(value, samples, without)
        p = intervals.share_beyond_zero(samples)
        if metric == "accuracy" and units is None:
            right = [module.per_row(test, targets) > 0 for test in both]
            p = intervals.mcnemar(right[0], right[1])
    return {"of": of.name, "to": to.name, "measure": metric, "value": value, "interval": list(ends), "p": p}
