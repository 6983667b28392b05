"""R²: the share of the target's variance that the predictions explain.

1 is perfect, 0 is no better than the mean of these very rows, and below 0 is worse than that mean.
"""

from __future__ import annotations

import numpy as np

TASK = "regress"
HIGHER_IS_BETTER = True
LABEL = "R²"
UNIT = ""
RANGE = (-float("inf"), 1.0)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Contributions [N] whose mean is the measure: its value plus each row's influence (infinitesimal jackknife).
    NaN where all targets are equal."""
    if not len(targets):
        return np.zeros(0)
    around_mean = (targets - np.mean(targets)) ** 2
    variance = around_mean.mean()
    if not variance > 0:
        return np.full(len(targets), np.nan)
    squared = (np.asarray(predictions, np.float64) - targets) ** 2
    unexplained = squared.mean() / variance
    return 1 - unexplained + (unexplained * around_mean - squared) / variance


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """R², at most 1; NaN where all targets are equal or there are no rows."""
    return float(per_row(predictions, targets).mean()) if len(targets) else float("nan")
