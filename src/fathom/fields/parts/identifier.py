"""Columns that carry nothing: running numbers, unique ids, a single value, nothing at all.

The trap: measurements may be unique as well. Numbers count as ids only when they run without gaps or are called so.
"""

from __future__ import annotations

import re
from pathlib import PurePath

import numpy as np

from fathom.data import File
from fathom.fields.parts import dates, numerals
from fathom.fields.parts.pictures import SUFFIXES
from fathom.fields.parts.values import EMPTY, NOTHING, Distinct, distinct, has_fractions, name_words, plural

_FEWEST = 20  # rows; in fewer, everything is unique by chance
_ID_NAMES = frozenset(
    {"id", "ids", "index", "idx", "row", "rownum", "key", "uuid", "guid", "serial", "unnamed", "nr", "no", "number"}
)
_TIME_NAMES = frozenset(
    {"year", "date", "time", "timestamp", "day", "month", "week", "hour", "epoch", "age", "rank", "step", "period"}
)
_SERIAL = re.compile(r"[0-9]{4,}|[0-9a-fA-F]{12,}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-")


def carries_nothing(name: str, values: np.ndarray) -> str | None:
    """Why a column can be dropped: all missing, one value only, or an identifier. None: keep it."""
    if has_fractions(values) and (np.isnan(values).any() or values.min() != values.max()):
        return None  # told without the text of each number
    if values.ndim == 1 and not any(isinstance(value, File) for value in values[:1]):
        found = distinct(values).without(EMPTY)
        if not found.words:
            return "all values are missing"
        if len(found.words) == 1 and (found.codes >= 0).all():
            return f"every row has the same value, '{found.words[0]}'"
    return is_identifier(name, values)


def is_identifier(name: str, values: np.ndarray) -> str | None:
    """Why a column only names its rows ("whole numbers from 1 to 891, one for each row"), or None."""
    if values.ndim != 1 or values.dtype.kind in "bmM" or len(values) < _FEWEST:
        return None
    if has_fractions(values):
        return None
    if values.dtype == object and any(not isinstance(value, str | int | float | None) for value in values[:100]):
        return None
    found = distinct(values)
    rows = int((found.codes >= 0).sum())
    if rows < _FEWEST or 2 * len(found.words) < rows:
        return None
    numbers = numerals.read(found.words)
    if np.isnan(numbers).any():
        return _unique_words(name, found.without(NOTHING))
    return _running_numbers(name, numbers, rows) if len(numbers) == rows else None


def _running_numbers(name: str, numbers: np.ndarray, rows: int) -> str | None:
    """Numbers that all differ, in row order."""
    called = name_words(name)
    if (numbers != np.round(numbers)).any() or called & _TIME_NAMES:
        return None
    first, last = int(numbers.min()), int(numbers.max())
    full = rows / (last - first + 1)
    if full >= 0.9 and (rows >= 100 or (np.diff(numbers) > 0).all()):
        return f"whole numbers from {first:,} to {last:,}, one for each row"
    if called & _ID_NAMES and (full >= 0.3 or _is_called_id(name)):
        return f"called '{name}' and different in each of {plural(rows, 'row')}"
    return None


def _is_called_id(name: str) -> bool:
    return bool(name_words(name) & {"id", "ids", "uuid", "guid", "index"})


def _unique_words(name: str, found: Distinct) -> str | None:
    """Single words: all different, or mostly different and with a serial number inside."""
    rows = int(found.counts.sum())
    if not rows:
        return None
    share = len(found.words) / rows
    parts = np.asarray([len(word.split()) for word in found.words])
    if (parts > 2).mean() > 0.2 or dates.looks_like(found.words) or _are_pictures(found.words):
        return None
    if np.isnan(numerals.read(found.words, numerals.decimal_mark(found.words))).mean() < 0.1:
        return None  # numbers with a few words in them
    long = np.asarray([len(word) > 64 for word in found.words]).mean()
    if long > 0.5:
        return None  # sequences, addresses: text
    if share == 1 and (parts == 1).mean() >= 0.8:
        return f"short names, different in each of {plural(rows, 'row')}"
    serial = np.asarray([bool(_SERIAL.search(word)) for word in found.words]).mean()
    if share >= 0.7 and serial >= 0.9:
        return f"serial numbers, {plural(len(found.words), 'different one')} in {plural(rows, 'row')}"
    if share >= 0.95 and _is_called_id(name):
        return f"called '{name}' and nearly different in each row"
    return None


def _are_pictures(words: list[str]) -> bool:
    return sum(PurePath(word).suffix.lower() in SUFFIXES for word in words) > len(words) / 2
