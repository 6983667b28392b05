"""What the translators share: which text is translated, and on how many of its pairs there is time to learn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.data import Task

PROBE_ROWS = 300  # learned from once, to foresee how long all of them take


def source_of(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    """'a text' where one text is translated, else None."""
    texts = [name for name, facts in about.items() if facts["form"] == "tokens"]
    return "a text" if task.kind == "translate" and len(texts) == 1 else None


def affordable(learn: Callable[[np.ndarray], object], train: np.ndarray, seconds: float | None) -> int:
    """How many training rows half of the time allows; the other half is for choosing and for what grows faster."""
    if seconds is None or len(train) <= PROBE_ROWS:
        return len(train)
    probe = train[np.linspace(0, len(train) - 1, PROBE_ROWS).astype(int)]
    begun = time.perf_counter()
    learn(probe)
    each = (time.perf_counter() - begun) / PROBE_ROWS
    return min(len(train), max(PROBE_ROWS, int(seconds / 2 / each)))


def thinned(rows: np.ndarray, keep: int, seed: int) -> np.ndarray:
    """`keep` of the rows at random, in order; all where there are no more."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:keep])
