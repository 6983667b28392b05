"""Numbers, also those written as strings. Encoded as one float32 column, NaN where missing.

A few words among numbers count as missing: the spec's "words" keeps up to five of them with their counts, so that the
caller can say it. Infinities, and numbers too large for float32, are missing too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.data import Guess
from fathom.fields.parts import codes, numerals
from fathom.fields.parts.values import NOTHING, Distinct, column, distinct, plural, sample

MOST_EDGES = 49  # 48 bins, as in arXiv:2203.05556; the first edge is the minimum and the last the maximum
_FEW_WORDS = 5


def sniff(name: str, values: np.ndarray) -> Guess | None:
    """Sure where 95 % of the present values are numbers and nothing says that they are codes."""
    if values.ndim != 1 or values.dtype.kind in "bmM":
        return None
    if values.dtype.kind in "iuf":
        present = int(np.isfinite(values).sum())
        if not present:
            return None
        why = codes.why_codes(name, distinct(sample(values))) if values.dtype.kind in "iu" else None
        return Guess(0.3, f"numbers, but {why}") if why else Guess(0.92, f"{plural(present, 'number')}")
    found = distinct(values).without(NOTHING)
    counts = found.counts
    if not len(counts):
        return None
    mark = numerals.decimal_mark(found.words)
    numbers = numerals.read(found.words, mark)
    is_word = np.isnan(numbers)
    share = 1 - counts[is_word].sum() / counts.sum()
    if share < 0.8 or (share < 0.95 and is_word.sum() > _FEW_WORDS):
        return None
    why = codes.why_codes(name, found)
    if why:
        return Guess(0.3, f"numbers, but {why}")
    return Guess(0.9 if share >= 0.95 else 0.65, _why(found, is_word, share, mark))


def _why(found: Distinct, is_word: np.ndarray, share: float, mark: str) -> str:
    rows = plural(int(found.counts.sum()), "value")
    text = f"all {rows} are numbers" if share == 1 else f"{share:.1%} of {rows} are numbers"
    if is_word.any():
        text += f"; words such as '{found.words[int(np.argmax(is_word))]}' count as missing"
    return text + (", with a decimal comma" if mark == "," else "")


def broken(values: np.ndarray) -> dict[int, str]:
    """None ever: what is no number is missing."""
    return {}


def read(values: np.ndarray, decimal: str = ".") -> np.ndarray:
    """Values as float64 [N], NaN where missing, a word or infinite. For regression targets too."""
    values = column(values)
    if values.dtype.kind in "iufb":
        numbers = values.astype(np.float64)
    else:
        found = distinct(values).without(NOTHING)
        numbers = found.spread(numerals.read(found.words, decimal), np.nan)
    return np.where(np.abs(numbers) <= numerals.LARGEST, numbers, np.nan)


def fit(values: np.ndarray, *, name: str = "") -> dict[str, Any]:
    """Statistics of the training values, and whether a comma is the decimal mark.

    "offset" is subtracted by `encode`. It is 0 unless float32 would make different values equal (seconds since 1970,
    say); all statistics but "minimum", "maximum" and "median" are of the encoded numbers.
    """
    values = column(values)
    found = None if values.dtype.kind in "iufb" else distinct(values).without(NOTHING)
    decimal = "." if found is None else numerals.decimal_mark(found.words)
    numbers = read(values, decimal)
    known = numbers[~np.isnan(numbers)]
    offset = _offset(known)
    shifted = (known - offset).astype(np.float32).astype(np.float64)
    return {
        "kind": "number",
        "name": name,
        "decimal": decimal,
        "offset": offset,
        **statistics(shifted),
        "median": float(np.median(known)) if len(known) else 0.0,
        "minimum": float(known.min()) if len(known) else None,
        "maximum": float(known.max()) if len(known) else None,
        "missing": int(len(numbers) - len(known)),
        "integer": bool(len(known)) and bool((known == np.round(known)).all()),
        "words": {} if found is None else _words(found, decimal),
    }


def statistics(known: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation (1 where all are equal) and distinct quantile edges of numbers without NaN."""
    if not len(known):
        return {"mean": 0.0, "std": 1.0, "constant": True, "quantiles": []}
    edges = edges_of(known)
    # Equal numbers can have a tiny standard deviation by rounding: compare the extremes instead.
    constant = bool(known.min() == known.max())
    deviation = float(known.std())
    return {
        "mean": float(known.mean()),
        "std": 1.0 if constant or deviation == 0 else deviation,
        "constant": constant,
        "quantiles": [float(edge) for edge in edges],
    }


def edges_of(known: np.ndarray) -> np.ndarray:
    """At most 49 distinct training values, near the quantiles, the smallest and the largest among them.

    A value's weight is capped at one bin: where nine rows in ten hold a zero, plain quantiles would nearly all be
    zero, and the rest of the range would share a handful of edges.
    """
    values, counts = np.unique(known, return_counts=True)
    if len(values) <= MOST_EDGES:
        return values
    weight = np.cumsum(np.minimum(counts, len(known) / (MOST_EDGES - 1)))
    at = np.searchsorted(weight, np.linspace(0, weight[-1], MOST_EDGES))
    chosen = np.unique(np.clip(at, 0, len(values) - 1))
    chosen[0], chosen[-1] = 0, len(values) - 1
    return values[chosen]


def _offset(known: np.ndarray) -> float:
    if not len(known) or np.abs(known).max() < 2**24:
        return 0.0
    apart = len(np.unique(known))
    median = float(np.round(np.median(known)))
    kept, shifted = (len(np.unique(x.astype(np.float32))) for x in (known, known - median))
    return median if kept < apart and shifted > kept else 0.0


def _words(found: Distinct, decimal: str) -> dict[str, int]:
    is_word = np.isnan(numerals.read(found.words, decimal))
    counted = [(found.words[i], int(found.counts[i])) for i in np.flatnonzero(is_word)]
    return dict(sorted(counted, key=lambda pair: (-pair[1], pair[0]))[:_FEW_WORDS])


def encode(values: np.ndarray, spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """ "numbers": float32 [N, 1], NaN for missing values, words and infinities."""
    shifted = read(values, spec["decimal"]) - spec["offset"]
    return {"numbers": shifted.astype(np.float32)[:, None]}


def describe(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    about = {"names": [spec["name"]], "mean": [spec["mean"]], "std": [spec["std"]], "quantiles": [spec["quantiles"]]}
    return {"numbers": about}


def decode(encoded: dict[str, np.ndarray], spec: dict[str, Any]) -> np.ndarray:
    """Numbers as a person reads them, float64 [N]; whole where training had only whole ones."""
    numbers = encoded["numbers"][:, 0].astype(np.float64) + spec["offset"]
    return np.round(numbers) if spec["integer"] else numbers
