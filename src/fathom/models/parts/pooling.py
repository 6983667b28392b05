"""One vector for a whole sequence, whatever its length.

`inside` is True for real positions and must hold at least one True in each row; padded positions count for nothing.

Shapes: B rows, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(x: Tensor, inside: Tensor) -> Tensor:
    """Mean over the real positions: [B, T, width] → [B, width]."""
    weights = inside.unsqueeze(-1).to(x.dtype)
    return (x * weights).sum(dim=1) / weights.sum(dim=1)


def masked_max(x: Tensor, inside: Tensor) -> Tensor:
    """Largest value of each channel over the real positions: [B, T, width] → [B, width]."""
    return x.masked_fill(~inside.unsqueeze(-1), torch.finfo(x.dtype).min).amax(dim=1)
