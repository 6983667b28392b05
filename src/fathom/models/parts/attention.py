"""Self-attention over sequences of different lengths.

`inside` is True for real positions. A padded position is never attended to, but its own output is not zero: whoever
pools over positions must mask again.

Shapes: B rows, T positions, H heads, D width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOURCE = "Vaswani et al. 2017, arXiv:1706.03762, section 3.2; rotary positions: Su et al. 2021, arXiv:2104.09864"


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself, positions told by rotation: [B, T, width] → [B, T, width]."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        assert width % (2 * heads) == 0, "each head needs an even width: rotation turns pairs of channels"
        self.heads = heads
        self.dropout = dropout
        self.project_in = nn.Linear(width, 3 * width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        query, key, value = self.project_in(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each BHTD
        cosine, sine = rotation(x.shape[1], query.shape[-1], x.device)
        mixed = F.scaled_dot_product_attention(
            rotate(query, cosine, sine),
            rotate(key, cosine, sine),
            value,
            attn_mask=inside[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.project_out(mixed.transpose(1, 2).flatten(2))


def rotation(length: int, width: int, device: torch.device, *, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, width / 2] of the angle by which pair i of channels is turned at each position."""
    pairs = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    positions = torch.arange(length, device=device, dtype=torch.float32)
    angles = positions[:, None] * base ** (-pairs / width)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn channels (i, i + D/2) of [B, H, T, D] by their position's angle (section 3.4.2 of the rotary paper)."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return turned.to(x.dtype)  # under autocast the float32 angles would widen it
