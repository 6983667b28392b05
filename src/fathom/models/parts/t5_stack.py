"""The two halves of T5: an encoder that sees a whole text, a decoder that sees what it wrote and the encoder's states.

Raffel et al. 2020, arXiv:1910.10683, section 2.1: norms without mean or bias before each branch, no biases anywhere,
and one number for each head and each distance of a query from its key, added to the scores. What a reader would get
wrong: these numbers are learned once for a half and used by all of its blocks, and not between the two texts at all;
and scores are not scaled.

Shapes: B rows, T positions of the queries, S of the keys, H heads, D width of a head.

    >>> layout = Layout(2, 1, 16, 2, 8, 32, False, "relu", 1e-6, 32, 128, 0.0)
    >>> states = Encoder(layout)(torch.randn(3, 5, 16), torch.ones(3, 5, dtype=torch.bool))
    >>> Decoder(layout)(torch.randn(3, 4, 16), states, torch.ones(3, 5, dtype=torch.bool)).shape
    torch.Size([3, 4, 16])
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fathom.models.parts.activations import activation
from fathom.models.parts.attention import attend
from fathom.models.parts.cache import Cache
from fathom.models.parts.norm import RMSNorm

SOURCE = "Raffel et al. 2020, arXiv:1910.10683, section 2.1"


@dataclass(frozen=True)
class Layout:
    depth: int
    decoder_depth: int
    width: int
    heads: int
    head_width: int
    hidden: int
    gated: bool
    activation: str
    norm_eps: float
    buckets: int
    distance: int
    dropout: float

    def norm(self) -> RMSNorm:
        return RMSNorm(self.width, eps=self.norm_eps)


class Encoder(nn.Module):
    """Blocks over a whole text: vectors [B, S, width] → normalised states [B, S, width]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.bias = RelativeBias(layout, both_ways=True)
        self.blocks = nn.ModuleList(EncoderBlock(layout) for _ in range(layout.depth))
        self.norm = layout.norm()
        self.dropout = nn.Dropout(layout.dropout)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """`inside` [B, S] is True for real positions; None where all are."""
        bias = self.bias(x.shape[1], x.shape[1])
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, inside, bias)
        return self.dropout(self.norm(x))


class Decoder(nn.Module):
    """Blocks over a text as it is written: vectors [B, T, width] → normalised states [B, T, width]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.bias = RelativeBias(layout, both_ways=False)
        self.blocks = nn.ModuleList(DecoderBlock(layout, layer) for layer in range(layout.decoder_depth))
        self.norm = layout.norm()
        self.dropout = nn.Dropout(layout.dropout)

    def forward(self, x: Tensor, states: Tensor | None, inside: Tensor | None, cache: Cache | None = None) -> Tensor:
        """`states` are the encoder's [B, S, width], not needed where a `cache` has met them; `inside` is their mask."""
        T = x.shape[1]
        bias = self.bias(T, T if cache is None else cache.length + T)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, states, inside, bias, cache)
        if cache is not None:
            cache.length += T
        return self.dropout(self.norm(x))


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): [B, S, width] → [B, S, width]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.attention_norm = layout.norm()
        self.attention = Attention(layout)
        self.perceptron_norm = layout.norm()
        self.perceptron = Perceptron(layout)
        self.dropout = nn.Dropout(layout.dropout)

    def forward(self, x: Tensor, inside: Tensor | None, bias: Tensor) -> Tensor:
        y = self.attention_norm(x)
        x = x + self.dropout(self.attention(y, self.attention.read(y), inside=inside, bias=bias))
        return x + self.dropout(self.perceptron(self.perceptron_norm(x)))


