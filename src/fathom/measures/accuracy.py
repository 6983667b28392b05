"""Accuracy: the share of rows whose most probable class is the right one.

Where two classes are equally probable the first is taken, as everywhere else in this package.
"""

from __future__ import annotations

import numpy as np

TASK = "classify"
HIGHER_IS_BETTER = True
LABEL = "accuracy"
UNIT = "%"
RANGE = (0.0, 1.0)
ONLY_CLASSES = True  # looks at the predicted class alone, not at its probability


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1.0 where the row is right, 0.0 where it is wrong: float64 [N]."""
    return (predicted(predictions) == targets).astype(np.float64)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Share of right rows, 0 to 1; NaN for no rows."""
    return float(per_row(predictions, targets).mean()) if len(targets) else float("nan")


def predicted(predictions: np.ndarray) -> np.ndarray:
    """Most probable class of each row: int64 [N] from probabilities [N, C]."""
    return np.argmax(predictions, axis=1)
