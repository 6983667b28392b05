"""Data frames from Python: pandas, polars and pyarrow tables.

None of the three is imported here unless the caller already has: a frame brings its own library.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import Places, Table
from fathom.errors import UserError
from fathom.sources.parts.columns import find_column, rows_and_columns, shared_strings, unique_names
from fathom.sources.parts.linked import open_linked
from fathom.sources.parts.records import as_word, typed


def claims(data: Any) -> str | None:
    return {"pandas": "a pandas frame", "polars": "a polars frame", "pyarrow": "a pyarrow table"}.get(
        _library(data) or ""
    )


def open(data: Any, *, target: str | int | None = None) -> Table:
    """The table of a frame. target: a column by name or by number from 1. The index of a pandas frame is not used."""
    columns, notes = _columns(data)
    num_rows = len(data)
    if not columns or not num_rows:
        raise UserError(f"The frame has {num_rows} rows and {len(columns)} usable columns. Expected rows of data.")
    table = Table(
        name="frame",
        columns=columns,
        places=Places.of_rows("row", num_rows),
        summary=rows_and_columns(num_rows, len(columns)),
        notes=tuple(notes),
    )
    table = open_linked(table, Path())
    return replace(table, target=find_column(list(columns), target, "The frame"))


def _library(data: Any) -> str | None:
    """The library of a frame: known by its type, so that no library is loaded to ask."""
    kind = type(data)
    names = {(base.__module__.split(".")[0], base.__name__) for base in kind.__mro__}
    known = {("pandas", "DataFrame"), ("polars", "DataFrame"), ("polars", "LazyFrame"), ("pyarrow", "Table")}
    return next((library for library, _ in names & known), None)


def _columns(data: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    library = _library(data)
    if library == "pandas":
        return _pandas_columns(data)
    from fathom.sources.parts.arrow import columns_of

    if type(data).__name__ == "LazyFrame":
        raise UserError("A polars LazyFrame has no rows yet. Give data.collect() instead.")
    return columns_of(data if library == "pyarrow" else data.to_arrow())


def _pandas_columns(frame: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    names, notes = unique_names([" ".join(map(str, c)) if isinstance(c, tuple) else c for c in frame.columns])
    columns = {}
    for i, name in enumerate(names):
        columns[name] = series_values(frame.iloc[:, i])
        if _zone(frame.iloc[:, i].dtype) is not None:
            notes.append(f"{name}: moments are taken in UTC")
    return columns, notes


def _numpy_type(dtype: Any) -> Any:
    """The type of the numbers in a column of pandas, which may wrap them (nullable, sparse, Arrow)."""
    return getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype))


def _zone(dtype: Any) -> Any:
    return getattr(getattr(dtype, "pyarrow_dtype", dtype), "tz", None)


def series_values(series: Any) -> np.ndarray:
    """The values of a pandas series as a column of a `Table`."""
    dtype, missing = series.dtype, series.isna().to_numpy()
    kind = getattr(dtype, "kind", "O")
    if type(dtype).__name__ == "CategoricalDtype":
        words = np.array([as_word(c) for c in series.cat.categories] + [None], object)
        return words[series.cat.codes.to_numpy()]  # code -1 is a missing value: the None at the end
    if kind == "b":
        return (
            series.to_numpy(bool)
            if not missing.any()
            else typed([None if m else str(bool(v)) for v, m in zip(series, missing)])
        )
    if kind in "iu":
        return (
            series.to_numpy(_numpy_type(dtype)) if not missing.any() else series.to_numpy(np.float64, na_value=np.nan)
        )
    if kind == "f":
        return series.to_numpy(_numpy_type(dtype), na_value=np.nan)
    if kind == "M":
        naive = series.dt.tz_convert("UTC").dt.tz_localize(None) if _zone(dtype) is not None else series
        return naive.astype("datetime64[us]").to_numpy()
    if kind == "m":
        return series.dt.total_seconds().to_numpy(np.float64)
    values = [None if m else v for v, m in zip(series.tolist(), missing)]
    if all(v is None or type(v) is str for v in values):
        return shared_strings(["" if v is None else v for v in values])
    return typed(values)
