"""Which steps of a training are looked at: the first, then one in fifty, and now and then a stretch of them.

A look is whole (gradients and weights) or only at the graph of the loss, as in the stretches, which gather a thousand
rows. What a reader would get wrong: stretches begin at 100, 200, 400, … steps, or at shares of the plan where it is
declared, so their cost falls as the training goes on.
"""

from __future__ import annotations

from fathom.doctor.parts.family import Moment

EVERY_STEP = 16  # of the first steps each is looked at,
SELDOM = 50  # then one in so many
ROWS = 1000  # wanted of a stretch
LEAST, MOST = 12, 64  # steps of a stretch
FIRST_STRETCH = 100
SHARES = (0.2, 0.4, 0.6, 0.8)  # of the plan
SHARE = 0.1  # of the plan that a stretch takes at most


class Schedule:
    """`plan` is the number of steps of the whole training, where it is known."""

    def __init__(self, plan: int | None) -> None:
        self.plan = plan
        self.begins = [] if plan is None else [max(EVERY_STEP, int(share * plan)) for share in SHARES]
        self.number = 0  # stretches begun
        self.end = 0  # of the last of them
        self.next = 0  # step at which to ask again: until then nothing is looked at

    def is_looking(self, step: int) -> bool:
        """Whether step `step`, counted from 0, is looked at as a whole."""
        return step < EVERY_STEP or step % SELDOM == 0

    def window(self, step: int, moment: Moment) -> int:
        """The number of the stretch that the step belongs to, counted from 1; 0 for none. Steps are asked in turn."""
        number = self._window(step, moment)
        begin = self._begin()
        soon = step < EVERY_STEP or step % SELDOM == 0 or number
        next_look = -(-(step + 1) // SELDOM) * SELDOM
        self.next = step + 1 if soon else min(next_look, begin if begin > step else next_look)
        return number

    def _window(self, step: int, moment: Moment) -> int:
        if step < self.end:
            return self.number
        if not 0 <= self._begin() <= step:
            return 0
        self.number += 1
        length = min(MOST, max(LEAST, -(-ROWS // max(moment.num_rows, 1))))
        self.end = step + (length if self.plan is None else max(LEAST, min(length, int(SHARE * self.plan))))
        return self.number

    def _begin(self) -> int:
        if self.plan is None:
            return FIRST_STRETCH * 2**self.number
        return self.begins[self.number] if self.number < len(self.begins) else -1
