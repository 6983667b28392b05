"""Mamba-3: a language model without attention, whose memory of the text is a state of one size that decays and turns.

Lahoti et al. 2026, arXiv:2603.15569, section 3.4: blocks of a Mamba-3 mixer and a gated perceptron in turn, each
behind a norm. The recurrence is in parts/trapezoid.py. It has the layout of Mamba-2, but no short convolution, since
the second term of input and the biases of B and C do its work, and no norm before the last matrix. A `rank` above 1
is the MIMO form (section 3.3, appendix C): a head has several inputs and outputs, made from one by learned factors.

What a reader would get wrong: the angles by which the state turns are one set for all heads, but each head multiplies
them by its own time step, so heads turn at different speeds. With `turning=0` nothing turns, and what asks for
counting round, as the parity of bits does, is no longer learnt (table 5b).

A "stream" gets an answer at each position, "tokens" one a row, from the last real position. `depth` is the dial: a
width of 64 for each block. From the authors' code, since the paper does not say: the angle is π tanh of what is
projected, the activation of A ("heavy_tail", theirs since June 2026; "softplus" is what it replaced) and its floor, the
half of the state that turns, the first time steps and matrices. Not verified: width and depth of the published sizes
other than the largest. Ours are those of Mamba-2's experiments, which the paper says it follows, and give the numbers
of parameters that name the sizes. Departures: the order of channels and the sign of the angles, see parts/trapezoid.py;
the norm that the authors put before the gate of hybrid models (section 4.1.2) is left out.

    >>> import torch
    >>> text = {"form": "stream", "vocabulary": 50, "length": 16}
    >>> model = build({"text": text}, 50, depth=1, rank=2)
    >>> model(torch.randint(50, (2, 9))).shape
    torch.Size([2, 9, 50])

Shapes: R rows, T positions, G groups of H heads that share B and C, M inputs and outputs of a head (its rank), P
channels of each, N numbers remembered for each channel, S pairs of them that turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.cache import Cache
from fathom.models.parts.checks import check_choice, check_divisor, check_sizes
from fathom.models.parts.gated import GatedPerceptron
from fathom.models.parts.language import check_headless, is_language, language_of, named_size
from fathom.models.parts.norm import RMSNorm
from fathom.models.parts.state_decoder import StateDecoder, shrink_residual
from fathom.models.parts.state_space import first_step_bias
from fathom.models.parts.trapezoid import Inputs, State, trapezoid

USE = "texts"
SOURCE = "Lahoti et al. 2026, arXiv:2603.15569; the authors' code: github.com/state-spaces/mamba"

SIZES: dict[str, dict[str, Any]] = {
    "180m": {"depth": 12, "width": 768, "hidden": 1500, "state": 128},
    "440m": {"depth": 24, "width": 1024, "hidden": 2048, "state": 128},
    "880m": {"depth": 24, "width": 1536, "hidden": 3072, "state": 128},
    "1.5b": {"depth": 24, "width": 2048, "hidden": 4096, "state": 128},
}
# Appendix C: at rank 4 the perceptrons are narrower, so that the whole is as large as at rank 1.
HIDDEN_AT_RANK_4 = {"180m": 1264, "440m": 1792, "880m": 2800, "1.5b": 3824}

WIDTH_OF_BLOCK = 64
LEAST_DECAY = 1e-4  # A stays below minus this


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_language(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    return {"text": {"form": "stream", "vocabulary": 128256, "length": 2048}}, 128256


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    depth: int | None = None,
    width: int | None = None,
    state: int | None = None,
    head_width: int = 64,
    rank: int = 1,
    groups: int = 1,
    expand: int = 2,
    hidden: int | None = None,
    turning: float = 0.5,
    decay: str = "heavy_tail",
    chunk: int | None = None,
    norm_eps: float = 1e-5,
    tied: bool = True,
    head: bool = True,
) -> nn.Module:
    """A network from token ids int64 [R, T] to [R, T, outputs] ("stream") or [R, outputs] ("tokens").

    `size` is a published one ("180m"); options given beside it count more. `state` is N, `head_width` P and `rank` M;
    `expand` times the width are the channels of all heads. `turning` is the share of the state that turns. `chunk` is
    for speed alone: how many positions are computed as one product. `tied` has an effect where a stream's outputs are
    the vocabulary; `head=False` answers with the states. Raises UserError on inputs that are not one text and on
    options out of range.
    """
    about = language_of(inputs, "mamba3")
    found = dict(named_size(size, SIZES))
    if size is not None and rank == 4:
        found["hidden"] = HIDDEN_AT_RANK_4[size]
    given = {"depth": depth, "width": width, "state": state, "hidden": hidden}
    found |= {name: value for name, value in given.items() if value is not None}
    blocks = found.get("depth", 2)
    channels = found.get("width", WIDTH_OF_BLOCK * blocks)
    layout = Layout(
        depth=blocks,
        width=channels,
        state=found.get("state", 64),
        head_width=head_width,
        rank=rank,
        groups=groups,
        expand=expand,
        hidden=found.get("hidden", 2 * channels),
        turning=turning,
        decay=decay,
        chunk=chunk,
        norm_eps=norm_eps,
    )
    if not head:
        check_headless(outputs, layout.width)
    parts = [Block(layout, layer) for layer in range(layout.depth)]
    shrink_residual(parts, branches=2)
    return StateDecoder(about, outputs if head else None, layout.width, parts, norm_eps=norm_eps, tied=tied)


@dataclass(frozen=True)
class Layout:
    """The settings of a model, as `build` takes them. Raises UserError on sizes that do not fit each other."""

    depth: int
    width: int
    state: int
    head_width: int
    rank: int
    groups: int
    expand: int
    hidden: int
    turning: float
    decay: str
    chunk: int | None
    norm_eps: float

    def __post_init__(self) -> None:
        numbers = ("depth", "width", "state", "head_width", "rank", "groups", "expand", "hidden")
        check_sizes(**{name: getattr(self, name) for name in numbers}, chunk=1 if self.chunk is None else self.chunk)
        check_divisor(self.inner, f"the {self.inner} channels (expand · width)", head_width=self.head_width)
        check_divisor(self.heads, f"the {self.heads} heads", groups=self.groups)
        if not 0 <= self.turning <= 1:
            raise UserError(f"model.turning={self.turning}: expected a share from 0 to 1, for example 0.5.")
        check_choice("decay", self.decay, DECAYS)

    @property
    def inner(self) -> int:
        return self.expand * self.width

    @property
    def heads(self) -> int:
        return self.inner // self.head_width

    @property
    def pairs(self) -> int:
        return int(self.turning * self.state) // 2

    def norm(self, width: int | None = None) -> RMSNorm:
        return RMSNorm(width or self.width, eps=self.norm_eps)


class Block(nn.Module):
    """x + mixer(norm(x)), then x + perceptron(norm(x)): [R, T, width] → [R, T, width]."""

    def __init__(self, layout: Layout, layer: int) -> None:
        super().__init__()
        self.mixer_norm = layout.norm()
        self.mixer = Mixer(layout, layer)
        self.perceptron_norm = layout.norm()
        self.perceptron = GatedPerceptron(layout.width, layout.hidden)

    def forward(self, x: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        x = x + self.mixer(self.mixer_norm(x), inside, cache)
        return x + self.perceptron(self.perceptron_norm(x))


class Mixer(nn.Module):
    """The recurrence with all it reads from the positions: [R, T, width] → [R, T, width]."""

    def __init__(self, layout: Layout, layer: int) -> None:
        super().__init__()
        self.layout = layout
        self.layer = layer
        shared = layout.groups * layout.rank * layout.state
        # In this order: the gate, x, B, C, and for each head the time step, A and the blend; last the angles.
        self.parts = [layout.inner, layout.inner, shared, shared, *[layout.heads] * 3, layout.pairs]
        self.project_in = nn.Linear(layout.width, sum(self.parts), bias=False)
        self.step_bias = nn.Parameter(first_step_bias(layout.heads))
        self.B_norm, self.C_norm = layout.norm(layout.state), layout.norm(layout.state)
        self.B_bias = nn.Parameter(torch.ones(layout.heads, layout.rank, layout.state))
        self.C_bias = nn.Parameter(torch.ones(layout.heads, layout.rank, layout.state))
        self.skip = nn.Parameter(torch.ones(layout.heads))
        self.ranks = Ranks(layout) if layout.rank > 1 else OneRank()
        self.project_out = nn.Linear(layout.inner, layout.width, bias=False)

    def no_decay(self) -> list[nn.Parameter]:
        """Parameters that weight decay would hurt: their neutral value is not 0."""
        return [self.B_bias, self.C_bias]

    def forward(self, x: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
        gate, given = self.read(x)
        before = None if cache is None or self.layer not in cache.layers else State(*cache.layers[self.layer])
        inside = None if inside is None else inside[:, -x.shape[1] :]  # a cache's mask begins earlier
        y, state = trapezoid(given, before, inside=inside, chunk=self.layout.chunk)
        if cache is not None:
            cache.layers[self.layer] = state
        y = y + self.skip[:, None, None] * given.x
        return self.project_out(self.ranks.join(y, gate).flatten(2))

    def read(self, x: Tensor) -> tuple[Tensor, Inputs]:
        """The gate [R, T, H, P], and what the recurrence reads."""
        gate, x, B, C, step, A, blend, angles = self.project_in(x).split(self.parts, dim=-1)
        gate, x = (tensor.unflatten(-1, (self.layout.heads, -1)) for tensor in (gate, x))
        dt = F.softplus(step + self.step_bias)
        return gate, Inputs(
            x=self.ranks.spread(x),
            B=self._of_heads(B, self.B_norm, self.B_bias),
            C=self._of_heads(C, self.C_norm, self.C_bias),
            dt=dt,
            decay=-DECAYS[self.layout.decay](A).clamp(min=LEAST_DECAY) * dt,
            blend=blend.sigmoid(),  # appendix A.3
            angles=math.pi * angles.tanh().unsqueeze(2) * dt.unsqueeze(-1),
        )

    def _of_heads(self, shared: Tensor, norm: nn.Module, bias: Tensor) -> Tensor:
        """B or C: [R, T, G · M · N] → [R, T, H, M, N], normalised before the heads' biases are added (section 3.4)."""
        normed = norm(shared.unflatten(-1, (self.layout.groups, self.layout.rank, self.layout.state)))
        return normed.repeat_interleave(self.layout.heads // self.layout.groups, dim=2) + bias


class OneRank(nn.Module):
    """A head's one input and one output: gated, y · SiLU(gate)."""

    def spread(self, x: Tensor) -> Tensor:
        return x.unsqueeze(3)

    def join(self, y: Tensor, gate: Tensor) -> Tensor:
        return y.squeeze(3) * F.silu(gate)


class Ranks(nn.Module):
    """Several inputs and outputs of a head from one, and one from them: appendix C of the paper.

    Each channel is multiplied by a learned factor for each of them, which costs hardly any parameters.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        shape = (layout.heads, layout.rank, layout.head_width)
        self.of_input = nn.Parameter(torch.full(shape, 1 / layout.rank))
        self.of_gate = nn.Parameter(torch.ones(shape))
        self.of_output = nn.Parameter(torch.full(shape, 1 / layout.rank))

    def no_decay(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def spread(self, x: Tensor) -> Tensor:
        """[R, T, H, P] → [R, T, H, M, P]."""
        return x.unsqueeze(3) * self.of_input

    def join(self, y: Tensor, gate: Tensor) -> Tensor:
        """[R, T, H, M, P] → [R, T, H, P]."""
        return (y * F.silu(gate.unsqueeze(3) * self.of_gate) * self.of_output).sum(dim=3)


def _heavy_tail(x: Tensor) -> Tensor:
    """1 + x above 0, 1 / (1 - x) below: unlike softplus it does not fall to 0 at once."""
    return x.clamp(min=0) + 1 / (1 - x.clamp(max=0))


DECAYS: dict[str, Callable[[Tensor], Tensor]] = {"heavy_tail": _heavy_tail, "softplus": F.softplus}
