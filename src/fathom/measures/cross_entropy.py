"""Loss of a language model: minus the log-probability of all rows in nats, divided by their tokens.

A ratio of sums, so a row counts by its tokens. Losses compare only where the tokens are the same: two tokenizers cut a
text into different numbers of pieces. `bits_per_byte` compares across them.
"""

from __future__ import annotations

import numpy as np

TASK = "language"
HIGHER_IS_BETTER = False
LABEL = "loss"
UNIT = ""  # nats a token
RANGE = (0.0, float("inf"))


def per_row(predictions: np.ndarray, targets: np.ndarray) -> None:
    """There are none: rows have different lengths, and the measure is no mean over them."""
    return None


def statistics(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Nats, tokens and UTF-8 bytes of each row: float64 [N, 3].

    `predictions` [N] are the log-probabilities of the rows in nats, `targets` [N, 2] their tokens and bytes.
    """
    return np.column_stack([-np.asarray(predictions, np.float64), targets])


def from_statistics(sums: np.ndarray) -> np.ndarray:
    """The loss from sums of `statistics` [..., 3]: nats a token, NaN where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Nats a token; NaN for no tokens.

    >>> measure(np.array([-2.0, -4.0]), np.array([[1, 1], [2, 5]]))
    2.0
    """
    return float(from_statistics(statistics(predictions, targets).sum(axis=0)))
