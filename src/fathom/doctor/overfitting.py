"""T6: overfitting: rows that are judged by get worse again, while those that are trained on get no worse.

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
RISE = 1.1  # times: training losses that grow more have another cause


class Overfitting(Family):
    def __init__(self) -> None:
        self.first = math.nan
        self.best: np.ndarray | None = None
        self.best_step = 0
        self.trained_at_best = math.inf
        self.times = 0
        self.means: list[list[float]] = []
        self.is_told = False

    def judged(self, losses: np.ndarray, moment: Moment) -> Iterator[Finding]:
        mean = float(losses.mean())
        self.means.append([moment.step - 1, mean])
        if self.is_told or not math.isfinite(mean):
            return
        trained = moment.history.now
        if self.best is None or len(losses) != len(self.best) or mean < self.best.mean():
            self.first = mean if self.best is None else self.first
            self.best, self.best_step, self.trained_at_best, self.times = losses, moment.step - 1, trained, 0
            return
        is_paired = len(losses) > 1
        # The first rows may be judged late, when most is learned already; the untrained model's loss tells of more.
        begin = max(self.first, moment.history.untrained) if math.isfinite(moment.history.untrained) else self.first
        regret = (mean - float(self.best.mean())) / max(begin - float(self.best.mean()), 1e-12)
        is_worse = regret > (REGRET if is_paired else REGRET_OF_MEANS) and not trained > RISE * self.trained_at_best
        if is_worse and is_paired:
            difference = losses - self.best
            is_worse = difference.mean() > DEVIATIONS * difference.std(ddof=1) / len(losses) ** 0.5
        self.times = self.times + 1 if is_worse else 0
        if self.times >= (TIMES if is_paired else TIMES_OF_MEANS):
            self.is_told = True
            yield self._finding(mean, regret, trained, moment)

    def _finding(self, mean: float, regret: float, trained: float, moment: Moment) -> Finding:
        assert self.best is not None
        best = float(self.best.mean())
        remedy = (
            f"Nothing: the weights of step {self.best_step:,} or better ones are taken in the end."
            if moment.restores
            else f"Take the weights of step {self.best_step:,} and stop there; next time weight decay, dropout, "
            "augmentation or more rows."
        )
        return Finding(
            "T6",
            seen=f"The loss on judged rows was best at step {self.best_step:,} ({best:.4g}) and is {mean:.4g} now, "
            f"while that on training rows is {trained:.4g}",
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
