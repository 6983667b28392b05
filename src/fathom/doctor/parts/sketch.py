"""What is remembered of a column without keeping its rows: a staircase of counts for numbers, counts for categories.

What a reader would get wrong: the staircase has at most some hundred steps, so a distance measured on them is never
larger than that between the rows themselves; a test with it errs towards silence.

    >>> known = Numbers.of(np.arange(1000, dtype=np.float32), points=65)
    >>> same, moved = known.distance(np.arange(0, 1000, 7.0)), known.distance(np.arange(300, 1000, 7.0))
    >>> bool(same < 0.02), round(moved, 1)
    (True, 0.3)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats


@dataclass(frozen=True)
class Numbers:
    """The distribution of a column of numbers; NaN is missing."""

    values: np.ndarray  # float32 [K], distinct, increasing; the smallest and the largest are the column's
    at_most: np.ndarray  # int64 [K]: rows with such a value or a smaller one
    missing: int

    @classmethod
    def of(cls, column: np.ndarray, points: int) -> Numbers:
        """At most `points` steps, at the quantiles, of a column [N]."""
        column = np.asarray(column, np.float32)
        values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        at_most = np.cumsum(counts)
        if len(values) > points:
            wanted = np.linspace(at_most[0], at_most[-1], points)
            chosen = np.unique(np.clip(np.searchsorted(at_most, wanted), 0, len(values) - 1))
            chosen[0], chosen[-1] = 0, len(values) - 1
            values, at_most = values[chosen], at_most[chosen]
        return cls(values.astype(np.float32), at_most.astype(np.int64), int(np.isnan(column).sum()))

    @property
    def rows(self) -> int:
        """How many rows had a value."""
        return int(self.at_most[-1]) if len(self.at_most) else 0

    @property
    def spread(self) -> float:
        """Largest less smallest value."""
        return float(self.values[-1] - self.values[0]) if len(self.values) else 0.0

    def share_at_most(self, at: np.ndarray) -> np.ndarray:
        """The share of rows with such a value or a smaller one: the staircase at `at`."""
        step = np.searchsorted(self.values, at, side="right")
        return np.append(0, self.at_most)[step] / max(self.rows, 1)

    def surprise(self, column: np.ndarray) -> np.ndarray:
        """How far out each value of other rows [N] lies, in nats; 0 where it is missing or there is nothing known."""
        if not self.rows:
            return np.zeros(len(column))
        inside = self.share_at_most(column)
        tail = np.minimum(inside, 1 - inside + 1 / self.rows)
        low, high, spread = self.values[0], self.values[-1], self.spread or 1.0
        beyond = np.maximum(np.maximum(low - column, column - high), 0) / spread
        found = -np.log(np.clip(2 * tail, 1 / self.rows, 1)) + np.minimum(10 * beyond, 50)
        return np.where(np.isnan(column), 0.0, found)

    def distance(self, column: np.ndarray) -> float:
        """Kolmogorov and Smirnov's distance, 0 to 1, of other rows [N] from these; 0 where either has none."""
        column = np.sort(np.asarray(column, np.float32))
        column = column[~np.isnan(column)]
        if not len(column) or not self.rows:
            return 0.0
        there = np.searchsorted(column, self.values, side="right") / len(column)
        return float(np.abs(there - self.at_most / self.rows).max())


def p_of_distance(distance: float, first: float, second: float) -> float:
    """p of Kolmogorov and Smirnov's test for so many (effective) rows on each side; too large where values repeat.

    Source: Stephens 1970, Journal of the Royal Statistical Society B 32, for the correction of few rows.
    """
    if first <= 0 or second <= 0:
        return 1.0
    rows = np.sqrt(first * second / (first + second))
    return float(special.kolmogorov((rows + 0.12 + 0.11 / rows) * distance))


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of differences between two distributions given as counts [K]: the share of rows that moved."""
    if not first.sum() or not second.sum():
        return 0.0
    return float(np.abs(first / first.sum() - second / second.sum()).sum() / 2)


def p_of_counts(first: np.ndarray, second: np.ndarray) -> float:
    """p of "both have the same distribution" from counts [K] of independent rows: chi-square, rare kinds pooled."""
    together = first + second
    few = together * min(first.sum(), second.sum()) / max(together.sum(), 1) < 5
    table = np.stack([np.append(row[~few], row[few].sum()) for row in (first, second)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any():
        return 1.0
    if table.shape == (2, 2):
        return float(stats.fisher_exact(np.round(table).astype(int)).pvalue)
    return float(stats.chi2_contingency(table).pvalue)


def holm(p: np.ndarray, level: float) -> np.ndarray:
    """Which of several tests [K] reject so that any does by chance in `level` of the cases (Holm 1979): bool [K]."""
    order = np.argsort(p, kind="stable")
    passes = p[order] <= level / (len(p) - np.arange(len(p)))
    rejected = np.zeros(len(p), bool)
    rejected[order] = np.cumprod(passes) > 0
    return rejected


def discoveries(p: np.ndarray, rate: float) -> np.ndarray:
    """Which of several tests [K] reject so that `rate` of what is rejected is chance (Benjamini, Hochberg 1995)."""
    order = np.argsort(p, kind="stable")
    passes = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / len(p))
    rejected = np.zeros(len(p), bool)
    if len(passes):
        rejected[order[: passes[-1] + 1]] = True
    return rejected


@dataclass(frozen=True)
class Words:
    """How often each category occurs. What is not among `counts` is "other": rare in training, or unseen there."""

    counts: dict[str, int]
    other: int
    missing: int

    @property
    def rows(self) -> int:
        """How many rows had a category."""
        return sum(self.counts.values()) + self.other

    def surprise(self, column: np.ndarray) -> np.ndarray:
        """Minus the logarithm of each category's share, for other rows [N]; 0 where it is missing."""
        other = (self.other + 0.5) / (self.rows + 1)
        nats = {word: -np.log(max(count, 0.5) / (self.rows + 1)) for word, count in self.counts.items()}
        return np.array([0.0 if word is None else nats.get(word, -np.log(other)) for word in column], float)

    def beside(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts [K] of these rows and of others, given as an object array of str with None where missing."""
        found = dict.fromkeys(self.counts, 0)
        other = 0
        for word in column:
            if word in found:
                found[word] += 1
            else:
                other += word is not None
        return np.array([*self.counts.values(), self.other], float), np.array([*found.values(), other], float)


Sketch = Numbers | Words
