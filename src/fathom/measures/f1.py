"""Macro F1: the mean over classes of the harmonic mean of precision and recall.

A class counts when it is among the targets or was predicted; predicting a class that never occurs costs its full share.
"""

from __future__ import annotations

import numpy as np

from fathom.measures.accuracy import predicted

TASK = "classify"
HIGHER_IS_BETTER = True
LABEL = "macro F1"
UNIT = "%"
RANGE = (0.0, 1.0)
ONLY_CLASSES = True


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Contributions [N] whose mean is the measure: its value plus each row's influence (infinitesimal jackknife)."""
    if not len(targets):
        return np.zeros(0)
    chosen = predicted(predictions)
    hit = chosen == targets
    num_classes = predictions.shape[1]
    # F1 of a class is 2 hits / (times it is true + times it is predicted).
    either = np.bincount(targets, minlength=num_classes) + np.bincount(chosen, minlength=num_classes)
    hits = np.bincount(targets, weights=hit, minlength=num_classes)
    present = either > 0
    score = 2 * hits / np.maximum(either, 1)
    share = either / len(targets)
    influence = 2 * hit / share[targets] - score[targets] / share[targets] - score[chosen] / share[chosen]
    return score[present].mean() + influence / present.sum()


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean F1 over the classes met, 0 to 1; NaN for no rows."""
    return float(per_row(predictions, targets).mean()) if len(targets) else float("nan")
