"""One training of the benchmark: everything that a loop holds, and the loop that somebody might have written.

A fault is one edit of it (faults.py), and so is a hard negative (hard.py). The loop is plain PyTorch, with a switch for
each habit that may be broken; the doctor stands beside it and knows nothing of the switches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.doctor.configurations import Configuration
from bench.doctor.families import MAKERS
from bench.doctor.worlds import WORLDS, Rows, World

JUDGED_EVERY = 25  # steps


@dataclass
class Training:
    """Everything that a loop holds. Faults change it before the loop begins."""

    world: World
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[nn.Module, Any], Tensor]
    one: Configuration
    habits: dict[str, Any]
    meant: dict[str, Any]  # what is declared to the doctor
    generator: torch.Generator

    def batches(self) -> Batches:
        return Batches(self)


class Batches:
    """The training rows, in another order in each pass; can be begun again."""

    def __init__(self, training: Training) -> None:
        self.rows, self.size = training.world.train, training.one.batch
        self.generator, self.is_shuffled = training.generator, training.habits.get("shuffle", True)
        self.is_balanced = training.habits.get("balanced", False)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.rows
        for rows in self._order(y).split(self.size):
            if len(rows) == self.size:
                yield x[rows], y[rows]

    def _order(self, y: Tensor) -> Tensor:
        if not self.is_shuffled:
            return torch.arange(len(y))
        if self.is_balanced:
            counts = torch.bincount(y)
            return torch.multinomial(1 / counts[y].float(), len(y), replacement=True, generator=self.generator)
        return torch.randperm(len(y), generator=self.generator)


def usual_loss(world: World) -> Callable[[nn.Module, Any], Tensor]:
    if world.kind == "classify":
        return lambda model, batch: F.cross_entropy(*answers(model, batch))

    def squared(model: nn.Module, batch: Any) -> Tensor:
        out, y = answers(model, batch)
        return F.mse_loss(out[:, 0], y)

    return squared


def answers(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """What the model says [N, outputs] and the targets [N]; each member of a net as a row of its own."""
    out, y = model(batch[0]), batch[1]
    if out.dim() == 3:
        return out.flatten(0, 1), y.repeat_interleave(out.shape[1])
    return out, y


def assemble(one: Configuration, change: Callable[[World], World] | None = None) -> Training:
    """The training of a configuration, of its world or of what `change` makes of it."""
    world = WORLDS[one.world](one.seed)
    world = world if change is None else change(world)
    torch.manual_seed(one.seed + 7919 * one.again)
    model = MAKERS[one.family](world, one)
    generator = torch.Generator().manual_seed(one.seed + 7919 * one.again)
    return Training(world, model, optimizer_of(model, one), usual_loss(world), one, dict(one.habits), dict(one.meant),
                    generator)  # fmt: skip


def optimizer_of(model: nn.Module, one: Configuration) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if one.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=one.rate, momentum=0.9)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    return kinds[one.optimizer](parameters, lr=one.rate)


def factor(one: Configuration, step: int) -> float:
    """The schedule's factor on the rate."""
    done = step / one.steps
    if one.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if one.schedule == "warm_up":
        return min(1.0, (step + 1) / (0.1 * one.steps)) * (1 - 0.9 * done)
    if one.schedule == "restarts":
        return 0.5 * (1 + math.cos(math.pi * (3 * done % 1)))
    return 1.0


@dataclass
class Result:
    losses: list[float]
    judged: list[float]
    score: float  # accuracy or R² on the test rows


class Beside(Protocol):
    """What stands beside a loop and is told of it: a doctor, what records the signals that rules read, or both."""

    def before_step(self, step: int, batch: Any) -> None: ...

    def judged(self, losses: Tensor) -> None: ...


def run(training: Training, beside: Beside | None = None) -> Result:
    """The loop. A doctor has hung its hooks before; `beside` is told of each step before it is made."""
    one, habits, model, optimizer = training.one, training.habits, training.model, training.optimizer
    torch.manual_seed(one.seed + 7919 * one.again + 1)
    accumulate = habits.get("accumulate", 1)
    losses, judged, step, seen, waiting = [], [], 0, 0, 0.0
    model.train()
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    while step < one.steps:
        for batch in training.batches():
            if habits.get("frozen_norms"):
                for part in model.modules():
                    if isinstance(part, nn.modules.batchnorm._BatchNorm):
                        part.eval()
            if habits.get("zero_grad", True) and seen % accumulate == 0:
                optimizer.zero_grad()
            loss = training.loss(model, batch) / accumulate
            loss.backward()
            seen, waiting = seen + 1, waiting + float(loss.detach())
            if seen % accumulate:
                continue
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor(one, step) * habits.get("rate_at", {}).get(step, 1.0)
            if beside is not None:
                beside.before_step(step, batch)
            optimizer.step()
            losses.append(waiting)
            step, waiting = step + 1, 0.0
            if step % JUDGED_EVERY == 0:
                rows = judge(training, training.world.judge)
                judged.append(float(rows.mean()))
                if beside is not None:
                    beside.judged(rows)
            if step >= one.steps:
                break
    return Result(losses, judged, scored(model, training.world))


@torch.no_grad()
def judge(training: Training, rows: Rows) -> Tensor:
    """The loss of each row [N], as a loop judges in between: a batch at a time, by the usual loss of the task."""
    habits, model = training.habits, training.model
    if habits.get("eval_before_judging", True):
        model.eval()
        if habits.get("monte_carlo"):
            for part in model.modules():
                if isinstance(part, nn.Dropout):
                    part.train()
    losses = []
    for x, y in zip(*(one.split(training.one.batch) for one in rows), strict=True):
        out, targets = answers(model, (x, y))
        if training.world.kind == "classify":
            each = F.cross_entropy(out, targets, reduction="none")
        else:
            each = F.mse_loss(out[:, 0], targets, reduction="none")
        losses.append(each.view(len(y), -1).mean(dim=1))
    if habits.get("train_after_judging", True):
        model.train()
    return torch.cat(losses)


@torch.no_grad()
def scored(model: nn.Module, world: World, rows: Rows | None = None) -> float:
    """On test rows or others: accuracy, or the share of the variance that is told. Not finite counts as -1.

    The model is left in the mode it was in; a doctor that still watches sees one forward pass without gradients.
    """
    x, y = world.test if rows is None else rows
    was_training = model.training
    model.eval()
    out = model(x)
    model.train(was_training)
    out = out.mean(dim=1) if out.dim() == 3 else out
    if not bool(torch.isfinite(out).all()):
        return -1.0
    if world.kind == "classify":
        return float((out.argmax(dim=1) == y).float().mean())
    return float(1 - (out[:, 0] - y).square().mean() / y.var())
