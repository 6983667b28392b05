"""What a run remembers of its own rows, to tell later whether new ones are alike: the folder `reference/`.

Staircases of each column and how its cells were written from the rows that trained; the rest from the test rows, which
like new ones trained nothing: categories that are unseen, how strange a row is, what the network sees of it. The
answers to them stand in predictions.parquet. What a reader would get wrong: no row of the data is kept, only numbers
made of rows, and of some test rows the categories that they can be grouped by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.candidates import Candidate, Ensemble, Predictor
from fathom.contest import Contest
from fathom.decision import Candidate as Contender
from fathom.decision import temperature_of
from fathom.doctor.parts.sketch import Numbers, Sketch, Words
from fathom.doctor.skew import Cells
from fathom.encode import Specs
from fathom.errors import UserError
from fathom.observe import Observed, observe, sketch_of
from fathom.prepared import Prepared
from fathom.run import RunFolder

VERSION = 1
FOLDER = "reference"
# A column has at least 17 steps and at most 129; all together have at most so many.
STEPS = 12_000
MOST_COSTLY = 2_000  # pictures and texts that are measured
MOST_TRAIN, MOST_TEST, MOST_FEATURES = 2_000, 5_000, 1_000
MOST_COSTLY_ANSWERS = 500  # training rows that are answered, and test rows that a network looks at, where each costs
MOST_SLICES, MOST_LEVELS = 20, 20


@dataclass(frozen=True)
class Reference:
    """What was kept. `at` are the places of some test rows among all of them; what has a row for each says so."""

    about: dict[str, Any]
    sketches: dict[str, Sketch]
    cells: dict[str, Cells]
    train: np.ndarray  # [M] scores of training rows: 1 right, 0 wrong; or sizes of errors
    train_units: np.ndarray | None  # [M] labels of rows that belong together
    at: np.ndarray  # int64 [T]
    units: np.ndarray | None  # [T]
    slices: dict[str, np.ndarray]  # column → object [T] of str, None where missing
    strange: np.ndarray  # [T]
    features: np.ndarray | None  # [F, D] of some of `at`

    @property
    def scale(self) -> float:
        """The share of rows that are independent of each other."""
        return float(self.about["scale"])


def spaced(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, spread evenly over them."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def strangeness(values: Mapping[str, np.ndarray], sketches: Mapping[str, Sketch], rows: int) -> np.ndarray:
    """How strange each row is [rows]: the surprises of its columns, added up as if they were independent."""
    found = [sketch.surprise(values[name]) for name, sketch in sketches.items() if len(values.get(name, ())) == rows]
    return np.sum(found, axis=0).astype(np.float32) if found else np.zeros(rows, np.float32)


def keep_reference(contest: Contest, prepared: Prepared, candidates: list[Candidate], advised: Contender) -> None:
    """Write what later checks need; a few hundred kilobytes at most."""
    from fathom.penultimate import features_of

    folder, divided, specs = contest.folder, contest.divided, contest.specs
    trained = _observed_training(contest, prepared)
    sketches = _sketches(trained.values)
    at = spaced(np.arange(len(divided.test)), MOST_TEST if not is_costly(specs) else MOST_COSTLY)
    rows = divided.test[at]
    table, examples = prepared.table.take(rows), contest.examples.take(rows)
    seen = observe(table, examples, specs)
    model = _predictor(candidates, advised)
    most = MOST_COSTLY_ANSWERS if is_costly(specs) else MOST_FEATURES
    features = features_of(model, examples.take(spaced(np.arange(len(rows)), most)))
    units = divided.groups
    columns: dict[str, Any] = {"at": at, "strange": strangeness(seen.values, sketches, len(rows))}
    columns |= {} if units is None else {"unit": units[rows]}
    columns |= {f"slice:{name}": values for name, values in _slices(seen.values, specs).items()}
    folder.write_table(f"{FOLDER}/test.parquet", columns)
    folder.write_table(f"{FOLDER}/train.parquet", _train_scores(contest, model, units))
    folder.write_table(f"{FOLDER}/numbers.parquet", _long(sketches))
    folder.write_table(f"{FOLDER}/words.parquet", _long_words(sketches))
    if features is not None:
        folder.write_tensors(f"{FOLDER}/features.safetensors", {"features": features})
    judged = contest.targets[divided.judged]
    is_classify = contest.task.kind == "classify"
    about = {
        "version": VERSION,
        "scale": 1.0 if units is None else float(len(np.unique(units)) / len(units)),
        "is_ordered": contest.recipe.split.time is not None or prepared.table.continues,
        "temperature": temperature_of(advised.validation, judged) if is_classify else None,
        "missing": {name: sketch.missing for name, sketch in sketches.items()},
        "other": {name: sketch.other for name, sketch in sketches.items() if isinstance(sketch, Words)},
        "cells": {name: _cells(one, seen.cells[name]) for name, one in trained.cells.items()},
        "features": features is not None,
    }
    folder.write_json(f"{FOLDER}/about.json", about)  # last: it says that the other files are whole


def is_costly(specs: Specs) -> bool:
    """Whether looking at a row takes more than a glance: pictures and texts."""
    return any(spec["kind"] in ("image", "text", "plain_text") for spec in specs.values())


def _observed_training(contest: Contest, prepared: Prepared) -> Observed:
    rows = contest.divided.fitting
    rows = spaced(rows, MOST_COSTLY) if is_costly(contest.specs) else rows
    return observe(prepared.table.take(rows), contest.examples.take(rows), contest.specs)


def _cells(trained: Cells, unseen: Cells) -> dict[str, int]:
    """Counts in training rows; but categories that training has not, in test rows: there are none in its own."""
    told = trained._replace(unseen=unseen.unseen, unseen_rows=unseen.rows - unseen.empty)
    return dict(zip(Cells._fields[:-1], told[:-1], strict=True))


def _sketches(seen: Mapping[str, np.ndarray]) -> dict[str, Sketch]:
    points = int(np.clip(STEPS // max(len(seen), 1), 17, 129))
    return {name: sketch_of(values, points) for name, values in seen.items()}


def _predictor(candidates: list[Candidate], advised: Contender) -> Predictor:
    by_name = {one.name: one for one in candidates}
    if advised.kind != "ensemble":
        return by_name[advised.name]
    return Ensemble([by_name[name] for name in advised.members], list(advised.members.values()))


def _slices(values: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
    """Categories with few levels, by which rows can be grouped."""
    names = [name for name, spec in specs.items() if spec["kind"] == "category" and len(spec["classes"]) <= MOST_LEVELS]
    return {name: values[name] for name in names[:MOST_SLICES]}


def _train_scores(contest: Contest, model: Predictor, units: np.ndarray | None) -> dict[str, np.ndarray]:
    """Of some training rows, whether they are right or how wrong they are; none for texts and pairs."""
    kind = contest.task.kind
    rows = spaced(contest.divided.fitting, MOST_COSTLY_ANSWERS if is_costly(contest.specs) else MOST_TRAIN)
    rows = rows if kind in ("classify", "regress") else rows[:0]
    scores = scores_of(kind, model.predict(contest.examples.take(rows)), contest.targets[rows]) if len(rows) else rows
    found = {"score": np.asarray(scores, np.float64)}
    return found if units is None else found | {"unit": units[rows]}


def scores_of(kind: str, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1 where the class is right, else 0; of numbers how far they are off [N]."""
    if kind == "classify":
        return (predictions.argmax(axis=1) == targets).astype(np.float64)
    return np.abs(predictions - targets)


