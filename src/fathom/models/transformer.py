"""A Transformer encoder for one text: classes or numbers from its tokens.

Made for nets that start from nothing on thousands of texts, not millions: few layers, much dropout, and a convolution
over neighbouring tokens in front, since so few texts do not teach attention what a phrase is.

Shapes: B rows, T positions.

    >>> model = build({"review": {"form": "tokens", "vocabulary": 50, "length": 12}}, 3)
    >>> model(torch.randint(1, 50, (2, 12))).shape
    torch.Size([2, 3])
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.models.parts.attention import SelfAttention, heads_for
from fathom.models.parts.checks import check_shares, check_sizes
from fathom.models.parts.pooling import masked_max, masked_mean
from fathom.models.parts.tokens import TokenEmbedding, is_one_text, vocabulary_of

USE = "texts"
SOURCE = "Vaswani et al. 2017, arXiv:1706.03762; pre-norm: Xiong et al. 2020, arXiv:2002.04745"
HEAD_WIDTH = 32


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_one_text(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    width: int = 64,
    depth: int = 1,
    dropout: float = 0.5,
    drop_tokens: float = 0.4,
) -> nn.Module:
    """A network from token ids int64 [B, T] to [B, outputs].

    `width` is the length of a token's vector; an odd one is made the next even number, since rotation turns pairs.
    `depth` is the number of attention blocks; heads and the hidden layers follow. Raises UserError on inputs that are
    not one text and on options out of range.
    """
    vocabulary = vocabulary_of(inputs, "transformer")
    check_sizes(width=width, depth=depth)
    check_shares(dropout=dropout, drop_tokens=drop_tokens)
    return Transformer(vocabulary, outputs, width + width % 2, depth, dropout, drop_tokens)


class Transformer(nn.Module):
    """Tokens, phrases, attention blocks, the maximum and the mean over positions, a linear head."""

    def __init__(
        self, vocabulary: int, outputs: int, width: int, depth: int, dropout: float, drop_tokens: float
    ) -> None:
        super().__init__()
        self.embed = TokenEmbedding(vocabulary, width, drop_tokens=drop_tokens, dropout=dropout)
        self.phrases = Phrases(width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        x, inside = self.embed(tokens)
        x = self.phrases(x, inside)
        for block in self.blocks:
            x = block(x, inside)
        x = self.norm(x)
        pooled = torch.cat([masked_max(x, inside), masked_mean(x, inside)], dim=1)
        return self.head(self.dropout(pooled))


class Phrases(nn.Module):
    """x + a convolution over three tokens: [B, T, width] → [B, T, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        # Padding is zeroed: the last token's window reaches into it.
        masked = x * inside.unsqueeze(-1)
        return x + F.gelu(self.conv(masked.transpose(1, 2))).transpose(1, 2)


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): [B, T, width] → [B, T, width]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        # Half of either: rotation turns pairs of channels, so a head's width must be even.
        self.attention = SelfAttention(width, heads_for(width // 2, HEAD_WIDTH // 2))
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), inside))
        return x + self.dropout(self.perceptron(self.perceptron_norm(x)))
