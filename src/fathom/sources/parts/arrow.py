"""An Arrow table (of a Parquet file, polars or pyarrow) as columns of NumPy arrays.

Integers with gaps become float64 with NaN, booleans with gaps become text: NumPy has no missing value for either.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from fathom.sources.parts.columns import objects, unique_names
from fathom.sources.parts.records import typed


def columns_of(table: pa.Table) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns and what is to be said of them. Columns of lists or other nested values are not used."""
    names, notes = unique_names(table.column_names)
    columns: dict[str, np.ndarray] = {}
    for name, column in zip(names, table.itercolumns()):
        values = _column(column)
        if values is None:
            notes.append(f"{name} is not used: it holds {column.type}, and a column holds one value a row")
        else:
            columns[name] = values
    return columns, notes


def _column(column: pa.ChunkedArray) -> np.ndarray | None:
    kind = column.type
    if types.is_dictionary(kind):
        return _dictionary(column)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _words(column.dictionary_encode())
    if types.is_boolean(kind):
        return _words(column.cast(pa.string()).dictionary_encode()) if column.null_count else column.to_numpy()
    if types.is_timestamp(kind) or types.is_date(kind):
        return column.cast(pa.timestamp("us"), safe=False).to_numpy().astype("datetime64[us]")
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        is_plain = not column.null_count and not types.is_decimal(kind)
        return column.to_numpy() if is_plain else column.cast(pa.float64(), safe=False).to_numpy()
    if types.is_duration(kind):
        seconds = pc.divide(column.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
        return seconds.to_numpy()
    if types.is_null(kind) or types.is_time(kind):
        return typed([None if v is None else str(v) for v in column.to_pylist()])
    return None


def _dictionary(column: pa.ChunkedArray) -> np.ndarray:
    """A categorical: its values are words, whatever they are made of."""
    kind = pa.dictionary(pa.int32(), pa.string())
    is_words = types.is_string(column.type.value_type) or types.is_large_string(column.type.value_type)
    if not is_words:
        return _words(column.cast(column.type.value_type).cast(pa.string()).dictionary_encode())
    return _words(column.cast(kind))


def _words(column: pa.ChunkedArray) -> np.ndarray:
    """Object array of str, one object for all equal cells; None for missing and blank ones."""
    pieces = [np.empty(0, object)]
    for chunk in column.chunks:
        words = objects([None if w is None else w.strip() or None for w in chunk.dictionary.to_pylist()] + [None])
        codes = pc.fill_null(chunk.indices, len(words) - 1).to_numpy(zero_copy_only=False)
        pieces.append(words[codes])
    return np.concatenate(pieces)
