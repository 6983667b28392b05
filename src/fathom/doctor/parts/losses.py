"""The losses of a training so far, and which of them stand out.

A loss stands out where it lies more than eight robust deviations of the logarithm above the median of the last, and
most of what had been learned is gone. Deviations are taken of differences between losses in a row, so that a loss
that falls quickly does not count as a noisy one. What a reader would get wrong: losses that stand out do not move the
median, so a training that has run away is compared with what it was before.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque

WINDOW, ENOUGH = 64, 16  # losses that deviations are taken of, and the median
DEVIATIONS = 8.0  # above the median
LEAST_DEVIATION = 0.05  # of the logarithm
LOST = 0.75  # of what had been learned
EARLY = 2.0  # of the untrained model's loss: so much more before there are enough losses
UNTRAINED = 4  # first losses, which tell that of the untrained model
REFRESHED = 16  # losses after which the median is taken again
AFTER = 10  # losses that are followed after one that stands out
KEPT = 200


class LossHistory:
    """Losses as they come, each with its step."""

    def __init__(self) -> None:
        self.recent: deque[tuple[int, float]] = deque(maxlen=KEPT)
        self.calm: deque[float] = deque(maxlen=WINDOW)
        self.standing_out: deque[int] = deque(maxlen=AFTER)  # numbers of losses that stood out
        self.count = 0
        self.untrained = math.inf
        self.limit = math.inf  # above it a loss stands out
        self.has_run_away = False
        self._until = -1
        self._run = 0  # losses in a row that stood out

    def add(self, loss: float, step: int) -> bool:
        """Whether this loss, or one of the few before it, stands out."""
        self.count += 1
        self.recent.append((step, loss))
        if loss <= self.limit:
            self._run = 0
            self.calm.append(loss)
            if self.count == UNTRAINED:
                # The first, unless its batch was an odd one; those after it may have run away already.
                self.untrained = min(self.calm[0], max(list(self.calm)[1:]))
                self.limit = self.untrained + EARLY * abs(self.untrained)
            elif self.count % REFRESHED == 0:
                self._refresh()
        else:
            self.standing_out.append(self.count)
            self._until = self.count + AFTER
            self._run += 1
            if self._run > WINDOW:  # it stays: another task, or one that nobody stopped
                self.calm.clear()
                self.limit = math.inf
        return self.count <= self._until

    @property
    def stands_out(self) -> bool:
        """Whether the last loss does."""
        return bool(self.standing_out) and self.standing_out[-1] == self.count

    def is_far(self, times: float, *, last: int = AFTER) -> bool:
        """Whether the median of the last losses is so many times the untrained model's."""
        losses = [loss for _, loss in itertools.islice(reversed(self.recent), last)]
        return statistics.median(losses) > times * abs(self.untrained)

    @property
    def usual(self) -> float:
        return statistics.median(list(self.calm)[-ENOUGH:]) if len(self.calm) >= ENOUGH else self.untrained

    @property
    def now(self) -> float:
        """The median of the last losses, whether they stand out or not; NaN where none was read."""
        if not self.recent:
            return math.nan
        return statistics.median(loss for _, loss in itertools.islice(reversed(self.recent), ENOUGH))

    @property
    def progress(self) -> float:
        """The share of the untrained model's loss that is gone."""
        return (self.untrained - self.now) / max(abs(self.untrained), 1e-12)

    def as_evidence(self) -> list[list[float]]:
        return [[step, loss] for step, loss in self.recent]

    def _refresh(self) -> None:
        if len(self.calm) < ENOUGH:
            return
        last, usual = list(self.calm), self.usual
        has_logarithms = min(last) > 0  # log-likelihoods of densities may lie below zero
        values = [math.log(one) for one in last] if has_logarithms else last
        middle = statistics.median(values[-ENOUGH:])
        differences = [abs(b - a) for a, b in itertools.pairwise(values)]
        spread = 1.4826 / math.sqrt(2) * statistics.median(differences)
        least = LEAST_DEVIATION if has_logarithms else LEAST_DEVIATION * abs(middle)
        far = middle + DEVIATIONS * max(spread, least)
        far = math.exp(min(far, 700.0)) if has_logarithms else far
        self.limit = max(far, usual + LOST * (self.untrained - usual))
