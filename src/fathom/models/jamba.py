"""Jamba: mostly Mamba layers, attention once in a while, and a mixture of experts in every second perceptron.

Lieber et al. 2024, arXiv:2403.19887, section 2 and figure 2. Of 8 layers one is attention, so the keys and values kept
for a long text are an eighth of a Transformer's. What a reader would get wrong: the shares of the chosen experts are
not divided by their sum, as Mixtral's are, so they add up to less than 1. And there are no positions at all: the Mamba
layer in front tells attention the order (section 6.5).

A "stream" gets an answer at each position, "tokens" one a row, from the last real position. `depth` is the dial: a
width of 32 for each layer; periods shrink to the depth where there are fewer layers, so that each kind is there. A
single layer is Mamba: attention alone would not know the order.

    >>> import torch
    >>> text = {"form": "stream", "vocabulary": 50, "length": 16}
    >>> model = build({"text": text}, 50, depth=2)
    >>> model(torch.randint(50, (2, 9))).shape
    torch.Size([2, 9, 50])

Shapes: B rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.attention import attend, check_heads, heads_for
from fathom.models.parts.cache import Cache
from fathom.models.parts.checks import check_divisor, check_shares, check_sizes
from fathom.models.parts.gated import GatedPerceptron
from fathom.models.parts.language import (
    check_headless,
    is_language,
    language_of,
    named_size,
)
from fathom.models.parts.moe import MixtureOfExperts
from fathom.models.parts.norm import RMSNorm
from fathom.models.parts.selective import Measures, SelectiveMixer
from fathom.models.parts.state_decoder import StateDecoder, shrink_residual
from fathom.models.parts.state_space import recall, remember

USE = "texts"
SOURCE = "Lieber et al. 2024, arXiv:2403.19887; sizes of Jamba 1.5: arXiv:2408.12570"
WIDTH_EACH = 32  # of the width, for each layer
HEAD_WIDTH = 64
PERIODS = {"attention": 8, "experts": 2}  # section 3.1: one layer in 8 is attention, one perceptron in 2 is a mixture
SIZES: dict[str, dict[str, int]] = {
    "52b": {"depth": 32, "width": 4096, "heads": 32, "key_heads": 8, "hidden": 14336, "experts": 16},
    "398b": {"depth": 72, "width": 8192, "heads": 64, "key_heads": 8, "hidden": 24576, "experts": 16},
}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_language(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    return {"text": {"form": "stream", "vocabulary": 65536, "length": 2048}}, 65536


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    depth: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    key_heads: int | None = None,
    hidden: int | None = None,
    attention_period: int | None = None,
    attention_offset: int | None = None,
    experts: int | None = None,
    experts_used: int = 2,
    expert_period: int | None = None,
    expert_offset: int | None = None,
    balance: float = 0.001,
    state: int = 16,
    expand: int = 2,
    kernel: int = 4,
    step_rank: int | None = None,
    bias: bool = False,
    conv_bias: bool = True,
    norm_eps: float = 1e-6,
    tied: bool = False,
    head: bool = True,
    drop_attention: float = 0.0,
) -> nn.Module:
    """A network from token ids int64 [B, T] to [B, T, outputs] ("stream") or [B, outputs] ("tokens").

    `size` is a published one ("52b"); options given beside it count more. Layer i is attention where i leaves the
    remainder `attention_offset` by `attention_period`, and has `experts` (below 2 for none) where it leaves
    `expert_offset` by `expert_period`. `balance` weighs the loss for even loads, see parts/moe.py; the options from
    `state` to `conv_bias` are those of mamba. `head=False` answers with the states themselves. Raises UserError on
    inputs that are not one text and on options out of range.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    about = language_of(inputs, "jamba")
    layout = layout_of({**named_size(size, SIZES), **{n: v for n, v in given.items() if n in Layout.__annotations__}})
    measures = Measures(layout.width, expand, state, kernel, step_rank, bias, conv_bias, norm_eps)
    if not head:
        check_headless(outputs, layout.width)
    blocks = [Block(layout, measures, layer) for layer in range(layout.depth)]
    shrink_residual(blocks, branches=2)
    return StateDecoder(about, outputs if head else None, layout.width, blocks, norm_eps=norm_eps, tied=tied)


