"""The time that a baseline has: when it is up, and what is left of it."""

from __future__ import annotations

import math
import time


class Clock:
    """Runs from now on; without a limit, for ever."""

    def __init__(self, seconds: float | None) -> None:
        self.end = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def part(self, share: float) -> Clock:
        """A clock for a share of what is left."""
        return Clock(None if math.isinf(self.end) else share * max(0.0, self.left))
