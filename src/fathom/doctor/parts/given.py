"""What the families that look at data read: columns as they came and as they were encoded, targets, and the split.

What a reader would get wrong: `train` is all that is not test, the validation rows too. `official` says that the test
rows came as such; else they were drawn from the same file, and so cannot differ from the others but by chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fathom.data import Examples, Places, Ragged, Task

MOST_PLACES = 20  # named in a finding
SIDE = 8  # pictures are looked at as so many means of pixels across


@dataclass(frozen=True)
class Given:
    """A data set before any training. Nothing here is changed by whoever reads it."""

    columns: dict[str, np.ndarray]  # as they came [N]: those that are learned from
    others: dict[str, np.ndarray]  # left out, or there to group by
    examples: Examples
    task: Task  # classify or regress
    targets: np.ndarray  # class indices or numbers [N]
    train: np.ndarray  # row ids
    test: np.ndarray
    parts: np.ndarray | None  # official part of each row, object [N]
    places: Places
    copies: np.ndarray  # int64 [N]: rows equal in all columns share a number
    groups: np.ndarray | None = None  # labels [N], where they were declared
    times: np.ndarray | None = None  # numbers or datetime64 [N], where they were declared
    names: dict[str, str] = field(default_factory=dict)  # of what was declared: "group" → column, "time" → column
    rows: int = 20_000  # at most so many are looked at where each costs time
    seed: int = 0

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def official(self) -> bool:
        """Whether the test rows were delivered as such."""
        return self.parts is not None and "test" in set(self.parts[self.test].tolist())

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def some(self, rows: np.ndarray, most: int | None = None) -> np.ndarray:
        """At most so many of these row ids, drawn at random, in order."""
        most = self.rows if most is None else most
        return rows if len(rows) <= most else np.sort(self.generator().choice(rows, most, replace=False))

    def told_places(self, rows: np.ndarray) -> list[str]:
        return [self.places[row] for row in rows[:MOST_PLACES]]


class Features(NamedTuple):
    """Encoded columns side by side: numbers with NaN where missing, then codes of categories; pictures as few means."""

    matrix: np.ndarray  # float32 [N, F]
    names: list[str]
    codes: int  # the last so many columns are codes

    def of(self, columns: list[int]) -> Features:
        first = self.matrix.shape[1] - self.codes
        return Features(self.matrix[:, columns], [self.names[i] for i in columns], sum(i >= first for i in columns))


def features(examples: Examples) -> Features:
    """All that stands in columns; texts do not."""
    parts: list[np.ndarray] = []
    names: list[str] = []
    codes = 0
    for name, about in sorted(examples.about.items(), key=lambda item: item[1]["form"] == "categories"):
        values = examples.inputs[name]
        if isinstance(values, Ragged):
            continue
        if about["form"] == "pixels":
            values = few_pixels(values)
            names += [f"{name}: {i}" for i in range(values.shape[1])]
        else:
            names += about["names"]
            codes += values.shape[1] * (about["form"] == "categories")
        parts.append(np.asarray(values, np.float32))
    empty = np.empty((len(examples), 0), np.float32)
    return Features(np.concatenate(parts, axis=1) if parts else empty, names, codes)


def few_pixels(pictures: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Means over blocks, float32 [N, side * side * channels], of pictures uint8 [N, H, W, C]."""
    height, width = (max(1, length // side) for length in pictures.shape[1:3])
    kept = pictures[:, : height * min(side, pictures.shape[1]), : width * min(side, pictures.shape[2])]
    shape = (len(kept), kept.shape[1] // height, height, kept.shape[2] // width, width, kept.shape[3])
    return kept.reshape(shape).mean(axis=(2, 4), dtype=np.float32).reshape(len(kept), -1)


def column_of(feature: str, columns: dict[str, Any]) -> str:
    """The column that an encoded feature comes from: 'date: month sin' is of 'date'."""
    while feature not in columns and ": " in feature:
        feature = feature.rpartition(": ")[0]
    return feature
