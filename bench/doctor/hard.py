"""Hard negatives: trainings that look like a fault and are none, each an edit of a healthy one.

Where somebody would say so, it is declared (`training.meant`): a frozen backbone, frozen norms, dropout in use. What a
reader would get wrong: a hard negative has to train as well as any healthy one, by the same rule, or it is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.doctor.configurations import PLAIN, Configuration
from bench.doctor.families import LAYERS
from bench.doctor.training import Training, answers, factor, optimizer_of, run
from bench.doctor.worlds import World

Random = np.random.Generator


@dataclass(frozen=True)
class Hard:
    """What is changed: the configuration, the data, or the training; and what it fits."""

    configure: Callable[[Configuration, Random], Configuration] = lambda one, random: one
    world: Callable[[World, Random], World] = lambda world, random: world
    edit: Callable[[Training, Random], None] = lambda training, random: None
    fits: Callable[[Configuration, World], bool] = lambda one, world: True


# The loop


def accumulation(one: Configuration, random: Random) -> Configuration:
    times = int(random.integers(2, 5))
    return replace(one, batch=max(8, one.batch // times), habits={**one.habits, "accumulate": times})


def warm_up_from_nothing(training: Training, random: Random) -> None:
    """As a scheduler of torch does it: the rate is set to its first, a fifteenth, before the first step."""
    training.one = replace(training.one, schedule="warm_up")
    for group in training.optimizer.param_groups:
        group["initial_lr"] = group["lr"]
        group["lr"] *= factor(training.one, 0)


def long_run(one: Configuration, random: Random) -> Configuration:
    return replace(one, steps=3 * one.steps, schedule="cosine")


# Parts that stay


def frozen_backbone(training: Training, random: Random) -> None:
    """A net that was trained before; a new head is trained on what it tells."""
    assert isinstance(training.model, nn.Sequential)
    run(training)
    head = training.model[-1]
    head.reset_parameters()
    for p in training.model[:-1].parameters():
        p.requires_grad_(False)
    training.optimizer = optimizer_of(training.model, training.one)
    # The norms belong to the backbone: they stay as they are.
    training.habits["frozen_norms"] = True
    training.meant |= {"frozen": [f"{i}.*" for i in range(len(training.model) - 1)], "frozen_norms": True}


def frozen_norms(training: Training, random: Random) -> None:
    run(training)
    training.optimizer = optimizer_of(training.model, training.one)
    training.habits["frozen_norms"] = True
    training.meant["frozen_norms"] = True


def monte_carlo(training: Training, random: Random) -> None:
    training.habits["monte_carlo"] = True
    training.meant["monte_carlo"] = True


# The loss


def label_smoothing(training: Training, random: Random) -> None:
    training.loss = lambda model, batch: F.cross_entropy(*answers(model, batch), label_smoothing=0.1)


def log_softmax_twice(training: Training, random: Random) -> None:
    """Harmless: the second changes nothing."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        out, y = answers(model, batch)
        return F.cross_entropy(out.log_softmax(dim=1), y)

    training.loss = loss


# The model


