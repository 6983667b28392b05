"""Numbers written with a decimal comma or with thousands separators, rewritten with a point.

A column is rewritten only when every filled cell fits one spelling. '1,234' alone fits two: between semicolons it is
read as 1.234, between commas as 1234, and that is said. What a reader would get wrong: further data may look otherwise
by its own few rows, so the spelling of each column is kept and given to `rewrite` again; then what fits is rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from fathom.errors import UserError
from fathom.rooms import nearest
from fathom.sources.parts.header import MISSING

GROUP = "[.\u00a0\u202f' ]"
DECIMAL_COMMA = re.compile(rf"[+-]?(?:\d+|\d{{1,3}}(?:{GROUP}\d{{3}})+|(?=,))(?:,\d+(?:[eE][+-]?\d+)?)?")
GROUPS_OF_POINTS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})*")
THOUSANDS_COMMA = re.compile(r"[+-]?\d{1,3}(?:,\d{3})*(?:\.\d+)?")
TWO_POINTS = re.compile(r"\.\d{3}\.")
SEEN_FIRST = 200
# Points, or words and several spellings in one column: left to whoever says what the values mean.
AS_WRITTEN = "as written"
# How numbers are written: what fits, and how it is written with a point.
SPELLINGS: dict[str, tuple[re.Pattern[str], Callable[[str], str]]] = {
    "decimal comma": (DECIMAL_COMMA, lambda value: re.sub(GROUP, "", value).replace(",", ".")),
    "thousands commas": (THOUSANDS_COMMA, lambda value: value.replace(",", "")),
    "thousands points": (GROUPS_OF_POINTS, lambda value: value.replace(".", "")),
}
Columns = dict[str, np.ndarray]


def rewrite(
    columns: Columns, delimiter: str, known: Mapping[str, str] | None = None
) -> tuple[Columns, dict[str, str], list[str]]:
    """The columns with such numbers rewritten, the spelling of each column that has one, and notes saying which.

    `known` spellings decide for their columns; cells that do not fit them stay as they are.
    """
    _refuse_unknown(known or {})
    new: Columns = {}
    spellings: dict[str, str] = {}
    notes: list[str] = []
    by_why: dict[str, list[str]] = {}
    for name, values in columns.items():
        own = _spelling(values, delimiter)
        spelling = (known or {}).get(name, own)
        new[name] = values if spelling not in SPELLINGS else _apply(values, spelling)
        if spelling is not None:
            spellings[name] = spelling
        if own in SPELLINGS and own != spelling:
            by_why.setdefault(f"what looks like {own} is read as in the training data", []).append(name)
        elif spelling in SPELLINGS:
            by_why.setdefault(spelling, []).append(name)
    for why, names in by_why.items():
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        notes.append(f"{why} in {shown}")
    return new, spellings, notes


def _refuse_unknown(known: Mapping[str, str]) -> None:
    wrong = set(known.values()) - {*SPELLINGS, AS_WRITTEN}
    if wrong:
        raise UserError(f"'{min(wrong)}' is no way to write numbers. {nearest(min(wrong), [*SPELLINGS, AS_WRITTEN])}")


def _spelling(values: np.ndarray, delimiter: str) -> str | None:
    """How the numbers of a column are written; None where it has none, or where none has a mark."""
    if values.dtype != object or not _has_numbers(values[:SEEN_FIRST]):
        return None
    joined = "\n".join(filter(None, values))  # one search through all is ten times faster than one in each
    has_comma = "," in joined
    if not has_comma and (delimiter == "," or not TWO_POINTS.search(joined)):
        return AS_WRITTEN if "." in joined else None
    distinct = [v for v in set(values) if _is_filled(v)]
    # Only two points in a number show that they are no decimal points: 1.234 could be either.
    tried = ["thousands points"] if not has_comma else ["thousands commas"]
    if has_comma and delimiter != ",":
        tried.insert(0, "decimal comma")
    fitting = (name for name in tried if all(map(SPELLINGS[name][0].fullmatch, distinct)))
    return next(fitting, AS_WRITTEN)


def _has_numbers(values: np.ndarray) -> bool:
    """The cheap look before the whole one."""
    return any(isinstance(v, str) and v[0] in "+-.,0123456789" for v in values if _is_filled(v))


def _is_filled(value: object) -> bool:
    return value is not None and (not isinstance(value, str) or value.lower() not in MISSING)


def _apply(values: np.ndarray, spelling: str) -> np.ndarray:
    changed = {v: respell(v, spelling) if _is_filled(v) else v for v in set(values)}
    new = np.empty(len(values), object)
    new[:] = [changed[v] for v in values]
    return new


def respell(cell: str, spelling: str) -> str:
    """The cell with a point, where it is a number written so; else as it is."""
    if spelling not in SPELLINGS:
        return cell
    fits, with_point = SPELLINGS[spelling]
    return with_point(cell) if fits.fullmatch(cell) else cell