class DecoderBlock(nn.Module):
    """As the encoder's, blind to what comes later, with attention to the encoder's states in between."""

    def __init__(self, layout: Layout, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = layout.norm()
        self.attention = Attention(layout)
        self.cross_norm = layout.norm()
        self.cross = Attention(layout)
        self.perceptron_norm = layout.norm()
        self.perceptron = Perceptron(layout)
        self.dropout = nn.Dropout(layout.dropout)

    def forward(
        self, x: Tensor, states: Tensor | None, inside: Tensor | None, bias: Tensor, cache: Cache | None
    ) -> Tensor:
        y = self.attention_norm(x)
        x = x + self.dropout(self.attention(y, self._written(y, cache), bias=bias, causal=True))
        x = x + self.dropout(self.cross(self.cross_norm(x), self._source(states, cache), inside=inside))
        return x + self.dropout(self.perceptron(self.perceptron_norm(x)))

    def _written(self, y: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """Keys and values of the text so far."""
        key, value = self.attention.read(y)
        return (key, value) if cache is None else cache.extend(self.layer, key, value)

    def _source(self, states: Tensor | None, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's states, computed once for a cache."""
        place = -1 - self.layer  # a cache numbers layers from 0; below there is room for these
        if cache is not None and place in cache.keys:
            return cache.keys[place], cache.values[place]
        assert states is not None, "the first call with a cache needs the encoder's states"
        key, value = self.cross.read(states)
        return (key, value) if cache is None else cache.extend(place, key, value)


class Attention(nn.Module):
    """From [B, T, width] to what `read` found in [B, S, width]: → [B, T, width]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        inner = layout.heads * layout.head_width
        self.heads = layout.heads
        self.dropout = layout.dropout
        self.query = nn.Linear(layout.width, inner, bias=False)
        self.key = nn.Linear(layout.width, inner, bias=False)
        self.value = nn.Linear(layout.width, inner, bias=False)
        self.project_out = nn.Linear(inner, layout.width, bias=False)
        # The paper's code starts the queries smaller, which does the work of the scores' scale.
        for project in (self.key, self.value, self.project_out):
            _start(project)
        nn.init.normal_(self.query.weight, std=(layout.width * layout.head_width) ** -0.5)
        self.rate = layout.head_width**-0.5

    def rates(self) -> list[tuple[Tensor, float]]:
        """Queries start that much smaller: at the rate of other matrices each step would turn them upside down."""
        return [(self.query.weight, self.rate)]

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each [B, H, S, D]."""
        return self._split(self.key(x)), self._split(self.value(x))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        found: tuple[Tensor, Tensor],
        *,
        inside: Tensor | None = None,
        bias: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        mixed = attend(
            self._split(self.query(x)), *found, inside=inside, bias=bias, causal=causal, scale=1.0, dropout=dropout
        )
        return self.project_out(mixed.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """contract(activation(expand(x))), or contract(activation(gate(x)) · expand(x)): [.., width] → [.., width]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.activation = activation(layout.activation)
        self.gate = nn.Linear(layout.width, layout.hidden, bias=False) if layout.gated else None
        self.expand = nn.Linear(layout.width, layout.hidden, bias=False)
        self.contract = nn.Linear(layout.hidden, layout.width, bias=False)
        self.dropout = nn.Dropout(layout.dropout)
        for project in (self.gate, self.expand, self.contract):
            if project is not None:
                _start(project)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)
        y = self.activation(y) if self.gate is None else self.activation(self.gate(x)) * y
        return self.contract(self.dropout(y))


def _start(project: nn.Linear) -> None:
    """Normal numbers that keep the size of what comes in."""
    nn.init.normal_(project.weight, std=project.in_features**-0.5)


class RelativeBias(nn.Module):
    """What is added to the scores of T queries, the last T of S keys: [1, H, T, S]."""

    def __init__(self, layout: Layout, *, both_ways: bool) -> None:
        super().__init__()
        self.both_ways = both_ways
        self.buckets = layout.buckets
        self.distance = layout.distance
        self.weights = nn.Embedding(layout.buckets, layout.heads)
        nn.init.normal_(self.weights.weight, std=layout.width**-0.5)
        self.rate = layout.width**0.5

    def rates(self) -> list[tuple[Tensor, float]]:
        """Numbers that are added to scores must grow to the size of scores before the order of words means anything;
        at the rate of a matrix that takes thousands of steps."""
        return [(self.weights.weight, self.rate)]

    def forward(self, T: int, S: int) -> Tensor:
        place = torch.arange(S, device=self.weights.weight.device)
        ahead = place - place[S - T :, None]
        return self.weights(bucket(ahead, self.both_ways, self.buckets, self.distance)).permute(2, 0, 1)[None]


def bucket(ahead: Tensor, both_ways: bool, buckets: int, distance: int) -> Tensor:
    """The number of the bucket for keys that stand so many positions after their query (before it where negative).

    Half of the buckets hold one distance each, the other half ever more, up to `distance`, from where on all fall into
    the last. With `both_ways` each direction has half of them all, else keys after the query count as distance 0.

    >>> bucket(torch.tensor([-300, -20, -3, 0, 3]), False, 32, 128).tolist()
    [31, 17, 3, 0, 0]
    """
    if both_ways:
        buckets //= 2
        return (ahead > 0) * buckets + _one_way(ahead.abs(), buckets, distance)
    return _one_way((-ahead).clamp(min=0), buckets, distance)


def _one_way(away: Tensor, buckets: int, distance: int) -> Tensor:
    exact = buckets // 2
    # In float32 and in this order, as in the published code: another rounding would move distances to other buckets.
    share = torch.log(away.float() / exact) / math.log(distance / exact)
    wide = exact + (share.clamp(min=0) * (buckets - exact)).long()
    return torch.where(away < exact, away, wide.clamp(max=buckets - 1))
