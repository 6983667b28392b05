"""Tables as Parquet files. Values keep their types."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import Places, Stream, Table
from fathom.errors import UserError
from fathom.sources.parts import beside as neighbours
from fathom.sources.parts.columns import find_column, rows_and_columns
from fathom.sources.parts.files import as_path, is_file, is_folder, read_bytes, short_name, suffix
from fathom.sources.parts.linked import open_linked

ENDINGS = (".parquet", ".pq")
ROWS_AT_A_TIME = 65_536


def claims(data: Any) -> str | None:
    path = as_path(data)
    if path is None:
        return None
    if is_folder(path):
        return "a folder with a Parquet file" if neighbours.tables_in(path, ENDINGS) else None
    return f"a {suffix(path)} file" if suffix(path) in ENDINGS and is_file(path) else None


def open(data: Any, *, target: str | int | None = None, beside: bool = True) -> Table:
    """The table of a file, or of the one such file (or train file) in a folder.

    target: a column by name or by number from 1. beside: use official test and validation files beside a train file.
    """
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    path, said = neighbours.main_table(path, ENDINGS) if is_folder(path) else (path, [])
    return _finished(path, said, _read(path), target, beside)


def stream(data: Any, *, target: str | int | None = None, beside: bool = True) -> Stream | None:
    """The rows in pieces, the row groups of the file; None where only all can be read at once (.gz)."""
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    path, said = neighbours.main_table(path, ENDINGS) if is_folder(path) else (path, [])
    if path.suffix.lower() == ".gz":
        return None
    import pyarrow.parquet as pq

    with _telling(path):
        about = pq.ParquetFile(path).metadata
    sizes = tuple(about.row_group(group).num_rows for group in range(about.num_row_groups))
    firsts = [sum(sizes[:group]) for group in range(len(sizes))]

    def read(group: int) -> Iterator[Table]:
        import pyarrow as pa

        first = firsts[group]
        with _telling(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_A_TIME, row_groups=[group]):
                yield _table(path, pa.Table.from_batches([batch]), first)
                first += batch.num_rows

    return Stream(
        about.num_rows,
        sizes,
        read,
        lambda sample: _finished(path, said, _summed(sample), target, beside),
        lambda further, sample: open_linked(further, path.parent),
    )


def _summed(sample: Table) -> Table:
    return replace(sample, summary=rows_and_columns(len(sample), len(sample.columns)))


def _finished(path: Path, said: list[str], table: Table, target: str | int | None, beside: bool) -> Table:
    """With the official parts beside it, linked pictures and the target."""
    table = neighbours.with_parts(path, table, lambda p, _: _read(p), is_wanted=beside)
    table = open_linked(replace(table, notes=(*said, *table.notes)), path.parent)
    return replace(table, target=find_column(list(table.columns), target, str(path)))


def _read(path: Path) -> Table:
    # Imported here: looking at what a path is should not cost the loading of pyarrow.
    import pyarrow.parquet as pq

    notes: list[str] = []
    with _telling(path):
        if path.suffix.lower() == ".gz":
            raw, notes = read_bytes(path)
            arrow = pq.ParquetFile(io.BytesIO(raw)).read()
        else:
            arrow = pq.ParquetFile(path).read()
    table = _table(path, arrow)
    return replace(table, notes=(*notes, *table.notes))


def _table(path: Path, arrow: Any, first: int = 0) -> Table:
    """Rows of the file, of which `first` come before."""
    from fathom.sources.parts.arrow import columns_of

    if arrow.num_rows == 0 or arrow.num_columns == 0:
        raise UserError(f"{path} has {arrow.num_rows} rows and {arrow.num_columns} columns. Expected rows of data.")
    columns, said = columns_of(arrow)
    if not columns:
        raise UserError(f"{path} has no column that can be used: {'; '.join(said)}")
    return Table(
        name=short_name(path),
        columns=columns,
        places=Places.of_rows(str(path), np.arange(first + 1, first + arrow.num_rows + 1)),
        summary=rows_and_columns(arrow.num_rows, len(columns)),
        notes=tuple(said),
    )


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Raises UserError for what Arrow says of a file that it cannot read."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet: {str(error).splitlines()[0]} Write it again, or give another file."
        ) from error
