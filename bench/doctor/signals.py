"""What published rules read of a training, recorded beside it: gradients, weights, activations, losses and scores.

Every EVERY steps is a look; a look stands for what a rule calls an epoch or a saved step. What a reader would get
wrong: nothing is hung on the model that is trained. Its weights are copied to a twin that was made before any doctor
came, and activations and scores are the twin's; gradients are read from the parameters before the step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.doctor.training import Training, scored
from fathom.doctor.parts.trial import as_if_nothing_happened

EVERY = 10  # steps
ROWS = 256  # of the training, on which its score is taken
ACTS = (nn.ReLU, nn.Tanh, nn.Sigmoid)


@dataclass
class Look:
    step: int
    rate: float
    gradients: list[dict[str, float]]  # of each matrix, first to last: mean_abs, norm, zeros (share), span (5 to 95 %)
    is_finite: bool  # weights and gradients
    moved: float = 1.0  # the largest ratio of an update to its weights, at this step,
    moved_least: float = 1.0  # and the least
    inactive: list[float] = field(default_factory=list)  # of each ReLU layer the share of units active in < 1 % of rows
    saturated: list[float] = field(default_factory=list)  # of each tanh or sigmoid the share of units always at an end
    variances: list[float] = field(default_factory=list)  # of what enters each ReLU
    loss: float = 0.0  # on the training's rows
    score: float = 0.0
    judged_loss: float = 0.0
    judged_score: float = 0.0


@dataclass
class Signals:
    looks: list[Look]
    losses: list[float]  # of each step
    least_input: float
    greatest_input: float
    is_floating: bool
    dropout: float


class Recorder:
    """Made before a doctor is; told of each step before it is made."""

    def __init__(self, training: Training) -> None:
        self.training, self.twin = training, copy.deepcopy(training.model)
        self.looks: list[Look] = []
        self.before: list[Tensor] | None = None  # weights before the step that was looked at

    def before_step(self, step: int, batch: Any) -> None:
        if self.before is not None:
            self._moved(self.before)
            self.before = None
        if step % EVERY:
            return
        matrices = [p for p in self.training.model.parameters() if p.dim() > 1]
        gradients = [_summary(p.grad) for p in matrices if p.grad is not None]
        tensors = [t for p in self.training.model.parameters() for t in (p, p.grad) if t is not None]
        is_finite = all(bool(t.isfinite().all()) for t in tensors)
        look = Look(step, self.training.optimizer.param_groups[0]["lr"], gradients, is_finite)
        self.looks.append(look)
        self.before = [p.detach().clone() for p in matrices]
        with as_if_nothing_happened():
            self._look(look)

    def signals(self, losses: list[float]) -> Signals:
        x = self.training.world.train[0]
        dropout = max((part.p for part in self.twin.modules() if isinstance(part, nn.Dropout)), default=0.0)
        return Signals(self.looks, losses, float(x.min()), float(x.max()), x.is_floating_point(), dropout)

    def _moved(self, before: list[Tensor]) -> None:
        after = [p.detach() for p in self.training.model.parameters() if p.dim() > 1]
        ratios = [float((a - b).norm() / b.norm().clamp(min=1e-9)) for a, b in zip(after, before, strict=True)]
        self.looks[-1].moved, self.looks[-1].moved_least = max(ratios), min(ratios)

    @torch.no_grad()
    def _look(self, look: Look) -> None:
        for own, theirs in zip(_tensors(self.twin), _tensors(self.training.model), strict=True):
            own.copy_(theirs)
        world = self.training.world
        some = tuple(rows[:ROWS] for rows in world.train)
        self.twin.eval()
        with _activations(self.twin) as seen:
            look.loss = float(self.training.loss(self.twin, some))
        look.score = scored(self.twin, world, some)
        look.judged_loss = float(self.training.loss(self.twin, world.judge))
        look.judged_score = scored(self.twin, world, world.judge)
        for part, given in seen:
            units = given.transpose(0, 1).flatten(1) if given.dim() > 2 else given.T
            if isinstance(part, nn.ReLU):
                look.inactive.append(float(((units > 0).float().mean(dim=1) < 0.01).float().mean()))
                look.variances.append(float(given.var()))
            else:
                low, high = (-9.4999, 9.4999) if isinstance(part, nn.Tanh) else (-23.0, 17.0)
                between = ((units > low) & (units < high)).float().mean(dim=1)
                look.saturated.append(float((between < 0.01).float().mean()))


def _summary(gradient: Tensor) -> dict[str, float]:
    values = gradient.detach().flatten()
    low, high = torch.quantile(values[:100_000], torch.tensor([0.05, 0.95]))
    return {
        "mean_abs": float(values.abs().mean()),
        "norm": float(values.norm()),
        "zeros": float((values == 0).float().mean()),
        "span": float(high - low),
    }


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


@contextmanager
def _activations(model: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """What enters each activation in the first pass inside."""
    seen: list[tuple[nn.Module, Tensor]] = []
    handles = [
        part.register_forward_pre_hook(lambda part, given: seen.append((part, given[0].detach())))
        for part in model.modules()
        if isinstance(part, ACTS)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
