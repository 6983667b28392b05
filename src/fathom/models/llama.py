"""Llama and its kin: a decoder with RMSNorm, rotary positions, queries in groups and a gated perceptron.

Touvron et al. 2023, arXiv:2302.13971, section 2.2; Mistral adds grouped queries and a sliding window (arXiv:2310.06825,
section 2), Qwen2 biases of queries, keys and values (arXiv:2407.10671, section 2.2.1), Qwen3 a norm of queries and keys
(arXiv:2505.09388, section 2), Mixtral experts (arXiv:2401.04088, section 2.1). What a reader would get wrong: a window
of w lets a position see w positions, itself counted, and w - 1 before it; through the blocks it still hears of more.

A "stream" gets an answer at each position, "tokens" one a row, from the last real position. `depth` is the dial: a
width of 64 for each block, heads of 64. Departure: the two last matrices of each block start smaller, as GPT-2's do;
the papers do not say how theirs start.

    >>> import torch
    >>> text = {"form": "stream", "vocabulary": 50, "length": 16}
    >>> model = build({"text": text}, 50, depth=2, key_heads=1, window=4)
    >>> model(torch.randint(50, (2, 9))).shape
    torch.Size([2, 9, 50])

Shapes: B rows, T positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.attention import attend, check_heads, heads_for
from fathom.models.parts.cache import Cache
from fathom.models.parts.checks import check_divisor, check_positive, check_shares, check_sizes
from fathom.models.parts.gated import GatedPerceptron
from fathom.models.parts.language import (
    check_headless,
    initialise,
    inside_of,
    is_language,
    language_of,
    named_size,
)
from fathom.models.parts.language_head import LanguageHead
from fathom.models.parts.llama_sizes import SIZES, VOCABULARIES
from fathom.models.parts.moe import MixtureOfExperts
from fathom.models.parts.norm import RMSNorm
from fathom.models.parts.rotary import RopeScaling, rotate, rotation

USE = "texts"
SOURCE = "Touvron et al. 2023, arXiv:2302.13971; Mistral: arXiv:2310.06825; Mixtral: arXiv:2401.04088"
HEAD_WIDTH = 64
Turn = tuple[Tensor, Tensor]  # cosines and sines of the positions' angles


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_language(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    vocabulary = VOCABULARIES[size]
    return {"text": {"form": "stream", "vocabulary": vocabulary, "length": 2048}}, vocabulary


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    depth: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    key_heads: int | None = None,
    head_width: int | None = None,
    hidden: int | None = None,
    activation: str | None = None,
    norm_eps: float | None = None,
    norm_queries: bool | None = None,
    query_bias: bool | None = None,
    output_bias: bool | None = None,
    perceptron_bias: bool | None = None,
    rope_base: float | None = None,
    rope_scaling: str | None = None,
    rope_factor: float | None = None,
    rope_low: float | None = None,
    rope_high: float | None = None,
    rope_length: int | None = None,
    window: int | None = None,
    window_from: int | None = None,
    experts: int | None = None,
    experts_used: int | None = None,
    balance: float | None = None,
    tied: bool | None = None,
    head: bool = True,
    drop_attention: float = 0.0,
) -> nn.Module:
    """A network from token ids int64 [B, T] to [B, T, outputs] ("stream") or [B, outputs] ("tokens").

    `size` is a published one ("smollm2-135m"); options given beside it count more, and what neither says is `Layout`'s.
    `head=False` answers with the states themselves. Raises UserError on inputs that are not one text and on options
    out of range.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    about = language_of(inputs, "llama")
    layout = layout_of({**named_size(size, SIZES), **{n: v for n, v in given.items() if n in Layout.__annotations__}})
    if not head:
        check_headless(outputs, layout.width)
    return Llama(about, outputs if head else None, layout)


@dataclass(frozen=True)
class Layout:
    """The settings of a model, as `build` takes them. The first six follow from the depth where they are left out."""

    depth: int
    width: int
    heads: int
    key_heads: int  # each of which serves as many queries: Ainslie et al. 2023, arXiv:2305.13245
    head_width: int
    hidden: int  # the width inside the perceptron
    activation: str = "silu"
    norm_eps: float = 1e-6
    norm_queries: bool = False  # a norm over each head of queries and keys, before they are turned
    query_bias: bool = False  # of queries, keys and values
    output_bias: bool = False  # of the attention's last matrix
    perceptron_bias: bool = False
    rope_base: float = 10_000.0
    rope_scaling: str = "none"  # this and the next four: see rotary.RopeScaling
    rope_factor: float = 8.0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_length: int = 8192
    window: int = 0  # how many positions each sees, itself counted; 0 for all
    window_from: int = 0  # blocks before this one have no window
    experts: int = 0  # 0 for one perceptron
    experts_used: int = 2  # by each position
    balance: float = 0.01  # weight of the loss for even loads, see moe.py
    tied: bool = True  # a stream's answers through the embedding, where there are as many as tokens
    drop_attention: float = 0.0

    @property
    def scaling(self) -> RopeScaling:
        return RopeScaling(self.rope_scaling, self.rope_factor, self.rope_low, self.rope_high, self.rope_length)

    def norm(self, width: int | None = None) -> RMSNorm:
        return RMSNorm(width or self.width, eps=self.norm_eps)

    def window_of(self, layer: int) -> int | None:
        return self.window if self.window and layer >= self.window_from else None


