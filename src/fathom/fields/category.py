"""Categories: strings, booleans and codes that repeat. Encoded as one int32 column.

Code 0 is for missing and for unseen values. Training rows with a missing value train it; without any it is never met in
training. Codes 1, 2, … are the classes by frequency, and where values were seen only once among many rows these
share one last code, 'rare'. A value unseen in training stays 0 even then.

'none' and '-' are classes here ("other debtors: none"); '', '?', 'NA', 'null' and 'nan' are missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.data import Guess
from fathom.fields.parts import codes, numerals
from fathom.fields.parts.labels import align, encode_target, fit_target
from fathom.fields.parts.values import EMPTY, distinct, has_fractions, plural

__all__ = ["align", "broken", "decode", "describe", "encode", "encode_target", "fit", "fit_target", "sniff"]

RARE = "(rare)"
_RARE_FROM_ROWS = 1_000  # in fewer rows a value seen once may still be a tenth of a per cent


def sniff(name: str, values: np.ndarray) -> Guess | None:
    """Sure where few words repeat; unsure but present for any strings, so that no column is without a kind."""
    if values.ndim != 1 or values.dtype.kind in "mM":
        return None
    if has_fractions(values):
        known = values[~np.isnan(values)]
        return Guess(0.2, f"{plural(len(np.unique(known)), 'distinct value')} in {plural(len(known), 'row')}")
    found = distinct(values).without(EMPTY)
    rows, words = int((found.codes >= 0).sum()), found.words
    if not words:
        return Guess(0.01, f"{plural(len(values), 'value')}, all missing")
    why = f"{plural(len(words), 'distinct value')} in {plural(rows, 'row')}"
    if values.dtype.kind == "b" or set(words) <= {"True", "False"}:
        return Guess(0.98, "true or false")
    if np.isnan(numerals.read(words, numerals.decimal_mark(words))).mean() < 0.5:
        coded = codes.why_codes(name, found)
        return Guess(0.95, f"{why}, {coded}") if coded else Guess(0.2, why)
    if len(words) <= max(10, 0.05 * rows) and 2 * len(words) <= rows:
        return Guess(0.9, why)
    return Guess(0.7 if 2 * len(words) <= rows else 0.4, why)


def broken(values: np.ndarray) -> dict[int, str]:
    """None ever: whatever is there is a name."""
    return {}


def fit(values: np.ndarray, *, name: str = "", most: int = 4_000) -> dict[str, Any]:
    """The classes of the training values, by frequency and then alphabet; at most `most` have a code of their own."""
    found = distinct(values).without(EMPTY)
    counts = {word: int(count) for word, count in zip(found.words, found.counts, strict=True)}
    least = 2 if len(found.codes) >= _RARE_FROM_ROWS else 1
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    classes = [word for word in ordered if counts[word] >= least][:most]
    rare = sorted(set(counts) - set(classes))
    if len(rare) == 1:  # one alone is no group
        classes, rare = classes + rare, []
    return {
        "kind": "category",
        "name": name,
        "classes": classes,
        "rare": rare,
        "counts": [counts[word] for word in classes],
        "rare_rows": sum(counts[word] for word in rare),
        "missing": int((found.codes < 0).sum()),
    }


def encode(values: np.ndarray, spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """ "categories": int32 [N, 1]; 0 for missing and unseen values, the last code for rare ones."""
    code_of = {word: code for code, word in enumerate(spec["classes"], 1)}
    code_of |= dict.fromkeys(spec["rare"], len(code_of) + 1)
    found = distinct(values).without(EMPTY)
    of_words = np.fromiter((code_of.get(word, 0) for word in found.words), np.int32, len(found.words))
    return {"categories": found.spread(of_words, 0)[:, None]}


def describe(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    size = 1 + len(spec["classes"]) + bool(spec["rare"])
    return {"categories": {"names": [spec["name"]], "sizes": [size]}}


def decode(encoded: dict[str, np.ndarray], spec: dict[str, Any]) -> np.ndarray:
    """The classes' names, None for code 0 and '(rare)' for the code that rare values share."""
    names = np.asarray([None, *spec["classes"], RARE], dtype=object)
    return names[encoded["categories"][:, 0]]
