"""A residual CNN for one picture, from 8x8 digits to photographs. Stem and number of stages follow from its size.

`depth` counts weighted layers as in the paper's names (stem + two for each block + head), so 18 is ResNet-18's layout
where the picture is large enough for its four stages. Pixels come in as 0..255; the normalisation is part of the model.

Shapes: B pictures, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.residual import BasicBlock, conv_norm

USE = "pictures"
SOURCE = "He et al. 2016, arXiv:1512.03385; pooled shortcuts from He et al. 2019, arXiv:1812.01187"

SMALLEST_SIDE = 4  # a picture below this has nothing left for a 3x3 kernel to see
LAST_SIDE = 4  # stages are added until the picture is about this small
MOST_STAGES = 4


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    forms = [about["form"] for about in inputs.values()]
    return "one picture" if forms == ["pixels"] else None


def build(inputs: dict[str, dict[str, Any]], outputs: int, *, width: int = 32, depth: int | None = None) -> nn.Module:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    `width` is the channels of the first stage; each further stage has twice as many and half the height and width.
    `depth` is an even number of layers; left out, each stage gets one block. Raises UserError on inputs that are not
    one picture and on sizes that do not fit.
    """
    if claims(inputs) is None:
        found = ", ".join(f"{name} ({about['form']})" for name, about in inputs.items()) or "nothing"
        raise UserError(f"resnet takes one picture; found {found}. Choose another with model=…; see: fathom models")
    (about,) = inputs.values()
    if width < 1:
        raise UserError(f"model.width={width}: expected at least 1 channel, for example model.width=32.")
    return ResNet(about, outputs, width, _blocks(depth, *_layout(about["height"], about["width"])))


def _layout(height: int, width: int) -> tuple[int, int]:
    """The stride of the stem, and the number of stages after it. 8 → (1, 2); 28 and 32 → (2, 3); 96 to 224 → (4, 4)."""
    side = min(height, width)
    if side < SMALLEST_SIDE:
        raise UserError(
            f"Pictures of {height} x {width} pixels are too small for resnet, which needs {SMALLEST_SIDE} a side. "
            "Choose another model, for example model=mlp."
        )
    stride = 1 if side < 16 else 2 if side < 64 else 4
    stages = 1 + round(math.log2(max(1.0, side / stride / LAST_SIDE)))
    return stride, min(stages, MOST_STAGES)


def _blocks(depth: int | None, stride: int, stages: int) -> tuple[int, list[int]]:
    """The stem's stride, and how many blocks each stage holds."""
    if depth is None:
        return stride, [1] * stages
    least = 2 + 2 * stages
    if depth % 2 or depth < least:
        raise UserError(
            f"model.depth={depth}: expected an even number from {least} for these pictures "
            f"({stages} stages of at least one block, 2 layers each, and 2 more). Type model.depth={least}."
        )
    # Blocks that do not share out evenly go to the middle stages, where ResNet-34 has them too: 3, 4, 6, 3.
    each, left = divmod((depth - 2) // 2, stages)
    order = sorted(range(stages), key=lambda stage: abs(stage - (stages - 0.5) / 2))
    return stride, [each + (stage in order[:left]) for stage in range(stages)]


class ResNet(nn.Module):
    """Stem, stages, global average, head."""

    mean: Tensor
    std: Tensor

    def __init__(self, about: dict[str, Any], outputs: int, width: int, layout: tuple[int, list[int]]) -> None:
        super().__init__()
        stride, blocks = layout
        # `about` speaks of pixels divided by 255.
        self.register_buffer("mean", 255.0 * torch.tensor(about["mean"], dtype=torch.float32)[:, None, None])
        self.register_buffer("std", 255.0 * torch.tensor(about["std"], dtype=torch.float32)[:, None, None])
        self.stem = _stem(about["channels"], width, stride)
        stages: list[nn.Module] = []
        channels = width
        for index, num_blocks in enumerate(blocks):
            stages.append(_stage(channels, width << index, num_blocks, stride=1 if index == 0 else 2))
            channels = width << index
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, outputs)

    def features(self, pixels: Tensor) -> Tensor:
        """What the head sees: [B, C, H, W] to [B, channels of the last stage]."""
        # Channels last is about 1.4 times faster on CPU and on tensor cores. Asked for while changing the type, because
        # a single gray channel is in both orders at once and would be left as it is; asked again where no type changed.
        pixels = pixels.to(self.head.weight.dtype, memory_format=torch.channels_last)
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


def _stage(channels_in: int, channels_out: int, num_blocks: int, stride: int) -> nn.Module:
    """Blocks of one picture size. Only the first changes size and channels."""
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(BasicBlock(channels_out, channels_out) for _ in range(num_blocks - 1)))
