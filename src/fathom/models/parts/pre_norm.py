"""Transformer blocks with the normalisation in front of each branch, as ViT and CLIP have them.

Vaswani et al. 2017, arXiv:1706.03762, with the norms moved as in Xiong et al. 2020, arXiv:2002.04745. What a reader
would get wrong: the last block's sum is not normalised here; whoever stacks the blocks adds a norm after them.

Shapes: B rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fathom.models.parts.activations import activation
from fathom.models.parts.attention import attend, check_heads, heads_for
from fathom.models.parts.checks import check_positive, check_shares, check_sizes
from fathom.models.parts.stochastic_depth import StochasticDepth, rising_shares

HEAD_WIDTH = 32  # of the heads whose number nobody named
WIDENING = 4  # the hidden layer of a block, as a multiple of the width


@dataclass(frozen=True)
class Tower:
    """Measures of a stack of blocks. Left out (None), heads and the hidden layer follow from the width.

    `named` stands before the options' names in errors. Raises UserError on measures that make no network.
    """

    width: int
    depth: int
    heads: int | None = None
    hidden: int | None = None
    activation: str = "gelu"
    norm_eps: float = 1e-6
    dropout: float = 0.0
    drop_attention: float = 0.0
    drop_path: float = 0.0
    named: str = ""

    def __post_init__(self) -> None:
        check_sizes(**{f"{self.named}width": self.width, f"{self.named}depth": self.depth})
        check_sizes(**{f"{self.named}{n}": v for n in ("heads", "hidden") if (v := getattr(self, n)) is not None})
        check_shares(dropout=self.dropout, drop_attention=self.drop_attention, drop_path=self.drop_path)
        check_positive(norm_eps=self.norm_eps)
        check_heads(self.width, self.num_heads, option=f"{self.named}heads")

    @property
    def num_heads(self) -> int:
        return self.heads if self.heads is not None else heads_for(self.width, HEAD_WIDTH)

    @property
    def num_hidden(self) -> int:
        return self.hidden if self.hidden is not None else WIDENING * self.width

    def blocks(self) -> nn.ModuleList:
        shares = rising_shares(self.drop_path, self.depth)
        return nn.ModuleList(PreNormBlock(self, drop_path=share) for share in shares)

    def norm(self) -> nn.LayerNorm:
        return nn.LayerNorm(self.width, eps=self.norm_eps)


def tower(
    published: tuple[int, int, int | None],
    *,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    **others: Any,
) -> Tower:
    """Published width, depth and heads with what was given in their place.

    The published heads go with the published width: at another, they are derived.

    >>> [tower((768, 12, 12), width=width).num_heads for width in (None, 768, 64)]
    [12, 12, 2]
    """
    if heads is None and width in (None, published[0]):
        heads = published[2]
    width = published[0] if width is None else width
    return Tower(width=width, depth=published[1] if depth is None else depth, heads=heads, **others)


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): [B, T, width] → [B, T, width].

    >>> import torch
    >>> PreNormBlock(Tower(width=8, depth=1, heads=2))(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, tower: Tower, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = tower.norm()
        self.attention = Attention(tower.width, tower.num_heads, dropout=tower.drop_attention)
        self.perceptron_norm = tower.norm()
        self.perceptron = Perceptron(tower.width, tower.num_hidden, tower.activation)
        self.dropout = nn.Dropout(tower.dropout)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor, *, inside: Tensor | None = None, causal: bool = False) -> Tensor:
        """`inside` [B, T] is True for real positions; `causal` hides what comes later."""
        mixed = self.attention(self.attention_norm(x), inside=inside, causal=causal)
        x = x + self.drop_path(self.dropout(mixed))
        return x + self.drop_path(self.dropout(self.perceptron(self.perceptron_norm(x))))


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself, all four matrices with biases: [B, T, width] → [B, T, width]."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor, *, inside: Tensor | None = None, causal: bool = False) -> Tensor:
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, inside=inside, causal=causal, dropout=dropout)
        return self.project_out(mixed.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two layers with the activation of that name between them: [.., width] → [.., width]."""

    def __init__(self, width: int, hidden: int, activation_name: str) -> None:
        super().__init__()
        self.activation = activation(activation_name)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(self.activation(self.expand(x)))
