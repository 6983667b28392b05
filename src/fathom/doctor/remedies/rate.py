"""F10: the rate that copies learned well at, by experiment before the first step.

What a reader would get wrong: in the middle of a training a rate is not changed on the word of an experiment from its
beginning; only one that runs away is lowered then (rollback.py).
"""

from __future__ import annotations

import math

import numpy as np

from fathom.doctor.finding import Finding
from fathom.doctor.parts.trial import Trial
from fathom.doctor.remedies.applied import STEPS, Applied, Declined, Training, is_better

STEP = 10**0.5  # between the rates that are tried near the suggested one
MOST = 4  # of them each way
LATE = 20  # steps, the last of a trial, whose loss counts
CLEARLY = 0.05  # of the loss: so much lower is better


def change_rate(training: Training, finding: Finding) -> Applied | Declined:
    suggested = finding.evidence.get("suggested")
    if suggested is None or training.trial is None or training.has_begun:
        return Declined("the training has begun; change the rate with its schedule")
    factor = _best_near(training.trial, suggested / training.trial.rate)
    if not is_better(training.trial, rate=factor):
        return Declined("a copy did not learn better at another rate")
    before = training.rates.factor
    training.rates.times(factor)

    def undo() -> None:
        training.rates.times(before / training.rates.factor)

    return Applied(f"each step is made at {factor:.3g} times the rate that is set", undo)


def _best_near(trial: Trial, factor: float) -> float:
    """Up from the suggested rate, which was the best of few far apart, or down, while copies learn clearly better."""
    best, begun = _late(trial, factor), factor
    for step in (STEP, 1 / STEP):
        for _ in range(MOST if factor == begun else 0):
            other = _late(trial, factor * step)
            if not other < best - CLEARLY * abs(best):
                break
            factor, best = factor * step, other
    return factor


def _late(trial: Trial, factor: float) -> float:
    """The usual loss of the last steps; single batches of odd rows do not count."""
    outcome = trial.run(STEPS, rate=factor)
    return float(np.median(outcome.losses[-LATE:])) if outcome.is_finite else math.inf
