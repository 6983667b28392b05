"""Log loss: minus the natural logarithm of the probability given to the right class, averaged over rows.

A probability of 0 for the right class counts as the smallest float64 step (about 36 nats), not as infinity.
"""

from __future__ import annotations

import numpy as np

TASK = "classify"
HIGHER_IS_BETTER = False
LABEL = "log loss"
UNIT = ""
RANGE = (0.0, float("inf"))
SMALLEST = float(np.finfo(np.float64).eps)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss of each row in nats: float64 [N]."""
    given = predictions[np.arange(len(targets)), targets]
    return -np.log(np.clip(given.astype(np.float64), SMALLEST, 1.0))


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean loss in nats; NaN for no rows."""
    return float(per_row(predictions, targets).mean()) if len(targets) else float("nan")
