"""ConvNeXt: a convolutional network in the cut of a transformer. 7x7 on each channel by itself, then a perceptron.

`size` names the published nets: tiny, small, base, large, xlarge. Left out, a small one fits itself to the picture: a
stem of 2x2 pixels (4x4 from 64 pixels a side) and as many stages as leave about 4 pixels a side. What a reader would
get wrong: each branch is multiplied by a learnt number for each channel ("layer scale") that starts at 0.000001, so a
fresh published net is close to its stem and halvings alone. That is for 18 blocks and more; the small nets start at
0.1, as Touvron et al. 2021 (arXiv:2103.17239, section 4) found for nets of few blocks.

Departs from the paper: on pictures below 97 pixels a named size leaves out its first halvings (parts/pictures.py);
with `all_strides` it keeps them. A convolution that no longer halves sees one pixel, not 2x2.

    >>> about = {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    >>> model = build({"photo": about}, outputs=10, width=16)
    >>> model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 10])

Shapes: B pictures, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.checks import check_choice, check_shares, check_sizes
from fathom.models.parts.norm import ChannelNorm
from fathom.models.parts.pictures import Standardise, check_outputs, is_one_picture, picture_of, strides_for
from fathom.models.parts.stages import measures, refuse
from fathom.models.parts.stochastic_depth import StochasticDepth, rising_shares

USE = "pictures"
SOURCE = "Liu et al. 2022, arXiv:2201.03545"

# Section 2 and appendix A.1: blocks and channels of each stage.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
PATCH = 4  # of the stem
LAYER_SCALE, LAYER_SCALE_OF_SMALL = 1e-6, 0.1
DEFAULT_WIDTH, DEFAULT_DEPTH = 32, 1
MOST_STAGES = 4
NORM_EPS = 1e-6
WIDER = 4  # the perceptron's hidden channels, as a multiple


@dataclass(frozen=True)
class Layout:
    strides: Sequence[int]  # of the stem, and before each further stage
    channels: Sequence[int]  # of each stage
    blocks: Sequence[int]  # of each stage


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one picture" if is_one_picture(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    width: int | None = None,
    depth: int | None = None,
    size: str | None = None,
    blocks: str | int | None = None,
    channels: str | int | None = None,
    all_strides: bool = False,
    layer_scale: float | None = None,
    norm_eps: float = NORM_EPS,
    drop_path: float = 0.0,
    head: bool = True,
) -> nn.Module:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    `width` is the channels of the first stage, 32 if left out, each further one has twice as many; `depth` is the
    blocks of each stage, 1 if left out. `size` is a published net instead, of which `blocks` ("3,3,9,3") and `channels`
    ("96,192,384,768") change single measures. `layer_scale` is where that starts, 0 for none. `norm_eps` is that of the
    last norm. `drop_path` is the share of branches left out in the last block, growing from 0 in the first: 0.1, 0.4,
    0.5, 0.5 in the paper from tiny to large. Without `head` the answers are the normalised features, and `outputs` must
    be their number. The rows and columns that a stem or a halving leaves over, the last of an odd picture, are not
    seen, as in the paper's code. Raises UserError on inputs that are not one picture and on options out of range.
    """
    about = picture_of(inputs, "convnext")
    check_shares(drop_path=drop_path)
    if norm_eps <= 0 or (layer_scale is not None and layer_scale < 0):
        raise UserError(
            f"model.norm_eps={norm_eps} and model.layer_scale={layer_scale}: expected more than 0 and at least 0, "
            "for example model.norm_eps=1e-6 model.layer_scale=0.1."
        )
    if size is None:
        why = "changes a published net, and none was named; name it, for example model.size=tiny"
        refuse(why, blocks=blocks, channels=channels, all_strides=all_strides or None)
        layout = _fitted(about, DEFAULT_WIDTH if width is None else width, DEFAULT_DEPTH if depth is None else depth)
    else:
        refuse(
            f"is a measure of our own nets and model.size={size} a whole other net: leave one out",
            width=width,
            depth=depth,
        )
        layout = _published(about, size, blocks, channels, all_strides)
    if layer_scale is None:
        layer_scale = LAYER_SCALE if size is not None else LAYER_SCALE_OF_SMALL
    check_outputs(outputs, layout.channels[-1], head=head)
    last = nn.Linear(layout.channels[-1], outputs) if head else nn.Identity()
    return ConvNeXt(about, layout, last, layer_scale=layer_scale, norm_eps=norm_eps, drop_path=drop_path)


