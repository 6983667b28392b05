"""MobileNet V3: narrow layers are widened, filtered channel by channel, weighed by squeeze-and-excitation and narrowed.

`size` "small" and "large" are the paper's tables 2 and 1; "tiny" is ours, the small one at half its width and with only
the first block of each stage. `width` multiplies the channels of any of them, rounded to multiples of 8. What a reader
would get wrong: the squeezed width is a quarter of the WIDENED channels, not of the block's own, and rounded as well.

Departs from the paper: below 97 pixels a side the first halvings are left out (parts/pictures.py), and the running
means of the norms move by 0.1 a step, not 0.01, because most trainings here are short.

Shapes: B pictures, C channels, H x W pixels.

>>> import torch
>>> about = {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
>>> model = build({"photo": about}, 10)
>>> model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
torch.Size([2, 10])
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from fathom.models.parts.checks import check_choice, check_positive, check_shares
from fathom.models.parts.depthwise import ConvNorm
from fathom.models.parts.pictures import Standardise, is_one_picture, picture_of, strides_for
from fathom.models.parts.squeeze_excite import SqueezeExcite
from fathom.models.parts.stages import rounded

USE = "pictures"
SOURCE = "Howard et al. 2019, arXiv:1905.02244, tables 1 and 2"


class Row(NamedTuple):
    """One line of the paper's tables."""

    size: int  # of the kernel
    widened: int
    channels: int
    excite: bool
    activation: str
    stride: int


STEM = 16
LARGE = [
    Row(3, 16, 16, False, "relu", 1),
    Row(3, 64, 24, False, "relu", 2),
    Row(3, 72, 24, False, "relu", 1),
    Row(5, 72, 40, True, "relu", 2),
    Row(5, 120, 40, True, "relu", 1),
    Row(5, 120, 40, True, "relu", 1),
    Row(3, 240, 80, False, "hardswish", 2),
    Row(3, 200, 80, False, "hardswish", 1),
    Row(3, 184, 80, False, "hardswish", 1),
    Row(3, 184, 80, False, "hardswish", 1),
    Row(3, 480, 112, True, "hardswish", 1),
    Row(3, 672, 112, True, "hardswish", 1),
    Row(5, 672, 160, True, "hardswish", 2),
    Row(5, 960, 160, True, "hardswish", 1),
    Row(5, 960, 160, True, "hardswish", 1),
]
SMALL = [
    Row(3, 16, 16, True, "relu", 2),
    Row(3, 72, 24, False, "relu", 2),
    Row(3, 88, 24, False, "relu", 1),
    Row(5, 96, 40, True, "hardswish", 2),
    Row(5, 240, 40, True, "hardswish", 1),
    Row(5, 240, 40, True, "hardswish", 1),
    Row(5, 120, 48, True, "hardswish", 1),
    Row(5, 144, 48, True, "hardswish", 1),
    Row(5, 288, 96, True, "hardswish", 2),
    Row(5, 576, 96, True, "hardswish", 1),
    Row(5, 576, 96, True, "hardswish", 1),
]
# Rows, width of the layer before the head, multiplier.
SIZES: dict[str, tuple[list[Row], int, float]] = {
    "tiny": ([SMALL[place] for place in (0, 1, 3, 6, 8)], 1024, 0.5),
    "small": (SMALL, 1024, 1.0),
    "large": (LARGE, 1280, 1.0),
}
WIDENED_LAST = 6  # the last convolution has this many times the channels of the last block


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one picture" if is_one_picture(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]], outputs: int, *, size: str = "tiny", width: float = 1.0, dropout: float = 0.2
) -> nn.Module:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    Raises UserError on inputs that are not one picture and on options out of range.
    """
    about = picture_of(inputs, "mobilenet_v3")
    check_shares(dropout=dropout)
    size = check_choice("size", size, SIZES)
    check_positive(width=width)
    rows, last, multiplier = SIZES[size]
    width *= multiplier
    rows = [row._replace(widened=rounded(row.widened * width), channels=rounded(row.channels * width)) for row in rows]
    return MobileNetV3(about, outputs, rounded(STEM * width), rows, rounded(last * width), dropout)


class MobileNetV3(nn.Module):
    """Stem, blocks, one more 1x1 convolution, global average, a hidden layer, head."""

    def __init__(
        self, about: dict[str, Any], outputs: int, stem: int, rows: list[Row], last: int, dropout: float
    ) -> None:
        super().__init__()
        first, *strides = strides_for(min(about["height"], about["width"]), [2, *(row.stride for row in rows)])
        self.standardise = Standardise(about)
        self.stem = ConvNorm(about["channels"], stem, 3, stride=first, activation="hardswish")
        before = [stem, *(row.channels for row in rows)]
        self.blocks = nn.Sequential(
            *(Bottleneck(channels, row._replace(stride=s)) for channels, row, s in zip(before, rows, strides))
        )
        wide = WIDENED_LAST * before[-1]
        self.widen = ConvNorm(before[-1], wide, activation="hardswish")
        self.hidden = nn.Linear(wide, last)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(last, outputs)

    def features(self, pixels: Tensor) -> Tensor:
        """What the head sees: [B, C, H, W] to [B, width of the hidden layer]."""
        x = self.widen(self.blocks(self.stem(self.standardise(pixels))))
        # Section 5.1: averaged before the last layer, which then costs next to nothing.
        return F.hardswish(self.hidden(x.mean(dim=(2, 3))))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(pixels)))


class Bottleneck(nn.Module):
    """Widen, filter each channel, weigh the channels, narrow; added to what came in where shapes agree (figure 4)."""

    def __init__(self, channels_in: int, row: Row) -> None:
        super().__init__()
        wide, activation = row.widened, row.activation
        self.widen = ConvNorm(channels_in, wide, activation=activation) if wide != channels_in else nn.Identity()
        self.filter = ConvNorm(wide, wide, row.size, stride=row.stride, groups=wide, activation=activation)
        squeezed = rounded(wide // 4)
        self.excite = SqueezeExcite(wide, squeezed, gate="hardsigmoid") if row.excite else nn.Identity()
        self.narrow = ConvNorm(wide, row.channels)
        self.has_shortcut = row.stride == 1 and channels_in == row.channels

    def forward(self, x: Tensor) -> Tensor:
        inner = self.narrow(self.excite(self.filter(self.widen(x))))
        return x + inner if self.has_shortcut else inner
