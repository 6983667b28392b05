"""Balanced accuracy: the mean over classes of the share of their rows that are right.

Only classes that stand among the targets count, so a rare class weighs as much as a common one.
"""

from __future__ import annotations

import numpy as np

from fathom.measures.accuracy import predicted

TASK = "classify"
HIGHER_IS_BETTER = True
LABEL = "balanced accuracy"
UNIT = "%"
RANGE = (0.0, 1.0)
ONLY_CLASSES = True


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Contributions [N] whose mean is the measure: its value plus each row's influence (infinitesimal jackknife,
    Efron 1982), so that resampling the contributions gives the spread of the measure."""
    if not len(targets):
        return np.zeros(0)
    hit = predicted(predictions) == targets
    rows = np.bincount(targets, minlength=predictions.shape[1])
    present = rows > 0
    recall = np.bincount(targets, weights=hit, minlength=len(rows)) / np.maximum(rows, 1)
    share = rows / len(targets)
    influence = (hit - recall[targets]) / share[targets] / present.sum()
    return recall[present].mean() + influence


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean recall over the classes present, 0 to 1; NaN for no rows."""
    return float(per_row(predictions, targets).mean()) if len(targets) else float("nan")
