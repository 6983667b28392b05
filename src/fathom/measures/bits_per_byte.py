"""Bits per byte: how many bits the model would need to store a byte of the text, whatever its tokens are.

The one measure of a language that compares characters, bytes and subwords. A good compressor of English needs about 2.
"""

from __future__ import annotations

import numpy as np

from fathom.measures import cross_entropy

TASK = "language"
HIGHER_IS_BETTER = False
LABEL = "bits per byte"
UNIT = ""
RANGE = (0.0, float("inf"))

per_row = cross_entropy.per_row
statistics = cross_entropy.statistics


def from_statistics(sums: np.ndarray) -> np.ndarray:
    """Bits per byte from sums of `statistics` [..., 3]; NaN where there is no byte."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / np.where(sums[..., 2] > 0, sums[..., 2], np.nan) / np.log(2)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Bits for each UTF-8 byte; NaN for no bytes. `predictions` [N] and `targets` [N, 2] as for the loss.

    >>> measure(np.array([-8 * np.log(2)]), np.array([[1, 4]]))
    2.0
    """
    return float(from_statistics(statistics(predictions, targets).sum(axis=0)))
