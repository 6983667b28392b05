"""The columns that a linear model sees: standardised and perhaps bent numbers, missing flags, one-hot categories.

Learned from training rows alone; kept as plain arrays. What a reader would get wrong: a one-hot column
is not always one category: those of fewer than RARE training rows share one with 0, missing or unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from fathom.baselines.parts.table_features import Features

Matrix: TypeAlias = np.ndarray | sparse.csr_matrix
RARE = 10
# Numbers are cut at so many standard deviations, so that a slip of the keyboard does not turn the line.
CUT = 5.0
# With more one-hot columns than this the matrix is sparse.
DENSE_COLUMNS = 500


@dataclass(frozen=True)
class Design:
    """How features become the matrix of a linear model. Every field is an array, so that it can be saved as one."""

    median: np.ndarray  # [F]
    mean: np.ndarray  # [F]
    std: np.ndarray  # [F], 1 for constant columns
    flagged: np.ndarray  # int64: the numbers that have a missing flag
    edges: np.ndarray  # [F, bends + 1] quantiles, repeated where a column has few values; [F, 0] for straight lines
    first_code: np.ndarray  # int64 [G + 1]: where each category's codes begin in `place`
    place: np.ndarray  # int64: the one-hot column of each code of each category

    @classmethod
    def fit(cls, read: Features, *, bends: int) -> Design:
        numbers = read.numbers.astype(np.float64)
        missing = np.isnan(numbers)
        all_missing = missing.all(axis=0)
        median = np.zeros(numbers.shape[1])
        median[~all_missing] = np.nanmedian(numbers[:, ~all_missing], axis=0)
        filled = np.where(missing, median, numbers)
        std = filled.std(axis=0)
        grid = np.linspace(0, 1, bends + 1) if bends else np.empty(0)
        first_code, place = _one_hot_places(read.categories)
        return cls(
            median=median,
            mean=filled.mean(axis=0),
            std=np.where(std > 0, std, 1.0),
            flagged=np.flatnonzero(missing.any(axis=0)),
            edges=np.quantile(filled, grid, axis=0).T.reshape(numbers.shape[1], len(grid)),
            first_code=first_code,
            place=place,
        )

    def matrix(self, read: Features) -> Matrix:
        """Float32 [n, columns], sparse where categories have many columns."""
        numbers = read.numbers.astype(np.float64)
        missing = np.isnan(numbers)
        filled = np.where(missing, self.median, numbers)
        straight = np.clip((filled - self.mean) / self.std, -CUT, CUT)
        dense = np.concatenate([straight, missing[:, self.flagged], *self._bent(filled)], axis=1).astype(np.float32)
        if not read.categories.shape[1]:
            return dense
        hot = self._one_hot(read.categories)
        if hot.shape[1] > DENSE_COLUMNS:
            return sparse.hstack([sparse.csr_matrix(dense), hot], format="csr")
        return np.concatenate([dense, hot.toarray()], axis=1)

    def _bent(self, filled: np.ndarray) -> list[np.ndarray]:
        """For each stretch between edges how much of it lies below the number, 0 to 1; one block for each column."""
        blocks = []
        for column, edges in enumerate(self.edges):
            edges = np.unique(edges)
            if len(edges) > 2:
                part = (filled[:, column, None] - edges[:-1]) / np.diff(edges)
                blocks.append(np.clip(part, 0, 1))
        return blocks

    def _one_hot(self, categories: np.ndarray) -> sparse.csr_matrix:
        rows, count = categories.shape
        known = np.diff(self.first_code)
        # A code beyond the training's is unseen: it reads as 0.
        codes = np.where((categories >= 0) & (categories < known), categories, 0)
        columns = self.place[codes + self.first_code[:-1]]
        ends = np.arange(rows + 1) * count
        ones = np.ones(rows * count, np.float32)
        return sparse.csr_matrix((ones, columns.ravel(), ends), shape=(rows, int(self.place.max()) + 1))

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {f"design.{name}": value for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> Design:
        return cls(**{name: arrays[f"design.{name}"] for name in cls.__dataclass_fields__})


def _one_hot_places(categories: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each category's codes begin, and the one-hot column of each code."""
    first_code, places, next_column = [0], [], 0
    for codes in categories.T:
        counts = np.bincount(codes, minlength=1)
        common = np.flatnonzero(counts >= RARE)
        common = common[common > 0]
        place = np.full(len(counts), next_column)
        place[common] = next_column + 1 + np.arange(len(common))
        next_column += 1 + len(common)
        places.append(place)
        first_code.append(first_code[-1] + len(place))
    return np.array(first_code), np.concatenate(places) if places else np.empty(0, np.int64)
