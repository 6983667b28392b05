"""Recall at 1: how often the right caption comes first for a picture, and the right picture for a caption.

The mean over both directions. What a reader would get wrong: it depends on how many there are to choose from. A model
that finds its caption among ten may lose it among a thousand, so numbers compare only for as many candidates.
"""

from __future__ import annotations

import numpy as np

TASK = "pair"
HIGHER_IS_BETTER = True
LABEL = "recall@1"
UNIT = "%"
RANGE = (0.0, 1.0)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """0, 0.5 or 1 for each row: float64 [N]."""
    return within(predictions, 1).mean(axis=1)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Share from 0 to 1 from ranks [N, 2], 1 the best; NaN for no rows.

    >>> measure(np.array([[1.0, 1.0], [1.0, 7.0]]), np.array(["a cat", "a dog"], object))
    0.75
    """
    return mean_of(per_row(predictions, targets))


def within(ranks: np.ndarray, most: int) -> np.ndarray:
    """Which ranks are not beyond `most`, as 0.0 and 1.0."""
    return (np.asarray(ranks) <= most).astype(np.float64)


def mean_of(rows: np.ndarray) -> float:
    return float(rows.mean()) if len(rows) else float("nan")
