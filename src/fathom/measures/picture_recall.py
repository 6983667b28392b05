"""Recall at 1 of pictures alone: how often the right picture comes first for a caption. See recall_at_1."""

from __future__ import annotations

import numpy as np

from fathom.measures.recall_at_1 import mean_of, within

TASK = "pair"
HIGHER_IS_BETTER = True
LABEL = "recall@1 of pictures"
UNIT = "%"
RANGE = (0.0, 1.0)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """0 or 1 for each row: float64 [N]."""
    return within(predictions[:, 1], 1)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Share from 0 to 1 from ranks [N, 2]; NaN for no rows."""
    return mean_of(per_row(predictions, targets))