def layout_of(options: dict[str, Any]) -> Layout:
    """The options with what follows from others. Raises UserError on sizes that do not fit each other."""
    depth = options.setdefault("depth", 2)
    width = options.setdefault("width", HEAD_WIDTH * depth)
    check_sizes(depth=depth, width=width)
    heads = options.setdefault("heads", heads_for(width, HEAD_WIDTH))
    check_sizes(heads=heads)
    if "head_width" not in options:
        check_heads(width, heads)
    layout = Layout(
        **{
            "key_heads": heads,
            "head_width": width // heads,
            # Section 2.2: two thirds of the usual 4 · width, as there are three matrices. Rounded up for the machine.
            "hidden": 64 * math.ceil(8 * width / 3 / 64),
            **options,
        }
    )
    check_sizes(key_heads=layout.key_heads, head_width=layout.head_width, hidden=layout.hidden)
    check_shares(drop_attention=layout.drop_attention)
    check_positive(norm_eps=layout.norm_eps, rope_base=layout.rope_base)
    check_divisor(heads, f"the {heads} heads", key_heads=layout.key_heads)
    if layout.head_width % 2:
        raise UserError(
            f"model.head_width={layout.head_width}: expected an even number, since rotation turns pairs. "
            f"Type model.head_width={layout.head_width + 1}."
        )
    for name in ("window", "window_from", "experts"):
        if getattr(layout, name) < 0:
            raise UserError(f"model.{name}={getattr(layout, name)}: expected 0 or more. Leave it out, or type 0.")
    _ = layout.scaling  # which refuses what makes no frequencies
    return layout


class Llama(nn.Module):
    """Vectors of tokens, blocks, a norm, the head."""

    def __init__(self, about: dict[str, Any], outputs: int | None, layout: Layout) -> None:
        super().__init__()
        self.about = about
        self.layout = layout
        each = about["form"] == "stream"
        self.embed = nn.Embedding(about["vocabulary"], layout.width)
        self.blocks = nn.ModuleList(Block(layout, layer) for layer in range(layout.depth))
        self.norm = layout.norm()
        tied = layout.tied and each and outputs == about["vocabulary"]
        self.head = LanguageHead(layout.width, outputs, each=each, tied=tied)
        initialise(self, layout.depth)

    def forward(self, tokens: Tensor, inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Answers for ids [B, T]. `inside` [B, T] is True for real positions; a `cache` holds what was read before."""
        inside = inside_of(tokens, inside, self.about)
        return self.head(self.hidden(tokens, inside, cache), inside, self.embed.weight)

    def hidden(self, tokens: Tensor, inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """The states after the last norm: [B, T] → [B, T, width]."""
        inside = inside_of(tokens, inside, self.about)
        start = 0
        if cache is not None:
            start, inside = cache.length, cache.note(inside, tokens)
        x = self.embed(tokens)
        # Padding on the left counts as positions too: only how far two stand apart matters.
        turn = rotation(
            tokens.shape[1],
            self.layout.head_width,
            tokens.device,
            base=self.layout.rope_base,
            start=start,
            scaling=self.layout.scaling,
        )
        for block in self.blocks:
            x = block(x, turn, inside, cache)
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.norm(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): [B, T, width] → [B, T, width]."""

    def __init__(self, layout: Layout, layer: int) -> None:
        super().__init__()
        self.attention_norm = layout.norm()
        self.attention = Attention(layout, layer)
        self.perceptron_norm = layout.norm()
        self.perceptron = _perceptron(layout)

    def forward(self, x: Tensor, turn: Turn, inside: Tensor | None, cache: Cache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), turn, inside, cache)
        normed = self.perceptron_norm(x)
        if isinstance(self.perceptron, MixtureOfExperts):
            return x + self.perceptron(normed, None if inside is None else inside[:, -x.shape[1] :])
        return x + self.perceptron(normed)


def _perceptron(layout: Layout) -> GatedPerceptron | MixtureOfExperts:
    if not layout.experts:
        bias, name = layout.perceptron_bias, layout.activation
        return GatedPerceptron(layout.width, layout.hidden, activation_name=name, bias=bias)
    return MixtureOfExperts(
        layout.width,
        layout.hidden,
        experts=layout.experts,
        used=layout.experts_used,
        balance=layout.balance,
        activation_name=layout.activation,
        bias=layout.perceptron_bias,
    )


class Attention(nn.Module):
    """Each position to itself and those before it, as far as the window goes: [B, T, width] → [B, T, width]."""

    def __init__(self, layout: Layout, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.window = layout.window_of(layer)
        self.head_width = layout.head_width
        self.dropout = layout.drop_attention
        queries, keys = layout.heads * layout.head_width, layout.key_heads * layout.head_width
        self.query = nn.Linear(layout.width, queries, bias=layout.query_bias)
        self.key = nn.Linear(layout.width, keys, bias=layout.query_bias)
        self.value = nn.Linear(layout.width, keys, bias=layout.query_bias)
        self.project_out = nn.Linear(queries, layout.width, bias=layout.output_bias)
        self.query_norm = layout.norm(layout.head_width) if layout.norm_queries else nn.Identity()
        self.key_norm = layout.norm(layout.head_width) if layout.norm_queries else nn.Identity()

    def forward(self, x: Tensor, turn: Turn, inside: Tensor | None, cache: Cache | None) -> Tensor:
        query, key, value = (
            project(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        query, key = rotate(self.query_norm(query), *turn), rotate(self.key_norm(key), *turn)
        if cache is not None:
            key, value = cache.extend(self.layer, key, value, window=self.window)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, inside=inside, causal=True, window=self.window, dropout=dropout)
        return self.project_out(mixed.transpose(1, 2).flatten(2))
