"""Area under the ROC curve: how often a row of a class is ranked above a row that is not of it; ties count half.

Several classes: each against the rest, then the plain mean over the classes that have rows on both sides.
"""

from __future__ import annotations

import numpy as np

TASK = "classify"
HIGHER_IS_BETTER = True
LABEL = "area under the curve"
UNIT = ""
RANGE = (0.0, 1.0)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Contributions [N] whose mean is the measure: its value plus each row's influence, made of the row's placement
    among the rows of the other side (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44). NaN where undefined."""
    num_rows, num_classes = predictions.shape
    # With two classes the second curve is the mirror image of the first.
    classes = [1] if num_classes == 2 else range(num_classes)
    total, used = np.zeros(num_rows), 0
    for one in classes:
        inside = targets == one
        if inside.any() and not inside.all():
            total += _one_class(predictions[:, one], inside)
            used += 1
    return total / used if used else np.full(num_rows, np.nan)


def _one_class(scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    placement = np.empty(len(scores))
    placement[inside] = _share_below(scores[inside], np.sort(scores[~inside]))
    placement[~inside] = 1 - _share_below(scores[~inside], np.sort(scores[inside]))
    area = placement[inside].mean()
    share = np.where(inside, inside.mean(), 1 - inside.mean())
    return area + (placement - area) / share


def _share_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    below = np.searchsorted(others, scores, side="left")
    not_above = np.searchsorted(others, scores, side="right")
    return (below + not_above) / (2 * len(others))


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Area from 0 to 1, 0.5 for guessing; NaN where all rows are of one class."""
    return float(per_row(predictions, targets).mean()) if len(targets) else float("nan")
