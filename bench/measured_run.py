"""One `fathom fit` as a process of its own: its wall time, and the memory that it had resident at its worst moments.

What a reader would get wrong: pages of a mapped file count as resident while the system keeps them for the process, but
it may take them at any time. So anonymous memory, which it cannot take, is told apart from file pages, libraries' code
among them. `peak` is VmHWM, of both together; the other two are read ten times a second. Linux only.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SECONDS_BETWEEN = 0.1


class Measured(NamedTuple):
    busy: float  # seconds that processors worked for it; on a busy machine fewer than passed
    seconds: float  # from before the process began to after it ended: imports, reading, report and all
    status: int
    peak: int  # bytes
    anonymous: int
    of_files: int
    output: str


def fit(arguments: Sequence[str], log: Path) -> Measured:
    """`fathom fit ARGUMENTS`, what it prints in `log` and in `output`."""
    peak = anonymous = of_files = 0
    worked, begun = _worked(), time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "fathom", "fit", *arguments], stdout=file, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            peak = max(peak, _bytes(status, "VmHWM"))
            anonymous = max(anonymous, _bytes(status, "RssAnon"))
            of_files = max(of_files, _bytes(status, "RssFile"))
            time.sleep(SECONDS_BETWEEN)
        process.wait()
    seconds = time.monotonic() - begun
    return Measured(_worked() - worked, seconds, process.returncode, peak, anonymous, of_files, log.read_text())


def _worked() -> float:
    """By all processes that were begun here and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _bytes(status: str, name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0
