"""A fingerprint of data as it was read: whether a table is the one that a run was made from.

What a reader would get wrong: it is of what a source gave, before anything was chosen, so another delimiter, order of
rows or spelling of a cell is another fingerprint. A picture or a text that is a file of its own counts by its name, its
size and its first and last 32 KiB (a member of an archive by its name, size and checksum or date): reading all of a
large folder again would cost more than the fingerprint is worth. An edit of a large file that keeps its size and both
of its ends goes unseen.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fathom.data import File, Table

DIGITS = 16  # of each column's hash
ENDS = 32 * 1024  # bytes


def fingerprint(table: Table) -> dict[str, Any]:
    """{"rows": 240, "columns": {"age": "1f00…", …}}; official parts, where there are some, count as a column "(parts)".

    Strings are hashed with their lengths and numbers by their bytes.
    """
    columns = {name: _digest(values) for name, values in table.columns.items()}
    if table.parts is not None:
        columns["(parts)"] = _digest(table.parts)
    return {"rows": len(table), "columns": columns}


def difference(kept: Mapping[str, Any], now: Mapping[str, Any], then: str = "then") -> str:
    """What is different in words, "" for nothing: "250 rows, 240 then", "column 'age' holds other values"."""
    if kept["rows"] != now["rows"]:
        return f"{now['rows']:,} rows, {kept['rows']:,} {then}"
    gone = [name for name in kept["columns"] if name not in now["columns"]]
    if gone:
        return f"no {_named(gone)}"
    if new := [name for name in now["columns"] if name not in kept["columns"]]:
        return f"{_named(new)} besides"
    other = [name for name, digest in kept["columns"].items() if now["columns"][name] != digest]
    return f"other values in {_named(other)}" if other else ""


def _named(columns: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in columns[:3]) + (", …" if len(columns) > 3 else "")
    return f"column{'s' if len(columns) > 1 else ''} {shown}"


def _digest(values: np.ndarray) -> str:
    hashed = hashlib.sha256(f"{values.dtype.kind} {values.shape}".encode())
    if values.dtype != object:
        hashed.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    else:
        for piece in _pieces(values):
            hashed.update(piece)
    return hashed.hexdigest()[:DIGITS]


def _pieces(values: np.ndarray) -> Iterable[bytes]:
    """The values of an object column as bytes: lengths first, so that no two columns run into the same bytes."""
    if all(isinstance(value, str | type(None)) for value in values):
        texts = [b"" if value is None else value.encode("utf-8", "surrogatepass") for value in values]
        lengths = [-1 if value is None else len(text) for value, text in zip(values, texts, strict=True)]
        yield np.array(lengths, np.int64).tobytes()
        yield b"".join(texts)
        return
    for value in values:
        told = stamp(value) if isinstance(value, File) else _bytes_of(value)
        yield len(told).to_bytes(8, "little") + told


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}".encode() + value.tobytes()
    if hasattr(value, "tobytes"):  # a picture of PIL
        return f"{value.mode} {value.size}".encode() + value.tobytes()
    return repr(value).encode("utf-8", "surrogatepass")


def stamp(file: File) -> bytes:
    """What tells a file from another: see above. One that cannot be read has its name alone."""
    name = os.path.basename(file.path).encode("utf-8", "surrogatepass")  # the folder may be moved
    try:
        return name + b" " + file.mark(ENDS)
    except OSError:
        return name
