"""Layers for several networks in one: members share their matrices and differ by small vectors.

An input travels as [B, K, width], one row for each of K members. What a reader would get wrong: the members must start
different, or they stay alike for ever, since they share the data and almost all weights. Random factors at the entrance
see to that.

Source: BatchEnsemble, Wen et al. 2020, arXiv:2002.06715, section 3; for tables TabM, Gorishniy et al. 2024,
arXiv:2410.24210, sections 3.2 and 3.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class MemberScale(nn.Module):
    """Each member's own factor on every feature: [B, width] or [B, K, width] → [B, K, width].

    `groups` gives the number of neighbouring features that share one random factor at the start, those of one column
    of the table: a member then sees columns weighted as wholes, not their embeddings torn apart. Factors start as
    normal numbers.
    """

    def __init__(self, members: int, groups: list[int]) -> None:
        super().__init__()
        start = torch.randn(members, len(groups))
        self.factor = nn.Parameter(start.repeat_interleave(torch.tensor(groups), dim=1))

    def no_decay(self) -> list[nn.Parameter]:
        """Parameters that weight decay would hurt: their neutral value is not 0."""
        return [self.factor]

    def forward(self, x: Tensor) -> Tensor:
        return (x if x.dim() == 3 else x.unsqueeze(1)) * self.factor


class MemberLinear(nn.Module):
    """A shared matrix between each member's own input factors, output factors and bias: [B, K, i] → [B, K, o].

    All factors start at 1: the difference comes from the entrance and from the biases.
    """

    def __init__(self, members: int, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.in_factor = nn.Parameter(torch.ones(members, in_features))
        self.out_factor = nn.Parameter(torch.ones(members, out_features))
        self.bias = nn.Parameter(torch.empty(members, out_features).uniform_(-bound, bound))

    def no_decay(self) -> list[nn.Parameter]:
        return [self.in_factor, self.out_factor, self.bias]

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x * self.in_factor, self.weight) * self.out_factor + self.bias


class MemberHeads(nn.Module):
    """K separate linear heads: [B, K, i] → [B, K, o]."""

    def __init__(self, members: int, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(members, in_features, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, out_features).uniform_(-bound, bound))

    def no_decay(self) -> list[nn.Parameter]:
        return [self.bias]

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bki,kio->bko", x, self.weight) + self.bias


class MemberDropout(nn.Module):
    """Dropout of [B, K, width] with few random numbers: member k of row b uses mask b + k.

    Drawing a mask of its own for every member and row took 40 % of a training step on a processor. Masks now repeat
    only between different rows of different members.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        rows, members, width = x.shape
        kept = torch.rand(rows + members - 1, width, device=x.device, dtype=x.dtype) >= self.share
        masks = kept.to(x.dtype) / (1 - self.share)
        return x * masks.unfold(0, members, 1).transpose(1, 2)
