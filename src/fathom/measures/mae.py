"""Mean absolute error, in the unit of the target. Smallest for a model that predicts medians, not means."""

from __future__ import annotations

import numpy as np

TASK = "regress"
HIGHER_IS_BETTER = False
LABEL = "mean absolute error"
UNIT = "target"
RANGE = (0.0, float("inf"))


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Absolute errors [N] in float64."""
    return np.abs(np.asarray(predictions, np.float64) - targets)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean absolute error; NaN for no rows."""
    return float(per_row(predictions, targets).mean()) if len(targets) else float("nan")
