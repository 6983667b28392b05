"""Recall at 5: how often the right caption is among the first five for a picture, and the right picture for a caption.

The mean over both directions, which depends on how many candidates there are: see recall_at_1.
"""

from __future__ import annotations

import numpy as np

from fathom.measures.recall_at_1 import mean_of, within

TASK = "pair"
HIGHER_IS_BETTER = True
LABEL = "recall@5"
UNIT = "%"
RANGE = (0.0, 1.0)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """0, 0.5 or 1 for each row: float64 [N]."""
    return within(predictions, 5).mean(axis=1)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Share from 0 to 1 from ranks [N, 2], 1 the best; NaN for no rows."""
    return mean_of(per_row(predictions, targets))
