"""Ctrl-C while a run is made: it ends between two steps, where everything can be kept, and says how to go on.

What a reader would get wrong: a second Ctrl-C does not wait. It raises at once, in the middle of a step, where the
weights belong to no step; nothing is kept then but what had been kept before.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

STDERR = 2


class Stopped(KeyboardInterrupt):
    """The person stopped a run whose folder has begun."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"stopped. What was done so far is kept; go on with `fathom resume {folder}`.")


class BetweenSteps(KeyboardInterrupt):
    """A training was stopped after a whole step: its checkpoint is whole, too."""


@contextmanager
def telling(folder: Path) -> Iterator[None]:
    """Ctrl-C in here is told with the folder that can be taken up again."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(folder) from stop


@contextmanager
def gently() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C waits to be asked for: what is given back tells whether it came."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True
        # Not print(): it may be within one, and files of Python cannot be entered twice.
        os.write(STDERR, b"\nfathom: stopping after this step. Ctrl-C again stops at once, without keeping it.\n")

    if threading.current_thread() is not threading.main_thread():  # other threads are never told of signals
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)
