"""THE ONE LOOP: forward, loss, backpropagation, step. No other file calls `.backward()` or `.step()`.

It is a generator. The caller writes ordinary statements between steps; there are no callbacks:

    for step in train(model, objective, batches, optimizer):
        print(step.index, float(step.loss))
        if step.index == 1000:
            break

An objective yields losses as sums with counts, one yield for each optimizer step, and only the loop divides. So the
gradient does not depend on how a batch was cut into micro-batches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Loss:
    """A sum of losses, and how many there were. `count` is read from the batch, never from the device."""

    total: Tensor
    count: float


class Objective(Protocol):
    """Why one output is better than another."""

    def count(self, batch: Any) -> float:
        """How many losses the batch will be summed from; known before the forward pass."""

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        """One loss for each optimizer step. Adversaries yield twice; everything else yields once."""


@dataclass(slots=True)
class Step:
    """What one optimizer step did. Tensors stay on their device until somebody reads them."""

    index: int  # counted from 1, over the whole training
    player: int  # which of the objective's losses this was; 0 for ordinary objectives
    loss: Tensor  # mean over the batch, before the step
    gradient_norm: Tensor  # of all gradients together, before clipping
    learning_rate: float  # of the first parameter group
    rows: float  # the count that the loss was divided by
    refused: Tensor  # bool: the loss or the gradient was not finite, and the weights were left as they were


def train(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Any],
    optimizers: Optimizer | Sequence[Optimizer],
    *,
    accumulate: int = 1,
    clip: float | None = None,
    schedule: Callable[[int], float] | None = None,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    start: int = 0,
) -> Iterator[Step]:
    """Train, yielding after every optimizer step.

    `accumulate` joins that many batches into one step (the last group of an exhausted source may be smaller); `clip`
    bounds the norm of the gradient; `schedule(step)` is the factor on each group's initial learning rate at step
    0, 1, …; `precision()` is entered around each forward pass (an autocast, say); `start` is the number of steps
    already done when a training is resumed. Optimizer i moves on the objective's i-th loss.

    A loss or gradient that is not finite moves no weight and no state of the optimizer: the step is yielded with
    `refused` true. On CPU the result equals a hand-written PyTorch loop to the last bit.
    """
    players = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
    rates = [[group.setdefault("initial_lr", group["lr"]) for group in player.param_groups] for player in players]
    index = start
    for group_of_batches in _grouped(batches, accumulate):
        if schedule is not None:
            _set_rates(players, rates, schedule(index))
        # Sums, not means: micro-batches may differ in size, and averaging averages would overweight the small ones.
        count = sum(objective.count(batch) for batch in group_of_batches)
        running = [objective.losses(model, batch) for batch in group_of_batches]
        for player, optimizer in enumerate(players):
            optimizer.zero_grad(set_to_none=True)
            total = _backpropagate(running, count, precision)
            index += player == 0
            yield _step(optimizer, total, index=index, player=player, clip=clip, count=count)


def _grouped(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(batches)
    while group := list(itertools.islice(source, size)):
        yield group


def _set_rates(players: Sequence[Optimizer], rates: list[list[float]], factor: float) -> None:
    for player, initial in zip(players, rates, strict=True):
        for group, rate in zip(player.param_groups, initial, strict=True):
            group["lr"] = rate * factor


def _backpropagate(
    running: list[Iterator[Loss]], count: float, precision: Callable[[], AbstractContextManager[Any]]
) -> Tensor:
    """Add the gradients of one loss of every micro-batch; the mean loss comes back, detached."""
    mean: Tensor | None = None
    for losses in running:
        with precision():
            loss = next(losses)
        # Divided before the backward pass, so that gradients arrive in their final scale.
        share = loss.total / count
        share.backward()
        mean = share.detach() if mean is None else mean + share.detach()
    assert mean is not None
    return mean


def _step(optimizer: Optimizer, loss: Tensor, *, index: int, player: int, clip: float | None, count: float) -> Step:
    rate = float(optimizer.param_groups[0]["lr"])
    moved = _moved(optimizer)
    norm = _norm([p.grad for p in moved if p.grad is not None], loss)
    refused = _is_not_finite(loss + norm)
    step = Step(index, player, loss, norm, rate, count, refused)
    if clip is not None:
        nn.utils.clip_grads_with_norm_(moved, clip, norm)
    if _is_skipped_on_the_device(optimizer, loss.device):
        optimizer.found_inf = refused.float()  # type: ignore[attr-defined]
        optimizer.step()
    elif not refused:
        optimizer.step()
    return step


def _norm(gradients: list[Tensor], loss: Tensor) -> Tensor:
    """The norm of all of them together, where the loss is: `get_total_norm` without its search for devices and types.

    It is wanted at every step, and half of what this loop adds to one of a small net would be that search.
    """
    if loss.device.type != "cpu" or not gradients:
        return nn.utils.get_total_norm(gradients)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def _is_not_finite(x: Tensor) -> Tensor:
    """For a scalar, a bool beside it. On a CPU reading the number is cheaper than a kernel."""
    return ~torch.isfinite(x) if x.device.type != "cpu" else torch.tensor(not math.isfinite(x.item()))


def _is_skipped_on_the_device(optimizer: Optimizer, device: torch.device) -> bool:
    """Whether the optimizer's own kernel leaves everything as it was where it is told of infinite numbers.

    Reading the answer first costs nothing on a CPU; on a GPU it would stop the queue at every step.
    """
    return device.type != "cpu" and getattr(optimizer, "_step_supports_amp_scaling", False)


def _moved(optimizer: Optimizer) -> list[Tensor]:
    """The parameters that have a gradient."""
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
