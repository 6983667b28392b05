"""MobileNet V1: each 3x3 convolution is split into one of each channel by itself and a 1x1 that mixes the channels.

`width` multiplies the channels of every layer; 1.0, 0.75, 0.5 and 0.25 are the paper's (table 7). What a reader would
get wrong: the released weights are not the paper's network to the letter. They have ReLU6, a norm with eps 0.001 and
TensorFlow's padding, which the options `activation`, `norm_eps` and `padding` name.

Departs from the paper: below 97 pixels a side the first halvings are left out (parts/pictures.py), and the running
means of the norms move at torch's pace (0.1), not by 0.0003 a step, because most trainings here are short. The option
`all_strides` keeps every halving, as weights trained elsewhere need it.

Shapes: B pictures, C channels, H x W pixels.

>>> import torch
>>> about = {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
>>> model = build({"photo": about}, 10, width=0.25)
>>> model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
torch.Size([2, 10])
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fathom.models.parts.checks import check_positive, check_shares, check_sizes
from fathom.models.parts.depthwise import ConvNorm
from fathom.models.parts.pictures import Standardise, check_outputs, is_one_picture, picture_of, strides_for

USE = "pictures"
SOURCE = "Howard et al. 2017, arXiv:1704.04861, table 1"

STEM = 32
# Channels that each block ends with, and its stride: table 1. The last row there says stride 2 and means 1.
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one picture" if is_one_picture(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    width: float = 0.25,
    narrowest: int = 8,
    activation: str = "relu6",
    padding: str = "symmetric",
    norm_eps: float = 1e-3,
    all_strides: bool = False,
    dropout: float = 0.001,
    head: bool = True,
) -> nn.Module:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    `width` multiplies the published channels, of which no layer has fewer than `narrowest`. `padding` is "symmetric"
    or "tensorflow". Without `head` the answers are the pooled features, and `outputs` must be their number: 1024 at
    width 1. Raises UserError on inputs that are not one picture and on options out of range.
    """
    about = picture_of(inputs, "mobilenet_v1")
    check_sizes(narrowest=narrowest)
    check_shares(dropout=dropout)
    check_positive(width=width, norm_eps=norm_eps)
    channels = [max(int(published * width), narrowest) for published in (STEM, *(block for block, _ in BLOCKS))]
    check_outputs(outputs, channels[-1], head=head)
    strides = [2, *(stride for _, stride in BLOCKS)]
    if not all_strides:
        strides = strides_for(min(about["height"], about["width"]), strides)
    style = {"activation": activation, "padding": padding, "eps": norm_eps}
    last = nn.Linear(channels[-1], outputs) if head else nn.Identity()
    return MobileNetV1(about, channels, strides, style, dropout, last)


class MobileNetV1(nn.Module):
    """Stem, thirteen blocks, global average, head. `style` is what every ConvNorm shares."""

    def __init__(
        self,
        about: dict[str, Any],
        channels: list[int],
        strides: list[int],
        style: dict[str, Any],
        dropout: float,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.standardise = Standardise(about)
        self.stem = ConvNorm(about["channels"], channels[0], 3, stride=strides[0], **style)
        self.blocks = nn.Sequential(
            *(
                Separable(before, after, stride, **style)
                for before, after, stride in zip(channels, channels[1:], strides[1:])
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def features(self, pixels: Tensor) -> Tensor:
        """What the head sees: [B, C, H, W] to [B, channels of the last block]."""
        return self.blocks(self.stem(self.standardise(pixels))).mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(pixels)))


class Separable(nn.Module):
    """3x3 on each channel by itself, then 1x1 over all channels (section 3.1, figure 3 right)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, **style: Any) -> None:
        super().__init__()
        self.depthwise = ConvNorm(channels_in, channels_in, 3, stride=stride, groups=channels_in, **style)
        self.pointwise = ConvNorm(channels_in, channels_out, 1, **style)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))
