"""A residual CNN for one picture, from 8x8 digits to photographs: the published nets by `size`, our own by `width`.

Without `size` the stem and the number of stages follow from the picture, and `depth` counts weighted layers as in the
paper's names (stem + two for each block + head). With `size` the net is the paper's, whatever the picture: 18, 34, 50,
101 and 152 of Table 1 (for about 224x224), 20, 32, 44, 56 and 110 of section 4.2 (for 32x32). Pixels come in as
0..255; the normalisation is part of the model.

What a reader would get wrong: in the nets of three-layer blocks (50 and more) the 3x3 convolution has the stride, not
the 1x1 before it. So have the weights in circulation ("v1.5"); `stride_first` is the paper.

    >>> about = {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    >>> model = build({"photo": about}, outputs=10, size="20")
    >>> model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 10])

Shapes: B pictures, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.checks import check_choice
from fathom.models.parts.pictures import check_outputs, is_one_picture, picture_of
from fathom.models.parts.residual import BasicBlock, Bottleneck, Shortcut, conv_norm, padded, pooled, strided
from fathom.models.parts.stages import measures, refuse

USE = "pictures"
SOURCE = "He et al. 2016, arXiv:1512.03385; pooled shortcuts from He et al. 2019, arXiv:1812.01187"

LAST_SIDE = 4  # stages are added until the picture is about this small
MOST_STAGES = 4
DEFAULT_WIDTH = 32

# Table 1: blocks of each stage. From 50 layers on they are bottlenecks.
FOR_PHOTOGRAPHS = {
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
}
OF_BOTTLENECKS = ("50", "101", "152")
# Section 4.2: 6n + 2 layers.
FOR_SMALL_PICTURES = {str(6 * n + 2): (n, n, n) for n in (3, 5, 7, 9, 18)}
SIZES = (*FOR_PHOTOGRAPHS, *FOR_SMALL_PICTURES)


@dataclass(frozen=True)
class Layout:
    stride: int  # of the stem: 1, 2, or 4 with a max pool
    stem: int  # channels after it
    channels: Sequence[int]  # of each stage
    blocks: Sequence[int]  # of each stage
    block: Callable[..., nn.Module] = BasicBlock
    shortcut: Shortcut = pooled


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one picture" if is_one_picture(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    side, outputs = (32, 10) if size in FOR_SMALL_PICTURES else (224, 1000)
    about = {"form": "pixels", "height": side, "width": side, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    return {"photo": about}, outputs


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    width: int | None = None,
    depth: int | None = None,
    size: str | int | None = None,
    blocks: str | int | None = None,
    channels: str | int | None = None,
    stride_first: bool = False,
    residual: bool = True,
    head: bool = True,
) -> nn.Module:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    `width` is the channels of the first stage, 32 if left out; each further stage has twice as many and half the height
    and width. `depth` is an even number of layers; left out, each stage gets one block. `size` is a published net
    instead, of which `blocks` ("3,4,6,3") and `channels` ("64,256,512,1024,2048": stem, then stages) change single
    measures. `residual=False` leaves out the additions, to show what they are for: the paper's plain nets. Without
    `head` the answers are the pooled features, and `outputs` must be their number. Raises UserError on inputs that are
    not one picture and on sizes that do not fit.
    """
    about = picture_of(inputs, "resnet")
    if size is None:
        why = "changes a published net, and none was named; name it, for example model.size=50"
        refuse(why, blocks=blocks, channels=channels, stride_first=stride_first or None)
        layout = _fitted(about, DEFAULT_WIDTH if width is None else width, depth)
    else:
        refuse(
            f"is a measure of our own nets and model.size={size} a whole other net: leave one out",
            width=width,
            depth=depth,
        )
        layout = _published(str(size), blocks, channels, stride_first)
    check_outputs(outputs, layout.channels[-1], head=head)
    last = partial(nn.Linear, layout.channels[-1], outputs) if head else nn.Identity
    return ResNet(about, layout, last, residual=residual, keeps_scaling=size is None)


