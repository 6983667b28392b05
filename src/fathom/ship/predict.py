"""Predict with a finished run: any new data in, classes with probabilities or numbers with intervals out.

The target column may be absent, columns may stand in another order, categories may be new. A column that the model
was trained on and that is missing altogether is an error, never a guess.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fathom import intervals, language, pairs
from fathom.candidates import Candidate, Predictor
from fathom.data import Examples, File, Places, Table, Task
from fathom.encode import encode
from fathom.errors import UserError
from fathom.evaluate import coverage, evaluate
from fathom.evaluate import interval as interval_of
from fathom.fields import category, number, plain_text, text
from fathom.manifest import notes_on, read_manifest
from fathom.partition import connected, labels
from fathom.rooms import find, nearest, options
from fathom.rows import table_of
from fathom.run import RunFolder, put, reading
from fathom.ship.standalone.predictor import is_absent
from fathom.sources import plain_text as running
from fathom.sources.parts.choose import choose, open_any
from fathom.sources.parts.files import PICTURES, is_file, is_folder
from fathom.store import open_candidate


@dataclass(frozen=True)
class Predictions:
    """One prediction for each row, with how sure it is.

    `values` are class names (str) or numbers; `probabilities` [N, C] belong to classification, `low` and `high` (the
    interval that held `level` of validation rows) to regression.
    """

    values: np.ndarray
    places: Places
    candidate: str
    classes: tuple[str, ...] = ()
    probabilities: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    level: float = 0.0
    similarity: np.ndarray | None = None  # cosine of each picture with the caption it is given
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.values)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The predictions as named columns, in the order in which they are written."""
        found: dict[str, np.ndarray] = {"row": np.array([self.places[i] for i in range(len(self))], object)}
        found["prediction"] = self.values
        if self.probabilities is not None:
            found |= {f"probability of {name}": self.probabilities[:, i] for i, name in enumerate(self.classes)}
        if self.low is not None and self.high is not None:
            found |= {"low": self.low, "high": self.high}
        if self.similarity is not None:
            found["similarity"] = self.similarity
        return found

    def to_pandas(self) -> Any:
        """The columns as a pandas DataFrame (pandas must be installed)."""
        import pandas

        return pandas.DataFrame(self.columns)

    def write(self, path: str | Path) -> Path:
        """Write a .csv or .parquet file, whole or not at all: what stood there before stays if it fails."""
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        path = Path(path)
        writers = {".csv": pyarrow.csv.write_csv, ".parquet": pyarrow.parquet.write_table}
        if path.suffix not in writers:
            raise UserError(f"Predictions cannot be written to {path}: use a name that ends in .csv or .parquet.")
        sink = io.BytesIO()
        try:
            writers[path.suffix](pa.table(self.columns), sink)
            put(path, sink.getvalue())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"Predictions cannot be written to {path}: {why}. Name another place.") from None
        return path


