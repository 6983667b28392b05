"""Positions told by rotation: pairs of channels of queries and keys are turned by an angle that grows with the place.

The product of a query and a key then depends on how far they stand apart, not on where. Su et al. 2021,
arXiv:2104.09864, section 3.4.2. What a reader would get wrong: a pair is channels (i, i + D/2), as the files of Llama
and its kin have it, not the neighbours (2i, 2i + 1) of the paper; the two differ by a fixed order of the channels.

Shapes: B rows, H heads, T positions, D width of a head.

    >>> cosine, sine = rotation(6, 8, torch.device("cpu"))
    >>> rotate(torch.randn(1, 2, 6, 8), cosine, sine).shape
    torch.Size([1, 2, 6, 8])
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fathom.errors import UserError
from fathom.models.parts.checks import check_choice, check_positive

KINDS = ("none", "linear", "llama3")


@dataclass(frozen=True)
class RopeScaling:
    """How the frequencies of a model are lowered so that it reads longer texts than those it was first trained on.

    "linear" divides all of them by `factor` (Chen et al. 2023, arXiv:2306.15595, eq. 4). "llama3" divides only those
    that turn less than `low` times in `length` positions, keeps those that turn more than `high` times and blends in
    between (Llama 3.1: arXiv:2407.21783, section 3.4.2, gives the context; the rule is that of its published code).
    """

    kind: str = "none"
    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    length: int = 8192

    def __post_init__(self) -> None:
        check_choice("rope_scaling", self.kind, KINDS)
        check_positive(rope_factor=self.factor, rope_length=self.length)
        if self.low >= self.high:
            raise UserError(
                f"model.rope_low={self.low}: expected less than model.rope_high={self.high}. "
                "Leave both out to have the usual values, 1 and 4."
            )

    def __call__(self, frequencies: Tensor) -> Tensor:
        if self.kind == "none":
            return frequencies
        if self.kind == "linear":
            return frequencies / self.factor
        turns = self.length / (2 * math.pi / frequencies)
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - kept) * frequencies / self.factor + kept * frequencies


NO_SCALING = RopeScaling()


def rotation(
    length: int,
    width: int,
    device: torch.device,
    *,
    base: float = 10_000.0,
    start: int = 0,
    scaling: RopeScaling = NO_SCALING,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, width / 2] of the angle by which pair i of channels is turned at each position.

    Positions are counted from `start`. Angles are float32 whatever the model is in: rounded to 16 bits, far positions
    would be told apart no more.
    """
    pairs = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    positions = torch.arange(start, start + length, device=device, dtype=torch.float32)
    angles = positions[:, None] * scaling(1.0 / base ** (pairs / width))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn channels (i, i + S) of [.., D] by the angles of [.., S]. Of more than 2S channels the others stay."""
    S = cosine.shape[-1]
    first, second, rest = x.split([S, S, x.shape[-1] - 2 * S], dim=-1)
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1)
    return turned.to(x.dtype)  # under autocast the float32 angles would widen it
