"""D9: the columns say nothing about the target, as after sorting or joining one without the other.

An equivalence test: not "nothing was found", which few rows always give, but "were there anything, it is less than
this". What a reader would get wrong: there are targets that no quick model can tell (a parity, a far-moved picture), so
trees and nearest neighbours must both find nothing, and the finding is a suspicion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import stats

from fathom.doctor.finding import Finding
from fathom.doctor.parts.given import Given
from fathom.doctor.parts.out_of_fold import Learner, in_columns

NOTHING = 0.15  # correlation of what is predicted with what is: less is nothing (2 % of the variance)
SOMETHING = 0.3
SHIFTS = (1, -1, 2, -2)
NEIGHBOURS = 5


def find_misaligned(given: Given, learner: Learner, predicted: np.ndarray, level: float) -> Iterator[Finding]:
    trees = at_most(learner, predicted, level)
    if trees >= NOTHING or not (learner.table.names or learner.bag is not None):
        return
    near = at_most(learner, _by_neighbours(learner), level) if learner.table.names else trees
    if near >= NOTHING:
        return
    shift = _shift_that_fits(given, learner)
    off = f"{abs(shift)} row{'s' * (abs(shift) > 1)}"
    moved = f". With the targets moved by {off} {'down' if shift > 0 else 'up'} they do" if shift else ""
    mixed = "Suspect: rows and targets were mixed up, as by sorting one alone; or these columns know nothing."
    yield Finding(
        "D9",
        seen=f"The columns tell nothing about '{given.task.target}': what is predicted from them correlates with it by "
        f"{max(trees, near):.2f} at most, over {len(learner.rows):,} rows{moved}",
        cause=f"The targets stand {off} off." if shift else mixed,
        remedy="Join rows and targets again by a key, and look at some rows by eye before training.",
        by="experiment" if shift else "test",
        confidence=1 - level,
        evidence={"at_most": max(trees, near), "shift": shift},
    )


def association(learner: Learner, predicted: np.ndarray) -> float:
    """Correlation of predictions with targets; of classes, over all of them at once."""
    if learner.is_number:
        told, true = stats.rankdata(predicted), stats.rankdata(learner.targets)
    else:
        told = predicted - predicted.mean(axis=0)
        hot = np.eye(learner.classes)[learner.targets]
        true = hot - hot.mean(axis=0)
    told, true = told - told.mean(), true - true.mean()
    size = math.sqrt(float((told**2).sum() * (true**2).sum()))
    return float((told * true).sum() / size) if size > 0 else 0.0


def at_most(learner: Learner, predicted: np.ndarray, level: float) -> float:
    """The upper bound of the association (Fisher's transformation); classes give no more than one number each row."""
    if len(learner.targets) < 10:
        return 1.0
    found = math.atanh(max(-0.999999, min(association(learner, predicted), 0.999999)))
    return math.tanh(found + float(stats.norm.isf(level)) / math.sqrt(len(learner.targets) - 3))


def _by_neighbours(learner: Learner) -> np.ndarray:
    """Held-out means of the nearest rows' targets, as the learner predicts."""
    from sklearn.neighbors import KNeighborsRegressor

    matrix = in_columns(learner.table)
    hot = learner.targets if learner.is_number else np.eye(learner.classes)[learner.targets]
    found = np.zeros(hot.shape)
    for number in range(learner.fold.max() + 1):
        held, train = learner.fold == number, learner.fold != number
        model = KNeighborsRegressor(min(NEIGHBOURS, int(train.sum()))).fit(matrix[train], hot[train])
        found[held] = model.predict(matrix[held])
    return found


def _shift_that_fits(given: Given, learner: Learner) -> int:
    """By how many rows the targets must be moved for the columns to tell them; 0 where that does not help."""
    own = learner.targets
    try:
        for shift in SHIFTS:
            learner.targets = np.roll(given.targets, -shift)[learner.rows]
            if association(learner, learner.predict()) > SOMETHING:
                return -shift
    finally:
        learner.targets = own
    return 0
