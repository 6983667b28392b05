"""From the states of a sequence to the answers that are asked for.

An input of the form "tokens" asks for one answer a row, a "stream" for one at each position.
"""

from __future__ import annotations

from torch import Tensor, nn

from fathom.models.parts.pooling import masked_mean


class SequenceHead(nn.Module):
    """States [B, T, width] → [B, outputs] from their mean over real positions, or [B, T, outputs] with `each`."""

    def __init__(self, width: int, outputs: int, *, each: bool, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.each = each
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, outputs, bias=bias)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        return self.project(self.dropout(x if self.each else masked_mean(x, inside)))
