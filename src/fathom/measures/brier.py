"""Brier score: squared distance between the probabilities and the truth, summed over classes, averaged over rows.

0 is perfect, 2 is sure and wrong. For two classes this is twice the score that some libraries give.
"""

from __future__ import annotations

import numpy as np

TASK = "classify"
HIGHER_IS_BETTER = False
LABEL = "Brier score"
UNIT = ""
RANGE = (0.0, 2.0)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Squared distance of each row, float64 [N]. Brier 1950, Monthly Weather Review 78."""
    given = predictions[np.arange(len(targets)), targets].astype(np.float64)
    return (predictions.astype(np.float64) ** 2).sum(axis=1) - 2 * given + 1


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean squared distance, 0 to 2; NaN for no rows."""
    return float(per_row(predictions, targets).mean()) if len(targets) else float("nan")
