"""Tables as Parquet files. Values keep their types."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from fathom.data import Places, Table
from fathom.errors import UserError
from fathom.sources.parts import beside as neighbours
from fathom.sources.parts.columns import find_column, rows_and_columns
from fathom.sources.parts.files import as_path, is_file, is_folder, read_bytes, short_name, suffix
from fathom.sources.parts.linked import open_linked

ENDINGS = (".parquet", ".pq")


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
    table = neighbours.with_parts(path, _read(path), lambda p, _: _read(p), is_wanted=beside)
    table = open_linked(replace(table, notes=(*said, *table.notes)), path.parent)
    return replace(table, target=find_column(list(table.columns), target, str(path)))


def _read(path: Path) -> Table:
    # Imported here: looking at what a path is should not cost the loading of pyarrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fathom.sources.parts.arrow import columns_of

    notes: list[str] = []
    try:
        if path.suffix.lower() == ".gz":
            raw, notes = read_bytes(path)
            arrow = pq.ParquetFile(io.BytesIO(raw)).read()
        else:
            arrow = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet: {str(error).splitlines()[0]} Write it again, or give another file."
        ) from error
    if arrow.num_rows == 0 or arrow.num_columns == 0:
        raise UserError(f"{path} has {arrow.num_rows} rows and {arrow.num_columns} columns. Expected rows of data.")
    columns, said = columns_of(arrow)
    if not columns:
        raise UserError(f"{path} has no column that can be used: {'; '.join(said)}")
    return Table(
        name=short_name(path),
        columns=columns,
        places=Places.of_rows(str(path), arrow.num_rows),
        summary=rows_and_columns(arrow.num_rows, len(columns)),
        notes=(*notes, *said),
    )
