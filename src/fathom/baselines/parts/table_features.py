"""One matrix out of encoded examples, as boosted trees and linear models read it.

Texts are not part of it: a bag-of-words model reads those. A leaf for `boosted_trees` and `linear`.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np

from fathom.baselines.parts.picture_features import picture_features
from fathom.data import Examples, Ragged

# Features of pictures are kept for as long as the pictures are, up to so many bytes, since several models read them.
KEPT_BYTES = 500_000_000
FORMS = ("numbers", "categories", "pixels")


class Features(NamedTuple):
    """Numbers with NaN where missing, and category codes with 0 for missing or unseen."""

    numbers: np.ndarray  # float32 [n, F]
    categories: np.ndarray  # int32 [n, G]

    def take(self, rows: np.ndarray) -> Features:
        return Features(self.numbers[rows], self.categories[rows])


def what_is_read(about: dict[str, dict[str, Any]]) -> str | None:
    """'numbers and categories', 'pictures', … or None where there is nothing that these models read."""
    forms = {value["form"] for value in about.values()}
    if forms == {"pixels"}:
        return "pictures, by simple features"
    if "numbers" in forms or "categories" in forms:
        found = [form for form in FORMS if form in forms]
        return " and ".join("picture features" if form == "pixels" else form for form in found)
    return None


def features(examples: Examples, rows: np.ndarray) -> Features:
    """The features of some rows. Pictures beside a table are reduced to their features as well."""
    numbers, categories = [], []
    for name, about in examples.about.items():
        values = examples.inputs[name]
        if isinstance(values, Ragged):
            continue
        if about["form"] == "numbers":
            numbers.append(np.asarray(values[rows], np.float32))
        elif about["form"] == "categories":
            categories.append(np.asarray(values[rows], np.int32))
        elif about["form"] == "pixels":
            numbers.append(_kept_picture_features(values, rows))
    empty = np.empty((len(rows), 0), np.float32)
    return Features(
        np.concatenate(numbers, axis=1) if numbers else empty,
        np.concatenate(categories, axis=1) if categories else empty.astype(np.int32),
    )


class _Kept:
    """Features of the pictures of one array, filled in as they are asked for."""

    def __init__(self, num_pictures: int, num_features: int) -> None:
        self.values = np.empty((num_pictures, num_features), np.float32)
        self.known = np.zeros(num_pictures, bool)


_kept: dict[int, _Kept] = {}


def _kept_picture_features(pictures: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As `picture_features`, computed once for each picture of an array. The pictures must not be changed meanwhile."""
    key = id(pictures)
    if key not in _kept:
        num_features = picture_features(pictures, np.arange(min(1, len(pictures)))).shape[1]
        if len(pictures) * num_features * 4 > KEPT_BYTES:
            return picture_features(pictures, rows)
        _kept[key] = _Kept(len(pictures), num_features)
        weakref.finalize(pictures, _kept.pop, key, None)
    kept = _kept[key]
    new = np.unique(rows[~kept.known[rows]])
    kept.values[new] = picture_features(pictures, new)
    kept.known[new] = True
    return kept.values[rows]
