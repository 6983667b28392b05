"""T6: overfitting: rows that are judged by get worse again, while those that are trained on get no worse; or these are
known by heart, and those hardly told better than before the first step.

The losses of the same rows now and when they were best are compared row by row, so that noise between rows cancels.
What a reader would get wrong: a rising loss is not yet fewer right answers. A classifier that has become too sure of
itself pays more for the same mistakes; the finding says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fathom.doctor.finding import Finding
from fathom.doctor.parts.family import Family, Moment

DEVIATIONS = 4.0  # of the mean difference of pairs
REGRET = 0.10  # of what had been learned
REGRET_OF_MEANS = 0.25  # where single rows are not known
TIMES, TIMES_OF_MEANS = 2, 3  # in a row
# By heart: shares of the untrained model's loss that training rows cost at most, and judged rows at least.
BY_HEART, NOT_TOLD, APART = 0.2, 0.6, 3.0
TIMES_APART = 3  # in a row
CHANCE = 2.0  # standard errors of the mean of judged rows
RISE = 1.1  # times: training losses that grow more have another cause


class Overfitting(Family):
    def __init__(self) -> None:
        self.first = math.nan
        self.best: np.ndarray | None = None
        self.best_step = 0
        self.trained_at_best = math.inf
        self.times = self.times_apart = 0
        self.means: list[list[float]] = []
        self.is_told = False

    def judged(self, losses: np.ndarray, moment: Moment) -> Iterator[Finding]:
        mean = float(losses.mean())
        self.means.append([moment.step - 1, mean])
        if self.is_told or not math.isfinite(mean):
            return
        trained, untrained = moment.history.now, moment.history.untrained
        if self.best is None or len(losses) != len(self.best) or mean < self.best.mean():
            self.first = mean if self.best is None else self.first
            self.best, self.best_step, self.trained_at_best = losses, moment.step - 1, trained
        self.times = self.times + 1 if self._is_worse(losses, trained, untrained) else 0
        is_apart = _are_apart(trained, _at_least(losses), untrained) and not moment.is_small(mean)
        self.times_apart = self.times_apart + 1 if is_apart else 0
        if self.times >= (TIMES if len(losses) > 1 else TIMES_OF_MEANS) or self.times_apart >= TIMES_APART:
            self.is_told = True
            yield self._finding(mean, trained, moment)

    def _is_worse(self, losses: np.ndarray, trained: float, untrained: float) -> bool:
        """Than when they were best, for certain and by much, while training rows are not."""
        assert self.best is not None
        is_paired, difference = len(losses) > 1, losses - self.best
        if self._regret(float(losses.mean()), untrained) <= (REGRET if is_paired else REGRET_OF_MEANS):
            return False
        if trained > RISE * self.trained_at_best:
            return False
        return not is_paired or difference.mean() > DEVIATIONS * difference.std(ddof=1) / len(losses) ** 0.5

    def _regret(self, mean: float, untrained: float) -> float:
        """The share of what had been learned that is lost again.

        The first rows may be judged late, when most is learned already; the untrained model's loss tells of more.
        """
        assert self.best is not None
        best = float(self.best.mean())
        begin = max(self.first, untrained) if math.isfinite(untrained) else self.first
        return (mean - best) / max(begin - best, 1e-12)

    def _finding(self, mean: float, trained: float, moment: Moment) -> Finding:
        assert self.best is not None
        best, untrained = float(self.best.mean()), moment.history.untrained
        regret = self._regret(mean, untrained)
        if self.times_apart >= TIMES_APART:
            seen = (
                f"Training rows cost {trained:.4g} now and judged rows {mean:.4g}; before the first step it was about "
                f"{untrained:.4g}"
            )
        else:
            seen = (
                f"The loss on judged rows was best at step {self.best_step:,} ({best:.4g}) and is {mean:.4g} now; "
                f"that on training rows is {trained:.4g}"
            )
        remedy = (
            f"Nothing: the weights of step {self.best_step:,} or better ones are taken in the end."
            if moment.restores
            else f"Take the weights of step {self.best_step:,} and stop there; next time weight decay, dropout, "
            "augmentation or more rows."
        )
        return Finding(
            "T6",
            seen=seen,
            cause="The model learns its training rows by heart. Of a classifier it may also mean that only its "
            "certainty has grown: compare the share of right answers.",
            remedy=remedy,
            by="test",
            confidence=0.99,
            step=moment.step - 1,
            evidence={"best": best, "best_step": self.best_step, "now": mean, "regret": min(regret, 1e6),
                      "trained": trained, "judged": self.means[-200:],
                      "advice": moment.restores},
        )  # fmt: skip


def _at_least(losses: np.ndarray) -> float:
    """What judged rows cost on average, within their chance: one of few that is surely wrong can make up a mean."""
    deviation = float(losses.std(ddof=1)) if len(losses) > 1 else 0.0
    return float(losses.mean()) - CHANCE * deviation / len(losses) ** 0.5


def _are_apart(trained: float, judged: float, untrained: float) -> bool:
    """Whether training rows are known by heart and judged rows hardly told; not where the two are on other scales."""
    return 0 <= trained < BY_HEART * untrained and NOT_TOLD * untrained < judged < APART * untrained < math.inf
