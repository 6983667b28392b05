"""Mamba's layer: a short convolution and a selective scan, gated. In the place of attention and of a perceptron.

Gu & Dao 2023, arXiv:2312.00752, figure 3 and section 3.4. The step dt, the input weights B and the output weights C are
computed from each position, which lets the layer choose what to remember. Jamba (arXiv:2403.19887, section 6.4) adds a
norm to each of the three. What a reader would get wrong: at padded positions the step is 0, so that the state stays as
it was. Padding on the left leaves no trace; on the right it leaves zeros in the convolution's window, so texts that
will be continued are padded on the left.

Shapes: R rows, T positions, D inner channels, N numbers remembered for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.models.parts.checks import check_sizes
from fathom.models.parts.norm import RMSNorm
from fathom.models.parts.scan import scan
from fathom.models.parts.state_space import State, causal_conv, first_step_bias, zero_outside


@dataclass(frozen=True)
class Measures:
    """Raises UserError on sizes below 1. `step_rank` is width / 16, rounded up, where it is left out."""

    width: int
    expand: int = 2  # inner channels for each channel outside
    state: int = 16
    kernel: int = 4
    step_rank: int | None = None
    bias: bool = False  # of the two outer matrices
    conv_bias: bool = True
    norm_eps: float | None = None  # of the norms of dt, B and C; None for no norms

    def __post_init__(self) -> None:
        check_sizes(width=self.width, expand=self.expand, state=self.state, kernel=self.kernel, step_rank=self.rank)

    @property
    def inner(self) -> int:
        return self.expand * self.width

    @property
    def rank(self) -> int:
        return math.ceil(self.width / 16) if self.step_rank is None else self.step_rank


class SelectiveMixer(nn.Module):
    """[R, T, width] → [R, T, width], and what it remembers.

    >>> mixer = SelectiveMixer(Measures(8))
    >>> y, state = mixer(torch.randn(2, 5, 8))
    >>> y.shape, state.window.shape, state.memory.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 3, 16]), torch.Size([2, 16, 16]))
    """

    def __init__(self, of: Measures) -> None:
        super().__init__()
        self.parts = (of.rank, of.state, of.state)
        self.project_in = nn.Linear(of.width, 2 * of.inner, bias=of.bias)
        self.conv = nn.Conv1d(of.inner, of.inner, of.kernel, groups=of.inner, bias=of.conv_bias)
        self.select = nn.Linear(of.inner, sum(self.parts), bias=False)
        norms = [nn.Identity() if of.norm_eps is None else RMSNorm(size, eps=of.norm_eps) for size in self.parts]
        self.step_norm, self.input_norm, self.output_norm = norms
        self.step = nn.Linear(of.rank, of.inner)
        # S4D-real, section 3.6: A = -1, -2, … -N for each channel, kept as a logarithm so that it stays negative.
        self.log_decay = nn.Parameter(torch.arange(1.0, of.state + 1).log().repeat(of.inner, 1))
        self.skip = nn.Parameter(torch.ones(of.inner))
        self.project_out = nn.Linear(of.inner, of.width, bias=of.bias)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        nn.init.uniform_(self.step.weight, -(self.parts[0] ** -0.5), self.parts[0] ** -0.5)
        self.step.bias.copy_(first_step_bias(len(self.step.bias)))
        for linear in (self.project_in, self.project_out):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def no_decay(self) -> list[nn.Parameter]:
        return [self.log_decay]

    def forward(self, x: Tensor, inside: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        before, memory = (None, None) if state is None else state
        x, gate = self.project_in(x).chunk(2, dim=-1)
        x, window = causal_conv(zero_outside(x, inside), self.conv, before)
        x = F.silu(x)
        dt, B, C = self.select(x).split(self.parts, dim=-1)
        dt = zero_outside(F.softplus(self.step(self.step_norm(dt))), inside)
        y, memory = scan(x, dt, -self.log_decay.exp(), self.input_norm(B), self.output_norm(C), memory)
        return self.project_out((y + self.skip * x) * F.silu(gate)), State(window, memory)
