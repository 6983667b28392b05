"""A decoder whose blocks remember: vectors of tokens, blocks, a norm, the head. Mamba, Mamba-2 and Jamba are such.

What a reader would get wrong: there are no positions. A recurrence knows the order by itself, and Jamba's few attention
layers (arXiv:2403.19887, section 6.5) get it from the layers before them.

Shapes: B rows, T positions.

    >>> decoder = StateDecoder({"form": "stream", "vocabulary": 50}, 50, 8, [], norm_eps=1e-5, tied=True)
    >>> decoder(torch.randint(50, (2, 9))).shape
    torch.Size([2, 9, 50])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fathom.models.parts.cache import Cache
from fathom.models.parts.checks import check_positive
from fathom.models.parts.language import RESIDUAL, inside_of
from fathom.models.parts.language_head import LanguageHead
from fathom.models.parts.norm import RMSNorm
from fathom.models.parts.state_space import recall, remember


class StateDecoder(nn.Module):
    """Ids [B, T] → [B, T, outputs] for a "stream", [B, outputs] for "tokens", states where `outputs` is None.

    A block takes x [B, T, width], the mask of all positions so far and the cache, and gives x. Raises UserError unless
    `norm_eps` is above 0.
    """

    def __init__(
        self,
        about: dict[str, Any],
        outputs: int | None,
        width: int,
        blocks: Sequence[nn.Module],
        *,
        norm_eps: float,
        tied: bool,
    ) -> None:
        super().__init__()
        check_positive(norm_eps=norm_eps)
        self.about = about
        each = about["form"] == "stream"
        self.embed = nn.Embedding(about["vocabulary"], width)
        self.blocks = nn.ModuleList(blocks)
        self.norm = RMSNorm(width, eps=norm_eps)
        tied = tied and each and outputs == about["vocabulary"]
        self.head = LanguageHead(width, outputs, each=each, tied=tied)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens: Tensor, inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Answers for ids [B, T]. `inside` [B, T] is True for real positions; a `cache` holds what came before."""
        inside = inside_of(tokens, inside, self.about)
        return self.head(self.hidden(tokens, inside, cache), inside, self.embed.weight)

    def hidden(self, tokens: Tensor, inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """The states after the last norm: [B, T] → [B, T, width]."""
        inside = inside_of(tokens, inside, self.about)
        if cache is not None:
            inside = cache.note(inside, tokens)
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, inside, cache)
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.norm(x)


class MixerBlock(nn.Module):
    """x + mixer(norm(x)): [B, T, width] → [B, T, width]. The mixer also gives what it remembers, see state_space.py."""

    def __init__(self, mixer: nn.Module, width: int, layer: int, *, norm_eps: float) -> None:
        super().__init__()
        self.layer = layer
        self.norm = RMSNorm(width, eps=norm_eps)
        self.mixer = mixer

    def forward(self, x: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        mixed, state = self.mixer(self.norm(x), inside, recall(cache, self.layer))
        remember(cache, self.layer, state)
        return x + mixed


@torch.no_grad()
def shrink_residual(blocks: Sequence[nn.Module], branches: int) -> None:
    """Divide the last matrix of each branch by sqrt(branches · blocks), so that their sum does not grow with the depth.

    GPT-2, section 2.3; Mamba's code does the same, with its one branch a block.
    """
    for block in blocks:
        for name, parameter in block.named_parameters():
            if name.endswith(RESIDUAL):
                parameter.div_(math.sqrt(branches * len(blocks)))