class Model:
    """A run that has its verdict, opened to be used."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.spec: dict[str, Any] = folder.read_json("spec.json")
        self.metrics: dict[str, Any] = folder.read_json("metrics.json")
        self.task = Task.from_json(self.spec["task"])
        with reading(folder.inside("spec.json")):
            self._blank: Examples = self.examples(_blank(self.spec))

    @property
    def candidates(self) -> list[str]:
        return list(self.metrics["test"])

    @cached_property
    def _loaded(self) -> dict[str, Predictor]:
        return {}

    @cached_property
    def _made_from(self) -> dict[str, Any] | None:
        return read_manifest(self.folder).get("data")

    def candidate(self, name: str | None = None) -> Predictor:
        """The candidate of that name, or the advised one. Raises UserError naming the nearest."""
        name = name or self.metrics["advised"]
        if name not in self.candidates:
            raise UserError(f"The run has no candidate '{name}'. {nearest(name, self.candidates)}")
        if name not in self._loaded:
            with reading(self.folder.path):
                opened = open_candidate(self.folder, name)
                self._try(name, opened)
            self._loaded[name] = opened
        return self._loaded[name]

    def _try(self, name: str, candidate: Predictor) -> None:
        """Whether it answers a row without values as its task asks for: then its files fit each other."""
        if self.task.kind not in ("classify", "regress"):
            return
        answer = candidate.predict(self._blank)
        wanted = (1, len(self.task.classes)) if self.task.kind == "classify" else (1,)
        if answer.shape != wanted:
            raise ValueError(f"{name} gives answers of the shape {answer.shape}, where {wanted} is expected")
        if self.task.kind == "regress":
            self._interval(name, candidate, answer, self._blank)

    def predict(self, data: Any, *, candidate: str | None = None) -> Predictions:
        """Predictions for a path, a folder, a frame, arrays, a dict (one row), a text, or a picture.

        Of a run of pictures and captions it is for each picture the caption of the training rows that fits it best.
        """
        if self.task.kind == "pair":
            from fathom.ship.match import nearest_captions

            return nearest_captions(self, data, candidate=candidate)
        table, notes = self.table(data)
        examples = self.examples(table)
        raw = self.candidate(candidate).predict(examples)
        return self.told(raw, examples, table.places, notes=notes, candidate=candidate)

    def told(
        self,
        raw: np.ndarray,
        examples: Examples,
        places: Places,
        *,
        notes: tuple[str, ...] = (),
        candidate: str | None = None,
    ) -> Predictions:
        """What a candidate computed of encoded rows, as a person reads it; for any task but pairs."""
        name = candidate or self.metrics["advised"]
        if self.task.kind == "regress":
            low, high, level = self.interval(name, raw, examples)
            return Predictions(raw, places, name, low=low, high=high, level=level, notes=notes)
        measured = language.sizes(examples) if self.task.kind == "language" else None
        return self._read(raw, places, name, notes, measured)

    def interval(self, name: str, raw: np.ndarray, examples: Examples) -> tuple[np.ndarray, np.ndarray, float]:
        """Low and high end of each number, and the share of validation rows that they held."""
        return self._interval(name, self.candidate(name), raw, examples)

    def _interval(
        self, name: str, candidate: Predictor, raw: np.ndarray, examples: Examples
    ) -> tuple[np.ndarray, np.ndarray, float]:
        spec = self.metrics["validation"][name]["conformal"]
        ends = candidate.ends(examples) if "margin" in spec and isinstance(candidate, Candidate) else None
        return (*interval_of(raw, spec, ends), spec["level"])

    def _read(
        self, raw: np.ndarray, places: Places, candidate: str, notes: tuple[str, ...], sizes: np.ndarray | None = None
    ) -> Predictions:
        if self.task.kind == "classify":
            values = np.array(self.task.classes, object)[raw.argmax(axis=1)]
            return Predictions(values, places, candidate, self.task.classes, raw, notes=notes)
        values = -raw / np.maximum(sizes[:, 0], 1) if sizes is not None else raw
        return Predictions(values, places, candidate, notes=notes)

    def evaluate(self, data: Any, *, candidate: str | None = None) -> dict[str, Any]:
        """Measures with intervals on labelled data. Raises UserError where the target column is missing.

        Rows of one group are resampled together, where the run was split by a group and the data has its column.
        For numbers "coverage" is the share of rows whose interval, promised to hold "level" of them, held their target.
        """
        table, notes = self.table(data)
        target = self.task.target
        if target not in table.columns:
            raise UserError(f"To evaluate, the data must hold the target '{target}'. {nearest(target, table.columns)}")
        targets, known = self.targets(table.columns[target])
        if not known.any():
            hint = f" Known classes: {', '.join(self.task.classes[:20])}." if self.task.classes else ""
            raise UserError(f"No row has a known '{target}'.{hint}")
        rows = np.flatnonzero(known)
        table = table.take(rows)
        examples = self.examples(table)
        raw = self.candidate(candidate).predict(examples)
        right = language.sizes(examples) if self.task.kind == "language" else targets[rows]
        found = evaluate(raw, right, self.task, units=self.units(table, examples))
        told = {"rows": len(rows), "left_out": len(known) - len(rows), "notes": list(notes), "measures": found}
        if self.spec.get("group") in table.columns:
            told["group"] = self.spec["group"]
        if self.task.kind == "pair":
            told["among"] = pairs.among(examples)
        if self.task.kind == "regress":
            low, high, level = self.interval(candidate or self.metrics["advised"], raw, examples)
            told["coverage"] = coverage(low, high, right) | {"level": level}
        return told

    def units(self, table: Table, examples: Examples) -> np.ndarray | None:
        """A label of each row [N] where rows are not independent: of its group, its picture, its block of the text."""
        if table.continues:
            return intervals.blocks(len(table), len(table))
        group = self.spec.get("group")
        units = labels(table.columns[group]) if group in table.columns else None
        if self.task.kind != "pair":
            return units
        pictures = pairs.picture_of(examples)  # captions of one picture are no evidence of their own
        return pictures if units is None else connected(units, pictures)

    def targets(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The targets as measures read them, and which of them are known: bool [N]."""
        if self.task.kind == "classify":
            labels, _ = category.align(labels, {"classes": list(self.task.classes)})
            targets = category.encode_target(labels, {"classes": list(self.task.classes)})
            return targets, targets >= 0
        if self.task.kind == "regress":
            targets = number.read(labels)
            return targets, np.isfinite(targets)
        if self.task.kind in ("translate", "pair"):
            targets = text.texts(labels)
            return targets, targets != ""
        return labels, ~plain_text.is_empty(labels)

    def examples(self, table: Table) -> Examples:
        """Encode a table with the run's own specs; a table of some columns gives the examples of these."""
        return encode(table, {name: spec for name, spec in self.spec["fields"].items() if name in table.columns})

    def opened(
        self, data: Any, only: Sequence[str] | None = None, *, linked: bool = True
    ) -> tuple[Table, tuple[str, ...], list[str]]:
        """New data as a table, what is to be said of it, and which columns of the run it does not have."""
        fields = {name: spec for name, spec in self.spec["fields"].items() if only is None or name in only}
        spec = self.spec | {"fields": fields, "options": self.spec["options"] | ({} if linked else {"linked": False})}
        given = _open(data, spec)
        table, notes = _positions(given, spec, data)
        missing = [name for name in fields if name not in table.columns]
        table, left_out = _readable(table, {"fields": {n: s for n, s in fields.items() if n not in missing}})
        known = () if isinstance(data, Table) else notes_on(self.folder, self._made_from, data, given)
        return table, (*table.notes, *known, *notes, *left_out), missing

    def table(
        self, data: Any, only: Sequence[str] | None = None, *, linked: bool = True
    ) -> tuple[Table, tuple[str, ...]]:
        """New data as a table that has every column of the run, or those that are named.

        `linked` opens the files that its cells name; it is for data that one knows, not for what strangers send.
        """
        table, notes, missing = self.opened(data, only, linked=linked)
        if missing:
            raise UserError(
                f"{_named(missing)} missing in {table.name or 'the data'}, and the model was trained with "
                f"{'it' if len(missing) == 1 else 'them'}. {nearest(missing[0], table.columns)} "
                "Cells may be empty (null in JSON) where the value is not known."
            )
        return table, notes


