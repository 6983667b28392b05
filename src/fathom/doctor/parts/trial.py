"""Experiments on copies: the same model and optimizer, trained for a few steps with one thing changed.

The model, the optimizer, random numbers and the order of data are left as they were. What a reader would get wrong: two
experiments are compared on the same batches and the same random numbers, so that what differs is what was changed; the
noise between batches cancels.

    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> rows = [(torch.randn(16, 2), torch.ones(16, 1)) for _ in range(4)]
    >>> trial = Trial(model, [optimizer], lambda model, batch: (model(batch[0]) - batch[1]).square().mean(), rows)
    >>> before = model.weight.clone()
    >>> found = trial.run(20)
    >>> found.losses[-1] < found.losses[0], torch.equal(model.weight, before)
    (True, True)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fathom.compute import random_states, set_random_states
from fathom.doctor.parts.hooks import copied, unheard
from fathom.loop import Loss, train

Edit = Callable[[nn.Module], nn.Module]
SEED = 0


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to: the loss of each batch before its step, and the model as it was left."""

    losses: list[float]
    model: nn.Module
    is_finite: bool  # no step was refused

    def last(self, steps: int) -> float:
        return float(np.mean(self.losses[-steps:])) if self.is_finite else float("inf")


class Trial:
    """A model, its optimizers, the mean loss of a batch, and some batches."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        loss: Callable[[nn.Module, Any], Tensor],
        batches: Sequence[Any],
    ) -> None:
        self.model, self.optimizers, self.loss, self.batches = model, list(optimizers), loss, list(batches)

    @property
    def rate(self) -> float:
        """The learning rate of the first parameters, warm-up aside."""
        group = self.optimizers[0].param_groups[0]
        return float(group.get("initial_lr", group["lr"]))

    @property
    def inputs(self) -> Tensor | None:
        """What the model reads in all batches, where that is the first of a pair, one tensor."""
        first = [batch[0] if isinstance(batch, list | tuple) else None for batch in self.batches]
        tensors = [one for one in first if isinstance(one, Tensor)]
        return torch.cat(tensors) if len(tensors) == len(first) else None

    def run(
        self,
        steps: int,
        *,
        rate: float = 1.0,
        decay: float = 1.0,
        edit: Edit | None = None,
        batches: Sequence[Any] | None = None,
    ) -> Outcome:
        """Train a copy for so many steps over the batches again and again, at `rate` times the learning rate.

        `decay` times the weight decay holds. `edit` makes another model of the copy, whose optimizer begins anew;
        parameters that it adds are not trained.
        """
        with as_if_nothing_happened(), unheard():
            torch.manual_seed(SEED)
            model, optimizers = copied(self.model, self.optimizers)
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = group["initial_lr"] = rate * group.get("initial_lr", group["lr"])
                if decay != 1:
                    group["weight_decay"] = decay * group.get("weight_decay", 0.0)
            edited = model if edit is None else edit(model)
            if edit is not None:
                for optimizer in optimizers:
                    optimizer.state.clear()
            losses, is_finite = [], True
            source = islice(cycle(self.batches if batches is None else batches), steps)
            for step in train(edited, _Given(self.loss, len(optimizers)), source, optimizers):
                if step.player == 0:
                    losses.append(float(step.loss))
                if step.refused:
                    is_finite = False
                    break
            return Outcome(losses, model, is_finite)

    @torch.no_grad()
    def losses(self, model: nn.Module | None = None) -> np.ndarray:
        """The loss of each batch as the model is, or as another is: [batches]. Nothing is trained."""
        with as_if_nothing_happened():
            torch.manual_seed(SEED)
            judged = copied(self.model, [])[0] if model is None else model
            return np.array([float(self.loss(judged, batch)) for batch in self.batches])


class _Given:
    """A function of a model and a batch as an objective. It gives means, so that a batch counts once.

    Each of several optimizers moves on the loss as the one before it left it.
    """

    def __init__(self, loss: Callable[[nn.Module, Any], Tensor], optimizers: int) -> None:
        self.loss, self.optimizers = loss, optimizers

    def count(self, batch: Any) -> float:
        return 1.0

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        for _ in range(self.optimizers):
            yield Loss(self.loss(model, batch), 1.0)


def without_dropout(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
    return model


@contextmanager
def as_if_nothing_happened() -> Iterator[None]:
    """Random numbers go on afterwards as they would have without what is done inside."""
    own, legacy, torchs = random.getstate(), np.random.get_state(), random_states()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(legacy)  # noqa: NPY002
        set_random_states(torchs)


def some_batches(data: Iterable[Any], count: int, keep: Callable[[Any], Any] = lambda batch: batch) -> list[Any]:
    """What `keep` keeps of the first batches of a source that can be begun again, which does not notice; else none.

    A loader's own generators are set back too, so that the training meets the rows in the order it would have.
    """
    # Not asked by iter(data): a loader draws random numbers, and starts its workers, when it is begun.
    if isinstance(data, Iterator):
        return []
    held: list[Any] = [data, getattr(data, "sampler", None), getattr(data, "batch_sampler", None)]
    held.append(getattr(held[-1], "sampler", None))
    generators = [one.generator for one in held if isinstance(getattr(one, "generator", None), torch.Generator)]
    states = [one.get_state() for one in generators]
    with as_if_nothing_happened():
        found = [keep(batch) for batch in islice(data, count)]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)
    return found
