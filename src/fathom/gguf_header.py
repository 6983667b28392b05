"""Do the settings of a GGUF file end within it? Asked before its reader believes a list that claims exabytes.

What a reader would get wrong: the package `gguf` makes a list of as many values as the file says, whether or not they
are there, so that a file of a hundred bytes would fill the memory.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

START = 24  # magic, version, number of tensors, number of settings
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a number, by its type
TEXT, LIST = 8, 9
MOST_DEEP = 4


def check_lengths(path: Path) -> None:
    """Raises ValueError where a text or a list goes on beyond the end of the file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if len(content) < START or content[:4] != b"GGUF":
            return  # the reader says what is wrong
        # Written on a machine with the other order of bytes, a small version is a large number.
        order = "<" if struct.unpack_from("<I", content, 4)[0] & 0xFFFF else ">"
        walk = _Walk(content, order)
        for _ in range(struct.unpack_from(f"{order}Q", content, 16)[0]):
            walk.text()
            walk.value(walk.number("I"), MOST_DEEP)


class _Walk:
    """From the beginning of one setting to that of the next."""

    def __init__(self, content: mmap.mmap, order: str) -> None:
        self.content, self.order, self.place = content, order, START

    def skip(self, size: int) -> None:
        self.place += size
        if self.place > len(self.content):
            raise ValueError("a setting goes on beyond the end of the file")

    def number(self, kind: str) -> int:
        begun = self.place
        self.skip(struct.calcsize(f"<{kind}"))
        return int(struct.unpack_from(f"{self.order}{kind}", self.content, begun)[0])

    def text(self) -> None:
        self.skip(self.number("Q"))

    def value(self, kind: int, deep: int) -> None:
        if kind in SIZES:
            self.skip(SIZES[kind])
        elif kind == TEXT:
            self.text()
        elif kind == LIST and deep:
            inner, count = self.number("I"), self.number("Q")
            if inner in SIZES:
                self.skip(count * SIZES[inner])
                return
            for _ in range(count):
                self.value(inner, deep - 1)
        else:
            raise ValueError(f"a setting is of the type {kind}" if kind != LIST else "its lists are nested too deeply")
