"""Attention over sequences of different lengths.

`inside` is True for real positions. A padded position is never attended to, but its own output is not zero: whoever
pools over positions must mask again.

Shapes: B rows, T positions of queries, S of keys, H heads, G groups of heads that share keys, D width of a head.

    >>> query, key = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    >>> attend(query, key, key, causal=True, window=3).shape
    torch.Size([2, 4, 5, 8])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.models.parts.checks import check_divisor, largest_divisor
from fathom.models.parts.rotary import rotate, rotation

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


def heads_for(width: int, head_width: int) -> int:
    """About width / head_width heads, all of the same width.

    >>> heads_for(768, 64)
    12
    """
    return largest_divisor(width, max(1, width // head_width))


def check_heads(width: int, heads: int, *, option: str = "heads") -> None:
    """Raises UserError with the nearest smaller number that fits, unless so many heads can share the width."""
    check_divisor(width, f"the width, {width}", **{option: heads})


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
    the S positions, so that a cache needs no more than longer keys. `inside` [B, S] is True for real positions (of a
    longer mask the last S count); `causal` hides the future, and `window` with it all but the latest so many positions,
    itself counted (Beltagy et al. 2020, arXiv:2004.05150); `bias` [.., H, T, S] is added to the scores. `scale` is
    1/sqrt(D) if left out. Under `causal` a position always sees itself, so that padding is never NaN; without it each
    row needs one real position.
    """
    assert causal or window is None, "a window looks back: it needs causal=True"
    T, S = query.shape[2], key.shape[2]
    if key.shape[1] != query.shape[1]:
        heads_each = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(heads_each, dim=1), value.repeat_interleave(heads_each, dim=1)
    if inside is not None:
        inside = inside[:, None, None, inside.shape[1] - S :]
    # Torch's own causal flag is faster than the same mask, but knows the square without anything else only.
    plain = causal and inside is None and bias is None and T == S and (window is None or window >= S)
    mask = None if plain else _causal_mask(T, S, window, inside, query.device) if causal else inside
    if bias is not None:
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=plain, scale=scale
    )


def _causal_mask(T: int, S: int, window: int | None, inside: Tensor | None, device: torch.device) -> Tensor | None:
    """Which keys each query sees, bool [T, S] or [B, 1, T, S]; None where that is all of them."""
    if T == 1 and inside is None and (window is None or window >= S):
        return None
    place = torch.arange(S, device=device)
    ago = place[S - T :, None] - place  # how long before the query the key stands
    seen = ago >= 0 if window is None else (ago >= 0) & (ago < window)
    return seen if inside is None else (seen & inside) | (ago == 0)
