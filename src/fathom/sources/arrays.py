"""NumPy arrays and lists from Python: (X, y), a matrix X, a dict of columns or of x_train …, or rows as dicts.

Columns of a matrix are called x0, x1, … as NumPy counts them, and a target given as a number counts from 0 too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fathom.data import Places, Table
from fathom.errors import UserError
from fathom.sources import frame
from fathom.sources.parts.columns import find_column, rows_and_columns, unique_names
from fathom.sources.parts.named_arrays import is_inputs_and_labels, table_of
from fathom.sources.parts.pixels import as_array, as_labels, as_pictures, columns_of
from fathom.sources.parts.records import columns_of as columns_of_records


def claims(data: Any) -> str | None:
    if isinstance(data, np.ndarray):
        return "a NumPy array"
    if isinstance(data, Mapping):
        return "a dict of columns" if data else None
    if isinstance(data, tuple) and len(data) == 2 and all(map(_is_many, data)):
        return "a pair (X, y)"
    if isinstance(data, list) and data:
        return "a list of rows" if isinstance(data[0], Mapping | list | tuple | str | np.ndarray) else None
    return None


def open(data: Any, *, target: str | int | None = None) -> Table:
    """The table of arrays. With (X, y) the label is called "label", or as y is called when it is a series.

    target: a column by name, or by number from 0 as NumPy counts. Raises UserError when lengths differ.
    """
    if isinstance(data, tuple):
        return _pair(*data, target=target)
    if isinstance(data, Mapping) and is_inputs_and_labels(list(data)) and not _are_scalars(data):
        return table_of({k: as_array(v) for k, v in data.items()}, "arrays", "the dict", target)
    columns, notes = _columns(data)
    table = _table(columns, notes)
    return replace(table, target=find_column(list(columns), target, "The data", table.first))


def _is_many(value: Any) -> bool:
    return frame.claims(value) is not None or isinstance(value, list | np.ndarray) or hasattr(value, "to_numpy")


def _are_scalars(data: Mapping[str, Any]) -> bool:
    return not any(isinstance(v, list | tuple | np.ndarray) or hasattr(v, "to_numpy") for v in data.values())


def _pair(inputs: Any, labels: Any, *, target: str | int | None) -> Table:
    table = frame.open(inputs) if frame.claims(inputs) else _table(*_columns(inputs))
    name = str(getattr(labels, "name", None) or "label")
    values, notes = as_labels(as_array(labels), "y")
    if len(values) != len(table):
        raise UserError(f"X has {len(table):,} rows and y has {len(values):,}. Expected as many.")
    if name in table.columns:
        raise UserError(f"y is called '{name}', and X has a column of that name. Take it out of X: it is the answer.")
    if target is not None and target != name:
        raise UserError(f"target is {target!r}, but the pair (X, y) already says it: y. Leave target away.")
    columns = {**table.columns, name: values}
    return replace(table, columns=columns, target=name, notes=(*table.notes, *notes))


def _columns(data: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    if isinstance(data, Mapping):
        return _columns_of_mapping(data)
    if isinstance(data, list) and isinstance(data[0], Mapping):
        return columns_of_records(data), []
    return columns_of(as_array(data), "The array")


def _columns_of_mapping(data: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    if _are_scalars(data):  # one row
        return columns_of_records([data]), []
    names, notes = unique_names(list(data))
    columns = {}
    for name, given in zip(names, data.values()):
        values = as_array(given)
        if values.ndim in (3, 4):
            values, said = as_pictures(values, name)
            notes += [f"{name}: {s}" for s in said]
        elif values.ndim != 1:
            raise UserError(f"Column '{name}' has the shape {values.shape}. Expected one value a row, or pictures.")
        columns[name] = values
    return columns, notes


def _table(columns: dict[str, np.ndarray], notes: list[str]) -> Table:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{n} {v:,}" for n, v in list(lengths.items())[:6])
        raise UserError(f"Columns have different lengths: {shown}. Expected as many values in each.")
    num_rows = next(iter(lengths.values()), 0)
    if not num_rows:
        raise UserError("The data has no rows. Expected rows of data along the first axis.")
    summary = rows_and_columns(num_rows, len(columns))
    return Table("arrays", columns, Places.of_rows("row", num_rows), summary, notes=tuple(notes), first=0)
