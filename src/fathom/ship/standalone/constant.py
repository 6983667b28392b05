"""The same answer for each row: class shares, or a mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fathom.data import Examples


def load(path: Path) -> Callable[[Examples], np.ndarray]:
    """Probabilities [N, C] or numbers [N]."""
    value = np.asarray(json.loads(path.read_text(encoding="utf-8"))["value"], np.float64)
    return lambda examples: np.repeat(value[None], len(examples), axis=0)
