"""Mamba-2: a decoder of state spaces with one decay for a whole head, computed as products of matrices.

Dao & Gu 2024, arXiv:2405.21060, section 7 and figure 6. Heads of 64 channels share their input and output weights in
groups, which makes the recurrence a masked attention that can be cut into chunks (see parts/ssd.py): several times
faster than Mamba's scan, with a state 8 times as large. What a reader would get wrong: the gate comes before the norm,
not after it, and the norm is over the channels of a group.

A "stream" gets an answer at each position, through the embedding's own matrix where there are as many outputs as
tokens; "tokens" get one answer a row, from the last real position. `depth` is the dial: a width of 32 for each block,
so that depth=24 is the published "130m" (with its vocabulary of 50288).

    >>> text = {"form": "stream", "vocabulary": 50, "length": 16}
    >>> model = build({"text": text}, 50, depth=1)
    >>> model(torch.randint(50, (2, 9))).shape
    torch.Size([2, 9, 50])

Shapes: B rows, T positions, H heads in G groups, N numbers remembered for each channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.models.parts.checks import check_divisor, check_sizes
from fathom.models.parts.language import check_headless, depth_and_width, is_language, language_of
from fathom.models.parts.norm import over_rms
from fathom.models.parts.ssd import ssd
from fathom.models.parts.state_decoder import MixerBlock, StateDecoder, shrink_residual
from fathom.models.parts.state_space import State, causal_conv, first_step_bias, zero_outside

USE = "texts"
SOURCE = "Dao & Gu 2024, arXiv:2405.21060"
WIDTH_EACH = 32  # of the width, for each block
FIRST_DECAYS = (1.0, 16.0)  # between which -A starts, as in the published code
SIZES: dict[str, dict[str, int]] = {
    "130m": {"depth": 24, "width": 768},
    "370m": {"depth": 48, "width": 1024},
    "780m": {"depth": 48, "width": 1536},
    "1.3b": {"depth": 48, "width": 2048},
    "2.7b": {"depth": 64, "width": 2560},
}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_language(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    return {"text": {"form": "stream", "vocabulary": 50288, "length": 2048}}, 50288


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    depth: int | None = None,
    width: int | None = None,
    head_width: int = 64,
    groups: int = 1,
    state: int = 128,
    expand: int = 2,
    kernel: int = 4,
    bias: bool = False,
    conv_bias: bool = True,
    norm_eps: float = 1e-5,
    tied: bool = True,
    head: bool = True,
) -> nn.Module:
    """A network from token ids int64 [B, T] to [B, T, outputs] ("stream") or [B, outputs] ("tokens").

    `size` is a published one ("370m"); options given beside it count more. The `expand` · width inner channels are cut
    into heads of `head_width`; each channel remembers `state` numbers. `tied` has an effect where a stream's outputs
    are the vocabulary. `head=False` answers with the states themselves. Raises UserError on inputs that are not one
    text and on options out of range.
    """
    about = language_of(inputs, "mamba2")
    depth, width = depth_and_width(size, SIZES, depth=depth, width=width, width_each=WIDTH_EACH)
    layout = Layout(width, head_width, groups, state, expand, kernel, bias, conv_bias, norm_eps)
    if not head:
        check_headless(outputs, width)
    blocks = [MixerBlock(Mixer(layout), width, layer, norm_eps=norm_eps) for layer in range(depth)]
    shrink_residual(blocks, branches=1)
    return StateDecoder(about, outputs if head else None, width, blocks, norm_eps=norm_eps, tied=tied)


@dataclass(frozen=True)
class Layout:
    """Raises UserError on sizes that do not fit each other."""

    width: int
    head_width: int
    groups: int
    state: int
    expand: int
    kernel: int
    bias: bool
    conv_bias: bool
    norm_eps: float

    def __post_init__(self) -> None:
        check_sizes(width=self.width, head_width=self.head_width, groups=self.groups, state=self.state)
        check_sizes(expand=self.expand, kernel=self.kernel)
        check_divisor(self.inner, f"the {self.inner} inner channels (expand · width)", head_width=self.head_width)
        check_divisor(self.heads, f"the {self.heads} heads", groups=self.groups)

    @property
    def inner(self) -> int:
        return self.expand * self.width

    @property
    def heads(self) -> int:
        return self.inner // self.head_width


class Mixer(nn.Module):
    """[B, T, width] → [B, T, width], and what it remembers. Padded positions as in parts/selective.py."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        shared = layout.groups * layout.state
        self.mixed = (layout.inner, shared, shared)  # x, B and C, which the convolution runs over
        self.parts = (layout.inner, sum(self.mixed), layout.heads)
        self.project_in = nn.Linear(layout.width, sum(self.parts), bias=layout.bias)
        self.conv = nn.Conv1d(
            sum(self.mixed), sum(self.mixed), layout.kernel, groups=sum(self.mixed), bias=layout.conv_bias
        )
        self.step_bias = nn.Parameter(first_step_bias(layout.heads))
        self.log_decay = nn.Parameter(torch.empty(layout.heads).uniform_(*FIRST_DECAYS).log())
        self.skip = nn.Parameter(torch.ones(layout.heads))
        self.norm = GatedNorm(layout.inner, layout.groups, eps=layout.norm_eps)
        self.project_out = nn.Linear(layout.inner, layout.width, bias=layout.bias)
        for linear in (self.project_in, self.project_out):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, inside: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        before, memory = (None, None) if state is None else state
        gate, x, dt = self.project_in(x).split(self.parts, dim=-1)
        x, window = causal_conv(zero_outside(x, inside), self.conv, before)
        x, B, C = F.silu(x).split(self.mixed, dim=-1)
        dt = zero_outside(F.softplus(dt + self.step_bias), inside)
        x = x.unflatten(-1, (self.layout.heads, -1))
        B, C = (shared.unflatten(-1, (self.layout.groups, -1)) for shared in (B, C))
        y, memory = ssd(x, dt, -self.log_decay.exp(), B, C, memory)
        y = y + self.skip.unsqueeze(-1) * x
        return self.project_out(self.norm(y.flatten(2), gate)), State(window, memory)


class GatedNorm(nn.Module):
    """RMSNorm of x · silu(gate), over the channels of each group: [.., width] → [.., width]."""

    def __init__(self, width: int, groups: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        gated = (x * F.silu(gate)).unflatten(-1, (self.groups, -1))
        return self.weight * over_rms(gated, self.eps).flatten(-2)