def _blank(spec: Mapping[str, Any]) -> Table:
    """A row of which nothing is known."""
    columns = {name: np.array([None], object) for name in spec["fields"]}
    return Table("blank", columns, Places.of_rows("row", 1), "1 row")


def _named(columns: list[str]) -> str:
    """'Column 'age' is', 'Columns 'age', 'sex' are'."""
    listed = ", ".join(f"'{name}'" for name in columns)
    return f"Column {listed} is" if len(columns) == 1 else f"Columns {listed} are"


def _readable(table: Table, spec: Mapping[str, Any]) -> tuple[Table, tuple[str, ...]]:
    """The rows whose values can be read at all, and a note for each that is left out."""
    broken: dict[int, str] = {}
    for name, field_spec in spec["fields"].items():
        broken |= find("fields", field_spec["kind"]).broken(table.columns[name])
    notes = tuple(f"left out: {table.places[row]}: {why}" for row, why in sorted(broken.items()))
    if not broken:
        return table, ()
    if len(broken) == len(table):
        raise UserError(f"None of {len(table):,} rows can be read; the first: {notes[0].removeprefix('left out: ')}.")
    return table.take(np.setdiff1d(np.arange(len(table)), list(broken))), notes


def _open(data: Any, spec: Mapping[str, Any]) -> Table:
    """The data as a table: what `fit` opens, and single values besides."""
    if isinstance(data, Table):
        return data
    only = next(iter(spec["fields"])) if len(spec["fields"]) == 1 else None
    kind = spec["fields"][only]["kind"] if only else None
    if isinstance(data, Mapping) and not any(isinstance(v, list | tuple | np.ndarray) for v in data.values()):
        return table_of([data], spec)
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        return table_of(data, spec)
    if only and kind == "image" and (files := _pictures(data)):
        values = np.empty(len(files), object)
        values[:] = files
        return Table("pictures", {only: values}, Places.of_files([str(f) for f in files]), f"{len(files)} pictures")
    if only and kind == "image" and isinstance(data, np.ndarray):
        single = data.ndim == 2 or (data.ndim == 3 and data.shape[-1] in (3, 4) and data.dtype == np.uint8)
        values = data[None] if single else data
        return Table("pictures", {only: values}, Places.of_rows("picture", len(values)), "pictures")
    if only and kind == "plain_text" and running.takes(data):
        known = options(running.open)
        table = running.open(data, **{k: v for k, v in spec["options"].items() if k in known})
        return replace(table, columns={only: table.columns[running.COLUMN]})
    if only and kind in ("text", "plain_text") and (texts := _texts(data)):
        return Table("texts", {only: np.array(texts, object)}, Places.of_rows("text", len(texts)), "texts")
    # A file of the same kind is read as the training data was: one row alone would not show its delimiter or header.
    known = options(choose(data)[1].open)
    return open_any(data, alone=True, **{k: v for k, v in spec["options"].items() if k in known})


