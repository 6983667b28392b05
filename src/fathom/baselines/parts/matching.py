"""Where each caption comes among all captions for its picture, and each picture among all pictures for its caption.

What a reader would get wrong: candidates are the different captions and the different pictures of the rows that are
ranked together, so a rank belongs to these rows and changes with them. Where a picture has several captions, or a
caption several pictures, any of them is right and the first of them counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathom.data import Examples, Task

SIMILARITIES_AT_A_TIME = 1 << 24


class Sides(NamedTuple):
    """The different pictures and captions of N rows. Ids count from 0 in order of appearance."""

    picture_of: np.ndarray  # int64 [N]
    caption_of: np.ndarray  # int64 [N]
    pictures: np.ndarray  # the first row of each picture [P]
    captions: np.ndarray  # the first row of each caption [T]


def names_of(about: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """The names of the picture and of the caption, where there is one of each and nothing else."""
    pictures = [name for name, facts in about.items() if facts["form"] == "pixels"]
    texts = [name for name, facts in about.items() if facts["form"] == "tokens"]
    return (pictures[0], texts[0]) if len(about) == 2 and len(pictures) == len(texts) == 1 else None


def both_sides(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    """'a picture and its caption' where that is the task, else None."""
    return "a picture and its caption" if task.kind == "pair" and names_of(about) else None


def sides(examples: Examples) -> Sides:
    """Which rows have the same picture, to the last pixel, and which the same caption, to the last letter."""
    names = names_of(examples.about)
    assert names is not None, "pairs are a picture and a text"
    picture, caption = names
    pixels = examples.inputs[picture]
    assert isinstance(pixels, np.ndarray)
    seen = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in pixels)
    picture_of, pictures = _ids(seen)
    caption_of, captions = _ids(examples.words[caption])
    return Sides(picture_of, caption_of, pictures, captions)


def _ids(values: Iterable[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    seen: dict[Hashable, int] = {}
    ids = np.array([seen.setdefault(value, len(seen)) for value in values], np.int64)
    return ids, np.unique(ids, return_index=True)[1]


def ranks(picture_vectors: np.ndarray, caption_vectors: np.ndarray, found: Sides) -> np.ndarray:
    """For each row the rank of its caption given the picture, and of its picture given the caption: float64 [N, 2].

    Vectors [P, D] and [T, D] are those of the different pictures and captions; the dot product says how well two fit,
    and 1 is the best rank. Equal ones are ordered by lot, the same lot for every row: vectors that tell nothing apart
    rank as chance does.

    >>> three = Sides(np.arange(3), np.arange(3), np.arange(3), np.arange(3))
    >>> captions = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.8], [0.1, 0.7, 0.9]])
    >>> ranks(np.eye(3), captions, three).tolist()
    [[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]
    """
    captions = _ranks(picture_vectors, caption_vectors, found.picture_of, found.caption_of)
    pictures = _ranks(caption_vectors, picture_vectors, found.caption_of, found.picture_of)
    return np.column_stack([captions[found.picture_of], pictures[found.caption_of]])


def _ranks(asked: np.ndarray, given: np.ndarray, asked_of: np.ndarray, given_of: np.ndarray) -> np.ndarray:
    """The rank of the first right one among the `given` [G, D] for each of the `asked` [A, D]: float64 [A]."""
    right_pairs = np.unique(np.stack([asked_of, given_of], axis=1), axis=0)
    starts = np.searchsorted(right_pairs[:, 0], np.arange(len(asked) + 1))
    lot = np.random.default_rng(0).permutation(len(given))
    step = max(1, SIMILARITIES_AT_A_TIME // max(1, len(given)))
    pieces = [
        _ranks_of_some(
            asked[start : start + step] @ given.T,
            right_pairs[starts[start] : starts[min(start + step, len(asked))]] - [start, 0],
            lot,
        )
        for start in range(0, len(asked), step)
    ]
    return np.concatenate([*pieces, np.empty(0)])


def _ranks_of_some(similarity: np.ndarray, right_pairs: np.ndarray, lot: np.ndarray) -> np.ndarray:
    # What is no number fits nothing: compared as it is, it would never be worse than another.
    similarity = np.where(np.isnan(similarity), -np.inf, similarity)
    right = np.zeros(similarity.shape, bool)
    right[right_pairs[:, 0], right_pairs[:, 1]] = True
    best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
    equal = similarity == best
    own_lot = np.where(right & equal, lot, len(lot)).min(axis=1, keepdims=True)
    before = (similarity > best) | (equal & (lot < own_lot))
    return 1.0 + (before & ~right).sum(axis=1)


class SameOrder:
    """The same order for every row, drawn by lot: what a model has to beat that matches pictures and captions."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    def predict(self, examples: Examples) -> np.ndarray:
        found = sides(examples)
        return ranks(np.zeros((len(found.pictures), 1)), np.zeros((len(found.captions), 1)), found)

    def describe(self) -> str:
        return "the same order for every picture and every caption, by lot"

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "constant.json").write_text(json.dumps({"order": "by lot"}) + "\n", encoding="utf-8")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] of length 1, float32; one without a length stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
