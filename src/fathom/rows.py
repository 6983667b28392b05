"""Single rows, given as dicts, as a table: words are read as those of the training data were.

A model that was exported reads its rows with this same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fathom.data import File, Places, Table
from fathom.sources.parts.decimals import AS_WRITTEN, respell


def table_of(rows: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> Table:
    """The rows under the names that any of them has; what a row lacks is missing.

    `spec` has the run's "fields", and in "options" the spellings of its numbers. Numbers need no reading.
    """
    spellings, fields = spec["options"].get("numbers", {}), spec["fields"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, np.ndarray] = {}
    for name in names:
        given = [row.get(name) for row in rows]
        kind = fields.get(name, {}).get("kind")
        if kind == "number" and all(isinstance(v, int | float | None) for v in given):
            columns[name] = np.array([np.nan if v is None else v for v in given], np.float64)
            continue
        columns[name] = values = np.empty(len(rows), object)
        for place, value in enumerate(given):
            # One by one: NumPy would take several pictures of one size for an array.
            values[place] = value if kind == "image" else _cell(value, spellings.get(name, AS_WRITTEN))
    return Table("rows", columns, Places.of_rows("row", len(rows)), f"{len(rows)} rows")


def _cell(value: Any, spelling: str) -> str | bytes | File | None:
    if isinstance(value, str):
        return respell(value, spelling)
    return value if value is None or isinstance(value, File | bytes) else str(value)
