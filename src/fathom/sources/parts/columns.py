"""Columns and their names: unique names, a column named by header or number, lists as arrays."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fathom.errors import UserError


def objects(values: Sequence[Any] | Iterable[Any]) -> np.ndarray:
    """An object array [N] of the values, whatever they are (NumPy would make a matrix of equal lists)."""
    values = values if isinstance(values, list | tuple) else list(values)
    array = np.empty(len(values), object)
    array[:] = values
    return array


def default_names(number: int) -> list[str]:
    return [f"column_{i}" for i in range(1, number + 1)]


def unique_names(given: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Names that are all filled and all different, and what was changed."""
    names: list[str] = []
    notes: list[str] = []
    taken = {str(g).strip() for g in given}
    for i, name in enumerate((str(g).strip() for g in given), 1):
        new = name or f"column_{i}"
        number = 2
        while new in names or (new != name and new in taken):
            new, number = f"{name or f'column_{i}'}_{number}", number + 1
        if new != name:
            notes.append(f"column {i} {'has no name' if not name else f'repeats the name {name!r}'}: called {new!r}")
        names.append(new)
    return names, notes


def find_column(names: Sequence[str], target: str | int | None, where: str, first: int = 1) -> str | None:
    """The column that `target` means: a name, or a number counted from `first` (negative from the end).

    Raises UserError naming the nearest when there is none.
    """
    if target is None or target in names:
        return None if target is None else str(target)
    number = _number(target)
    if number is not None:
        index = number + len(names) if number < 0 else number - first
        if 0 <= index < len(names):
            return names[index]
        raise UserError(f"{where} has {len(names)} columns; there is no column number {target}, counted from {first}.")
    folded = [n for n in names if n.casefold() == str(target).strip().casefold()]
    close = folded or difflib.get_close_matches(str(target), names, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    shown = ", ".join(names[:30]) + (f" … ({len(names)} in all)" if len(names) > 30 else "")
    raise UserError(f"{where} has no column '{target}'. {hint}Columns: {shown}. A column number works too.")


def _number(target: str | int) -> int | None:
    try:
        return int(target)
    except ValueError:
        return None


def rows_and_columns(num_rows: int, num_columns: int) -> str:
    return f"{num_rows:,} row{'s' * (num_rows != 1)}, {num_columns:,} column{'s' * (num_columns != 1)}"


def shared_strings(cells: Sequence[str]) -> np.ndarray:
    """Object array of stripped cells, None where empty. Equal cells are one string: a category costs 8 bytes a row."""
    seen: dict[str, str | None] = {}
    for cell in set(cells):
        seen[cell] = cell.strip() or None
    return objects([seen[c] for c in cells])
