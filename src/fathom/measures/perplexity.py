"""Perplexity: e to the loss, as if at every token the model chose evenly among so many.

1 is certainty, and the size of the vocabulary is knowing nothing. Like the loss it depends on what the tokens are.
"""

from __future__ import annotations

import numpy as np

from fathom.measures import cross_entropy

TASK = "language"
HIGHER_IS_BETTER = False
LABEL = "perplexity"
UNIT = ""
RANGE = (1.0, float("inf"))

per_row = cross_entropy.per_row
statistics = cross_entropy.statistics


def from_statistics(sums: np.ndarray) -> np.ndarray:
    """The perplexity from sums of `statistics` [..., 3]; NaN where there is no token."""
    with np.errstate(over="ignore"):
        return np.exp(cross_entropy.from_statistics(sums))


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """At least 1; NaN for no tokens. `predictions` [N] and `targets` [N, 2] as for the loss.

    >>> round(measure(np.array([np.log(0.25)]), np.array([[2, 2]])), 9)
    2.0
    """
    return float(from_statistics(statistics(predictions, targets).sum(axis=0)))
