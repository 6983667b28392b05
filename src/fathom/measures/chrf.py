"""chrF: how many runs of one to six characters a translation and its reference share, blanks left out.

Recall counts twice as much as precision (chrF2), both averaged over the six lengths: the number that sacreBLEU gives by
default. It knows no words, so it is fairer than BLEU to languages with long compounds or without blanks.
Source: Popović 2015, W15-3049.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np

TASK = "translate"
HIGHER_IS_BETTER = True
LABEL = "chrF"
UNIT = "score"  # 0 to 100
RANGE = (0.0, 100.0)
LONGEST = 6  # characters in a run
BETA = 2
KEPT_PAIRS = 2**16


def per_row(predictions: np.ndarray, targets: np.ndarray) -> None:
    """There are none: precision and recall are ratios of sums over the corpus."""
    return None


def statistics(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Counts of each pair of `predictions` and references, object [N] of str: float64 [N, 18].

    For each length: runs of the translation, runs of the reference, runs that both have.
    """
    rows = [_counts(given, wanted) for given, wanted in zip(predictions, targets, strict=True)]
    return np.array(rows, np.float64).reshape(-1, 3 * LONGEST)


@lru_cache(maxsize=KEPT_PAIRS)
def _counts(given: str, wanted: str) -> tuple[int, ...]:
    hypothesis, reference = "".join(given.split()), "".join(wanted.split())
    counts: list[int] = []
    for length in range(1, LONGEST + 1):
        ours, theirs = _runs(hypothesis, length), _runs(reference, length)
        shared = sum(min(count, theirs[run]) for run, count in ours.items() if run in theirs)
        # A reference too short for this length says nothing of it, neither for nor against.
        counts += [ours.total() if theirs else 0, theirs.total(), shared]
    return tuple(counts)


def _runs(text: str, length: int) -> Counter[str]:
    return Counter(text[start : start + length] for start in range(len(text) - length + 1))


def from_statistics(sums: np.ndarray) -> np.ndarray:
    """chrF from sums of `statistics` [..., 18], 0 to 100."""
    given, wanted, shared = np.moveaxis(sums.reshape(*sums.shape[:-1], LONGEST, 3), -1, 0)
    counted = (given > 0) & (wanted > 0)
    lengths = np.maximum(counted.sum(axis=-1), 1)
    precision = np.where(counted, shared / np.maximum(given, 1), 0.0).sum(axis=-1) / lengths
    recall = np.where(counted, shared / np.maximum(wanted, 1), 0.0).sum(axis=-1) / lengths
    below = BETA**2 * precision + recall
    return np.where(below > 0, 100 * (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1.0), 0.0)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """chrF of all rows together, 0 to 100; NaN for no rows.

    >>> round(measure(np.array(["a bench"], object), np.array(["the bench"], object)), 1)
    42.0
    """
    return float(from_statistics(statistics(predictions, targets).sum(axis=0))) if len(targets) else float("nan")
