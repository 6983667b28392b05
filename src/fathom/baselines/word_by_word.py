"""Word by word: each word replaced by a word that often translates it, in the order of the source.

What a reader would get wrong: a word has several translations, and which of them is taken depends on the word before
it: of all ways through the sentence, the one that is best by both dictionaries (there and back) and by how the target
language joins words. How much the second weighs is chosen on the validation rows, 0 among the choices.

Source: dictionary: Brown et al. 1993, Computational Linguistics 19(2), model 1; both directions as features of one sum:
Och and Ney 2002, P02-1038; bigrams: Chen and Goodman 1998.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fathom.baselines.parts.best_path import best_paths
from fathom.baselines.parts.kept import reading
from fathom.baselines.parts.kneser_ney import KneserNey, grow
from fathom.baselines.parts.lexicon import Lexicon, learn
from fathom.baselines.parts.pairs import affordable, source_of, thinned
from fathom.baselines.parts.writing import Writing
from fathom.data import Examples, Ragged, Task
from fathom.errors import UserError

RANK = 2  # a dictionary and a language
USE = "translation"
SOURCE = "Brown et al. 1993, model 1; Och & Ney 2002, P02-1038"
RANGES = {"rows": (">=", 1), "weight": (">=", 0)}
CHOICES = 8  # translations that each word keeps
WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
USUAL_WEIGHT = 1.5
JUDGED_ROWS = 500  # validation rows that choose the weight
LONGEST = 100  # words; longer sentences teach little of which word is which, and cost their square
MOST_MEETINGS = 12_000_000  # pairs of words that are in memory at once: 0.5 GB
AT_A_TIME = 256  # sentences


def claims(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    """One text to be translated, or None."""
    return source_of(about, task)


def fit(
    examples: Examples,
    targets: np.ndarray,
    train: np.ndarray,
    validate: np.ndarray,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
    rows: int | None = None,
    weight: float | None = None,
) -> Fitted:
    """Learn a dictionary and the target's bigrams from the training rows, and their balance from the validation rows.

    `rows` is how many training rows are used, `weight` how much the target's bigrams count. What is None is chosen,
    within `seconds` (a soft limit), and comes back in `.settings`. Raises UserError where no pair of texts has words.
    """
    end = float("inf") if seconds is None else time.monotonic() + seconds
    (name,) = examples.words
    source = examples.words[name]
    if rows is None:
        rows = affordable(lambda some: _learn(source[some], targets[some], name), train, seconds)
    kept = thinned(train, rows, seed)
    fitted = _learn(source[kept], targets[kept], name)
    if weight is None:
        judged = thinned(validate, JUDGED_ROWS, seed)
        weight = _best_weight(fitted, source[judged], targets[judged], end)
    fitted.settings = {"rows": rows, "weight": weight}
    return fitted


def _learn(source: np.ndarray, target: np.ndarray, name: str) -> Fitted:
    """Everything but the weight."""
    writing = Writing.of(source), Writing.of(target)
    cut = [[one.cut(text) for text in texts] for one, texts in zip(writing, (source, target), strict=True)]
    both = [pair for pair in zip(*cut, strict=True) if all(0 < len(units) <= LONGEST for units in pair)]
    if not both:
        raise UserError(f"None of {len(source):,} training pairs has words on both sides: nothing to translate by.")
    share = min(1.0, MOST_MEETINGS / sum(len(first) * len(second) for first, second in both))
    both = [both[place] for place in np.linspace(0, len(both) - 1, max(1, int(share * len(both)))).astype(int)]
    sides = [list(side) for side in zip(*both, strict=True)]
    known = [sorted({unit for units in side for unit in units}) for side in sides]
    sources, others = (_as_ids(side, words) for side, words in zip(sides, known, strict=True))
    words, worth = _choices(learn(sources, others, len(known[1])), len(known[0]), len(known[1]))
    return Fitted(name, writing, known, words, worth, _bigrams(others, len(known[1])))


def _as_ids(sentences: Sequence[Sequence[str]], known: list[str]) -> Ragged:
    place = {word: number for number, word in enumerate(known)}
    values = np.array([place[unit] for units in sentences for unit in units], np.int64)
    return Ragged(values, np.concatenate([[0], np.cumsum([len(units) for units in sentences])]).astype(np.int64))


def _choices(lexicon: Lexicon, num_sources: int, unknown: int) -> tuple[np.ndarray, np.ndarray]:
    """The best translations of each source word and the logarithms of their worth: [num_sources, CHOICES] each."""
    with np.errstate(divide="ignore"):
        logs = np.log(lexicon.given_source) + np.log(lexicon.given_target)
    order = np.lexsort((-logs, lexicon.source))
    source = lexicon.source[order]
    rank = np.arange(len(order)) - np.searchsorted(source, source)
    is_kept = rank < CHOICES
    at = source[is_kept], rank[is_kept]
    words, worth = np.full((num_sources, CHOICES), unknown, np.int64), np.full((num_sources, CHOICES), -np.inf)
    words[at], worth[at] = lexicon.target[order[is_kept]], logs[order[is_kept]]
    return words, worth


def _bigrams(sentences: Ragged, num_words: int) -> KneserNey:
    """How the target joins words; beside them there is an unknown one, and the border before and after a sentence."""
    border = num_words + 1
    ends = np.insert(sentences.values, sentences.starts[1:], border)
    at = sentences.starts[:-1] + np.arange(len(sentences.starts) - 1)
    tokens = np.insert(ends, at, border)
    begins = np.zeros(len(tokens), bool)
    begins[at + np.arange(len(at))] = True
    return next(model for model, _ in grow(tokens, begins, num_words + 2) if model.order == 2)


def _best_weight(fitted: Fitted, source: np.ndarray, target: np.ndarray, end: float) -> float:
    """The weight whose translations share most runs of one to four words with the references."""
    if not len(source) or time.monotonic() >= end:
        return USUAL_WEIGHT
    wanted = [fitted.writing[1].cut(text) for text in target]
    found: dict[float, float] = {}
    for weight in sorted(WEIGHTS, key=lambda weight: abs(weight - USUAL_WEIGHT)):
        found[weight] = _agreement(fitted.translate(source, weight), wanted)
        if time.monotonic() >= end:
            break
    return max(found, key=found.__getitem__)


def _agreement(given: list[list[str]], wanted: list[list[str]]) -> float:
    """Mean logarithm of the runs of 1 to 4 words that both have: orders BLEU, as all translations are equally long."""
    totals = np.ones(4)
    for ours, theirs in zip(given, wanted, strict=True):
        for length in range(1, 5):
            runs = [Counter(zip(*(side[i:] for i in range(length)), strict=False)) for side in (ours, theirs)]
            totals[length - 1] += (runs[0] & runs[1]).total()
    return float(np.log(totals).mean())


class Fitted:
    """Two languages, the words of each, the choices of every source word, and the bigrams of the target."""

    def __init__(
        self,
        name: str,
        writing: Sequence[Writing],
        known: Sequence[list[str]],
        words: np.ndarray,
        worth: np.ndarray,
        bigrams: KneserNey,
    ) -> None:
        self.name, self.writing, self.known = name, tuple(writing), tuple(known)
        self.words, self.worth, self.bigrams = words, worth, bigrams
        self.place = {word: number for number, word in enumerate(known[0])}
        self.place_of_small = {word.lower(): number for word, number in self.place.items()}
        self.settings: dict[str, Any] = {}

    @property
    def unknown(self) -> int:
        return len(self.known[1])

    def predict(self, examples: Examples) -> np.ndarray:
        """Translations, object [N] of str. A word without a translation stays as it is."""
        found = np.empty(len(examples), object)
        translated = self.translate(examples.words[self.name], self.settings["weight"])
        found[:] = [self.writing[1].join(units) for units in translated]
        return found

    def translate(self, texts: np.ndarray, weight: float) -> list[list[str]]:
        """The words of each translation."""
        units = [self.writing[0].cut(text) for text in texts]
        # Sentences of like length together: a block takes as many steps as its longest.
        order = sorted((row for row in range(len(units)) if units[row]), key=lambda row: -len(units[row]))
        found: list[list[str]] = [[] for _ in units]
        for start in range(0, len(order), AT_A_TIME):
            rows = order[start : start + AT_A_TIME]
            sentences = [units[row] for row in rows]
            lengths = np.array([len(sentence) for sentence in sentences])
            paths = best_paths(*self._choices_of(sentences), lengths, self.bigrams, self.unknown + 1, weight)
            for row, path in zip(rows, paths, strict=True):
                found[row] = [
                    self.known[1][word] if word != self.unknown else unit
                    for word, unit in zip(path, units[row], strict=True)
                ]
        return found

    def _choices_of(self, sentences: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Target words and their worth [sentences, longest, CHOICES]; an unknown word has itself as only choice."""
        shape = len(sentences), max(map(len, sentences)), CHOICES
        words, worth = np.full(shape, self.unknown, np.int64), np.full(shape, -np.inf)
        worth[:, :, 0] = 0.0
        for row, units in enumerate(sentences):
            places = [self._place_of(unit) for unit in units]
            at = [step for step, place in enumerate(places) if place is not None]
            known = [place for place in places if place is not None]
            words[row, at], worth[row, at] = self.words[known], self.worth[known]
        return words, worth

    def _place_of(self, unit: str) -> int | None:
        """Of the word as it is written, else of one that differs in its capitals."""
        return self.place.get(unit, self.place_of_small.get(unit.lower()))

    def describe(self) -> str:
        sides = " to ".join(f"{len(words):,}" for words in self.known)
        return f"word by word: {sides} words, bigrams weighing {self.settings['weight']:g}"

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"words": self.words, "worth": self.worth} | self.bigrams.arrays()
        np.savez_compressed(folder / "word_by_word.npz", **arrays)
        about = {"name": self.name, "settings": self.settings, "writing": [one.to_json() for one in self.writing]}
        kept = json.dumps(about | {"known": self.known}, ensure_ascii=False)
        (folder / "word_by_word.json").write_text(kept, encoding="utf-8")


def load(folder: Path) -> Fitted:
    """A translator saved by `Fitted.save`. Raises UserError where a file of it is missing or damaged."""
    with reading("The dictionary", folder):
        about = json.loads((folder / "word_by_word.json").read_text(encoding="utf-8"))
        with np.load(folder / "word_by_word.npz", allow_pickle=False) as file:
            arrays = dict(file)
        bigrams = KneserNey.from_arrays(len(about["known"][1]) + 2, arrays)
        writing = [Writing.from_json(one) for one in about["writing"]]
        fitted = Fitted(about["name"], writing, about["known"], arrays["words"], arrays["worth"], bigrams)
        fitted.settings = about["settings"]
        return fitted