def _pictures(data: Any) -> list[File]:
    """Files of a picture path, a list of them, or a flat folder of pictures."""
    paths = data if isinstance(data, list | tuple) else [data]
    if not all(isinstance(p, str | Path) for p in paths):
        return []
    if len(paths) == 1 and is_folder(Path(paths[0])):
        found = [p for p in sorted(Path(paths[0]).iterdir()) if p.suffix.lower() in PICTURES]
        return [File(str(p)) for p in found]
    if all(Path(p).suffix.lower() in PICTURES for p in paths):
        for path in paths:
            if not is_file(Path(path)):
                raise UserError(f"There is no picture {path}.")
        return [File(str(p)) for p in paths]
    return []


def _texts(data: Any) -> list[str]:
    """A text given as itself, or several; a path is not a text, of a file that is there or that should be."""
    if isinstance(data, str):
        return [] if is_file(Path(data)) or is_folder(Path(data)) or is_absent(data) else [data]
    if isinstance(data, list | tuple) and all(isinstance(text, str) for text in data):
        return list(data)
    return []


def _positions(table: Table, spec: Mapping[str, Any], data: Any) -> tuple[Table, tuple[str, ...]]:
    """Columns without names are known by their place; the target's place may be missing."""
    order: list[str] = spec["order"]
    unnamed = all(name == f"column_{i + 1}" for i, name in enumerate(table.columns))
    if not unnamed or len(table.columns) != len(order) - 1:
        return table, ()
    names = [name for name in order if name != spec["task"]["target"]]
    spellings = spec["options"].get("numbers", {})
    if spellings:
        # Opened again: how the numbers of a column are written goes by its place here too.
        here = {own: spellings[name] for own, name in zip(table.columns, names, strict=True) if name in spellings}
        table = _open(data, {**spec, "options": {**spec["options"], "numbers": here}})
    columns = dict(zip(names, table.columns.values(), strict=True))
    note = f"{len(names)} columns without names: taken for all but the target, in the order of the training data"
    return Table(table.name, columns, table.places, table.summary, notes=table.notes, left_out=table.left_out), (note,)
