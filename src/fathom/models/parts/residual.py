"""Residual blocks for pictures: two or three convolutions whose result is added to what came in.

Shapes are [B, C, H, W]. A block with `stride` 2 halves height and width (rounding up).
"""

from __future__ import annotations

from torch import Tensor, nn


def conv_norm(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution of `size` x `size` and its batch normalisation, which makes a bias superfluous."""
    conv = nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, Fig. 5 left)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(channels_in, channels_out, 3, stride)
        self.second = conv_norm(channels_out, channels_out, 3)
        self.shortcut = _shortcut(channels_in, channels_out, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(self.relu(self.first(x)))
        return self.relu(inner + self.shortcut(x))


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """The identity where shapes agree. Else average pooling, then 1x1: a 1x1 with stride would drop 3 of 4 pixels."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    mix = conv_norm(channels_in, channels_out, 1)
    return mix if stride == 1 else nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False), mix)
