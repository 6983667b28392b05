"""BERT: a Transformer encoder that reads a text from both sides. DistilBERT and MiniLM are settings of it.

Devlin et al. 2019, arXiv:1810.04805, section 3. "tokens" get one answer a row, from the first position by way of the
pooler; a "stream" gets one at each position: where there are as many outputs as tokens through the embedding's own
matrix (the masked language model of section 3.1), else through a linear layer. With `head=False` the answers are what
the head would see: the pooled vector of a row, the states of a stream. `hidden` gives the states of either.

What a reader would get wrong: the norms stand behind each sum and not before each branch, so there is none at the end;
and the pooler is a trained layer with a tanh, no average. For sentence vectors take the masked mean of `hidden`.

Departures: a linear head starts like all other matrices. Texts are read from position 0 whatever side is padded.

    >>> text = {"form": "tokens", "vocabulary": 50, "length": 16}
    >>> model = build({"review": text}, 3, depth=1)
    >>> model(torch.tensor([[2, 7, 9, 3], [2, 5, 3, 0]])).shape
    torch.Size([2, 3])

Shapes: B rows, T positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts import activations
from fathom.models.parts.checks import check_choice, check_shares
from fathom.models.parts.language import check_headless, inside_of, is_language, language_of, named_size
from fathom.models.parts.pre_norm import Attention, Perceptron, Tower, tower

USE = "texts"
SOURCE = "Devlin et al. 2019, arXiv:1810.04805; DistilBERT: Sanh et al. 2019, arXiv:1910.01108"
POOLERS = ("tanh", "relu", "none")

SMALL: dict[str, Any] = {"tower": (64, 2, None)}  # width, depth, heads
# Section 3 of the paper; Sanh et al. 2019, section 3; the MiniLM of Wang et al. 2020, arXiv:2002.10957, with every
# second of its 12 layers, as sentence models have it.
SIZES: dict[str, dict[str, Any]] = {
    "base": {"tower": (768, 12, 12)},
    "large": {"tower": (1024, 24, 16)},
    "distilbert": {"tower": (768, 6, 12), "segments": 0, "pooler": "none"},
    "minilm-l6": {"tower": (384, 6, 12)},
}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_language(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has the published number of parameters, a head aside."""
    return {"text": {"form": "tokens", "vocabulary": 30522, "length": 512}}, 2


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    depth: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    hidden: int | None = None,
    segments: int | None = None,
    pooler: str | None = None,
    head: bool = True,
    activation: str = "gelu",
    norm_eps: float = 1e-12,
    dropout: float = 0.1,
    drop_attention: float = 0.1,
    drop_head: float | None = None,
) -> Bert:
    """A network from token ids int64 [B, T] to [B, outputs] ("tokens") or [B, T, outputs] ("stream").

    `size` is base, large, distilbert or minilm-l6; left out, a net of 64 channels and 2 blocks. Options given beside it
    count more. `hidden` is the width inside the perceptron, 4 · width if left out. `segments` is how many parts of a
    text can be told apart, 2 if left out and 0 for none. `pooler` is the activation of the layer between the first
    position and a row's answer: tanh, relu (DistilBERT's classifiers), or none for no such layer. `drop_head` is the
    dropout before a linear head, that of all others if left out. Raises UserError on inputs that are not one text and
    on options out of range.
    """
    about = language_of(inputs, "bert")
    found = {"segments": 2, "pooler": "tanh", **SMALL, **named_size(size, SIZES)}
    measures = tower(
        found["tower"],
        width=width,
        depth=depth,
        heads=heads,
        hidden=hidden,
        activation=activation,
        norm_eps=norm_eps,
        dropout=dropout,
        drop_attention=drop_attention,
    )
    segments = found["segments"] if segments is None else segments
    pooler = found["pooler"] if pooler is None else pooler
    drop_head = dropout if drop_head is None else drop_head
    check_shares(drop_head=drop_head)
    if segments < 0:
        raise UserError(f"model.segments={segments}: expected 0 or more, for example model.segments=2.")
    check_choice("pooler", pooler, POOLERS)
    if not head:
        check_headless(outputs, measures.width)
    return Bert(about, outputs if head else None, measures, segments=segments, pooler=pooler, drop_head=drop_head)


