"""EfficientNet: one small network, b0, and seven larger ones that are wider, deeper and see larger pictures at once.

`size` b0 to b7 are the published ones, made for 224, 240, 260, 300, 380, 456, 528 and 600 pixels a side; "tiny" is
ours, b0 at half its width with one block for each stage. `width` and `depth` are the two multipliers behind the names.
What a reader would get wrong: the squeezed width is a quarter of the channels that come INTO a block, not of the
widened ones as in MobileNet V3, and it is not rounded.

Departs from the paper: the multipliers are those of the published code, which round the powers of section 4; on
pictures below 97 pixels the first halvings are left out (parts/pictures.py) unless `all_strides`; the running means of
the norms move by 0.1 a step, not 0.01, because most trainings here are short; zeros go around a picture evenly, where
the published weights have TensorFlow's `padding`.

    >>> import torch
    >>> about = {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    >>> model = build({"photo": about}, outputs=10)
    >>> model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 10])

Shapes: B pictures, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor, nn

from fathom.models.parts.checks import check_choice, check_positive, check_shares
from fathom.models.parts.depthwise import ConvNorm
from fathom.models.parts.pictures import Standardise, check_outputs, is_one_picture, picture_of, strides_for
from fathom.models.parts.squeeze_excite import SqueezeExcite
from fathom.models.parts.stages import rounded
from fathom.models.parts.stochastic_depth import StochasticDepth

USE = "pictures"
SOURCE = "Tan & Le 2019, arXiv:1905.11946, table 1"


class Row(NamedTuple):
    """One stage of table 1, which is b0."""

    wider: int  # how many times the channels are widened inside a block
    size: int  # of the kernel
    stride: int  # of the first block
    channels: int
    blocks: int


STEM, LAST = 32, 1280
ROWS = [
    Row(1, 3, 1, 16, 1),
    Row(6, 3, 2, 24, 2),
    Row(6, 5, 2, 40, 2),
    Row(6, 3, 2, 80, 3),
    Row(6, 5, 1, 112, 3),
    Row(6, 5, 2, 192, 4),
    Row(6, 3, 1, 320, 1),
]
# Multipliers of width and depth, dropout before the head.
SIZES: dict[str, tuple[float, float, float]] = {
    "tiny": (0.5, 0.25, 0.2),
    "b0": (1.0, 1.0, 0.2),
    "b1": (1.0, 1.1, 0.2),
    "b2": (1.1, 1.2, 0.3),
    "b3": (1.2, 1.4, 0.3),
    "b4": (1.4, 1.8, 0.4),
    "b5": (1.6, 2.2, 0.4),
    "b6": (1.8, 2.6, 0.5),
    "b7": (2.0, 3.1, 0.5),
}
SQUEEZED = 0.25  # share of a block's incoming channels


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one picture" if is_one_picture(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str = "tiny",
    width: float | None = None,
    depth: float | None = None,
    padding: str = "symmetric",
    all_strides: bool = False,
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.1,
    dropout: float | None = None,
    drop_path: float = 0.2,
    head: bool = True,
) -> nn.Module:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    `width` and `depth` take the place of the multipliers of `size`, and `dropout` that of its share. `padding` is
    "symmetric" or "tensorflow". `norm_momentum` is the weight of the newest batch in the running means. `drop_path` is
    the share of branches left out in training, growing from 0 in the first block to nearly that in the last. Without
    `head` the answers are the pooled features, and `outputs` must be their number: 1280 at width 1. Raises UserError on
    inputs that are not one picture and on options out of range.
    """
    about = picture_of(inputs, "efficientnet")
    check_choice("size", size, SIZES)
    width, depth, dropout = (
        usual if given is None else given for given, usual in zip((width, depth, dropout), SIZES[size])
    )
    check_shares(dropout=dropout, drop_path=drop_path)
    check_positive(width=width, depth=depth, norm_eps=norm_eps, norm_momentum=norm_momentum)
    check_outputs(outputs, rounded(LAST * width), head=head)
    model = EfficientNet(
        about,
        outputs if head else None,
        scaled(width, depth),
        stem=rounded(STEM * width),
        last=rounded(LAST * width),
        strides=_strides(about, all_strides),
        style={"padding": padding, "eps": norm_eps},
        dropout=dropout,
        drop_path=drop_path,
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = norm_momentum
    return model


def scaled(width: float, depth: float) -> list[Row]:
    """The stages at these multipliers.

    >>> [row.blocks for row in scaled(1.0, 1.1)]
    [2, 3, 3, 4, 4, 5, 2]
    """
    return [row._replace(channels=rounded(row.channels * width), blocks=math.ceil(depth * row.blocks)) for row in ROWS]


def _strides(about: dict[str, Any], all_strides: bool) -> list[int]:
    """Of the stem and of each stage."""
    published = [2, *(row.stride for row in ROWS)]
    return published if all_strides else strides_for(min(about["height"], about["width"]), published)


class EfficientNet(nn.Module):
    """Stem, blocks, one more 1x1 convolution, global average, head. `style` is what every ConvNorm shares."""

    def __init__(
        self,
        about: dict[str, Any],
        outputs: int | None,
        rows: list[Row],
        *,
        stem: int,
        last: int,
        strides: list[int],
        style: dict[str, Any],
        dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        first, *strides = strides
        self.standardise = Standardise(about)
        self.stem = ConvNorm(about["channels"], stem, 3, stride=first, activation="silu", **style)
        num_blocks = sum(row.blocks for row in rows)
        blocks: list[nn.Module] = []
        before = stem
        for row, stride in zip(rows, strides):
            for place in range(row.blocks):
                share = drop_path * len(blocks) / num_blocks
                blocks.append(Bottleneck(before, row, stride if place == 0 else 1, place > 0, share, style))
                before = row.channels
        self.blocks = nn.Sequential(*blocks)
        self.widen = ConvNorm(before, last, activation="silu", **style)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Identity() if outputs is None else nn.Linear(last, outputs)

    def features(self, pixels: Tensor) -> Tensor:
        """What the head sees: [B, C, H, W] to [B, channels of the last convolution]."""
        return self.widen(self.blocks(self.stem(self.standardise(pixels)))).mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(pixels)))


class Bottleneck(nn.Module):
    """Widen, filter each channel, weigh the channels, narrow; added to what came in, but in the first of a stage.

    An inverted bottleneck (Sandler et al. 2018, arXiv:1801.04381, figure 3) with squeeze-and-excitation: "MBConv".
    """

    def __init__(
        self, channels_in: int, row: Row, stride: int, shortcut: bool, drop_path: float, style: dict[str, Any]
    ) -> None:
        super().__init__()
        wide = row.wider * channels_in
        self.widen = ConvNorm(channels_in, wide, activation="silu", **style) if row.wider > 1 else nn.Identity()
        # Without a stride, TensorFlow's padding of an odd kernel is symmetric too, and costs no copy that way.
        padding = style["padding"] if stride > 1 else "symmetric"
        own = {"stride": stride, "groups": wide, "activation": "silu"}
        self.filter = ConvNorm(wide, wide, row.size, **{**style, **own, "padding": padding})
        self.excite = SqueezeExcite(wide, max(1, int(SQUEEZED * channels_in)), activation="silu")
        self.narrow = ConvNorm(wide, row.channels, **style)
        self.drop_path = StochasticDepth(drop_path)
        self.has_shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        inner = self.narrow(self.excite(self.filter(self.widen(x))))
        return x + self.drop_path(inner) if self.has_shortcut else inner
