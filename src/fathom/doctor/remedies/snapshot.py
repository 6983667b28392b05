"""Weights, buffers and the optimizers' state at one moment, in memory, to go back to.

What a reader would get wrong: going back writes into the tensors that are there, so whoever holds them sees it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Snapshot:
    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer], step: int = 0) -> None:
        self.model, self.optimizers, self.step = model, list(optimizers), step
        self.tensors = {name: value.detach().clone() for name, value in _tensors(model).items()}
        self.states = [{p: _copied(state) for p, state in one.state.items()} for one in self.optimizers]

    @torch.no_grad()
    def restore(self) -> None:
        for name, value in _tensors(self.model).items():
            if name in self.tensors:
                value.copy_(self.tensors[name])
        for optimizer, kept in zip(self.optimizers, self.states, strict=True):
            optimizer.state.clear()
            for p, state in kept.items():
                optimizer.state[p] = _copied(state)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _copied(state: Any) -> Any:
    """Of an optimizer's state of a parameter: a mapping of tensors and numbers."""
    return {
        key: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for key, value in state.items()
    }
