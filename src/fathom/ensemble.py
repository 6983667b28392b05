"""An average of the candidates as one more candidate, which must earn its cost like any other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fathom.data import Task
from fathom.decision import Candidate
from fathom.intervals import num_units
from fathom.measures import log_loss

STEPS = 25
FOLDS = 5


def average(
    candidates: Sequence[Candidate],
    validation_targets: np.ndarray,
    task: Task,
    *,
    seed: int,
    validation_units: np.ndarray | None = None,
) -> Candidate | None:
    """A weighted average of the candidates' predictions as one more candidate; None where one alone is best, and where
    there are too few rows or groups to tell.

    Weights by greedy selection with replacement on log loss or squared error (Caruana et al. 2004, ICML). Its
    validation predictions are honest: each fifth of the rows is averaged with weights found on the other four, so that
    it cannot win by weights fitted to the rows that judge it. The kept weights are found on all validation rows.
    Its cost is the sum of its members'.
    """
    if len(validation_targets) < 2 * FOLDS or num_units(len(validation_targets), validation_units) < FOLDS:
        return None
    stacked = np.stack([c.validation for c in candidates])
    weights = select(stacked, validation_targets, task)
    if np.sum(weights > 0) < 2:
        return None
    units = np.arange(len(validation_targets)) if validation_units is None else validation_units
    labels = np.unique(units, return_inverse=True)[1]
    fold = (np.random.default_rng(seed).permutation(labels.max() + 1) % FOLDS)[labels]
    honest = np.empty_like(stacked[0], dtype=np.float64)
    for i in range(FOLDS):
        others = fold != i
        found = select(stacked[:, others], validation_targets[others], task)
        honest[~others] = np.tensordot(found, stacked[:, ~others], axes=1)
    used = [(c, float(weight)) for c, weight in zip(candidates, weights, strict=True) if weight > 0]
    return Candidate(
        name="ensemble",
        rank=max(c.rank for c in candidates) + 1,
        validation=honest,
        test=np.tensordot(weights, np.stack([c.test for c in candidates]), axes=1),
        seconds_per_row=sum(c.seconds_per_row for c, _ in used),
        kind="ensemble",
        members={c.name: weight for c, weight in used},
    )


def select(predictions: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:
    """Weights [M] that sum to 1 for predictions [M, N(, C)]: one step adds the model that lowers the loss most."""
    if task.kind == "classify":
        given = predictions[:, np.arange(len(targets)), targets]  # [M, N]: log loss needs only the true class
    else:
        given = predictions - targets  # the error of an average is the average of the errors
    total, times = np.zeros(given.shape[1]), np.zeros(len(given))
    best, chosen = math.inf, times
    for step in range(1, STEPS + 1):
        tried = (total + given) / step
        losses = (
            -np.log(np.clip(tried, log_loss.SMALLEST, 1)).mean(1) if task.kind == "classify" else (tried**2).mean(1)
        )
        member = int(np.argmin(losses))
        total, times = total + given[member], times + np.eye(len(given))[member]
        # A step that gains less than a thousandth is not worth another member, nor a longer tail.
        if losses[member] < best * (1 - 1e-3 * (times[member] == 1)):
            best, chosen = float(losses[member]), times.copy()
    return chosen / chosen.sum()
