"""T5: no learning: the model is not better than a constant that says the same of every row.

Targets and what the model says of them are read from the graph. Of each batch the gain over the best constant is
taken (the classes' shares, or the mean), and an upper bound of its mean. What a reader would get wrong: a loss that
does not fall is no proof, since it may begin to fall later, after a warm-up or once a rule is grasped. So stretches of
steps must agree (at a fifth, two and three fifths of the plan, or at 200 and 400 steps), and none show a beginning;
`curriculum` declares that learning begins late.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from fathom.doctor.finding import Finding
from fathom.doctor.parts.chance import ErrorBudget
from fathom.doctor.parts.family import Family, Moment
from fathom.doctor.parts.row_losses import Constant, can_read, losses
from fathom.doctor.parts.schedule import EVERY_STEP

LEAST_STEPS = 200  # where no plan is declared
GAIN = 0.05  # of the constant's loss: an upper bound below it is no learning
STRETCHES = 2  # in a row,
OF_A_PLAN = 3  # where the plan is known: the third is over after two thirds of it
SIGN = 3.0  # standard errors of the gain above zero: more is a beginning
LEAST_LOOKS = 6
CLEAR, WELL = 3, 0.3  # batches at the beginning of a stretch, with so much of the constant's loss gone
CAUSES = ("F1", "F4", "F5", "F6", "F3", "F8", "F2", "F10", "F9", "D9", "T3", "T4", "T1", "T2")


class NoLearning(Family):
    def __init__(self) -> None:
        self.constant = Constant()
        self.gains: list[tuple[float, float]] = []  # of the stretch: the gain of each batch, and the constant's loss
        self.window = 0
        self.stretches = 0
        self.is_told = False

    def before_backward(self, moment: Moment) -> Iterator[Finding]:
        if self.is_told or moment.graph is None:
            return
        if self.window and moment.window != self.window:
            yield from self._check(moment)
        self.window = moment.window
        is_counted = self.window and (moment.plan is not None or moment.step > LEAST_STEPS)
        if moment.step > EVERY_STEP and (not is_counted or self._is_learning_well()):
            return
        terms = moment.graph.terms
        if len(terms) == 1 and can_read(terms[0]):
            constant = self.constant.add(terms[0])
            if is_counted:
                self.gains.append((constant - float(losses(terms[0]).mean()), constant))

    def _is_learning_well(self) -> bool:
        """So well that the rest of the stretch need not be read."""
        return len(self.gains) >= CLEAR and all(gain > WELL * constant for gain, constant in self.gains)

    def _check(self, moment: Moment) -> Iterator[Finding]:
        gains, constants = (np.array(one) for one in zip(*self.gains, strict=True)) if self.gains else ((), ())
        is_learning_well, self.gains = self._is_learning_well(), []
        if is_learning_well:
            self.stretches = 0
        if is_learning_well or len(gains) < LEAST_LOOKS or not np.isfinite(gains).all() or np.mean(constants) <= 1e-6:
            return
        sure = float(stats.t.isf(ErrorBudget().level(self.stretches + 1), len(gains) - 1))
        error = float(np.std(gains, ddof=1)) / len(gains) ** 0.5
        upper = float((np.mean(gains) + sure * error) / np.mean(constants))
        self.stretches = self.stretches + 1 if upper < GAIN and np.mean(gains) < SIGN * error else 0
        if self.stretches < (STRETCHES if moment.plan is None else OF_A_PLAN):
            return
        self.is_told = True
        gain, constant = float(np.mean(gains) / np.mean(constants)), float(np.mean(constants))
        yield Finding(
            "T5",
            seen=f"After {moment.step - 1:,} steps the model is no better than an answer that is the same for every "
            f"row: its loss is {(1 - gain) * constant:.4g}, that of the best constant {constant:.4g} (the gain lies "
            f"below {upper:.1%})",
            cause="Nothing of what the rows say reaches the answers: the rate does not suit, the signal dies on the "
            "way, or rows and answers do not belong together.",
            remedy="Check that answers stand beside their rows, try ten times and a tenth of the rate, and whether 32 "
            "rows can be learned by heart. Where learning begins late on purpose, say watch(..., curriculum=True).",
            by="test",
            confidence=0.99,
            step=moment.step,
            symptom_of=CAUSES,
            evidence={
                "gain": gain,
                "gain_at_most": upper,
                "constant": constant,
                "losses": moment.history.as_evidence(),
            },
        )
