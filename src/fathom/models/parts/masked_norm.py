"""Batch normalisation of sequences that counts real positions only.

Ioffe & Szegedy 2015, arXiv:1502.03167. What a reader would get wrong: padding leaks twice through nn.BatchNorm1d. In
training it enters mean and variance; and since these are kept, it is still there in eval, where no padded position is
looked at any more.

    >>> norm, inside = MaskedBatchNorm(3), torch.tensor([[True, True, False]])
    >>> _ = norm(torch.full((1, 3, 3), 5.0), inside)
    >>> norm.running_mean.tolist()
    [0.5, 0.5, 0.5]
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedBatchNorm(nn.Module):
    """[B, T, width] and the mask [B, T] → [B, T, width]. Parameters and buffers are those of nn.BatchNorm1d."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, width: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # sums over many positions do not fit into bfloat16
        mean, variance = self._measured(wide, inside) if self.training else (self.running_mean, self.running_var)
        normed = (wide - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return normed.to(x.dtype)

    def _measured(self, x: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over the real positions; the running ones move towards them."""
        counted = inside.unsqueeze(-1).to(x.dtype)
        count = counted.sum()
        mean = (x * counted).sum(dim=(0, 1)) / count
        variance = ((x - mean).square() * counted).sum(dim=(0, 1)) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked.add_(1)
        return mean, variance
