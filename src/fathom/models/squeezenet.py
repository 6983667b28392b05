"""SqueezeNet: AlexNet's accuracy with a fiftieth of its weights, by squeezing the channels before each 3x3.

`size` "1.0" is the paper's network, "1.1" the authors' later one, which needs 2.4 times less arithmetic; "tiny" is 1.1
with a quarter of the channels. What a reader would get wrong: there is no linear head. The last 1x1 convolution has one
channel for each output, and their averages over the picture are the answers.

Departs from the paper: the last convolution is followed by a rectifier there, so that no logit is ever below 0. That
suits only trained classifiers, so it is the option `rectify`, off here. `border` is the padding of the last
convolution: 1 in the authors' files, 0 in torchvision's. Below 49 pixels a side the first halvings are left out
(parts/pictures.py); `all_strides` keeps every one, as weights trained elsewhere need it.

Shapes: B pictures, C channels, H x W pixels.

>>> about = {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
>>> model = build({"photo": about}, 10)
>>> model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
torch.Size([2, 10])
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.checks import check_choice, check_shares
from fathom.models.parts.pictures import (
    SMALLEST_SIDE,
    Standardise,
    check_outputs,
    is_one_picture,
    picture_of,
    strides_for,
)

USE = "pictures"
SOURCE = "Iandola et al. 2016, arXiv:1602.07360, table 1; 1.1: github.com/forresti/SqueezeNet"


class Size(NamedTuple):
    stem: int  # channels
    kernel: int
    pooled_before: tuple[int, int]  # fires that a pooling stands before, besides the first
    squeezed: tuple[int, ...] = (16, 16, 32, 32, 48, 48, 64, 64)  # channels of each fire


SIZES = {
    "tiny": Size(16, 3, (2, 4), (4, 4, 8, 8, 12, 12, 16, 16)),
    "1.0": Size(96, 7, (3, 7)),
    "1.1": Size(64, 3, (2, 4)),
}
SMALLEST_WHOLE = 14  # with the kernel's size, the pixels from which four halvings leave one
EXPANDED = 4  # each half of a fire has this many times the squeezed channels


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one picture" if is_one_picture(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str = "tiny",
    rectify: bool = False,
    border: int = 0,
    all_strides: bool = False,
    dropout: float = 0.5,
    head: bool = True,
) -> nn.Module:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    Without `head` the answers are the averages of the last fire's channels, and `outputs` must be their number: 512
    for "1.0" and "1.1". Raises UserError on inputs that are not one picture and on options out of range.
    """
    size = check_choice("size", size, SIZES)
    smallest = SMALLEST_WHOLE + SIZES[size].kernel if all_strides else SMALLEST_SIDE
    about = picture_of(inputs, "squeezenet", smallest=smallest)
    check_shares(dropout=dropout)
    if border < 0:
        raise UserError(f"model.border={border}: expected 0 or more pixels, for example model.border=1.")
    channels = 2 * EXPANDED * SIZES[size].squeezed[-1]
    check_outputs(outputs, channels, head=head)
    strides = [2, 2, 2, 2]
    if not all_strides:
        strides = strides_for(min(about["height"], about["width"]), strides)
    last = _head(channels, outputs, border, rectify) if head else nn.Identity()
    return SqueezeNet(about, SIZES[size], strides, dropout, last)


class SqueezeNet(nn.Module):
    """Stem, eight fires with poolings between them, dropout, a 1x1 convolution, global average."""

    def __init__(self, about: dict[str, Any], size: Size, strides: list[int], dropout: float, head: nn.Module) -> None:
        super().__init__()
        stride, *pools = strides
        pooled = dict(zip((0, *size.pooled_before), pools))
        # Published without padding, where there are pixels to spare.
        padding = 0 if stride == 2 else size.kernel // 2
        self.standardise = Standardise(about)
        self.stem = _rectified(nn.Conv2d(about["channels"], size.stem, size.kernel, stride, padding))
        before = [size.stem, *(2 * EXPANDED * squeezed for squeezed in size.squeezed)]
        self.fires = nn.Sequential(
            *(
                Fire(channels, squeezed, stride=pooled.get(place, 1))
                for place, (channels, squeezed) in enumerate(zip(before, size.squeezed))
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def features(self, pixels: Tensor) -> Tensor:
        """The last fire's channels, averaged over the picture: [B, C, H, W] to [B, channels]."""
        return self.fires(self.stem(self.standardise(pixels))).mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.fires(self.stem(self.standardise(pixels)))
        return self.head(self.dropout(x)).mean(dim=(2, 3))


class Fire(nn.Module):
    """Squeeze to few channels by 1x1, then expand them by 1x1 and by 3x3, side by side (figure 1).

    With a `stride` of 2 a pooling comes first. A last window that is not full counts.
    """

    def __init__(self, channels: int, squeezed: int, *, stride: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride, ceil_mode=True) if stride == 2 else nn.Identity()
        self.squeeze = _rectified(nn.Conv2d(channels, squeezed, 1))
        self.expand = _rectified(nn.Conv2d(squeezed, EXPANDED * squeezed, 1))
        self.expand_wide = _rectified(nn.Conv2d(squeezed, EXPANDED * squeezed, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(self.pool(x))
        return torch.cat([self.expand(x), self.expand_wide(x)], dim=1)


def _rectified(conv: nn.Conv2d) -> nn.Sequential:
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.ReLU())


def _head(channels: int, outputs: int, border: int, rectify: bool) -> nn.Module:
    conv = nn.Conv2d(channels, outputs, 1, padding=border)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.ReLU() if rectify else nn.Identity())
