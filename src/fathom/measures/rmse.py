"""Root mean squared error, in the unit of the target. A few large errors weigh more than many small ones."""

from __future__ import annotations

import numpy as np

TASK = "regress"
HIGHER_IS_BETTER = False
LABEL = "root mean squared error"
UNIT = "target"
RANGE = (0.0, float("inf"))
FROM_MEAN = np.sqrt  # the measure is this function of the mean of `per_row`


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Squared errors [N] in float64."""
    return (np.asarray(predictions, np.float64) - targets) ** 2


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Root of the mean squared error; NaN for no rows."""
    return float(np.sqrt(per_row(predictions, targets).mean())) if len(targets) else float("nan")
