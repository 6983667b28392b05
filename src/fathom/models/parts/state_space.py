"""What the layers of Mamba, Mamba-2 and Jamba share: a short causal convolution, what is remembered, how steps start.

What a reader would get wrong: a layer remembers two things, the state of its recurrence and the last inputs of its
convolution. They stand in the cache beside the keys and values of attention layers, so one cache serves both.

Shapes: R rows, T positions, D channels.

    >>> conv, x = nn.Conv1d(3, 3, 4, groups=3), torch.randn(2, 6, 3)
    >>> whole, _ = causal_conv(x, conv)
    >>> begun, window = causal_conv(x[:, :5], conv)
    >>> last, _ = causal_conv(x[:, 5:], conv, window)
    >>> torch.allclose(whole, torch.cat([begun, last], dim=1), atol=1e-6)
    True
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fathom.models.parts.cache import Cache

FIRST_STEPS = (1e-3, 1e-1)  # between which the steps of the recurrence start: arXiv:2312.00752, section 3.6


class State(NamedTuple):
    """What a layer remembers of the positions before."""

    window: Tensor  # the convolution's last inputs [R, kernel - 1, D]
    memory: Tensor  # the state of the recurrence, see scan.py and ssd.py


def recall(cache: Cache | None, layer: int) -> State | None:
    if cache is None or layer not in cache.layers:
        return None
    return State(*cache.layers[layer])


def remember(cache: Cache | None, layer: int, state: State) -> None:
    if cache is not None:
        cache.layers[layer] = state


def causal_conv(x: Tensor, conv: nn.Conv1d, window: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Each channel over the last few positions, itself counted: [R, T, D] → [R, T, D], and the window to go on with."""
    before = x.new_zeros(x.shape[0], conv.kernel_size[0] - 1, x.shape[2]) if window is None else window
    longer = torch.cat([before, x], dim=1)
    return conv(longer.transpose(1, 2)).transpose(1, 2).contiguous(), longer[:, x.shape[1] :]


def zero_outside(x: Tensor, inside: Tensor | None) -> Tensor:
    """Zeros at padded positions. `inside` [R, S] may begin earlier than x [R, T, D]: of it the last T count."""
    if inside is None:
        return x
    return x * inside[:, inside.shape[1] - x.shape[1] :, None].to(x.dtype)


def first_step_bias(count: int) -> Tensor:
    """Biases whose softplus is spread evenly, in logarithm, over `FIRST_STEPS`: [count]."""
    low, high = (math.log(step) for step in FIRST_STEPS)
    steps = torch.exp(torch.empty(count).uniform_(low, high))
    return steps + torch.log(-torch.expm1(-steps))  # the inverse of softplus
