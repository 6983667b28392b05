"""Numbers written with a decimal comma or with thousands separators, rewritten with a point.

A column is rewritten only when every filled cell fits one spelling. '1,234' alone fits two: between semicolons it is
read as 1.234, between commas as 1234, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from fathom.sources.parts.header import MISSING

GROUP = "[.\u00a0\u202f' ]"
WHOLE = r"[+-]?\d+"
DECIMAL_COMMA = re.compile(rf"{WHOLE}|[+-]?(?:\d+|\d{{1,3}}(?:{GROUP}\d{{3}})+)?,\d+(?:[eE][+-]?\d+)?")
GROUPS_OF_POINTS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})*")
THOUSANDS_COMMA = re.compile(r"[+-]?\d{1,3}(?:,\d{3})*(?:\.\d+)?")
TWO_POINTS = re.compile(r"\.\d{3}\.")
SEEN_FIRST = 200


def rewrite(columns: dict[str, np.ndarray], delimiter: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns with such numbers rewritten, and notes saying which."""
    new: dict[str, np.ndarray] = {}
    notes: list[str] = []
    by_why: dict[str, list[str]] = {}
    for name, values in columns.items():
        spelling = _spelling(values, delimiter)
        new[name] = values if spelling is None else _apply(values, spelling[1])
        if spelling is not None:
            by_why.setdefault(spelling[0], []).append(name)
    for why, names in by_why.items():
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        notes.append(f"{why} in {shown}")
    return new, notes


def _spelling(values: np.ndarray, delimiter: str) -> tuple[str, Callable[[str], str]] | None:
    if values.dtype != object or not _may_be_numbers(values[:SEEN_FIRST]):
        return None
    joined = "\n".join(filter(None, values))  # one search through all is ten times faster than one in each
    has_comma = "," in joined
    if not has_comma and (delimiter == "," or not TWO_POINTS.search(joined)):
        return None
    distinct = [v for v in set(values) if _is_filled(v)]
    if has_comma and delimiter != "," and all(map(DECIMAL_COMMA.fullmatch, distinct)):
        return "decimal comma", _from_decimal_comma
    if has_comma and all(map(THOUSANDS_COMMA.fullmatch, distinct)):
        return "thousands commas", _without_commas
    # Only two points in a number show that they are no decimal points: 1.234 could be either.
    if delimiter != "," and all(GROUPS_OF_POINTS.fullmatch(v) for v in distinct):
        return "thousands points", _without_points
    return None


def _may_be_numbers(values: np.ndarray) -> bool:
    """The cheap look before the whole one."""
    return all(isinstance(v, str) and v[0] in "+-.,0123456789" for v in values if _is_filled(v))


def _is_filled(value: object) -> bool:
    return value is not None and (not isinstance(value, str) or value.lower() not in MISSING)


def _apply(values: np.ndarray, change: Callable[[str], str]) -> np.ndarray:
    changed = {v: change(v) if _is_filled(v) else v for v in set(values)}
    new = np.empty(len(values), object)
    new[:] = [changed[v] for v in values]
    return new


def _from_decimal_comma(value: str) -> str:
    return re.sub(GROUP, "", value).replace(",", ".") if "," in value else value


def _without_points(value: str) -> str:
    return value.replace(".", "")


def _without_commas(value: str) -> str:
    return value.replace(",", "")
