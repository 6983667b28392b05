"""The data of the benchmark: small, bundled or generated, each with rows to train on, to judge by and to test.

    >>> world = WORLDS["blobs"](seed=0)
    >>> world.train[0].shape, world.kind, world.outputs
    (torch.Size([600, 8]), 'classify', 4)

Every world is made anew from a seed: other seeds are other data of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor

Rows = tuple[Tensor, Tensor]
# Pictures come standardised; a model of fathom.models, which divides by 255, is told so that it leaves them.
PIXELS = {"form": "pixels", "height": 8, "width": 8, "channels": 1, "mean": [0.0], "std": [1 / 255]}


@dataclass(frozen=True)
class World:
    name: str
    kind: str  # "classify" or "regress"
    form: str  # "table", "picture" or "tokens"
    outputs: int
    train: Rows
    judge: Rows
    test: Rows
    about: dict[str, Any]  # what a model of fathom.models must know of its input


def _cut(
    name: str, kind: str, form: str, outputs: int, x: Tensor, y: Tensor, about: dict[str, Any], seed: int
) -> World:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    ends = [int(0.6 * len(x)), int(0.8 * len(x))]
    parts = [(x[rows], y[rows]) for rows in torch.tensor_split(order, ends)]
    return World(name, kind, form, outputs, *parts, about)


def _table(name: str, kind: str, x: np.ndarray, y: np.ndarray, seed: int, outputs: int) -> World:
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
    target = torch.from_numpy(y).long() if kind == "classify" else torch.from_numpy((y - y.mean()) / y.std()).float()
    return _cut(name, kind, "table", outputs, torch.from_numpy(x).float(), target, {"features": x.shape[1]}, seed)


def blobs(seed: int) -> World:
    random = np.random.default_rng(seed)
    classes, features = int(random.integers(3, 6)), int(random.integers(6, 12))
    middles = random.normal(scale=1.6, size=(classes, features))
    y = random.integers(classes, size=1000)
    return _table("blobs", "classify", middles[y] + random.normal(size=(1000, features)), y, seed, classes)


def spirals(seed: int) -> World:
    random = np.random.default_rng(seed)
    y = random.integers(2, size=1000)
    turn = random.uniform(0.3, 2.5, size=1000)
    angle = 2.2 * turn + np.pi * y
    x = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) + random.normal(scale=0.06, size=(1000, 2))
    return _table("spirals", "classify", x, y, seed, 2)


def breast_cancer(seed: int) -> World:
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return _table("breast_cancer", "classify", x, y, seed, 2)


def wine(seed: int) -> World:
    x, y = datasets.load_wine(return_X_y=True)
    return _table("wine", "classify", x, y, seed, 3)


def diabetes(seed: int) -> World:
    x, y = datasets.load_diabetes(return_X_y=True)
    return _table("diabetes", "regress", x, y, seed, 1)


def friedman(seed: int) -> World:
    x, y = datasets.make_friedman1(1000, noise=0.5, random_state=seed)
    return _table("friedman", "regress", x, y, seed, 1)


def digits(seed: int) -> World:
    x, y = datasets.load_digits(return_X_y=True)
    pictures = torch.from_numpy(x.reshape(-1, 1, 8, 8) / 16).float()
    pictures = (pictures - pictures.mean()) / pictures.std()
    return _cut("digits", "classify", "picture", 10, pictures, torch.from_numpy(y).long(), PIXELS, seed)


def bars(seed: int) -> World:
    """Pictures of a bar in one of four directions, in noise."""
    random = np.random.default_rng(seed)
    y = random.integers(4, size=1000)
    x = random.normal(scale=0.4, size=(1000, 1, 8, 8))
    for row, way in enumerate(y):
        at = int(random.integers(1, 7))
        places = {0: (at, slice(1, 7)), 1: (slice(1, 7), at)}
        if way < 2:
            x[row, 0][places[int(way)]] += 1.5
        else:
            for i in range(1, 7):
                x[row, 0, i, i if way == 2 else 7 - i] += 1.5
    return _cut("bars", "classify", "picture", 4, torch.from_numpy(x).float(), torch.from_numpy(y).long(), PIXELS, seed)


def moods(seed: int) -> World:
    """Texts of twelve words; the class is that of the words of a mood that are more."""
    random = np.random.default_rng(seed)
    vocabulary = 40
    x = random.integers(20, vocabulary, size=(1000, 12))
    y = random.integers(2, size=1000)
    for row, mood in enumerate(y):
        count = int(random.integers(2, 5))
        places = random.permutation(12)[: count + 1]
        x[row, places[:count]] = random.integers(3 + 8 * mood, 11 + 8 * mood, size=count)
        x[row, places[count]] = (
            random.integers(3 + 8 * (1 - mood), 11 + 8 * (1 - mood)) if count > 2 else x[row, places[count]]
        )
    about = {"form": "tokens", "vocabulary": vocabulary, "length": 12}
    return _cut("moods", "classify", "tokens", 2, torch.from_numpy(x), torch.from_numpy(y).long(), about, seed)


def order(seed: int) -> World:
    """Texts of ten words; the class is which of two words comes first."""
    random = np.random.default_rng(seed)
    x = random.integers(5, 30, size=(1000, 10))
    y = random.integers(2, size=1000)
    for row, first in enumerate(y):
        one, other = sorted(random.permutation(10)[:2])
        x[row, one], x[row, other] = (3, 4) if first == 0 else (4, 3)
    about = {"form": "tokens", "vocabulary": 30, "length": 10}
    return _cut("order", "classify", "tokens", 2, torch.from_numpy(x), torch.from_numpy(y).long(), about, seed)


WORLDS: dict[str, Callable[[int], World]] = {
    "blobs": blobs,
    "spirals": spirals,
    "breast_cancer": breast_cancer,
    "wine": wine,
    "diabetes": diabetes,
    "friedman": friedman,
    "digits": digits,
    "bars": bars,
    "moods": moods,
    "order": order,
}