def _long(sketches: Mapping[str, Sketch]) -> dict[str, Any]:
    """All staircases under each other."""
    numbers = {name: one for name, one in sketches.items() if isinstance(one, Numbers)}
    return {
        "column": [name for name, one in numbers.items() for _ in one.values],
        "value": np.concatenate([one.values for one in numbers.values()] or [np.empty(0, np.float32)]),
        "at_most": np.concatenate([one.at_most for one in numbers.values()] or [np.empty(0, np.int64)]),
    }


def _long_words(sketches: Mapping[str, Sketch]) -> dict[str, Any]:
    words = {name: one for name, one in sketches.items() if isinstance(one, Words)}
    counted = [(name, word, count) for name, one in words.items() for word, count in one.counts.items()]
    columns = zip(*counted, strict=True) if counted else ((), (), ())
    return dict(zip(("column", "word", "count"), map(list, columns), strict=True))


def read_reference(folder: RunFolder) -> Reference | None:
    """What was kept; None for a run that kept nothing. Raises UserError where it is damaged or from a newer Fathom."""
    if not folder.has(f"{FOLDER}/about.json"):
        return None
    about = folder.read_json(f"{FOLDER}/about.json")
    if about["version"] != VERSION:
        raise UserError(f"{folder.inside(FOLDER)} was kept by another version of Fathom. Fit again.")
    test, train = _table(folder, "test", ("at", "strange")), _table(folder, "train", ("score",))
    features = folder.read_tensors(f"{FOLDER}/features.safetensors")["features"].numpy() if about["features"] else None
    return Reference(
        about,
        _read_sketches(folder, about),
        {name: Cells(*(one[key] for key in Cells._fields[:-1])) for name, one in about["cells"].items()},
        train["score"],
        train.get("unit"),
        test["at"],
        test.get("unit"),
        {name.removeprefix("slice:"): values for name, values in test.items() if name.startswith("slice:")},
        test["strange"],
        features,
    )


def _table(folder: RunFolder, part: str, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One of the tables. Raises UserError where a column is missing."""
    name = f"{FOLDER}/{part}.parquet"
    found = folder.read_table(name)
    if missing := [column for column in columns if column not in found]:
        raise UserError(f"{folder.inside(name)} is damaged: it has no column '{missing[0]}'.")
    return found


def _read_sketches(folder: RunFolder, about: Mapping[str, Any]) -> dict[str, Sketch]:
    numbers = _table(folder, "numbers", ("column", "value", "at_most"))
    words = _table(folder, "words", ("column", "word", "count"))
    found: dict[str, Sketch] = {}
    for name, missing in about["missing"].items():
        if name in about["other"]:
            rows = words["column"] == name
            counts = dict(zip(words["word"][rows].tolist(), words["count"][rows].tolist(), strict=True))
            found[name] = Words(counts, about["other"][name], missing)
        else:
            rows = numbers["column"] == name
            found[name] = Numbers(numbers["value"][rows], numbers["at_most"][rows], missing)
    return found
