"""What networks for one picture have in common: what they take, how pixels become numbers, how often they halve it.

What a reader would get wrong: the mean and deviation are of pixels divided by 255, as `about` gives them, while pixels
come in as 0..255. They are buffers that no file of weights holds: they belong to the description of the input.

Shapes: B pictures, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.checks import refuse_inputs

SMALLEST_SIDE = 4  # a picture below this has nothing left for a 3x3 kernel to see


def is_one_picture(inputs: dict[str, dict[str, Any]], *, smallest: int = SMALLEST_SIDE) -> bool:
    """One picture of at least `smallest` pixels a side."""
    return [about["form"] for about in inputs.values()] == ["pixels"] and all(
        min(about["height"], about["width"]) >= smallest for about in inputs.values()
    )


def picture_of(inputs: dict[str, dict[str, Any]], whose: str, *, smallest: int = SMALLEST_SIDE) -> dict[str, Any]:
    """The description of the only input. Raises UserError where that is not one picture, or one that is too small."""
    if not is_one_picture(inputs, smallest=smallest):
        refuse_inputs(whose, f"one picture of at least {smallest} x {smallest} pixels", inputs)
    (about,) = inputs.values()
    return about


class Standardise(nn.Module):
    """Pixels [B, C, H, W] (uint8, or float in 0..255) → (pixels / 255 - mean) / std, in the model's own precision.

    >>> about = {"mean": [0.5], "std": [0.25]}
    >>> Standardise(about)(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    tensor([[[[-2.,  2.]]]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, about: dict[str, Any]) -> None:
        super().__init__()
        for name in ("mean", "std"):
            value = 255.0 * torch.tensor(about[name], dtype=torch.float32)[:, None, None]
            self.register_buffer(name, value, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        # Channels last is faster for convolutions on CPU and on tensor cores. Asked for twice, because a single gray
        # channel is in both orders at once and would be left as it is.
        pixels = pixels.to(self.mean.dtype, memory_format=torch.channels_last)
        return ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def strides_for(side: int, published: Sequence[int], *, last: int = 4) -> list[int]:
    """The strides of a network for large pictures, with the first ones halved until `last` pixels a side are left.

    Small pictures hold their detail in single pixels, so it is the early halvings that are left out. Five halvings
    are all kept from 97 pixels on, since a stride rounds up.

    >>> strides_for(224, [2, 2, 2, 2, 2])
    [2, 2, 2, 2, 2]
    >>> strides_for(32, [2, 2, 2, 2, 2])
    [1, 1, 2, 2, 2]
    >>> strides_for(8, [4, 2, 2, 2])
    [1, 1, 1, 2]
    """
    strides = list(published)
    while math.prod(strides) > 1 and math.ceil(side / math.prod(strides)) < last:
        first = next(place for place, stride in enumerate(strides) if stride > 1)
        strides[first] //= 2
    return strides


def check_outputs(outputs: int, width: int, *, head: bool) -> None:
    """A network without a head answers with its pooled features. Raises UserError unless that is what was asked for."""
    if not head and outputs != width:
        raise UserError(f"model.head=false answers with {width} features; {outputs} outputs were asked for.")
