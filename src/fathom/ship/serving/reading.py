"""What a request holds, opened as `fathom predict` would open it: rows of JSON, a table, pictures.

What a reader would get wrong: an uploaded table goes through the same source as a file on disk, so that delimiter,
header and decimal commas are read alike; only the names of files in its cells stay words, for they would be files of
this machine.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathom.data import Places, Table
from fathom.errors import UserError
from fathom.rows import table_of
from fathom.ship.predict import Model
from fathom.ship.serving.cells import PixelCount, Row, refuse_many_rows, rows_of
from fathom.ship.serving.limits import Limits, Refused, refuse_long, shown
from fathom.sources.parts.files import GZIP

TABLES = {
    "text/csv": ".csv",
    "application/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
}
TABLE_ENDINGS = {".csv": ".csv", ".tsv": ".tsv", ".jsonl": ".jsonl", ".ndjson": ".jsonl"}
LINES_A_ROW = 10  # a text may reach over so many lines, on average
MOST_MARKS = 50_000  # delimiters in a line
MARKS = (b",", b";", b"\t", b"|")


class Asked(NamedTuple):
    """The body of a request: its kind, and the names and bytes in it."""

    kind: str  # "json", "pictures", or the ending of a table's file
    parts: Sequence[tuple[str, bytes]]

    @property
    def size(self) -> int:
        return sum(len(content) for _, content in self.parts)


class Opened(NamedTuple):
    """What was asked about: a table, or rows of JSON, so that those of several requests can be encoded at once."""

    rows: list[Row]
    table: Table | None
    notes: tuple[str, ...]

    @property
    def is_single(self) -> bool:
        return len(self.rows if self.table is None else self.table) == 1

    @property
    def alike(self) -> tuple[tuple[str, bool], ...] | None:
        """What single rows must have in common to make one table as they make one each; None for what stays alone.

        A column of numbers alone is read another way than one in which a text stands.
        """
        if not self.rows or not self.is_single or any(isinstance(value, bytes) for value in self.rows[0].values()):
            return None
        return tuple((name, isinstance(value, int | float | None)) for name, value in self.rows[0].items())


def opened(asked: Asked, model: Model, limits: Limits) -> Opened:
    """Raises Refused, and UserError with what `fathom predict` would say."""
    fields = needed(model)
    if asked.kind == "json":
        ((_, body),) = asked.parts
        rows, notes = rows_of(body, model.spec | {"fields": fields}, limits)
        return Opened(rows, None, notes)
    if asked.kind == "pictures":
        return Opened([], _pictures(asked, model, limits), ())
    return Opened([], *_table(asked, model, limits))


def needed(model: Model) -> Mapping[str, Any]:
    """The columns that a prediction reads. A run of pictures and captions is asked about pictures."""
    fields: Mapping[str, Any] = model.spec["fields"]
    if model.task.kind != "pair":
        return fields
    picture = model.spec["target"]["picture"]
    return {picture: fields[picture]}


def as_table(rows: Sequence[Row], model: Model) -> Table:
    """Rows of one request, or of several that are alike, as a table that can be encoded."""
    return _whole(table_of(rows, model.spec), model)


def _whole(table: Table, model: Model) -> Table:
    """The table as it may be encoded. Raises Refused where a row of it cannot be read: each has to get its answer."""
    kept, notes = model.table(table, list(needed(model)))
    if len(kept) < len(table):
        why = next(note for note in notes if note.startswith("left out: "))
        raise Refused(422, f"A picture cannot be read: {why.removeprefix('left out: ')}.")
    return kept


def _pictures(asked: Asked, model: Model, limits: Limits) -> Table:
    fields = needed(model)
    if [field["kind"] for field in fields.values()] != ["image"]:
        names = ", ".join(f"'{shown(name)}'" for name in list(fields)[:10])
        raise Refused(
            415, f"The run reads {names}, not pictures alone. Send rows as JSON, a picture's bytes as base64."
        )
    (column,) = fields
    refuse_many_rows(len(asked.parts), limits)
    pixels = PixelCount(limits)
    values = np.empty(len(asked.parts), object)
    for place, (name, content) in enumerate(asked.parts):
        values[place] = pixels.add(content, field=name, row=place + 1)
    places = Places.of_files(shown(name) for name, _ in asked.parts)
    return _whole(Table("pictures", {column: values}, places, f"{len(values)} pictures"), model)


def _table(asked: Asked, model: Model, limits: Limits) -> tuple[Table, tuple[str, ...]]:
    """An uploaded table, and what is to be said of it. Its rows are named by the name that it was sent under."""
    ((name, content),) = asked.parts
    pictured = [column for column, field in needed(model).items() if field["kind"] == "image"]
    if pictured:
        raise Refused(
            415,
            f"'{shown(pictured[0])}' is a picture, and a table could only name its file, which is not here. "
            "Send rows as JSON, a picture's bytes as base64.",
            field=pictured[0],
        )
    _refuse_large(content, limits)
    name = shown(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{asked.kind}"
        path.write_bytes(content)
        try:
            table, notes = model.table(path, linked=False)
        except UserError as error:
            raise Refused(422, str(error).replace(str(path), name)) from None
        notes += tuple(f"left out: {one.where}: {one.why}" for one in table.left_out)
        notes = tuple(note.replace(str(path), name) for note in notes)
    refuse_many_rows(len(table) + len(table.left_out), limits)
    for column, field in needed(model).items():
        for row, value in enumerate(table.columns[column], 1):
            refuse_long(value, {**field, "name": column}, limits, row)
    return replace(table, places=replace(table.places, files=(name,))), notes


def _refuse_large(content: bytes, limits: Limits) -> None:
    """By what can be counted before anything is read."""
    if content.startswith(GZIP):
        raise Refused(415, "The table is compressed. Send it as it is.")
    if content.count(b"\n") > LINES_A_ROW * limits.rows:
        raise Refused(
            413, f"The table has more than {limits.rows:,} rows, which this server takes at once. Send fewer."
        )
    lines = re.split(rb"[\r\n]", content)
    if any(len(line) > MOST_MARKS and max(map(line.count, MARKS)) > MOST_MARKS for line in lines):
        raise Refused(422, f"A line of the table has more than {MOST_MARKS:,} delimiters.")
