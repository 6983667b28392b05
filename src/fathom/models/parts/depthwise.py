"""The layer that mobile networks are made of: a convolution, possibly of each channel by itself, its norm, a rectifier.

What a reader would get wrong: "symmetric" and "tensorflow" padding agree on sizes and, for pictures of even sides,
disagree on every stride of 2: TensorFlow pads such a picture at the bottom and on the right only, so that weights
trained there look one pixel further.

Shapes are [B, C, H, W].
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fathom.models.parts import activations
from fathom.models.parts.checks import check_choice

PADDINGS = ("symmetric", "tensorflow")


class ConvNorm(nn.Module):
    """A convolution of `size` x `size` without bias, batch normalisation and `activation`, if any.

    `groups` equal to the channels makes it depthwise. Height and width are divided by `stride`, rounding up.

    >>> import torch
    >>> ConvNorm(8, 8, 3, stride=2, groups=8, activation="relu6")(torch.randn(2, 8, 7, 7)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = None,
        padding: str = "symmetric",
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        check_choice("padding", padding, PADDINGS)
        self.padded_before = padding == "tensorflow" and size > 1
        around = 0 if self.padded_before else size // 2
        self.conv = nn.Conv2d(channels_in, channels_out, size, stride, around, groups=groups, bias=False)
        # Fan-in, which torch counts within the group: by the fan-out a depthwise kernel would start near nothing.
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = nn.BatchNorm2d(channels_out, eps=eps)
        self.activation = nn.Identity() if activation is None else activations.activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        if self.padded_before:
            x = pad_like_tensorflow(x, self.conv.kernel_size[0], self.conv.stride[0])
        return self.activation(self.norm(self.conv(x)))


def pad_like_tensorflow(x: Tensor, size: int, stride: int) -> Tensor:
    """Zeros around [B, C, H, W] so that a convolution gives H / stride, rounded up; the end gets what is left over."""
    height, width = (max(size - (side % stride or stride), 0) for side in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
