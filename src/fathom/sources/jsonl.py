"""Tables as lines of JSON, one object a line (.jsonl, .ndjson), plain or .gz.

Values keep their types: numbers stay numbers. A line that is no JSON object is left out by its number.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import LeftOut, Places, Table
from fathom.errors import UserError
from fathom.sources.parts import beside as neighbours
from fathom.sources.parts.columns import find_column, rows_and_columns
from fathom.sources.parts.encoding import decode
from fathom.sources.parts.files import as_path, is_file, is_folder, read_bytes, short_name, suffix
from fathom.sources.parts.linked import open_linked
from fathom.sources.parts.records import columns_of, flatten, is_halved

ENDINGS = (".jsonl", ".ndjson")


def claims(data: Any) -> str | None:
    path = as_path(data)
    if path is None:
        return None
    if is_folder(path):
        return "a folder with lines of JSON" if neighbours.tables_in(path, ENDINGS) else None
    return f"a {suffix(path)} file" if suffix(path) in ENDINGS and is_file(path) else None


def open(
    data: Any,
    *,
    target: str | int | None = None,
    encoding: str | None = None,
    beside: bool = True,
    linked: bool = True,
) -> Table:
    """The table of a file, or of the one such file (or train file) in a folder.

    target: a key or a column number from 1. beside: use official test and validation files beside a train file. linked:
    open the files that values name; not for tables from strangers, who could name any file.
    """
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    path, said = neighbours.main_table(path, ENDINGS) if is_folder(path) else (path, [])
    table = neighbours.with_parts(path, _read(path, encoding), lambda p, _: _read(p, encoding), is_wanted=beside)
    table = replace(table, notes=(*said, *table.notes))
    table = open_linked(table, path.parent) if linked else table
    return replace(table, target=find_column(list(table.columns), target, str(path)))


def _read(path: Path, encoding: str | None) -> Table:
    raw, notes = read_bytes(path)
    text, used = decode(raw, path, encoding)
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    left_out: list[LeftOut] = []
    # Not str.splitlines(): it also cuts at U+2028 and the like, which JSON allows inside strings.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        row = _object(line)
        if isinstance(row, str):
            left_out.append(LeftOut(f"{path}:{number}", row))
        else:
            rows.append(row)
            lines.append(number)
    _refuse_unreadable(path, rows, left_out)
    columns = columns_of(rows)
    return Table(
        name=short_name(path),
        columns=columns,
        places=Places.of_rows(str(path), np.array(lines, np.int64)),
        summary=rows_and_columns(len(rows), len(columns)),
        notes=(*notes, f"one JSON object a line, encoding {used}"),
        left_out=tuple(left_out),
    )


def _object(line: str) -> dict[str, Any] | str:
    """The object of a line, or why there is none."""
    try:
        value = json.loads(line)
        if not isinstance(value, dict):
            return f"a JSON object was expected, found {type(value).__name__}"
        if "\\ud" in line.lower() and is_halved(value):
            return "it holds half a character (a lone surrogate such as \\ud800)"
        return flatten(value) or "it is an empty object"
    except json.JSONDecodeError as error:
        return f"it is not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        return "it is nested too deeply"
    except ValueError:  # Python's bound on the digits of a whole number
        return "it holds a number of thousands of digits"


def _refuse_unreadable(path: Path, rows: list[dict[str, Any]], left_out: list[LeftOut]) -> None:
    if rows and len(left_out) <= len(rows):
        return
    first = "; ".join(f"line {left.where.rsplit(':', 1)[1]}: {left.why}" for left in left_out[:3])
    raise UserError(
        f"{path}: {len(left_out):,} of {len(left_out) + len(rows):,} lines cannot be used: {first}. "
        'Expected one JSON object a line, such as {"age": 39, "income": ">50K"}.'
    )