class Bert(nn.Module):
    """Vectors of tokens, positions and segments, a norm, blocks, the pooler of a row, the head."""

    def __init__(
        self,
        about: dict[str, Any],
        outputs: int | None,
        measures: Tower,
        *,
        segments: int,
        pooler: str,
        drop_head: float,
    ) -> None:
        super().__init__()
        self.about = about
        self.each = about["form"] == "stream"
        width, vocabulary = measures.width, int(about["vocabulary"])
        self.embed = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(int(about["length"]), width)
        self.segments = nn.Embedding(segments, width) if segments else None
        self.norm = measures.norm()
        self.dropout = nn.Dropout(measures.dropout)
        self.blocks = nn.ModuleList(PostNormBlock(measures) for _ in range(measures.depth))
        self.pooler = None if self.each or pooler == "none" else Pooler(width, pooler)
        self.head: MaskedHead | LinearHead | None = None
        if outputs is not None:
            is_language_model = self.each and outputs == vocabulary
            self.head = MaskedHead(vocabulary, measures) if is_language_model else LinearHead(width, outputs, drop_head)
        self.apply(_start)

    def forward(self, tokens: Tensor, inside: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Answers for ids [B, T]. `inside` is True for real positions; `segments` [B, T] numbers a text's parts."""
        x = self.hidden(tokens, inside, segments) if self.each else self.pooled(tokens, inside, segments)
        if isinstance(self.head, MaskedHead):
            return self.head(x, self.embed.weight)
        return x if self.head is None else self.head(x)

    def hidden(self, tokens: Tensor, inside: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """The states of the last block: [B, T] → [B, T, width]."""
        inside = inside_of(tokens, inside, self.about)
        x = self.embed(tokens) + self.positions(self._places(tokens, inside))
        if self.segments is not None:
            x = x + (self.segments.weight[0] if segments is None else self.segments(segments))
        elif segments is not None:
            raise UserError("This model tells no segments apart. Build it with model.segments=2.")
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x, inside)
        return x

    def pooled(self, tokens: Tensor, inside: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """A vector for each row, from the state of its first position: [B, T] → [B, width]."""
        first = self.hidden(tokens, inside, segments)[:, 0]
        return first if self.pooler is None else self.pooler(first)

    def _places(self, tokens: Tensor, inside: Tensor | None) -> Tensor:
        """The number of each position: [T]. Padding may stand beyond the last one; a text may not."""
        T, length = tokens.shape[1], self.positions.num_embeddings
        # What is traced for export cannot look.
        if length < T and not torch.compiler.is_compiling() and (inside is None or bool(inside[:, length:].any())):
            raise UserError(f"bert was made for texts of {length} tokens at most; found {T}. Cut them there.")
        return torch.arange(T, device=tokens.device).clamp(max=length - 1)


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + perceptron(x)): [B, T, width] → [B, T, width]."""

    def __init__(self, measures: Tower) -> None:
        super().__init__()
        self.attention = Attention(measures.width, measures.num_heads, dropout=measures.drop_attention)
        self.attention_norm = measures.norm()
        self.perceptron = Perceptron(measures.width, measures.num_hidden, measures.activation)
        self.perceptron_norm = measures.norm()
        self.dropout = nn.Dropout(measures.dropout)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x, inside=inside)))
        return self.perceptron_norm(x + self.dropout(self.perceptron(x)))


class Pooler(nn.Module):
    """The state of the first position → a vector for the row: [B, width] → [B, width]."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.activation = activations.activation(activation)

    def forward(self, first: Tensor) -> Tensor:
        return self.activation(self.project(first))


class MaskedHead(nn.Module):
    """Which token stands at each position: [B, T, width] → [B, T, vocabulary], by way of the embedding's own matrix."""

    def __init__(self, vocabulary: int, measures: Tower) -> None:
        super().__init__()
        self.transform = nn.Linear(measures.width, measures.width)
        self.activation = activations.activation(measures.activation)
        self.norm = measures.norm()
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return F.linear(self.norm(self.activation(self.transform(x))), embedding, self.bias)


class LinearHead(nn.Module):
    """Dropout and a linear layer: [.., width] → [.., outputs]."""

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.dropout(x))


def _start(part: nn.Module) -> None:
    """Matrices start as normal numbers of deviation 0.02, cut at two deviations, biases at 0."""
    if isinstance(part, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(part.weight, std=0.02, a=-0.04, b=0.04)
    if isinstance(part, nn.Linear):
        nn.init.zeros_(part.bias)