def _published(size: str, blocks: str | int | None, channels: str | int | None, stride_first: bool) -> Layout:
    """A net of the paper, with other measures where they are given."""
    size = check_choice("size", size, SIZES)
    if stride_first and size not in OF_BOTTLENECKS:
        raise UserError(f"model.stride_first is about the blocks of {', '.join(OF_BOTTLENECKS)}; size is {size}.")
    if size in FOR_SMALL_PICTURES:
        own = Layout(1, 16, (16, 32, 64), FOR_SMALL_PICTURES[size], BasicBlock, padded)
    elif size in OF_BOTTLENECKS:
        bottleneck = partial(Bottleneck, stride_first=stride_first)
        own = Layout(4, 64, (256, 512, 1024, 2048), FOR_PHOTOGRAPHS[size], bottleneck, strided)
    else:
        own = Layout(4, 64, (64, 128, 256, 512), FOR_PHOTOGRAPHS[size], BasicBlock, strided)
    num_blocks, (stem, *wide) = measures(blocks, channels, (own.blocks, (own.stem, *own.channels)), before=1)
    return Layout(own.stride, stem, wide, num_blocks, own.block, own.shortcut)


def _fitted(about: dict[str, Any], width: int, depth: int | None) -> Layout:
    """A net of the size that the picture asks for."""
    if width < 1:
        raise UserError(f"model.width={width}: expected at least 1 channel, for example model.width=32.")
    stride, stages = _stem_and_stages(about["height"], about["width"])
    return Layout(stride, width, [width << stage for stage in range(stages)], _blocks(depth, stages))


def _stem_and_stages(height: int, width: int) -> tuple[int, int]:
    """The stride of the stem, and the number of stages after it. 8 → (1, 2); 28 and 32 → (2, 3); 96 to 224 → (4, 4)."""
    side = min(height, width)
    stride = 1 if side < 16 else 2 if side < 64 else 4
    stages = 1 + round(math.log2(max(1.0, side / stride / LAST_SIDE)))
    return stride, min(stages, MOST_STAGES)


def _blocks(depth: int | None, stages: int) -> list[int]:
    """How many blocks each stage holds."""
    if depth is None:
        return [1] * stages
    least = 2 + 2 * stages
    if depth % 2 or depth < least:
        raise UserError(
            f"model.depth={depth}: expected an even number from {least} for these pictures "
            f"({stages} stages of at least one block, 2 layers each, and 2 more). Type model.depth={least}."
        )
    # Blocks that do not share out evenly go to the middle stages, where ResNet-34 has them too: 3, 4, 6, 3.
    each, left = divmod((depth - 2) // 2, stages)
    order = sorted(range(stages), key=lambda stage: abs(stage - (stages - 0.5) / 2))
    return [each + (stage in order[:left]) for stage in range(stages)]


class ResNet(nn.Module):
    """Stem, stages, global average, head. `head` is made last, so that a net without one starts with the same weights.

    `keeps_scaling` puts mean and deviation of the pixels among the weights; files of published weights have none.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        about: dict[str, Any],
        layout: Layout,
        head: Callable[[], nn.Module],
        *,
        residual: bool = True,
        keeps_scaling: bool = True,
    ) -> None:
        super().__init__()
        for name in ("mean", "std"):
            # `about` speaks of pixels divided by 255.
            value = 255.0 * torch.tensor(about[name], dtype=torch.float32)[:, None, None]
            self.register_buffer(name, value, persistent=keeps_scaling)
        self.stem = _stem(about["channels"], layout.stem, layout.stride)
        stages: list[nn.Module] = []
        before = layout.stem
        block = partial(layout.block, shortcut=layout.shortcut if residual else None)
        for index, (channels, num_blocks) in enumerate(zip(layout.channels, layout.blocks)):
            first = block(before, channels, 1 if index == 0 else 2)
            stages.append(nn.Sequential(first, *(block(channels, channels) for _ in range(num_blocks - 1))))
            before = channels
        self.stages = nn.Sequential(*stages)
        self.head = head()

    def features(self, pixels: Tensor) -> Tensor:
        """What the head sees: [B, C, H, W] to [B, channels of the last stage]."""
        # Channels last is about 1.4 times faster on CPU and on tensor cores. Asked for while changing the type, because
        # a single gray channel is in both orders at once and would be left as it is; asked again where no type changed.
        pixels = pixels.to(self.mean.dtype, memory_format=torch.channels_last)
        x = self.stem((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.stages(x).mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))


def _stem(channels: int, width: int, stride: int) -> nn.Module:
    """From the picture to `width` channels, at 1/stride of its height and width."""
    if stride == 1:
        return nn.Sequential(conv_norm(channels, width, 3), nn.ReLU(inplace=True))
    halved = [conv_norm(channels, width, 5 if stride == 2 else 7, stride=2), nn.ReLU(inplace=True)]
    return nn.Sequential(*halved, *([nn.MaxPool2d(3, stride=2, padding=1)] if stride == 4 else []))