@dataclass(frozen=True)
class Layout:
    """The settings of the layers, as `build` takes them."""

    depth: int
    width: int
    heads: int
    key_heads: int
    hidden: int
    attention_period: int
    attention_offset: int
    expert_period: int
    expert_offset: int
    experts: int
    experts_used: int
    balance: float
    norm_eps: float
    drop_attention: float

    def __post_init__(self) -> None:
        check_sizes(depth=self.depth, width=self.width, heads=self.heads, key_heads=self.key_heads, hidden=self.hidden)
        check_shares(drop_attention=self.drop_attention)
        check_heads(self.width, self.heads)
        check_divisor(self.heads, f"the {self.heads} heads", key_heads=self.key_heads)
        for kind in ("attention", "expert"):
            period, offset = getattr(self, f"{kind}_period"), getattr(self, f"{kind}_offset")
            check_sizes(**{f"{kind}_period": period})
            if not 0 <= offset < period:
                raise UserError(f"model.{kind}_offset={offset}: expected from 0 to below model.{kind}_period={period}.")

    def is_attention(self, layer: int) -> bool:
        return layer % self.attention_period == self.attention_offset

    def has_experts(self, layer: int) -> bool:
        return self.experts > 1 and layer % self.expert_period == self.expert_offset

    def norm(self) -> RMSNorm:
        return RMSNorm(self.width, eps=self.norm_eps)


def layout_of(options: dict[str, Any]) -> Layout:
    """The options with what follows from others. Raises UserError on sizes that do not fit each other."""
    depth = options.setdefault("depth", 2)
    width = options.setdefault("width", WIDTH_EACH * depth)
    check_sizes(depth=depth, width=width)
    heads = options.setdefault("heads", heads_for(width, HEAD_WIDTH))
    attention, experts = min(PERIODS["attention"], max(2, depth)), min(PERIODS["experts"], depth)
    attention = options.setdefault("attention_period", attention)
    experts = options.setdefault("expert_period", experts)
    # The published offsets are half the period, too: 4 of 8 and 1 of 2.
    derived = {"attention_offset": attention // 2, "expert_offset": experts // 2}
    return Layout(**{"key_heads": heads, "hidden": 7 * width // 2, "experts": 4, **derived, **options})


class Block(nn.Module):
    """x + mixer(norm(x)), then x + perceptron(norm(x)): [B, T, width] → [B, T, width]."""

    def __init__(self, layout: Layout, measures: Measures, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.mixer_norm = layout.norm()
        self.mixer = Attention(layout, layer) if layout.is_attention(layer) else SelectiveMixer(measures)
        self.perceptron_norm = layout.norm()
        self.perceptron = _perceptron(layout, layer)

    def forward(self, x: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        x = x + self._mix(self.mixer_norm(x), inside, cache)
        return x + self._think(self.perceptron_norm(x), inside)

    def _mix(self, x: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        if isinstance(self.mixer, Attention):
            return self.mixer(x, inside, cache)
        mixed, state = self.mixer(x, inside, recall(cache, self.layer))
        remember(cache, self.layer, state)
        return mixed

    def _think(self, x: Tensor, inside: Tensor | None) -> Tensor:
        if isinstance(self.perceptron, GatedPerceptron):
            return self.perceptron(x)
        return self.perceptron(x, None if inside is None else inside[:, inside.shape[1] - x.shape[1] :])


def _perceptron(layout: Layout, layer: int) -> GatedPerceptron | MixtureOfExperts:
    if not layout.has_experts(layer):
        return GatedPerceptron(layout.width, layout.hidden)
    return MixtureOfExperts(
        layout.width,
        layout.hidden,
        experts=layout.experts,
        used=layout.experts_used,
        balance=layout.balance,
        divided=False,
    )


class Attention(nn.Module):
    """Each position to itself and those before it, without positions: [B, T, width] → [B, T, width]."""

    def __init__(self, layout: Layout, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_width = layout.width // layout.heads
        self.dropout = layout.drop_attention
        self.query = nn.Linear(layout.width, layout.width, bias=False)
        self.key = nn.Linear(layout.width, layout.key_heads * self.head_width, bias=False)
        self.value = nn.Linear(layout.width, layout.key_heads * self.head_width, bias=False)
        self.project_out = nn.Linear(layout.width, layout.width, bias=False)

    def forward(self, x: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        query, key, value = (
            project(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, inside=inside, causal=True, dropout=dropout)
        return self.project_out(mixed.transpose(1, 2).flatten(2))
