"""A text file in pieces of whole lines, each of which can be read alone, with the number of its first line.

What a reader would get wrong: a piece is cut at the ends of lines. Where a cell reaches over several lines a piece
could begin in its middle, so such files are not cut.
"""

from __future__ import annotations

import os
from pathlib import Path

BYTES = 1 << 20  # of a piece
FEWEST = 16  # pieces that a file must have, to be worth it
COUNTED = 1 << 24  # bytes counted at a time


class Cuts:
    """The pieces of one file. A line belongs to the piece that its first byte lies in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = os.path.getsize(path)
        self.num = -(-self.size // BYTES)
        self._lines: dict[int, int] = {0: 0}  # byte → lines that end before it, where that was counted

    def head(self) -> bytes:
        """The whole lines of the first piece."""
        with open(self.path, "rb") as file:
            found = file.read(BYTES)
        return found[: found.rfind(b"\n") + 1]

    def read(self, piece: int) -> tuple[bytes, int]:
        """The bytes of a piece, and how many lines come before it. Both are nothing where no line begins in it."""
        start, end = piece * BYTES, min((piece + 1) * BYTES, self.size)
        with open(self.path, "rb") as file:
            begin = self._next_line(file, start)
            if begin >= end:
                return b"", 0
            stop = self._next_line(file, end)
            file.seek(begin)
            return file.read(stop - begin), self._lines_before(begin)

    def _next_line(self, file, at: int) -> int:  # type: ignore[no-untyped-def]
        """The first byte of the first line that begins at this byte or after it."""
        if at == 0 or at >= self.size:
            return min(at, self.size)
        file.seek(at - 1)
        file.readline()
        return int(file.tell())

    def _lines_before(self, at: int) -> int:
        """Counted from the nearest place before it that was counted already."""
        known = max(place for place in self._lines if place <= at)
        found = self._lines[known]
        with open(self.path, "rb") as file:
            file.seek(known)
            while known < at:
                content = file.read(min(COUNTED, at - known))
                found, known = found + content.count(b"\n"), known + len(content)
        self._lines[at] = found
        return found