class Branch(nn.Module):
    """x + f(x), where f gives nothing at the beginning."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.inner, self.activation, self.outer = nn.Linear(width, width), LAYERS[activation](), nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(self.activation(self.inner(x)))


def zero_residual(training: Training, random: Random) -> None:
    one, world = training.one, training.world
    features = int(np.prod(world.train[0].shape[1:]))
    branches = [Branch(one.width, one.activation) for _ in range(one.depth)]
    training.model = nn.Sequential(
        nn.Flatten(), nn.Linear(features, one.width), *branches, nn.LayerNorm(one.width),
        nn.Linear(one.width, world.outputs)
    )  # fmt: skip
    training.optimizer = optimizer_of(training.model, one)


def sparse_relu(training: Training, random: Random) -> None:
    """Wide layers of which few units speak for a row, and all for some."""
    features = int(np.prod(training.world.train[0].shape[1:]))
    first, head = nn.Linear(features, 256), nn.Linear(256, training.world.outputs)
    with torch.no_grad():
        first.bias.sub_(0.5)
    training.model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), head)
    training.optimizer = optimizer_of(training.model, training.one)


# The data


def _kept(world: World, keep: Callable[[Tensor, Tensor], Tensor], parts: tuple[str, ...]) -> World:
    """The rows of some parts of which `keep` says so."""
    return replace(world, **{name: tuple(t[keep(*getattr(world, name))] for t in getattr(world, name))
                             for name in parts})  # fmt: skip


def _changed(world: World, change: Callable[[Tensor, Tensor, str], Tensor]) -> World:
    names = ("train", "judge", "test")
    return replace(world, **{n: (change(*getattr(world, n), n), getattr(world, n)[1]) for n in names})


def imbalanced(world: World, random: Random) -> World:
    """Of the first class every eighth row is left, everywhere."""

    def keep(x: Tensor, y: Tensor) -> Tensor:
        return (y != 0) | (torch.arange(len(y)) % 8 == 0)

    return _kept(world, keep, ("train", "judge", "test"))


def dominant_column(world: World, random: Random) -> World:
    """An honest column that tells nearly all: known beforehand, with noise of its own."""

    def change(x: Tensor, y: Tensor, part: str) -> Tensor:
        noise = torch.from_numpy(random.normal(scale=0.25, size=len(y))).float()
        return torch.cat([x, ((y.float() - y.float().mean()) / y.float().std() + noise)[:, None]], dim=1)

    return replace(_changed(world, change), about={"features": world.about["features"] + 1})


def few_levels(world: World, random: Random) -> World:
    """Four columns of five levels each: rows that are equal by chance stand in all parts."""

    def change(x: Tensor, y: Tensor, part: str) -> Tensor:
        return (2 * x[:, :4]).round().clamp(-2, 2) / 2

    return replace(_changed(world, change), about={"features": 4})


def drift(world: World, random: Random) -> World:
    """The test rows come later: one column has moved by a third of its spread, and means what it meant."""
    column = int(random.integers(world.train[0].shape[1]))

    def change(x: Tensor, y: Tensor, part: str) -> Tensor:
        x = x.clone()
        x[:, column] += {"train": 0.0, "judge": 0.15, "test": 0.3}[part]
        return x

    return _changed(world, change)


def easy(world: World, random: Random) -> World:
    """Classes far apart: everything reaches 99 %."""

    def change(x: Tensor, y: Tensor, part: str) -> Tensor:
        away = torch.from_numpy(np.random.default_rng(0).normal(size=(world.outputs, x.shape[1]))).float()
        return (x + 3 * away[y]) / 3

    return _changed(world, change)


def tiny_judge(world: World, random: Random) -> World:
    return replace(world, judge=tuple(rows[:10] for rows in world.judge))


def _is_plain(one: Configuration, world: World) -> bool:
    return one.family in PLAIN


def _classifies(one: Configuration, world: World) -> bool:
    return world.kind == "classify"


def _tells_classes_of_columns(one: Configuration, world: World) -> bool:
    return world.kind == "classify" and world.form == "table"


HARD: dict[str, Hard] = {
    "accumulation": Hard(configure=accumulation, fits=lambda one, world: one.batch > 16),
    "frozen_backbone": Hard(edit=frozen_backbone, fits=_is_plain),
    "frozen_norms": Hard(
        configure=lambda one, random: replace(one, norm="batch"), edit=frozen_norms, fits=_is_plain
    ),
    "monte_carlo": Hard(
        configure=lambda one, random: replace(one, dropout=0.3),
        edit=monte_carlo,
        fits=lambda one, world: one.family in (*PLAIN, "mlp", "vit"),
    ),
    "warm_up": Hard(edit=warm_up_from_nothing),
    "restarts": Hard(configure=lambda one, random: replace(one, schedule="restarts")),
    "label_smoothing": Hard(edit=label_smoothing, fits=_classifies),
    "log_softmax_twice": Hard(edit=log_softmax_twice, fits=_classifies),
    "bias_before_norm": Hard(
        configure=lambda one, random: replace(one, norm="batch", depth=3), fits=_is_plain
    ),
    "zero_residual": Hard(edit=zero_residual, fits=lambda one, world: one.family == "perceptron"),
    "balanced_sampler": Hard(
        configure=lambda one, random: replace(one, habits={**one.habits, "balanced": True}),
        world=imbalanced,
        fits=_tells_classes_of_columns,
    ),
    "imbalanced": Hard(world=imbalanced, fits=_classifies),
    "dominant_column": Hard(world=dominant_column, fits=lambda one, world: world.form == "table"),
    "few_levels": Hard(
        world=few_levels, fits=lambda one, world: world.form == "table" and world.about["features"] >= 4
    ),
    "drift": Hard(world=drift, fits=lambda one, world: world.form == "table"),
    "easy": Hard(world=easy, fits=_tells_classes_of_columns),
    "long_run": Hard(configure=long_run),
    "tiny_judge": Hard(world=tiny_judge),
    "sparse_relu": Hard(edit=sparse_relu, fits=lambda one, world: one.family == "perceptron"),
}  # fmt: skip
