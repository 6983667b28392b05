"""`fathom doctor RUN`: what is wrong with a finished run, and with new data beside it.

Without new data only files of the run are read. What a reader would get wrong: that new rows differ is no harm yet. If
they hold the target as well, P2 tells whether the answers are worse, and every finding of P1 says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fathom import answer_checks, language
from fathom.data import Examples, Table
from fathom.doctor import shift
from fathom.doctor.finding import Finding, in_order_of_blame
from fathom.doctor.harmful_shift import Harm, compare, find_harmful_shift
from fathom.doctor.parts.sketch import Sketch
from fathom.doctor.skew import Cells, Sides, find_missing_columns, find_skews
from fathom.doctor.too_good import of_units
from fathom.errors import UserError
from fathom.measures import chrf
from fathom.observe import Observed, observe
from fathom.penultimate import features_of
from fathom.reference import MOST_COSTLY, MOST_FEATURES, Reference, is_costly, read_reference, spaced, strangeness
from fathom.rooms import nearest
from fathom.run import RunFolder
from fathom.ship.predict import Model

MOST_ROWS = 50_000
MOST_TRANSLATED = 200
WRONG = {
    "classify": "the wrong class", "regress": "a number outside of its interval",
    "language": "surprise (its cost by that of knowing nothing)", "translate": "another text (1 - chrF)",
}  # fmt: skip
ANSWERS = {
    "classify": "the probability of the given class", "regress": "the number predicted",
    "language": "the cost of a text in nats a token", "translate": "the length of a translation by that of its text",
}  # fmt: skip
CALLED = {"classify": "wrong", "regress": "outside of the interval", "language": "a cost", "translate": "unlike"}
NOT_LOOKED_AT = {
    "language": "what the network sees inside is not looked at, nor single strange texts",
    "translate": "what the network sees inside is not looked at, nor single strange texts; of translations only the "
    f"length, and chrF where references are there, for {MOST_TRANSLATED} rows",
    "pair": "the ranks of new pairs are not compared, since they hang on how many pairs there are; pictures and "
    "captions are, by what can be measured of them",
}

Say = Callable[[str], None]


def examine_run(run: str | Path, *, on: Any = None, fix: bool = False, say: Say | None = None) -> list[Finding]:
    """What is wrong with a finished run, causes first; with `on`, new data as `predict` takes it, also P1 and P2.

    `say` is told what was looked at and what was not. Raises UserError for a run that is not finished and for data that
    cannot be opened; a column that is missing is a finding.
    """
    if fix:
        if on is not None:
            raise UserError("--fix makes a run again from its own data; leave --on out, or examine first.")
        from fathom.mending import mend_run

        return mend_run(run, say=say or (lambda text: None))
    model = Model(RunFolder.open_finished(run))
    say = say or (lambda text: None)
    found = answer_checks.examine(model.folder, model.metrics)
    if on is not None:
        found += _examine_new(model, on, say)
    return in_order_of_blame(found)


def _examine_new(model: Model, data: Any, say: Say) -> list[Finding]:
    table, notes, missing = model.opened(data)
    for note in notes:
        say(note)
    _tell_new_columns(model, table, say)
    reference = read_reference(model.folder)
    if missing:
        say("The model needs all of its columns: answers, and the columns that are there, are not looked at.")
        return [find_missing_columns(missing, nearest(missing[0], table.columns))]
    if reference is None:
        raise UserError(f"{model.folder.path} was made before runs kept what new data is compared with. Fit it again.")
    kind = model.task.kind
    most = MOST_COSTLY if is_costly(model.spec["fields"]) else MOST_ROWS
    if len(table) > most:
        say(f"{most:,} of {len(table):,} rows are looked at, spread evenly.")
        table = table.take(spaced(np.arange(len(table)), most))
    if kind in NOT_LOOKED_AT:
        say(f"{NOT_LOOKED_AT[kind][0].upper()}{NOT_LOOKED_AT[kind][1:]}.")
    beside = Beside(model, reference, table, model.examples(table))
    skews = find_skews(beside.sides(), scale=reference.scale)
    harm = beside.harm(say)
    p2 = [] if harm is None else find_harmful_shift(harm, WRONG[kind])
    return [*_with_severity(shift.joined(skews, list(beside.shifts(skews))), harm, model.task.target), *p2]


def _tell_new_columns(model: Model, table: Table, say: Say) -> None:
    known = {*model.spec["order"], *model.spec["fields"], model.task.target}
    if new := [name for name in table.columns if name not in known]:
        say(f"Columns that training had not, and that are not used: {', '.join(new[:10])}.")


def _with_severity(found: list[Finding], harm: Harm | None, target: str) -> list[Finding]:
    """The same findings, each saying whether the answers are worse too."""
    if harm is None:
        told = f"Whether the answers are worse is not known: too few rows with a known '{target}'."
        evidence: dict[str, Any] = {"severity": "unknown"}
    else:
        told, evidence = harm.text, harm.to_json()
    return [replace(one, cause=f"{one.cause} {told}", evidence=one.evidence | evidence) for one in found]


@dataclass
class Beside:
    """A run, what it remembers, and new rows that have all of its columns."""

    model: Model
    reference: Reference
    table: Table
    examples: Examples

    def __post_init__(self) -> None:
        self.seen: Observed = observe(self.table, self.examples, self.model.spec["fields"])
        self.kept = self.model.folder.read_table("predictions.parquet")
        self.rows = np.arange(len(self.table))
        if self.model.task.kind == "translate":
            self.rows = spaced(self.rows, MOST_TRANSLATED)
        self.predictor = self.model.candidate()
        is_read = self.model.task.kind != "pair"
        self.raw: np.ndarray | None = self.predictor.predict(self.examples.take(self.rows)) if is_read else None

    def sides(self) -> dict[str, Sides]:
        """Each column then and now; the target too, where both have it and it has classes."""
        found: dict[str, Sides] = {}
        for name, spec in self.model.spec["fields"].items():
            if name in self.seen.cells and name in self.reference.cells:
                sketch: Sketch | None = self.reference.sketches.get(name)
                known = (*spec.get("classes", ()), *spec.get("rare", ()))
                now = self.seen.cells[name]
                is_whole = bool(spec.get("integer")) and not self.reference.cells[name].fractions
                found[name] = Sides(
                    self.reference.cells[name], now, known, sketch, self.seen.values.get(name), is_whole
                )
        target, classes = self.model.task.target, self.model.task.classes
        if classes and target in self.table.columns:
            rows = len(self.kept["truth"])
            found[target] = Sides(Cells(rows), _classes_of(self.model, self.table.columns[target]), classes)
        return found

    def shifts(self, skews: Sequence[Finding]) -> Iterator[Finding]:
        """What is distributed otherwise: columns that are written as before, answers, what a network sees, rows."""
        reference, scale, kind = self.reference, self.reference.scale, self.model.task.kind
        told = {name for one in skews for name in one.evidence["columns"]}
        known = {name: sketch for name, sketch in reference.sketches.items() if name not in told}
        yield from shift.find_moved_columns(known, self.seen.values, scale)
        if self.raw is not None:
            then, now = self._answers()
            yield from shift.find_moved_answers(then, now, scale, ANSWERS[kind])
        if kind == "classify":
            assert self.raw is not None
            yield from shift.find_moved_classes(
                self._probabilities(), self._truth(), self.raw, self.model.task.classes, scale
            )
        if kind in ("classify", "regress"):
            yield from self._features()

    def _features(self) -> Iterator[Finding]:
        """By the network's features where it is a network's run, else by how surprising a row's columns are."""
        reference, scale = self.reference, self.reference.scale
        places: Sequence[str] = [self.table.places[row] for row in range(len(self.table))]
        if reference.features is None:
            strange = strangeness(self.seen.values, reference.sketches, len(self.table))
            yield from shift.find_strange_rows(reference.strange, strange, places, scale)
            return
        rows = spaced(self.rows, 2 * MOST_FEATURES)
        found = features_of(self.predictor, self.examples.take(rows))
        assert found is not None, "the same network gave features when the run was made"
        now = found.numpy()
        yield from shift.find_moved_features(reference.features, now, scale)
        order = np.random.default_rng(0).permutation(len(reference.features))
        # One half is what rows are compared with, and the other, which is as new to it, says what is usual.
        bank, rest = (reference.features[half] for half in np.array_split(order, 2))
        strange_then, strange_now = (shift.distance_to(bank, side) for side in (rest, now))
        yield from shift.find_strange_rows(strange_then, strange_now, [places[row] for row in rows], scale)

    def _probabilities(self) -> np.ndarray:
        advised = self.model.metrics["advised"]
        return np.stack([self.kept[f"{advised}:{name}"] for name in self.model.task.classes], axis=1)

    def _truth(self) -> np.ndarray:
        place = {name: k for k, name in enumerate(self.model.task.classes)}
        return np.array([place[name] for name in self.kept["truth"]], np.int64)

    def _answers(self) -> tuple[np.ndarray, np.ndarray]:
        """One number of each answer to the test rows and to the new rows."""
        kind, kept, raw = self.model.task.kind, self.kept[self.model.metrics["advised"]], self.raw
        assert raw is not None
        if kind == "classify":
            return self._probabilities().max(axis=1), raw.max(axis=1)
        if kind == "language":
            return kept, self._cost(raw)
        if kind == "translate":
            source = self.seen_texts()
            return _lengths(kept, self.kept["source"]), _lengths(raw, source[self.rows])
        return kept, raw

    def seen_texts(self) -> np.ndarray:
        """What is translated, object [N] of str."""
        return next(iter(self.examples.words.values()))

    def _cost(self, raw: np.ndarray) -> np.ndarray:
        return -raw / np.maximum(language.sizes(self.examples)[:, 0], 1)

    def harm(self, say: Say) -> Harm | None:
        """The risk of the new rows beside that of the test rows; None where the target is not there."""
        kind, target = self.model.task.kind, self.model.task.target
        if kind == "pair":
            return None
        if target not in self.table.columns:
            say(f"The new rows have no '{target}': whether the answers are worse is not looked at.")
            return None
        truth, known = self.model.targets(self.table.columns[target][self.rows])
        assert self.raw is not None
        rows = np.flatnonzero(known)
        then, now = self._risks(truth)
        units = self.model.units(self.table, self.examples)
        units = None if units is None else units[self.rows][rows]
        group = self.model.spec.get("group")
        if group is not None and units is None:
            told = f"Without the column '{group}' it is not known which rows belong together"
            say(f"{told}, so whether the answers are worse is not looked at.")
            return None
        if self.reference.units is not None:
            then = of_units(then[self.reference.at], self.reference.units)
        return compare(then, of_units(now[rows], units), CALLED[kind])

    def _risks(self, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """0 to 1 of each test row and each new row; what is meant stands in WRONG."""
        kind, raw, advised = self.model.task.kind, self.raw, self.model.metrics["advised"]
        assert raw is not None
        kept, right = self.kept[advised], self.kept["truth"]
        if kind == "classify":
            return (kept != right).astype(float), (raw.argmax(axis=1) != truth).astype(float)
        if kind == "regress":
            low, high, _ = self.model.interval(advised, raw, self.examples)
            outside = (right < self.kept[f"{advised}:low"]) | (right > self.kept[f"{advised}:high"])
            return outside.astype(float), ((truth < low) | (truth > high)).astype(float)
        if kind == "language":
            most = float(np.log(next(iter(self.model.spec["fields"].values()))["vocabulary"]))
            return np.clip(kept / most, 0, 1), np.clip(self._cost(raw) / most, 0, 1)
        return _unlike(kept, right), _unlike(raw, truth)


def _classes_of(model: Model, column: np.ndarray) -> Cells:
    """How many cells of the target are empty, and how many hold a class that training had not."""
    from fathom.prepare import is_missing

    _, known = model.targets(column)
    empty = is_missing(column)
    unseen = ~known & ~empty
    return Cells(len(column), 0, unseen=int(unseen.sum()), examples=tuple(map(str, dict.fromkeys(column[unseen]))))


def _lengths(translations: np.ndarray, texts: np.ndarray) -> np.ndarray:
    pairs = zip(translations, texts, strict=True)
    return np.array([len(str(one)) / max(len(str(other)), 1) for one, other in pairs])


def _unlike(translations: np.ndarray, references: np.ndarray) -> np.ndarray:
    """1 - chrF of each row."""
    alone = [chrf.measure(translations[i : i + 1], references[i : i + 1]) for i in range(len(references))]
    return 1 - np.clip(np.array(alone, float) / chrf.RANGE[1], 0, 1)
