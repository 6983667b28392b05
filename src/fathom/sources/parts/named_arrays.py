"""Arrays under names, as in an .npz or a dict: which is the input, which the label, and of which official part.

x_train, y_train, x_test, y_test (Keras), train_images, val_labels (MedMNIST), or simply X and y.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import LeftOut, Places, Table
from fathom.errors import UserError
from fathom.sources.parts.columns import find_column, rows_and_columns
from fathom.sources.parts.files import part_of_word
from fathom.sources.parts.join import join_parts, with_counts
from fathom.sources.parts.pixels import as_labels, columns_of

INPUTS = ("x", "data", "image", "images", "features", "inputs")
LABELS = ("y", "label", "labels", "target", "targets")


def role_of(name: str) -> tuple[str, str] | None:
    """('train', 'input') for x_train, ('', 'label') for y; None for a name that says nothing."""
    words = [w for w in re.split(r"[_\-. ]+", name.lower()) if w]
    parts = [p for w in words if (p := part_of_word(w))]
    rest = [w for w in words if part_of_word(w) is None]
    if len(rest) != 1 or len(parts) > 1 or rest[0] not in INPUTS + LABELS:
        return None
    return (parts[0] if parts else "", "input" if rest[0] in INPUTS else "label")


def is_inputs_and_labels(names: Sequence[str]) -> bool:
    """Whether every name says what it is; a table may well have a column called x or data."""
    roles = [role_of(str(name)) for name in names]
    return None not in roles and "input" in [role[1] for role in roles if role]


def table_of(arrays: Mapping[str, Any], name: str, where: str, target: str | int | None = None) -> Table:
    """The table of such arrays; official parts where the names say them."""
    found: dict[str, dict[str, str]] = {}
    for key in arrays:
        role = role_of(key)
        if role is not None and role[1] in found.setdefault(role[0], {}):
            raise UserError(f"{where} has two {role[1]} arrays, {found[role[0]][role[1]]} and {key}. Expected one, x.")
        if role is not None:
            found[role[0]][role[1]] = key
    tables = {
        part: _one(arrays, keys, name, where) for part, keys in sorted(found.items(), key=_order) if "input" in keys
    }
    if not tables:
        raise UserError(
            f"{where} holds {', '.join(list(arrays)[:10])}. Expected x and y, or x_train, y_train, x_test, y_test."
        )
    if "" in tables and len(tables) > 1:
        raise UserError(
            f"{where} has {found['']['input']} besides arrays for train and test. Expected one or the other."
        )
    unused = [k for k in arrays if role_of(k) is None]
    left_out = tuple(LeftOut(f"{where}:{k}", "its name says neither input nor label") for k in unused)
    return _joined(tables, where, left_out, target)


def _order(item: tuple[str, Any]) -> int:
    return ("", "train", "validate", "test").index(item[0])


def _joined(tables: dict[str, Table], where: str, left_out: tuple[LeftOut, ...], target: str | int | None) -> Table:
    first = next(iter(tables.values()))
    for part, table in tables.items():
        if list(table.columns) != list(first.columns):
            raise UserError(f"{where}: the {part} arrays have other columns: {', '.join(table.columns)}.")
    if len(tables) > 1:
        main_part = next(iter(tables))
        files = {part: Path(where) for part in tables}
        renamed = {"train" if part == main_part else part: t for part, t in tables.items()}
        joined = join_parts(renamed, files)
        parts = np.concatenate([np.full(len(t), part, object) for part, t in tables.items()])
        first = replace(joined, parts=parts, notes=first.notes, summary=with_counts(first.summary, parts))
    own = "label" if "label" in first.columns else None
    chosen = own if target is None else find_column(list(first.columns), target, where, first.first)
    return replace(first, target=chosen, left_out=(*first.left_out, *left_out))


def _one(arrays: Mapping[str, Any], keys: Mapping[str, str], name: str, where: str) -> Table:
    columns, notes = columns_of(np.asarray(arrays[keys["input"]]), f"{where}:{keys['input']}")
    num_rows = len(next(iter(columns.values())))
    summary = _summary(columns, num_rows)
    if "label" in keys:
        labels, said = as_labels(np.asarray(arrays[keys["label"]]), f"{where}:{keys['label']}")
        if len(labels) != num_rows:
            raise UserError(
                f"{where}: {keys['input']} has {num_rows:,} rows and {keys['label']} has {len(labels):,}. "
                "Expected as many."
            )
        columns, notes = {**columns, "label": labels}, notes + said
    places = Places.of_rows(f"{where}:{keys['input']}", num_rows)
    return Table(name, columns, places, summary, notes=tuple(notes), first=0)


def _summary(columns: Mapping[str, np.ndarray], num_rows: int) -> str:
    image = columns.get("image")
    if image is None:
        return rows_and_columns(num_rows, len(columns))
    return f"{num_rows:,} images of {'×'.join(map(str, image.shape[1:]))}"
