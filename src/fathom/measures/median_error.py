"""Median absolute error, in the unit of the target: half of the rows are nearer than this. Outliers do not move it."""

from __future__ import annotations

import numpy as np

TASK = "regress"
HIGHER_IS_BETTER = False
LABEL = "median absolute error"
UNIT = "target"
RANGE = (0.0, float("inf"))


def per_row(predictions: np.ndarray, targets: np.ndarray) -> None:
    """There are none: a median is not a mean."""
    return None


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Median absolute error; NaN for no rows."""
    return float(np.median(np.abs(np.asarray(predictions, np.float64) - targets))) if len(targets) else float("nan")
