"""Columns of a table whose values are names of files: pictures become File values, texts are read.

A row whose file is missing is left out. Names are taken relative to the folder of the table.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from fathom.data import File, LeftOut, Table
from fathom.errors import UserError
from fathom.sources.parts.columns import objects
from fathom.sources.parts.encoding import decode
from fathom.sources.parts.files import PICTURES, TEXTS

LEAST_SHARE = 0.9  # of the names must exist, otherwise the column is words that look like file names


def open_linked(table: Table, folder: Path) -> Table:
    """The table with such columns opened; unchanged when it has none."""
    for name, values in table.columns.items():
        endings = _endings(values)
        if endings is not None:
            table = _open_column(table, name, folder, endings is PICTURES)
    return table


def _endings(values: np.ndarray) -> tuple[str, ...] | None:
    if values.dtype != object:
        return None
    seen = [v.lower() for v in values[:200] if isinstance(v, str)]
    for endings in (PICTURES, TEXTS):
        if seen and sum(v.endswith(endings) for v in seen) >= LEAST_SHARE * len(seen):
            return endings
    return None


def _open_column(table: Table, name: str, folder: Path, is_picture: bool) -> Table:
    values = table.columns[name]
    exists = {v: os.path.isfile(os.path.join(folder, v)) for v in set(values) if isinstance(v, str) and "\0" not in v}
    found = np.array([exists.get(v, False) for v in values], bool)
    filled = np.array([v is not None for v in values], bool)
    if not found.any() or found.sum() < LEAST_SHARE * filled.sum():
        if found.any():
            note = f"{name}: only {int(found.sum()):,} of its {int(filled.sum()):,} files exist, so it is read as words"
            return replace(table, notes=(*table.notes, note))
        return table
    missing = [
        LeftOut(table.places[int(i)], f"{name}: {values[i]} does not exist") for i in np.flatnonzero(~found & filled)
    ]
    table = table.take(np.flatnonzero(found | ~filled))
    kept = table.columns[name]
    files = {v: File(os.path.join(folder, v)) for v in set(kept) if v is not None}
    opened = objects([None if v is None else files[v] if is_picture else _text(files[v]) for v in kept])
    what = "pictures" if is_picture else "text files"
    outside = sum(_leads_out(v) for v in files)
    said = f", {outside:,} of them outside of it" if outside else ""
    return replace(
        table,
        columns={**table.columns, name: opened},
        notes=(*table.notes, f"{name} names {what} in {folder}{said}: opened"),
        left_out=(*table.left_out, *missing),
    )


def _leads_out(name: str) -> bool:
    """Whether a name in a table leads out of its folder, where the table may have no business."""
    return os.path.isabs(name) or os.path.normpath(name).startswith(os.pardir)


def _text(file: File) -> str | None:
    try:
        raw = file.read()
        return decode(raw, file.path)[0].strip() or None if raw.strip() else None
    except (UserError, OSError) as error:
        told = error if isinstance(error, UserError) else f"{file} cannot be read: {error.strerror or error}."
        raise UserError(f"{told} It is named by a column of the table; mend it or take its row out.") from error
