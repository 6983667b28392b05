"""Strings as numbers: blanks, thousands marks, decimal commas, currency and per-cent signs.

'1,234' is read as 1234 or as 1.234, so somebody has to decide for the whole column: `decimal_mark` does, on training
values, and `read` is told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

_AFFIXES = "$€£¥%"
_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?")
_COMMA_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_POINT_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]*)?")
_PLAIN = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?(?:inf|infinity)", re.IGNORECASE)
LARGEST = float(np.finfo(np.float32).max)


def decimal_mark(words: Sequence[str]) -> str:
    """',' when the words only make sense with a decimal comma ('3,14'), else '.'."""
    commas = [bare(word) for word in words if "," in word]
    as_comma = sum(bool(_COMMA.fullmatch(w)) or bool(_POINT_THOUSANDS.fullmatch(w)) for w in commas)
    as_point = sum(bool(_COMMA_THOUSANDS.fullmatch(w)) for w in commas)
    return "," if as_comma > as_point else "."


def bare(word: str) -> str:
    """A word without blanks, currency and per-cent signs; the typographic minus is a minus."""
    if word.isascii() and not any(mark in word for mark in "$% "):
        return word
    return "".join(word.replace("−", "-").split()).strip(_AFFIXES)


def read(words: Sequence[str], decimal: str = ".") -> np.ndarray:
    """float64 [len(words)]; NaN for what is no number, and inf for what float32 cannot hold."""
    numbers = _read_all(words) if decimal == "." else None
    if numbers is None:
        numbers = np.fromiter((_read_one(word, decimal) for word in words), np.float64, len(words))
    return np.where(np.abs(numbers) > LARGEST, np.inf, numbers)


def _read_all(words: Sequence[str]) -> np.ndarray | None:
    """The fast way, where every word is a plain number. (Python also takes '1_000' and '１': we do not.)"""
    if any("_" in word or not word.isascii() for word in words):
        return None
    try:
        return np.asarray(list(words), dtype=np.str_).astype(np.float64) if len(words) else np.zeros(0)
    except ValueError:  # a word among them: read one by one
        return None


def _read_one(word: str, decimal: str) -> float:
    word = bare(word)
    if decimal == ",":
        if _POINT_THOUSANDS.fullmatch(word):
            word = word.replace(".", "")
        word = word.replace(",", ".", 1)
    elif "," in word and _COMMA_THOUSANDS.fullmatch(word):
        word = word.replace(",", "")
    return float(word) if _PLAIN.fullmatch(word) else math.nan
