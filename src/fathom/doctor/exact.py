"""The exact invariants of a loop (F1, F4, F5, F6) at the moments when they can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fathom.doctor.finding import Finding
from fathom.doctor.modes import Modes
from fathom.doctor.pairing import Pairing
from fathom.doctor.parts.family import Family, Moment
from fathom.doctor.parts.schedule import EVERY_STEP
from fathom.doctor.wiring import Resets, Wiring


class Invariants(Family):
    def __init__(self, wiring: Wiring, resets: Resets, modes: Modes) -> None:
        self.wiring, self.resets, self.modes, self.pairing = wiring, resets, modes, Pairing()
        self.ends: list[Callable[[], None]] = []  # hooks on gradients, which are needed at the beginning only

    def begin(self) -> Iterable[Finding]:
        self.ends = self.resets.hooks()
        return self.wiring.begin()

    def before_backward(self, moment: Moment) -> Iterable[Finding]:
        assert moment.graph is not None
        # The window's looks are for what needs many rows.
        return () if moment.window else self.pairing.before_backward(moment.graph.loss, moment.step)

    def before_step(self, moment: Moment) -> Iterator[Finding]:
        yield from self.wiring.before_step(moment.step)
        yield from self.modes.before_step(moment.step)

    def after_step(self, moment: Moment) -> Iterable[Finding]:
        if moment.step <= EVERY_STEP:
            return self.resets.after_step(moment.step)
        self.end()
        return ()

    def end(self) -> None:
        for end in self.ends:
            end()
        self.ends = []
