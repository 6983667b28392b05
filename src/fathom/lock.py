"""One process at a time makes or goes on with a run: the second is refused.

What a reader would get wrong: the file `lock` stays there and says nothing by itself. Held is a lock of the operating
system on it, which ends with the process, be it killed, so nobody ever has to remove it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fathom.errors import UserError
from fathom.run import writing

NAME = "lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run folder. Raises UserError where another process does, or where nothing can be written."""
    with writing(folder / NAME):
        handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _taken(handle):
            raise UserError(
                f"Another process is at work on {folder}. Wait until it ends, or fit into another folder with --out."
            )
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Whether the lock is ours now; it is let go when the file is closed."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
