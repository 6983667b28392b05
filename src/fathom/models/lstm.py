"""A bidirectional LSTM or GRU for one text: classes or numbers from its tokens.

What a reader would get wrong: there is no packed sequence here. Texts are padded on the right, so a forward net never
sees padding before a real token; the backward net reads each text reversed within its own length. That equals packing,
uses the fast kernels for whole tensors and can be exported.

Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.pooling import masked_max, masked_mean
from fathom.models.parts.tokens import TokenEmbedding, check_shares, check_sizes, is_one_text, vocabulary_of
from fathom.rooms import nearest

USE = "texts"
SOURCE = "Hochreiter & Schmidhuber 1997; both ways: Graves & Schmidhuber 2005; GRU: Cho et al. 2014, arXiv:1406.1078"
CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_one_text(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    cell: str = "lstm",
    width: int = 64,
    depth: int = 1,
    dropout: float = 0.5,
    drop_tokens: float = 0.2,
) -> nn.Module:
    """A network from token ids int64 [B, T] to [B, outputs].

    `width` is the size of the state in each direction, `depth` the number of layers. Raises UserError on inputs that
    are not one text and on options out of range.
    """
    vocabulary = vocabulary_of(inputs, "lstm")
    check_sizes(width=width, depth=depth)
    check_shares(dropout=dropout, drop_tokens=drop_tokens)
    if cell not in CELLS:
        raise UserError(f"model.cell={cell} is no recurrent cell. {nearest(cell, CELLS)}")
    return Recurrent(vocabulary, outputs, CELLS[cell], width, depth, dropout, drop_tokens)


class Recurrent(nn.Module):
    """Vectors of the tokens, layers in both directions, the maximum and the mean over positions, a linear head."""

    def __init__(
        self,
        vocabulary: int,
        outputs: int,
        cell: Callable[..., nn.RNNBase],
        width: int,
        depth: int,
        dropout: float,
        drop_tokens: float,
    ) -> None:
        super().__init__()
        self.embed = TokenEmbedding(vocabulary, 2 * width, drop_tokens=drop_tokens, dropout=dropout)
        self.layers = nn.ModuleList(BothWays(cell, 2 * width, width) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        x, inside = self.embed(tokens)
        for layer in self.layers:
            x = layer(self.dropout(x), inside)
        pooled = torch.cat([masked_max(x, inside), masked_mean(x, inside)], dim=1)
        return self.head(self.dropout(pooled))


class BothWays(nn.Module):
    """One recurrent layer read from left to right and one from right to left: [B, T, in] → [B, T, 2 width]."""

    def __init__(self, cell: Callable[..., nn.RNNBase], width_in: int, width: int) -> None:
        super().__init__()
        self.forwards = cell(width_in, width, batch_first=True)
        self.backwards = cell(width_in, width, batch_first=True)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        to_right, _ = self.forwards(x)
        to_left, _ = self.backwards(reversed_inside(x, inside))
        return torch.cat([to_right, reversed_inside(to_left, inside)], dim=-1)


def reversed_inside(x: Tensor, inside: Tensor) -> Tensor:
    """Each row's real positions in reverse order, its padding where it was: [B, T, width] → [B, T, width]."""
    place = torch.arange(x.shape[1], device=x.device)
    last = inside.sum(dim=1, keepdim=True) - 1
    source = torch.where(inside, last - place, place)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
