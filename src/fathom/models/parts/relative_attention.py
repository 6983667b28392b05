"""Self-attention that knows how far apart two positions are, and not where they stand.

Dai et al. 2019 (Transformer-XL), arXiv:1901.02860, section 3.3, as Gulati et al. 2020 use it: in both directions. The
score of query i for key j is (query + u) · key + (query + v) · W distance(i - j), over sqrt(D): content against
content, content against distance, and two learned vectors u and v for what does not depend on the query. What a reader
would get wrong: every query has the same 2T - 1 distances, but each begins at another of them; `shifted` lines them up.

    >>> layer = RelativeAttention(8, heads=2)
    >>> layer(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([2, 5, 8])

Shapes: B rows, T positions, H heads, D width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.models.parts.attention import attend


class RelativeAttention(nn.Module):
    """[B, T, width] and the mask [B, T] of real positions → [B, T, width]."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        assert width % heads == 0 and width % 2 == 0, "heads share the width; sines and cosines halve it"
        self.heads, self.dropout = heads, dropout
        self.project_in = nn.Linear(width, 3 * width)
        self.project_distance = nn.Linear(width, width, bias=False)
        self.project_out = nn.Linear(width, width)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))  # u
        self.distance_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))  # v

    def no_decay(self) -> list[nn.Parameter]:
        """The two vectors are biases, whatever their shape."""
        return [self.content_bias, self.distance_bias]

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        length, width = x.shape[1:]
        query, key, value = self.project_in(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each BHTD
        distance = self.project_distance(distances(length, width, x.device).to(x.dtype))
        distance = distance.unflatten(-1, (self.heads, -1)).permute(1, 2, 0)  # [H, D, 2T - 1]
        scale = 1 / math.sqrt(width // self.heads)
        bias = scale * shifted((query + self.distance_bias) @ distance)
        mixed = attend(
            query + self.content_bias,
            key,
            value,
            inside=inside,
            bias=bias,
            scale=scale,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.project_out(mixed.transpose(1, 2).flatten(2))


def distances(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of i - j for every distance from length - 1 down to 1 - length: [2 length - 1, width].

    Vaswani et al. 2017, section 3.5; all sines before all cosines, which only permutes the matrix that follows.
    """
    away = torch.arange(length - 1, -length, -1, device=device, dtype=torch.float32)
    rates = 10_000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angles = away[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def shifted(scores: Tensor) -> Tensor:
    """Scores by distance [.., T, 2T - 1] → scores by key [.., T, T]: entry (i, j) is that of the distance i - j.

    Appendix B of the paper: one column more and one row's length less, and each row starts a column further left.

    >>> shifted(torch.tensor([[1, 0, -1], [1, 0, -1]])).tolist()
    [[0, -1], [1, 0]]
    """
    length = scores.shape[-2]
    longer = F.pad(scores, (1, 0)).flatten(-2)[..., length:]
    return longer.unflatten(-1, (length, 2 * length - 1))[..., :length]
