"""The best way through a sentence in which every place has several words to choose from.

Best is what the words are worth by themselves plus, weighed, the log-probability of each after the one before it, the
border before the first and after the last among them. Sentences go side by side: one step is one place of all.

Source: Viterbi 1967, IEEE Transactions on Information Theory 13(2).
Shapes: S sentences from the longest to the shortest, T places, K choices.
"""

from __future__ import annotations

import numpy as np

from fathom.baselines.parts.kneser_ney import KneserNey


def best_paths(
    words: np.ndarray, worth: np.ndarray, lengths: np.ndarray, bigrams: KneserNey, border: int, weight: float
) -> list[list[int]]:
    """The chosen words of each sentence.

    words: int64 [S, T, K]. worth: float64 [S, T, K], -inf where there is no such choice. lengths: [S], falling.
    """
    if not len(words):
        return []
    outside = np.full((len(words), 1), border)
    total = worth[:, 0] + weight * log_joined(bigrams, outside, words[:, 0])[:, 0]
    before = np.zeros(words.shape, np.int64)
    for place in range(1, words.shape[1]):
        going = int(np.sum(lengths > place))
        joined = log_joined(bigrams, words[:going, place - 1], words[:going, place])
        ways = total[:going, :, None] + weight * joined
        before[:going, place] = ways.argmax(axis=1)
        total[:going] = ways.max(axis=1) + worth[:going, place]
    last = words[np.arange(len(words)), lengths - 1]
    total += weight * log_joined(bigrams, last, outside)[:, :, 0]
    return [_followed(words[i, :n], before[i, :n], int(total[i].argmax())) for i, n in enumerate(lengths)]


def log_joined(bigrams: KneserNey, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Log-probability of each second word [S, K] after each first word [S, J]: [S, J, K]."""
    pairs = np.stack(np.broadcast_arrays(first[:, :, None], second[:, None, :]), axis=-1)
    begins = np.arange(pairs.size) % 2 == 0
    return np.log(bigrams.probabilities(pairs.reshape(-1), begins)[1::2]).reshape(pairs.shape[:-1])


def _followed(words: np.ndarray, before: np.ndarray, choice: int) -> list[int]:
    """The words of one sentence, read back from the last choice."""
    found = []
    for place in range(len(words) - 1, -1, -1):
        found.append(int(words[place, choice]))
        choice = int(before[place, choice])
    return found[::-1]
