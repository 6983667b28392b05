"""Calibration error: how far the probability of the predicted class stands from the share of rows that are right.

Root mean square over bins of equally many rows, less what chance alone adds. The plain estimate is above zero even for
a perfect model, the more so the fewer the rows; this one is 0 when the differences are no more than chance.
Source: Kumar, Liang and Ma 2019, arXiv:1909.10155 (debiased estimator); bins of equal mass as in Nixon 2019.
"""

from __future__ import annotations

import numpy as np

from fathom.measures.accuracy import predicted

TASK = "classify"
HIGHER_IS_BETTER = False
LABEL = "calibration error"
UNIT = "%"
RANGE = (0.0, 1.0)
MOST_BINS = 15
LEAST_ROWS = 20  # in a bin


def per_row(predictions: np.ndarray, targets: np.ndarray) -> None:
    """There are none: bins belong to all rows together."""
    return None


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Calibration error of the predicted class, 0 to 1; NaN for fewer than two rows."""
    if len(targets) < 2:
        return float("nan")
    sure = predictions.max(axis=1).astype(np.float64)
    gap = (predicted(predictions) == targets) - sure
    bins = _bins(sure)
    rows = np.bincount(bins)
    mean = np.bincount(bins, weights=gap) / np.maximum(rows, 1)
    spread = np.maximum(np.bincount(bins, weights=gap**2) / np.maximum(rows, 1) - mean**2, 0)
    # A mean of n rows has a square that is too large by its variance: spread / (n - 1). One row alone says nothing.
    known = rows > 1
    squares = mean[known] ** 2 - spread[known] / (rows[known] - 1)
    return float(np.sqrt(max(0.0, np.average(squares, weights=rows[known])))) if known.any() else float("nan")


def _bins(sure: np.ndarray) -> np.ndarray:
    """Bin of each row; rows of equal probability share a bin."""
    num_bins = int(np.clip(len(sure) // LEAST_ROWS, 1, MOST_BINS))
    edges = np.unique(np.quantile(sure, np.linspace(0, 1, num_bins + 1)[1:-1]))
    return np.searchsorted(edges, sure, side="right")
