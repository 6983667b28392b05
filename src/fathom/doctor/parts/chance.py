"""How sure: an error budget for a whole training, and the tests that spend it.

Detectors that look again and again find something by chance sooner or later. So a training has one budget of errors,
each detector a share of it, and each look of a detector a share of that: 6 / (pi² k²) of it at look k, which sums to
one over any number of looks. What a reader would get wrong: a small p is not yet a finding; an effect that matters is
asked for too.

    >>> budget = ErrorBudget(0.01, detectors=4)
    >>> sum(budget.level(look) for look in range(1, 10_000)) < 0.01 / 4
    True
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class ErrorBudget:
    """The share of healthy trainings in which any detector may raise an alarm by chance (Bonferroni)."""

    total: float = 0.01
    detectors: int = 12

    def level(self, look: int) -> float:
        """The error that one detector may make at its k-th look, k = 1, 2, …"""
        return self.total / self.detectors * 6 / (math.pi**2 * look**2)


def p_of_mean_above(values: np.ndarray, floor: float = 0.0) -> float:
    """One-sided p that the mean of paired differences is above `floor`: Student's t; 1 for fewer than three."""
    values = np.asarray(values, np.float64)
    if len(values) < 3 or not np.isfinite(values).all():
        return 1.0
    spread = values.std(ddof=1)
    if spread == 0:
        return 0.0 if values.mean() > floor else 1.0
    return float(stats.t.sf((values.mean() - floor) / (spread / math.sqrt(len(values))), len(values) - 1))
