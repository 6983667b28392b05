"""Is the first row of a table the names of its columns, or data already?

Each column votes by comparing its first cell with the cells below it: a word above numbers is a name, a number above
numbers is data, and a word that also stands below is data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from statistics import median

MISSING = frozenset({"", "?", "-", "--", ".", "na", "n/a", "nan", "null", "none", "nil", "#n/a", "(null)", "missing"})
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)*|[.,]\d+)([eE][+-]?\d+)?\s?%?")
MOST_ROWS = 500


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number in any usual spelling: 1, -1.5, 1,5, 1.234,5, 2e-3, 15 %."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def has_header(rows: list[list[str]]) -> tuple[bool, str]:
    """Whether the first of the rows is a header, and why. Rows have equal lengths."""
    first, body = [c.strip() for c in rows[0]], rows[1 : MOST_ROWS + 1]
    if not body:
        return not any(is_number(c) for c in first), "there is only one row"
    votes = [_vote(cell, [row[i].strip() for row in body]) for i, cell in enumerate(first)]
    if _counts_up(first) and (any(v > 0 for v in votes) or _stands_out(first, body)):
        return True, "the first row counts up"
    filled = [c for c in first if c]
    total = sum(votes) - 0.5 * (len(filled) != len(set(filled)))
    if total > 0:
        return True, "the first row differs from the rows below it"
    if total < 0:
        return False, "the first row looks like the rows below it"
    is_names = len(filled) == len(first) and max(map(len, first)) <= 40
    return is_names, "nothing tells the first row from the others; names are usual" if is_names else "by its length"


def _vote(cell: str, below: list[str]) -> float:
    """Above 0: a name; below 0: data."""
    values = [v for v in below if v.lower() not in MISSING]
    if not cell or not values:
        return 0.0
    if cell.lower() in MISSING:
        return -0.5
    if _share(values, is_number) >= 0.9:
        return -1.0 if is_number(cell) else 1.0
    if cell in set(values):
        return -1.0
    if _share(values, _has_digit) >= 0.9:
        return _vote_by_shape(cell, values)
    return _vote_by_words(cell, values)


def _vote_by_shape(cell: str, values: list[str]) -> float:
    if not _has_digit(cell):
        return 1.0
    return -1.0 if _shape(cell) in {_shape(v) for v in values} else 0.5


def _vote_by_words(cell: str, values: list[str]) -> float:
    words, usual_words = len(cell.split()), median(len(v.split()) for v in values)
    if usual_words >= 4:  # sentences
        return 0.5 if words <= 3 and len(cell) <= 30 else -0.5
    is_repeating = len(values) >= 10 and len(set(values)) <= len(values) / 2
    return 0.5 if is_repeating else 0.0


def _counts_up(cells: list[str]) -> bool:
    """Column names like label, 0, 1, 2, … or country, 1990, 1991, …"""
    numbers = [int(c) for c in cells if c.isdecimal()]
    steps = {b - a for a, b in pairwise(numbers)}
    return len(numbers) >= 3 and steps == {1} and len(numbers) < len(cells)


def _stands_out(first: list[str], body: list[list[str]]) -> bool:
    """Whether every number of the first row is beyond all numbers of its column, as years above counts are."""
    for i, cell in enumerate(first):
        below = [float(row[i]) for row in body if cell.isdecimal() and re.fullmatch(r"\d+(\.\d+)?", row[i].strip())]
        if below and min(below) <= float(cell) <= max(below):
            return False
    return True


def _share(values: list[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, values)) / len(values)


def _has_digit(cell: str) -> bool:
    return any(c.isdigit() for c in cell)


def _shape(cell: str) -> str:
    """'A11' → 'a9', '12/31/2012' → '9/9/9'."""
    return re.sub(r"[^\W\d]+", "a", re.sub(r"\d+", "9", cell))
