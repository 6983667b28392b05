"""Rows given as mappings (lines of JSON, Python dicts) as typed columns.

A mapping inside a mapping becomes columns 'outer.inner'. What a column holds decides its type: numbers, booleans, or
text; a mixture becomes text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from fathom.data import File
from fathom.sources.parts.columns import objects

LARGEST = 1 << 1023  # of whole numbers that a float can hold; digits beyond it are words


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """A column for every key that occurs, in order of first appearance; missing where a row lacks it."""
    flat = [flatten(row) if any(isinstance(v, Mapping) for v in row.values()) else row for row in rows]
    names = list(dict.fromkeys(str(key) for row in flat for key in row))
    return {name: typed([row.get(name) for row in flat]) for name in names}


def flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def is_halved(value: Any) -> bool:
    """Whether a value of JSON holds a lone surrogate: half a character, which cannot be written to any file."""
    if isinstance(value, str):
        return any("\ud800" <= sign <= "\udfff" for sign in value)
    if isinstance(value, Mapping):
        return any(is_halved(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(is_halved, value))


def typed(values: Sequence[Any]) -> np.ndarray:
    """One column of Python values as the array that suits what they are; see `Table`."""
    kinds = {_kind(v) for v in values} - {"missing"}
    if kinds == {"bool"} and not any(map(is_missing, values)):
        return np.array(values, bool)
    if kinds == {"integer"} and not any(map(is_missing, values)) and _fits(values):
        return np.array([int(v) for v in values], np.int64)
    if kinds and kinds <= {"integer", "number"}:
        return np.array([np.nan if is_missing(v) else float(v) for v in values], np.float64)
    if kinds == {"time"}:
        return np.array([None if is_missing(v) else _naive(v) for v in values], "datetime64[us]")
    if kinds == {"file"}:
        return objects(values)
    return objects([as_word(v) for v in values])


def is_missing(value: Any) -> bool:
    """None, a NaN of any kind, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def as_word(value: Any) -> str | None:
    """The str of a value, None where it is missing or blank. Lists become JSON."""
    if is_missing(value):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, list | tuple):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return str(value).strip() or None


def _kind(value: Any) -> str:
    if is_missing(value):
        return "missing"
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, Integral):
        return "integer" if abs(int(value)) < LARGEST else "text"
    if isinstance(value, Real | Decimal):
        return "number"
    if isinstance(value, date | datetime | np.datetime64):
        return "time"
    return "file" if isinstance(value, File) else "text"


def _fits(values: Iterable[Any]) -> bool:
    """Whether all fit int64; larger ones become floats."""
    return all(-(2**63) <= int(v) < 2**63 for v in values)


def _naive(value: Any) -> np.datetime64:
    """A moment without a time zone, in UTC: NumPy has no time zones."""
    offset = getattr(value, "utcoffset", lambda: None)()
    return np.datetime64(value.replace(tzinfo=None) - offset if offset is not None else value, "us")
