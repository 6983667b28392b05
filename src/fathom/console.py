"""What a person sees while a run is made: one line for each stage, one for each epoch, a live bar on a terminal.

In a pipe or a log there are only plain lines. Everything printed is kept for the run folder's log.txt.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import IO

from fathom import terminal
from fathom.data import inert
from fathom.terminal import LABEL_WIDTH


class Console:
    """Prints stages and epochs. `quiet` keeps the log and prints nothing."""

    def __init__(self, *, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self.quiet = quiet
        self.stream = stream or sys.stdout
        self.lines: list[str] = []
        self.is_live = not quiet and self.stream.isatty()
        self._bar_shown = False
        self._last_bar = 0.0

    def stage(self, label: str, text: str) -> None:
        """'Reading    photos/ → 4,317 images in 5 classes'; further lines of a stage have an empty label."""
        self.line(f"{label:<{LABEL_WIDTH}}{text}")

    def more(self, text: str) -> None:
        self.stage("", text)

    def line(self, text: str) -> None:
        text = inert(text)  # a name that stands in the data may not be
        self.lines.append(text)
        if not self.quiet:
            self._clear_bar()
            print(terminal.wrapped(text) if self.is_live else text, file=self.stream, flush=True)

    def bar(self, text: str, share: float) -> None:
        """A bar that is drawn over again; shown on a terminal only, ten times a second at most."""
        now = time.monotonic()
        if not self.is_live or now - self._last_bar < 0.1:
            return
        self._last_bar = now
        filled = int(20 * min(max(share, 0.0), 1.0))
        drawn = f"{'':<{LABEL_WIDTH}}{'━' * filled}{'╌' * (20 - filled)} {inert(text)}"
        print(f"\r\x1b[2K{drawn[: terminal.columns() - 1]}", end="", file=self.stream, flush=True)
        self._bar_shown = True

    def _clear_bar(self) -> None:
        if self._bar_shown:
            print("\r\x1b[2K", end="", file=self.stream)
            self._bar_shown = False

    def table(self, rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Rows of cells in aligned columns; the columns numbered in `right` are flush right."""
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            self.more("  ".join(cells).rstrip())


def clock(seconds: float) -> str:
    """02:41, or 1:02:41 from an hour on."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"


def duration(seconds: float) -> str:
    """A span for reading: '0.3 ms', '14 s', '2 min 5 s'."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs" if seconds >= 1e-6 else f"{seconds * 1e6:.2g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def count(number: int, noun: str) -> str:
    """'1 row', '1,200 rows'."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
