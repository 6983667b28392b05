"""What a remedy acts on, and what it leaves behind: what it did in words, and how to take it back.

What a reader would get wrong: a remedy may decline, with a reason; then nothing was touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from torch import nn
from torch.optim import Optimizer

from fathom.doctor.parts.trial import Edit, Outcome, Trial
from fathom.doctor.remedies.rates import Rates
from fathom.doctor.remedies.snapshot import Snapshot

STEPS, TAIL = 60, 40  # of a rehearsal, and its last ones, which count
FIRST = 4  # and its first
BETTER = 0.05  # of the loss without the remedy: so much lower at least
SURE = 0.001


@dataclass(frozen=True)
class Training:
    """What remedies act on."""

    model: nn.Module
    optimizers: Sequence[Optimizer]
    rates: Rates
    trial: Trial | None  # where rows and a loss were given

    @property
    def has_begun(self) -> bool:
        """Whether an optimizer has made a step."""
        return any(optimizer.state for optimizer in self.optimizers)


class Applied(NamedTuple):
    what: str  # as it is told
    undo: Callable[[], None]
    may_harm: bool = True  # it is watched afterwards, and taken back where the loss rises
    module: nn.Module | None = None  # what has to be kept with the model
    while_watched: bool = False  # it is taken off when the watch ends
    weights: Snapshot | None = None  # to be put in place at the next step: before, a graph may still need those there


class Declined(NamedTuple):
    """Nothing was done, and why."""

    why: str


def is_better(trial: Trial, *, rate: float = 1.0, decay: float = 1.0, edit: Edit | None = None) -> bool:
    """Whether a copy learns better so: the same batches and random numbers, with and without; p below a thousandth.

    By signed ranks of the pairs (Wilcoxon): a loss that leaps about has no mean to speak of.
    """
    plain, mended = trial.run(STEPS), trial.run(STEPS, rate=rate, decay=decay, edit=edit)
    if not mended.is_finite or not _learns(mended):
        return False
    if not plain.is_finite:
        return True
    ends = [np.array(outcome.losses[-TAIL:]) for outcome in (plain, mended)]
    gains = ends[0] - ends[1] - BETTER * np.abs(ends[0])
    return bool(gains.any()) and float(stats.wilcoxon(gains, alternative="greater").pvalue) < SURE


def _learns(outcome: Outcome) -> bool:
    """Whether the usual loss falls: to stand still is better than to run away, and no remedy."""
    first, last = (float(np.median(part)) for part in (outcome.losses[:FIRST], outcome.losses[-TAIL // 2 :]))
    return last < first - BETTER * abs(first)


def is_no_worse(trial: Trial, *, edit: Edit) -> bool:
    """Whether a copy ends as low so, or lower."""
    plain, mended = trial.run(STEPS), trial.run(STEPS, edit=edit)
    return mended.is_finite and mended.last(TAIL) <= plain.last(TAIL)
