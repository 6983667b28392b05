"""GPT-2: a Transformer decoder with learned positions, norms in front of each branch and its own embedding as output.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3. What a reader would get wrong:
positions are counted over real tokens only, so a text padded on the left gets the answers that it gets alone, and
there is no position after `length`.

A "stream" gets an answer at each position, through the embedding's own matrix where there are as many outputs as
tokens; "tokens" get one answer a row, from the last real position through a matrix of its own. `depth` is the dial: a
width of 64 for each block, heads of 64. The small setting of nanoGPT for a processor is depth=4, width=128, heads=4 on
texts of length 64. `bias=False` is nanoGPT's too; GPT-2 has biases everywhere but in the head.

    >>> text = {"form": "stream", "vocabulary": 50, "length": 16}
    >>> model = build({"text": text}, 50, depth=1)
    >>> model(torch.randint(50, (2, 9))).shape
    torch.Size([2, 9, 50])

Shapes: B rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.activations import activation
from fathom.models.parts.attention import attend, check_heads, heads_for
from fathom.models.parts.cache import Cache
from fathom.models.parts.checks import check_positive, check_shares, check_sizes
from fathom.models.parts.language import (
    check_headless,
    depth_and_width,
    initialise,
    inside_of,
    is_language,
    language_of,
)
from fathom.models.parts.language_head import LanguageHead

USE = "texts"
SOURCE = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3"
HEAD_WIDTH = 64
SIZES: dict[str, dict[str, int]] = {
    "gpt2": {"depth": 12, "width": 768},
    "gpt2-medium": {"depth": 24, "width": 1024},
    "gpt2-large": {"depth": 36, "width": 1280},
    "gpt2-xl": {"depth": 48, "width": 1600},
}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_language(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    return {"text": {"form": "stream", "vocabulary": 50257, "length": 1024}}, 50257


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    depth: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    hidden: int | None = None,
    activation: str = "gelu_tanh",
    norm_eps: float = 1e-5,
    bias: bool = True,
    tied: bool = True,
    head: bool = True,
    scale_by_layer: bool = False,
    dropout: float = 0.1,
    drop_embedding: float = 0.1,
    drop_attention: float = 0.1,
) -> nn.Module:
    """A network from token ids int64 [B, T] to [B, T, outputs] ("stream") or [B, outputs] ("tokens").

    `size` is a published one ("gpt2-medium"); options given beside it count more. `hidden` is the width inside the
    perceptron, 4 · width if left out. `tied` has an effect where a stream's outputs are the vocabulary. `head=False`
    answers with the states themselves. `scale_by_layer` divides the scores of block i by i + 1, as some later
    trainings of GPT-2 do. Raises UserError on inputs that are not one text and on options out of range.
    """
    about = language_of(inputs, "gpt2")
    depth, width = depth_and_width(size, SIZES, depth=depth, width=width, width_each=HEAD_WIDTH)
    heads = heads_for(width, HEAD_WIDTH) if heads is None else heads
    hidden = 4 * width if hidden is None else hidden
    check_sizes(heads=heads, hidden=hidden)
    check_shares(dropout=dropout, drop_embedding=drop_embedding, drop_attention=drop_attention)
    check_positive(norm_eps=norm_eps)
    check_heads(width, heads)
    if not head:
        check_headless(outputs, width)
    layout = Layout(
        depth=depth,
        width=width,
        heads=heads,
        hidden=hidden,
        activation=activation,
        norm_eps=norm_eps,
        bias=bias,
        scale_by_layer=scale_by_layer,
        dropout=dropout,
        drop_embedding=drop_embedding,
        drop_attention=drop_attention,
    )
    tied = tied and about["form"] == "stream" and outputs == about["vocabulary"]
    return GPT2(about, outputs if head else None, layout, tied=tied)


@dataclass(frozen=True)
class Layout:
    depth: int
    width: int
    heads: int
    hidden: int
    activation: str
    norm_eps: float
    bias: bool
    scale_by_layer: bool
    dropout: float
    drop_embedding: float
    drop_attention: float

    def norm(self) -> nn.LayerNorm:
        return nn.LayerNorm(self.width, eps=self.norm_eps, bias=self.bias)


class GPT2(nn.Module):
    """Vectors of tokens and of positions, blocks, a norm, the head."""

    def __init__(self, about: dict[str, Any], outputs: int | None, layout: Layout, *, tied: bool) -> None:
        super().__init__()
        self.about = about
        self.length = int(about["length"])
        self.embed = nn.Embedding(about["vocabulary"], layout.width)
        self.positions = nn.Embedding(self.length, layout.width)
        self.dropout = nn.Dropout(layout.drop_embedding)
        self.blocks = nn.ModuleList(Block(layout, layer) for layer in range(layout.depth))
        self.norm = layout.norm()
        self.head = LanguageHead(layout.width, outputs, each=about["form"] == "stream", tied=tied)
        initialise(self, layout.depth)

    def forward(self, tokens: Tensor, inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Answers for ids [B, T]. `inside` [B, T] is True for real positions; a `cache` holds what was read before."""
        inside = inside_of(tokens, inside, self.about)
        return self.head(self.hidden(tokens, inside, cache), inside, self.embed.weight)

    def hidden(self, tokens: Tensor, inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """The states after the last norm: [B, T] → [B, T, width]."""
        inside = inside_of(tokens, inside, self.about)
        if cache is not None:
            inside = cache.note(inside, tokens)
        x = self.embed(tokens) + self.positions(self._places(tokens, inside, cache))
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, inside, cache)
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.norm(x)

    def _places(self, tokens: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        """The number of each position, [T] or [B, T]. There may be more padding than positions, but no longer text."""
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        if end > self.length and not torch.compiler.is_compiling():  # what is traced for export cannot look
            longest = end if inside is None else int(inside.sum(dim=1).max())
            if longest > self.length:
                told = f"gpt2 was made for texts of {self.length} tokens at most; found {longest}. Give it fewer."
                raise UserError(told)
        if inside is None:
            return torch.arange(start, end, device=tokens.device)
        return (inside.cumsum(dim=1) - 1).clamp(min=0)[:, start:]


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): [B, T, width] → [B, T, width]."""

    def __init__(self, layout: Layout, layer: int) -> None:
        super().__init__()
        self.attention_norm = layout.norm()
        self.attention = Attention(layout, layer)
        self.perceptron_norm = layout.norm()
        self.perceptron = Perceptron(layout)
        self.dropout = nn.Dropout(layout.dropout)

    def forward(self, x: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), inside, cache))
        return x + self.dropout(self.perceptron(self.perceptron_norm(x)))


class Attention(nn.Module):
    """Each position to itself and those before it: [B, T, width] → [B, T, width]."""

    def __init__(self, layout: Layout, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = layout.heads
        self.scale = (layout.width // layout.heads) ** -0.5 / (layer + 1 if layout.scale_by_layer else 1)
        self.dropout = layout.drop_attention
        self.project_in = nn.Linear(layout.width, 3 * layout.width, bias=layout.bias)
        self.project_out = nn.Linear(layout.width, layout.width, bias=layout.bias)

    def forward(self, x: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        query, key, value = self.project_in(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, inside=inside, causal=True, scale=self.scale, dropout=dropout)
        return self.project_out(mixed.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two layers: [B, T, width] → [B, T, width]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.activation = activation(layout.activation)
        self.expand = nn.Linear(layout.width, layout.hidden, bias=layout.bias)
        self.contract = nn.Linear(layout.hidden, layout.width, bias=layout.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(self.activation(self.expand(x)))
