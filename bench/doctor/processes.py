"""Many cases in a few processes of one thread each; a case that takes far too long is cut off.

What a reader would get wrong: time is counted in seconds of the processor, not of the clock, so a busy machine cuts off
no more than a quiet one. A case that was cut off or failed is kept and counted by itself, and is in no share: of its
harm nothing is known.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import torch

BUDGET = 4.0  # seconds that a case takes
TIMES = 5  # so many budgets and it is cut off


class CutOffError(RuntimeError):
    """A case took far too long."""


def solved(
    solve: Callable[[Any], Any], tasks: Sequence[Any], *, workers: int
) -> Iterator[tuple[Any, Any, BaseException | None]]:
    """(task, what came of it, what went wrong), as they are ready."""
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin)
    try:
        waiting = {pool.submit(_limited, solve, task): task for task in tasks}
        for future in as_completed(waiting):
            error = future.exception()
            yield waiting[future], None if error else future.result(), error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, _cut_off)


def _limited(solve: Callable[[Any], Any], task: Any) -> Any:
    signal.setitimer(signal.ITIMER_PROF, BUDGET * TIMES)
    try:
        return solve(task)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _cut_off(number: int, frame: Any) -> None:
    raise CutOffError(f"More than {BUDGET * TIMES:.0f} seconds of the processor.")
