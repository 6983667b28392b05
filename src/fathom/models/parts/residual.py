"""Residual blocks for pictures: two or three convolutions whose result is added to what came in.

What a reader would get wrong: where a block changes the size or the channels, what came in must change too before it
can be added, and published networks do that in three ways: `pooled`, `strided` and `padded`. A block without a way
(shortcut=None) adds nothing anywhere: it is a plain stack of convolutions.

Shapes are [B, C, H, W]. A block with `stride` 2 halves height and width (rounding up).

    >>> import torch
    >>> block = Bottleneck(64, 256, stride=2, shortcut=strided)
    >>> block(torch.randn(1, 64, 7, 7)).shape
    torch.Size([1, 256, 4, 4])
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError

Shortcut = Callable[[int, int, int], nn.Module]  # channels in, channels out, stride
NARROWER = 4  # a bottleneck's inner convolutions have a fourth of its channels


def conv_norm(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution of `size` x `size` and its batch normalisation, which makes a bias superfluous."""
    conv = nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


def pooled(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Average pooling, then 1x1: a 1x1 with stride would drop 3 of 4 pixels (He et al. 2019, arXiv:1812.01187)."""
    mix = conv_norm(channels_in, channels_out, 1)
    return mix if stride == 1 else nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False), mix)


def strided(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """One 1x1 convolution with the stride: option B of He et al. 2016."""
    return conv_norm(channels_in, channels_out, 1, stride)


def padded(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Every other pixel, and zeros for the new channels: option A of He et al. 2016, which learns nothing.

    Raises UserError where there are fewer channels than before.
    """
    if channels_out < channels_in:
        raise UserError(
            f"model.channels: {channels_out} channels after {channels_in}; expected at least as many, since these nets "
            "fill up with zeros what they add. Type no fewer, as in model.channels=16,16,32,64."
        )
    return Padded(channels_out - channels_in, stride)


class Padded(nn.Module):
    """[B, C, H, W] → [B, C + more, H / stride, W / stride], rounding up.

    >>> import torch
    >>> Padded(1, 2)(torch.ones(1, 1, 3, 3)).sum(dim=(2, 3))
    tensor([[4., 0.]])
    """

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, Fig. 5 left)."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, *, shortcut: Shortcut | None = pooled
    ) -> None:
        super().__init__()
        self.first = conv_norm(channels_in, channels_out, 3, stride)
        self.second = conv_norm(channels_out, channels_out, 3)
        self.shortcut = _way_round(shortcut, channels_in, channels_out, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(self.relu(self.first(x)))
        return self.relu(inner if self.shortcut is None else inner + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1 to a fourth of the channels, 3x3, 1x1 back, and a shortcut (He et al. 2016, Fig. 5 right).

    `stride_first` puts the stride into the first 1x1 convolution, as the paper has it; else the 3x3 has it.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        *,
        shortcut: Shortcut | None = strided,
        stride_first: bool = False,
    ) -> None:
        super().__init__()
        narrow = channels_out // NARROWER
        self.first = conv_norm(channels_in, narrow, 1, stride if stride_first else 1)
        self.second = conv_norm(narrow, narrow, 3, 1 if stride_first else stride)
        self.third = conv_norm(narrow, channels_out, 1)
        self.shortcut = _way_round(shortcut, channels_in, channels_out, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.third(self.relu(self.second(self.relu(self.first(x)))))
        return self.relu(inner if self.shortcut is None else inner + self.shortcut(x))


def _way_round(shortcut: Shortcut | None, channels_in: int, channels_out: int, stride: int) -> nn.Module | None:
    """The identity where shapes agree, else that way of making them agree."""
    if shortcut is not None and stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return None if shortcut is None else shortcut(channels_in, channels_out, stride)
