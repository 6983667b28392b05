"""BLEU: how many runs of one to four words of a translation stand in the reference, with a penalty for being short.

The number that sacreBLEU gives by default, for one reference: words as mteval-v13a cuts them, case kept, an order
without a match counted as half a match, the next as a quarter. It belongs to a whole corpus: the mean over sentences
is another number, and one row alone says little.
Source: Papineni et al. 2002, ACL; Post 2018, arXiv:1804.08771; smoothing: Chen and Cherry 2014, W14-3346, method 3.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import numpy as np

TASK = "translate"
HIGHER_IS_BETTER = True
LABEL = "BLEU"
UNIT = "score"  # 0 to 100
RANGE = (0.0, 100.0)
LONGEST = 4  # words in a run
# The same pairs are asked for by every measure, interval and difference of a verdict.
KEPT_PAIRS = 2**16

# The rules of mteval-v13a, in its order. What is no digit may also be a blank: the texts stand between two.
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_RULES = (
    (re.compile(r"([!-&(-+/:-@\[-`{-~])"), r" \1 "),  # ASCII punctuation, but for ' , - and .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])-"), r"\1 - "),
)


def per_row(predictions: np.ndarray, targets: np.ndarray) -> None:
    """There are none: precision is a ratio of sums over the corpus."""
    return None


def statistics(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Counts of each pair of `predictions` and references, object [N] of str: float64 [N, 10].

    Words of the translation, words of the reference, runs of 1 to 4 words found, runs of 1 to 4 words given.
    """
    rows = [_counts(given, wanted) for given, wanted in zip(predictions, targets, strict=True)]
    return np.array(rows, np.float64).reshape(-1, 2 + 2 * LONGEST)


@lru_cache(maxsize=KEPT_PAIRS)
def _counts(given: str, wanted: str) -> tuple[int, ...]:
    hypothesis, reference = words(given), words(wanted)
    found, total = [], []
    for length in range(1, LONGEST + 1):
        ours, theirs = _runs(hypothesis, length), _runs(reference, length)
        found.append(sum(min(count, theirs[run]) for run, count in ours.items() if run in theirs))
        total.append(max(0, len(hypothesis) - length + 1))
    return (len(hypothesis), len(reference), *found, *total)


def words(text: str) -> list[str]:
    """The text as mteval-v13a cuts it.

    >>> words("It's 1,000.50 &quot;dollars&quot;, or 5-10.")
    ["It's", '1,000.50', '"', 'dollars', '"', ',', 'or', '5', '-', '10', '.']
    """
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in _ENTITIES:
        text = text.replace(entity, sign)
    text = f" {text} "
    for pattern, apart in _RULES:
        text = pattern.sub(apart, text)
    return text.split()


def _runs(tokens: list[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(length)), strict=False))


def from_statistics(sums: np.ndarray) -> np.ndarray:
    """BLEU from sums of `statistics` [..., 10], 0 to 100; 0 where no word is right or no run is long enough."""
    given, wanted = sums[..., 0], sums[..., 1]
    found, total = sums[..., 2 : 2 + LONGEST], sums[..., 2 + LONGEST :]
    empty = found == 0
    # Without a match: 1/2 the first time, 1/4 the second, and so on.
    smoothed = np.where(empty, 0.5 ** np.cumsum(empty, axis=-1), found)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(smoothed / total).mean(axis=-1))
        score = 100 * np.exp(np.minimum(0.0, 1 - wanted / given)) * precision
    return np.where((total > 0).all(axis=-1) & ~empty.all(axis=-1), score, 0.0)


def measure(predictions: np.ndarray, targets: np.ndarray) -> float:
    """BLEU of all rows together, 0 to 100; NaN for no rows.

    >>> pair = np.array(["a man sits on the bench ."], object), np.array(["a man sits on a bench ."], object)
    >>> round(measure(*pair), 1)
    48.9
    """
    return float(from_statistics(statistics(predictions, targets).sum(axis=0))) if len(targets) else float("nan")
