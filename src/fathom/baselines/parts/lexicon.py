"""Which word is the translation of which: IBM model 1, in both directions at once.

Each word of a sentence was made by some word of the other sentence, or by none of them, and by which one is not known.
Expectation-maximisation finds the probabilities under which the pairs of sentences are most probable; it has one
optimum, so where it begins does not matter.

Source: Brown et al. 1993, Computational Linguistics 19(2), section 4.1 (model 1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fathom.data import Ragged

ITERATIONS = 8


class Lexicon(NamedTuple):
    """Pairs of words that stand together in some pair of sentences, ordered by source word: arrays [E]."""

    source: np.ndarray  # int64
    target: np.ndarray  # int64
    given_source: np.ndarray  # float64, probability of the target word after the source word
    given_target: np.ndarray  # and the other way round


def learn(source: Ragged, target: Ragged, num_targets: int) -> Lexicon:
    """From word ids of N pairs of sentences; target ids are below `num_targets`."""
    at_source, at_target = _together(source, target)
    keys = source.values[at_source].astype(np.int64) * num_targets + target.values[at_target]
    entries, entry = np.unique(keys, return_inverse=True)
    entry = entry.astype(np.int32)
    words = np.divmod(entries, num_targets)
    forth = _expect_and_maximise(entry, words[0], at_target, target.values)
    back = _expect_and_maximise(entry, words[1], at_source, source.values)
    return Lexicon(*words, forth, back)


def _together(source: Ragged, target: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Every (position of a source word, position of a target word) of the same pair of sentences: int32 [P] each."""
    lengths, others = np.diff(source.starts), np.diff(target.starts)
    per_word = np.repeat(others, lengths)  # each source word meets all target words
    at_source = np.repeat(np.arange(len(source.values), dtype=np.int32), per_word)
    first = np.repeat(target.starts[:-1], lengths)
    begun = np.cumsum(per_word) - per_word
    at_target = (np.arange(len(at_source)) + np.repeat(first - begun, per_word)).astype(np.int32)
    return at_source, at_target


def _expect_and_maximise(entry: np.ndarray, maker: np.ndarray, at: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Probability of each entry's made word after its maker, float64 [E].

    `entry` [P] is that of each meeting, `at` [P] the position of the word that is made, `made` the words of all
    positions, `maker` [E] the word that makes.
    """
    probability: np.ndarray = np.ones(len(maker))
    from_none: np.ndarray = np.ones(int(made.max()) + 1)
    for _ in range(ITERATIONS):
        weight = probability[entry]
        none = from_none[made]
        total = np.bincount(at, weights=weight, minlength=len(made)) + none
        weight /= total[at]
        counts = np.bincount(entry, weights=weight, minlength=len(maker))
        probability = counts / np.bincount(maker, weights=counts)[maker]
        from_none = np.bincount(made, weights=none / total, minlength=len(from_none))
        from_none = from_none / from_none.sum()
    return probability
