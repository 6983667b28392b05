"""What every field needs of raw values: one spelling for each, the distinct ones, and which words mean "missing".

A value's text never depends on the other rows: True is 'True', 1 and 1.0 and '1.0' are '1', '01' stays '01'.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

# Cells that say nothing in any column. Not 'Na': that is sodium.
_MARKS = ("?", "na", "n/a", "#n/a", "nan", "nat", "null", "<na>", "(null)", "\\n")
EMPTY = frozenset(form for mark in _MARKS for form in (mark, mark.upper())) | {"NaN", "NaT", "Null", "<NA>"}
# Where a number or a date is expected these say nothing either; in a category 'none' is an answer.
NOTHING = EMPTY | {"none", "None", "NONE", "nil", "-", "--", "---", "–", "—", ".", "..", "...", "n.a.", "N.A.", "n.a"}

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
SAMPLE = 20_000  # as many rows as a guess looks at


class Distinct(NamedTuple):
    """The different texts of a column in order of appearance, and which one each row has (-1: an empty cell)."""

    codes: np.ndarray  # int64 [N]
    words: list[str]

    @property
    def counts(self) -> np.ndarray:
        """How many rows have each word, int64 [len(words)]."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.words))

    def spread(self, of_words: np.ndarray, empty: Any) -> np.ndarray:
        """One entry per word → one entry per row, `empty` where the cell is empty."""
        return np.append(of_words, np.asarray([empty], of_words.dtype))[self.codes]

    def without(self, marks: frozenset[str]) -> Distinct:
        """The same column with the cells that hold one of these marks emptied."""
        kept = [i for i, word in enumerate(self.words) if word not in marks]
        new = np.full(len(self.words) + 1, -1, np.int64)
        new[kept] = np.arange(len(kept))
        return Distinct(new[self.codes], [self.words[i] for i in kept])


def text_of(value: Any) -> str | None:
    """The one spelling of a value, or None where there is nothing (None, NaN, NaT, blanks)."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        whole = _WHOLE.fullmatch(text) if text.endswith("0") else None
        return (whole[1] if whole else text) or None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, np.datetime64 | np.timedelta64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, float | np.floating):
        # str of a float32 is short ('0.1'); its float64 is 0.10000000149011612.
        return None if np.isnan(value) else text_of(str(value))
    text = str(value).strip()
    return None if text in {"", "NaT", "<NA>"} else text


def has_fractions(values: np.ndarray) -> bool:
    """Whether an array of floats holds a number that is not whole: no code then, no running number, and no name.

    To say so in words would take microseconds for each different number.
    """
    if values.dtype.kind != "f":
        return False
    known = values[np.isfinite(values)]
    return bool((known != np.round(known)).any())


def distinct(values: np.ndarray) -> Distinct:
    """Any one-dimensional column (or list) as its distinct texts."""
    values = column(values)
    if values.dtype != object:
        found, codes = np.unique(values, return_inverse=True)
        return _merge(codes.reshape(-1), [text_of(value) for value in found])
    if set(map(type, values)) <= {str, type(None)}:
        raw: list[Any] = values.tolist()
    else:
        # Not by hash: True == 1 == 1.0 in a dict, and the first one seen would name them all.
        raw = [text_of(value) for value in values]
    index = {value: i for i, value in enumerate(dict.fromkeys(raw))}
    codes = np.fromiter(map(index.__getitem__, raw), np.int64, len(values))
    return _merge(codes, [text_of(value) for value in index])


def _merge(codes: np.ndarray, texts: list[str | None]) -> Distinct:
    """Join raw values that have one text (' a' and 'a'); None becomes -1."""
    index: dict[str, int] = {}
    new = [-1 if text is None else index.setdefault(text, len(index)) for text in texts]
    return Distinct(np.asarray(new, np.int64)[codes] if new else codes, list(index))


def column(values: Any) -> np.ndarray:
    """Values as a one-dimensional array. A list of mixed things keeps each as it is."""
    if isinstance(values, np.ndarray):
        return values
    array = np.empty(len(values), object)
    array[:] = list(values)
    return array


def sample(values: np.ndarray, most: int = SAMPLE) -> np.ndarray:
    """At most that many rows, evenly spaced, in order: enough for a guess and always the same ones."""
    return values if len(values) <= most else values[np.linspace(0, len(values) - 1, most).astype(np.int64)]


def name_words(name: str) -> set[str]:
    """'PassengerId' → {'passenger', 'id'}; 'zip_code' → {'zip', 'code'}."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)}


def plural(count: int, one: str, several: str = "") -> str:
    """'1 word', '2,041 words'."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
