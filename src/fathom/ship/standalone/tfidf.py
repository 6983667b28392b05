"""TF-IDF and a linear model in NumPy alone, as scikit-learn's TfidfVectorizer cuts and weighs texts.

What a reader would get wrong: pieces of words are taken within a word with a blank on either side, and a word shorter
than a piece counts once. Weights lie in the .npz file beside the vocabulary.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import Examples

WORD = re.compile(r"\w+|[^\w\s]")
LENGTHS = range(2, 6)  # of pieces of words
FARTHEST = 5.0  # standardised numbers are cut here

Member = dict[str, Any]


def load(path: Path) -> Callable[[Examples], np.ndarray]:
    """Probabilities [N, C] or numbers [N], the mean over the members."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    members = [_member(one, path.parent / one["arrays"]) for one in kept["members"]]
    return lambda examples: np.mean([_predict(one, examples) for one in members], axis=0)


def _member(kept: Member, path: Path) -> Member:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    bags = [
        bag | {"index": {word: i for i, word in enumerate(bag["vocabulary"])}, "idf": arrays[f"idf.{number}"]}
        for number, bag in enumerate(kept["bags"])
    ]
    return kept | arrays | {"bags": bags}


def _predict(member: Member, examples: Examples) -> np.ndarray:
    scores = _scores(member, examples) + member["bias"]
    if member["kind"] == "regress":
        return scores[:, 0]
    if scores.shape[1] == 1:  # two classes: the score is that of the second against the first
        scores = np.hstack([np.zeros_like(scores), scores])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found = np.zeros((len(scores), member["num_outputs"]))
    found[:, member["classes"]] = powers / powers.sum(axis=1, keepdims=True)
    return found


def _scores(member: Member, examples: Examples) -> np.ndarray:
    """Scores [N, K] without the bias: one block of weights for each bag, then numbers and categories."""
    weights = member["weights"].T  # [columns, K]
    scores = np.zeros((len(examples), weights.shape[1]))
    first = 0
    for bag in member["bags"]:
        for row, text in enumerate(examples.words[bag["column"]]):
            columns, values = _weighed(text or "", bag)
            scores[row] += values @ weights[first + columns]
        first += len(bag["vocabulary"])
    if "numbers" in member["beside"]:
        about = member["beside"]["numbers"]
        z = (np.asarray(examples.inputs["numbers"], np.float64) - np.asarray(about["mean"])) / np.asarray(about["std"])
        missing = np.isnan(z)
        beside = np.hstack([np.where(missing, 0.0, np.clip(z, -FARTHEST, FARTHEST)), missing])
        scores += beside @ weights[first : first + beside.shape[1]]
        first += beside.shape[1]
    if "categories" in member["beside"]:
        sizes = member["beside"]["categories"]["sizes"]
        starts = first + np.concatenate([[0], np.cumsum(sizes)[:-1]])
        scores += weights[np.asarray(examples.inputs["categories"]) + starts].sum(axis=1)
    return scores


def _weighed(text: str, bag: Member) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the known units of a text and their weights, together of length 1."""
    counted = Counter(bag["index"][unit] for unit in _units(text.lower(), bag["unit"]) if unit in bag["index"])
    columns = np.fromiter(counted, np.int64, len(counted))
    values = (1 + np.log(np.fromiter(counted.values(), np.float64, len(counted)))) * bag["idf"][columns]
    return columns, values / (np.sqrt(np.sum(values**2)) or 1.0)


def _units(text: str, unit: str) -> Iterator[str]:
    """Words and pairs of words, or pieces of words."""
    if unit == "words":
        words = WORD.findall(text)
        yield from words
        yield from (" ".join(pair) for pair in pairwise(words))
        return
    for word in text.split():
        padded = f" {word} "
        for length in LENGTHS:
            yield from (padded[i : i + length] for i in range(max(1, len(padded) - length + 1)))
            if length >= len(padded):
                break
