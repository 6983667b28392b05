"""From the states of a decoder to its answers: at each position of a "stream", or one for a row of "tokens".

A decoder's state knows only what stands before it, so a row's one answer comes from its last real position, the only
one that has read everything. What a reader would get wrong: padding may stand on either side, so that position is not
found by counting.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LanguageHead(nn.Module):
    """States [B, T, width] → [B, T, outputs] with `each`, else [B, outputs] from the last real position.

    A `tied` head has no matrix: the embedding's [outputs, width] comes in with the states (Press & Wolf 2017,
    arXiv:1608.05859). It is handed over and not kept, since one matrix under two names could not be saved. With
    `outputs` None the answers are the states themselves.

    >>> head = LanguageHead(8, 50, each=True, tied=True)
    >>> head(torch.randn(2, 5, 8), None, torch.randn(50, 8)).shape
    torch.Size([2, 5, 50])
    """

    def __init__(self, width: int, outputs: int | None, *, each: bool, tied: bool) -> None:
        super().__init__()
        self.each = each
        self.tied = tied and outputs is not None
        self.project = nn.Linear(width, outputs, bias=False) if outputs is not None and not tied else None

    def forward(self, x: Tensor, inside: Tensor | None, embedding: Tensor) -> Tensor:
        if not self.each:
            x = last_real(x, inside)
        if self.tied:
            return F.linear(x, embedding)
        return x if self.project is None else self.project(x)


def last_real(x: Tensor, inside: Tensor | None) -> Tensor:
    """The state at each row's last real position, whatever side is padded: [B, T, width] → [B, width]."""
    if inside is None:
        return x[:, -1]
    last = (inside * torch.arange(x.shape[1], device=x.device)).amax(dim=1)
    return x.gather(1, last[:, None, None].expand(-1, 1, x.shape[-1])).squeeze(1)
