"""Mean reciprocal rank: 1 where the right one comes first, a half where it comes second, a third where third.

The mean over both directions. It moves with every place, where recall moves with one only. Voorhees 1999, TREC-8.
"""

from __future__ import annotations

import numpy as np

from fathom.measures.recall_at_1 import mean_of

TASK = "pair"
HIGHER_IS_BETTER = True
LABEL = "mean reciprocal rank"
UNIT = ""
RANGE = (0.0, 1.0)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The mean of both reciprocals: float64 [N]."""
    return (1 / np.asarray(predictions, np.float64)).mean(axis=1)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """From 0 to 1, from ranks [N, 2]; NaN for no rows.

    >>> measure(np.array([[1.0, 2.0], [4.0, 4.0]]), np.array(["a cat", "a dog"], object))
    0.5
    """
    return mean_of(per_row(predictions, targets))
