"""Token ids to vectors, with the mask of real positions.

Id 0 is padding. A row of nothing but padding is an empty (or missing) text: its first position counts as real, so that
vector 0 is learned as "there is no text" and no pooling divides by zero. Anywhere else id 0 is masked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fathom.models.parts.checks import refuse_inputs


class TokenEmbedding(nn.Module):
    """Ids int64 [B, T] → vectors [B, T, width] and the mask [B, T] of real positions.

    `drop_tokens` is the share of tokens whose vector is zeroed in training (Iyyer et al. 2015, P15-1162, section 3.3);
    the first, [CLS], is always kept.
    """

    def __init__(self, vocabulary: int, width: int, *, drop_tokens: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.vectors = nn.Embedding(vocabulary, width)
        # Small vectors: a step of AdamW has the size of the learning rate, so large ones would hardly turn.
        nn.init.normal_(self.vectors.weight, std=0.02)
        self.drop_tokens = drop_tokens
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        inside = real(tokens)
        x = self.dropout(self.vectors(tokens))
        if self.training and self.drop_tokens:
            kept = torch.rand(tokens.shape, device=tokens.device) >= self.drop_tokens
            kept[:, 0] = True
            x = x * kept.unsqueeze(-1)
        return x, inside


def real(tokens: Tensor) -> Tensor:
    """Where ids [B, T] are not padding: bool [B, T]. In a row of nothing else the first position counts.

    >>> real(torch.tensor([[0, 5], [5, 0], [0, 0]])).tolist()
    [[False, True], [True, False], [True, False]]
    """
    told = tokens != 0
    first = torch.arange(tokens.shape[1], device=tokens.device) == 0
    return told | (first & ~told.any(dim=1, keepdim=True))


def is_one_text(inputs: dict[str, dict[str, Any]]) -> bool:
    return [about["form"] for about in inputs.values()] == ["tokens"]


def vocabulary_of(inputs: dict[str, dict[str, Any]], whose: str) -> int:
    """Size of the vocabulary of the only input. Raises UserError where that is not one text."""
    if not is_one_text(inputs):
        refuse_inputs(whose, "one text", inputs)
    (about,) = inputs.values()
    return int(about["vocabulary"])