def _fitted(about: dict[str, Any], width: int, depth: int) -> Layout:
    """A net of the size that the picture asks for. 8 → 1 stage; 28 and 32 → 3, from 2x2; 96 to 224 → 4, from 4x4."""
    check_sizes(width=width, depth=depth)
    side = min(about["height"], about["width"])
    patch = 2 if side < 64 else PATCH
    stages = min(MOST_STAGES, 1 + round(math.log2(max(1.0, side / patch / 4))))
    return Layout([patch, *[2] * (stages - 1)], [width << stage for stage in range(stages)], [depth] * stages)


def _published(
    about: dict[str, Any], size: str, blocks: str | int | None, channels: str | int | None, all_strides: bool
) -> Layout:
    """A net of the paper, with other measures where they are given."""
    check_choice("size", size, SIZES)
    num_blocks, wide = measures(blocks, channels, SIZES[size])
    published, side = [PATCH, *[2] * (len(wide) - 1)], min(about["height"], about["width"])
    if all_strides and side < math.prod(published):
        raise UserError(
            f"model.all_strides=true divides the sides by {math.prod(published)}; the smaller is {side}. Leave it out."
        )
    return Layout(published if all_strides else strides_for(side, published), wide, num_blocks)


class ConvNeXt(nn.Module):
    """Stem, stages, global average, norm, head."""

    def __init__(
        self,
        about: dict[str, Any],
        layout: Layout,
        head: nn.Module,
        *,
        layer_scale: float = LAYER_SCALE,
        norm_eps: float = NORM_EPS,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        patch, *strides = layout.strides
        wide = layout.channels
        shares = iter(rising_shares(drop_path, sum(layout.blocks)))
        self.standardise = Standardise(about)
        self.stem = nn.Sequential(_patches(about["channels"], wide[0], patch), ChannelNorm(wide[0], eps=NORM_EPS))
        halvings = [nn.Identity(), *(_halving(wide[i], wide[i + 1], stride) for i, stride in enumerate(strides))]
        self.stages = nn.Sequential(
            *(
                Stage(halving, [Block(channels, layer_scale, next(shares)) for _ in range(num_blocks)])
                for halving, channels, num_blocks in zip(halvings, wide, layout.blocks)
            )
        )
        self.norm = nn.LayerNorm(wide[-1], eps=norm_eps)
        self.head = head
        self.apply(_start)

    def features(self, pixels: Tensor) -> Tensor:
        """What the head sees: [B, C, H, W] to [B, channels of the last stage]."""
        return self.norm(self.stages(self.stem(self.standardise(pixels))).mean(dim=(2, 3)))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))


class Stage(nn.Module):
    """Blocks of one picture size, after the halving that leads there."""

    def __init__(self, halving: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.halving = halving
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.halving(x))


class Block(nn.Module):
    """7x7 on each channel by itself, norm, a perceptron at each pixel; scaled and added to what came in (figure 4)."""

    def __init__(self, channels: int, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.expand = nn.Linear(channels, WIDER * channels)
        self.contract = nn.Linear(WIDER * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), layer_scale)) if layer_scale > 0 else None
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        # Channels last in memory is [B, H, W, C] already: this turns the axes without moving a number.
        inner = self.norm(self.filter(x).permute(0, 2, 3, 1))
        inner = self.contract(F.gelu(self.expand(inner)))
        if self.scale is not None:
            inner = self.scale * inner
        return x + self.drop_path(inner.permute(0, 3, 1, 2))


def _patches(channels_in: int, channels_out: int, side: int) -> nn.Conv2d:
    """A convolution of squares that touch and do not overlap. What is left at the right and the bottom is dropped."""
    return nn.Conv2d(channels_in, channels_out, side, stride=side)


def _halving(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    return nn.Sequential(ChannelNorm(channels_in, eps=NORM_EPS), _patches(channels_in, channels_out, stride))


def _start(module: nn.Module) -> None:
    """Normal numbers of deviation 0.02; biases at zero."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
