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


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    inside: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(scale · query keyᵀ + bias) value: query [B, H, T, D], key and value [B, G, S, D] → [B, H, T, D].

    Queries share keys in groups where G < H (Ainslie et al. 2023, arXiv:2305.13245). The T queries are the last T of
    the S positions, so that a cache needs no more than longer keys. `inside` [B, S] is True for real positions;
    `causal` hides the future and `window` all but the latest so many positions (itself counted); `bias` [.., H, T, S]
    is added to the scores. `scale` is 1/sqrt(D) if left out. A position always sees itself, so padding is never NaN.
    """
    T, S = query.shape[2], key.shape[2]
    if key.shape[1] != query.shape[1]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    mask = None
    if causal and (T > 1 or window is not None) or (inside is not None and causal):
        place = torch.arange(S, device=query.device)
        ago = place[S - T :, None] - place  # [T, S]: how long before the query the key stands
        mask = ago >= 0 if window is None else (ago >= 0) & (ago < window)
        if inside is not None:
            mask = (mask & inside[:, None, None, :]) | (ago == 0)
    elif inside is not None:
        mask = inside[:, None, None, :]
    plain = causal and inside is None and window is None and bias is None and T == S
    if bias is not None and mask is not None:
        mask = bias.masked_fill(~mask, float("-inf"))
    elif bias is not None:
        mask = bias
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=None if plain else mask, dropout_p=dropout, is_causal=plain, scale=scale
    )


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
