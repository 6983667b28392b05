"""An exponential moving average of a model's weights and buffers, read for validation and kept as the result.

The average starts young: its horizon grows with the steps done, so that the first weights are forgotten at once.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

SOURCE = "Polyak & Juditsky 1992; exponential form with warm-up as in Tan & Le 2019, arXiv:1905.11946"


class AveragedWeights:
    """`horizon` is the number of steps over which the average mostly looks back."""

    def __init__(self, model: nn.Module, horizon: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.horizon = horizon
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights as they are now. Batch-norm statistics are averaged along; counters are copied."""
        self.steps += 1
        share = max(1 / (self.horizon + 1), 1 / (1 + self.steps / 2))
        mine, theirs = [], []
        for old, new in zip(_state(self.model), _state(model), strict=True):
            if old.is_floating_point():
                mine.append(old)
                theirs.append(new.detach())
            else:
                old.copy_(new)
        torch._foreach_lerp_(mine, theirs, share)


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
