"""`fathom doctor RUN --fix`: a finished run made again with the recipe that its findings ask for, and kept if better.

The same seed, split and number of steps; both networks are compared on validation rows, by the rule that the referee
goes by. What a reader would get wrong: the run itself is never changed. The new one stands beside it as RUN-mended, and
is removed again where it is not better.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathom import api, recipe, rooms
from fathom.console import Console
from fathom.data import Task
from fathom.decision import Candidate, decide
from fathom.divide import divide
from fathom.doctor.finding import CATALOGUE, Finding, in_order_of_blame
from fathom.errors import UserError
from fathom.learn import learn
from fathom.prepare import prepare, read
from fathom.recipe import Recipe
from fathom.run import RunFolder
from fathom.store import load_network
from fathom.styles import style_of

Say = Callable[[str], None]
FAR = 3.0  # times the rate that is usual for the network, or a part of it: beyond that it is taken for the cause
SMOOTHING, CLIP, LEAST_BATCH, DECAY = 0.1, 1.0, 32, 3.0
OUTSIDE = {
    "D2": "take copies out of the data, or name what belongs together with --group",
    "D3": "name the column with --group or --time, and fit again: another split cannot be compared with this one",
    "D4": "if the column is not known when predictions are made, leave it out with --drop",
    "D5": "fit the preparation on training rows only",
    "D6": "look at the rows that are named",
    "D8": "make the split anew, or gather rows as they will come",
    "D9": "check how rows and answers were joined",
    "A1": "check the split",
    "A2": "the run advises another model",
}  # fmt: skip


class Edit(NamedTuple):
    """A change of a recipe, and the finding that asks for it."""

    of: str
    key: str
    value: Any
    metric: str | None = None  # by which it is judged, where that is not the run's own


@dataclass
class Past:
    """What is read of the run."""

    folder: RunFolder
    recipe: Recipe
    findings: list[Finding]
    usual_rate: float


def mend_run(run: str | Path, *, say: Say) -> list[Finding]:
    """The run's findings, causes first; those that were mended say so in their evidence.

    `say` is told what is done, and what cannot be mended from here. Raises UserError for a run that is not finished,
    and for one that was fitted on data in memory.
    """
    past = _read(RunFolder.open_finished(run))
    edits = list(edits_for(past.findings, past.recipe, past.usual_rate))
    asked = {edit.of for edit in edits}
    for one in past.findings:
        if one.id not in asked:
            say(f"{one.id} cannot be mended from here: {OUTSIDE.get(one.id, one.remedy)}")
    if not edits:
        say("Nothing to mend.")
        return in_order_of_blame(past.findings)
    if past.recipe.data is None:
        raise UserError(f"{run} was fitted on data in memory, which is gone: it cannot be made again.")
    told = ", ".join(f"{edit.key}={_shown(edit.value)} ({edit.of})" for edit in edits)
    say(f"The run is made again with {told}.")
    out = _free(past.folder.path)
    api.make(_edited(past.recipe, edits), out=out, console=Console(quiet=True))
    look = _compare(past.folder, RunFolder.open(out), next((e.metric for e in edits if e.metric), None))
    low, high = look["interval"]
    numbers = f"{look['metric']} on validation rows {look['of']:.4g} → {look['to']:.4g} (gain {low:.3g} to {high:.3g})"
    if not look["is_better"]:
        shutil.rmtree(out)
        say(f"Not better: {numbers}. The new run is removed; {past.folder.path} stays as it was.")
        return in_order_of_blame(past.findings)
    RunFolder(out).write_json(
        "mended.json", {"of": str(past.folder.path), "edits": [e._asdict() for e in edits], "look": look}
    )
    say(f"Better: {numbers}. It is kept in {out}; {past.folder.path} stays as it was.")
    for one in past.findings:
        if one.id in asked:
            one.evidence["mended"] = f"{told}: {numbers}, in {out}"
    return in_order_of_blame(past.findings)


def edits_for(findings: Sequence[Finding], given: Recipe, usual_rate: float) -> list[Edit]:
    """What the findings ask to be changed in a recipe, each key once, by the first that asks."""
    train, edits = given.train, dict[str, Edit]()

    def ask(of: str, key: str, value: Any, metric: str | None = None) -> None:
        edits.setdefault(key, Edit(of, key, value, metric))

    for one in findings:
        if one.id in ("T1", "T5", "F10"):
            ask(one.id, "train.learning_rate", _rate(one, given, usual_rate))
            if not train.mend:
                ask(one.id, "train.mend", True)
        if one.id in ("T1", "T2") and train.clip is None:
            ask(one.id, "train.clip", CLIP)
        if one.id == "T4":
            ask("T4", "train.learning_rate", (train.learning_rate or usual_rate) / 3)
        if one.id == "T6":
            ask("T6", "train.weight_decay", DECAY * (train.weight_decay or 0.01))
        if one.id == "F7" and (train.batch_size or LEAST_BATCH) < LEAST_BATCH:
            ask("F7", "train.batch_size", LEAST_BATCH)
        if one.id == "A3" and one.evidence.get("sure", 0) > one.evidence.get("right", 1) and not train.label_smoothing:
            ask("A3", "train.label_smoothing", SMOOTHING, "log_loss")
        if one.id == "D7" and "recall" in one.evidence and train.class_weights is None:
            ask("D7", "train.class_weights", "balanced", "balanced_accuracy")
        if one.id == "D1" and "rows" not in one.evidence and given.target not in one.evidence["columns"]:
            ask("D1", "drop", [*given.drop, *one.evidence["columns"]])
    return [edit for edit in edits.values() if edit.value != _now(given, edit.key)]


def _rate(one: Finding, given: Recipe, usual: float) -> float:
    """What an experiment found; else what is usual, if the rate was far from it; else a third of it."""
    rate = given.train.learning_rate or usual
    if "suggested" in one.evidence:
        return float(one.evidence["suggested"])
    if not usual / FAR <= rate <= usual * FAR:
        return usual
    return rate / 3 if one.id == "T1" else rate


def _now(given: Recipe, key: str) -> Any:
    value: Any = given
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _edited(given: Recipe, edits: Sequence[Edit]) -> Recipe:
    """The same seed, split and number of steps, unless batches are of another size. What went back is decided anew."""
    values = recipe.to_mapping(copy.deepcopy(given))
    for edit in edits:
        recipe.put(values, edit.key, edit.value)
    values["train"]["mended"] = []
    if any(edit.key == "train.batch_size" for edit in edits):
        values["train"]["corrections"], values["train"]["stopped"] = [], []
    return recipe.from_mapping(values)


def _read(folder: RunFolder) -> Past:
    kept = folder.read_json("findings.json")
    kept = kept.get("findings", []) if isinstance(kept, dict) else kept
    told = [_finding(one) for one in kept if one["id"] in CATALOGUE]
    # Of each kind once: folds find the same.
    found = list({(one.id, one.evidence.get("kind"), str(one.evidence.get("columns"))): one for one in told}.values())
    given = recipe.load(folder.inside("recipe.yaml"))
    if given.model.name in (None, "none"):
        return Past(folder, given, found, 1e-3)
    task = Task.from_json(folder.read_json("spec.json")["task"])
    rows = int(folder.read_json("metrics.json")["rows"]["train"])
    usual = style_of(str(given.model.name), task)(folder.read_json("config.json")["about"], rows, task)
    past = Past(folder, given, found, usual.train.learning_rate or 1e-3)
    went_back = [fold[-1][1] for fold in given.train.mended if fold]
    if went_back and not any(one.id in ("T1", "F10") for one in found):
        found.append(_too_high(given, min(went_back)))
    return past


def _too_high(given: Recipe, factor: float) -> Finding:
    rate = given.train.learning_rate or 0.0
    return Finding(
        "F10",
        seen=f"The training went back, and ended at {factor:.3g} times the planned rate of {rate:g}",
        cause="The learning rate was too high for the first steps.",
        remedy=f"Take a learning rate of about {rate * factor:g} from the beginning.",
        by="experiment",
        evidence={"suggested": rate * factor},
    )


def _finding(kept: dict[str, Any]) -> Finding:
    names = ("id", "seen", "cause", "remedy", "by", "confidence", "step")
    return Finding(**{name: kept[name] for name in names}, evidence=dict(kept["evidence"]))


def _free(path: Path) -> Path:
    """RUN-mended beside RUN, or RUN-mended-2, … where that is taken."""
    number, found = 1, path.with_name(f"{path.name}-mended")
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-mended-{number}")
    return found


def _compare(old: RunFolder, new: RunFolder, metric: str | None) -> dict[str, Any]:
    """Whether the new network beats the old one on the validation rows of both, and by how much."""
    (before, targets, units), (after, again, _) = _held_out(old), _held_out(new)
    assert np.array_equal(targets, again), "both runs are judged by the same rows"
    metrics = old.read_json("metrics.json")
    name = metric if metric in rooms.names("measures") else str(metrics["metric"])
    module = rooms.find("measures", name)
    both = [Candidate(n, r, v, v[:0], 0.0, "network") for n, r, v in (("before", 0, before), ("mended", 1, after))]
    advised, looks = decide(both, targets, name, module, seed=recipe.load(old.inside("recipe.yaml")).seed, units=units)
    gain = looks[0]["interval"] if looks else [0.0, 0.0]
    of, to = (float(module.measure(values, targets)) for values in (before, after))
    return {"metric": name, "of": of, "to": to, "interval": gain, "is_better": advised.name == "mended"}


def _held_out(folder: RunFolder) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What the network says of validation rows, their targets, and which of them belong together."""
    given = recipe.load(folder.inside("recipe.yaml"))
    prepared = prepare(read(given, given.data), given, _nobody)
    divided = divide(prepared, given, _nobody)
    learned = learn(prepared, given, divided.fitting)
    values = load_network(folder).held_out(learned.examples, divided.folds)
    units = divided.groups
    return values, learned.targets[divided.judged], None if units is None else units[divided.judged]


def _nobody(label: str, text: str) -> None:
    """Told of nothing: the run has said it already."""
