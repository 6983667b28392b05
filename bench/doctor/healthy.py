"""Which trainings are healthy: those that train as well as a simple model of the same rows, by their own test score.

The rule is fixed beforehand and asks no doctor: within MARGIN of the way from knowing nothing to the simple model, with
every loss finite. What fails is drawn again and counted. What a reader would get wrong: a rule that left out what
raises an alarm would make any doctor perfect.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from torch import Tensor
from torch.nn import functional as F

from bench.doctor.configurations import Configuration, draw
from bench.doctor.hard import HARD
from bench.doctor.training import Result, Training, assemble
from bench.doctor.worlds import WORLDS, World

MARGIN = 0.2  # of the way from knowing nothing to the simple model may be missing
SHARE_HARD = 0.3


def trains_well(world: World, result: Result) -> bool:
    """Whether a training is healthy, by its losses and its score alone."""
    nothing, simple = reference(world)
    return all(map(math.isfinite, result.losses)) and result.score >= simple - MARGIN * (simple - nothing)


def reference(world: World) -> tuple[float, float]:
    """The test scores of knowing nothing, and of the better of a linear model and the nearest neighbours."""
    (x, y), (test_x, test_y) = ((_columns(world, rows[0]), rows[1].numpy()) for rows in (world.train, world.test))
    if world.kind == "classify":
        models = [LogisticRegression(max_iter=300), KNeighborsClassifier(5)]
        nothing = float(np.bincount(test_y).max() / len(test_y))
    else:
        models, nothing = [RidgeCV(), KNeighborsRegressor(10)], 0.0
    return nothing, max(float(model.fit(x, y).score(test_x, test_y)) for model in models)


def _columns(world: World, x: Tensor) -> np.ndarray:
    """Numbers as they are, words as which stands where and how often each."""
    if world.form != "tokens":
        return x.flatten(1).numpy()
    words = F.one_hot(x, world.about["vocabulary"]).float()
    return torch.cat([words.flatten(1), words.sum(dim=1)], dim=1).numpy()


@dataclass(frozen=True)
class Healthy:
    """A configuration that may be healthy, perhaps made a hard negative; ready to be assembled again and again."""

    one: Configuration
    hard: str | None

    def training(self) -> Training:
        """The same to the last bit each time."""
        if self.hard is None:
            return assemble(self.one)
        random = np.random.default_rng([self.one.seed, 3])
        made = HARD[self.hard]
        training = assemble(self.one, lambda world: made.world(world, random))
        made.edit(training, random)
        return training


def drawn(seed: int, *, locked: bool, hard: bool) -> Healthy:
    """A candidate: of the plain kind, or a hard negative that fits."""
    one = draw(seed, locked=locked)
    if not hard:
        return Healthy(one, None)
    random = np.random.default_rng([seed, 4])
    world = WORLDS[one.world](one.seed)
    fitting = [name for name, made in HARD.items() if made.fits(one, world)]
    name = str(random.choice(fitting))
    return Healthy(HARD[name].configure(one, random), name)


def candidates(seed: int, *, locked: bool, hard: bool) -> Iterator[Healthy]:
    """One after the other, until one trains well."""
    return map(partial(drawn, locked=locked, hard=hard), (1000 * seed + i for i in range(1000)))
