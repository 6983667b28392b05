"""Stochastic depth: in training, whole residual branches are left out at random, for each row on its own.

Huang et al. 2016, arXiv:1603.09382. What a reader would get wrong: the branches that are kept are scaled up by
1 / (1 - share), as dropout does, so that nothing needs scaling afterwards; the paper scales down when it predicts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """A branch [B, ...] with the rows of a random share set to zero while training.

    >>> layer = StochasticDepth(0.5)
    >>> sorted(set(layer(torch.ones(100, 2)).flatten().tolist()))
    [0.0, 2.0]
    >>> layer.eval()(torch.ones(1, 2))
    tensor([[1., 1.]])
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return branch
        shape = (branch.shape[0], *[1] * (branch.dim() - 1))
        kept = torch.rand(shape, device=branch.device) >= self.share
        return branch * (kept.to(branch.dtype) / (1 - self.share))


def rising_shares(last: float, depth: int) -> list[float]:
    """A share for each block, from 0 at the first to `last` at the last (section 3 of the paper).

    >>> rising_shares(0.5, 3)
    [0.0, 0.25, 0.5]
    """
    return [last * block / max(1, depth - 1) for block in range(depth)]
