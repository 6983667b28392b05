"""AlexNet: five convolutions, three overlapping poolings, two wide layers with dropout. No normalisation to speak of.

`size` "2012" is the network of the ImageNet contest: two towers, which meet in the third convolution and in the wide
layers, and a response norm. "2014" is its later version with one tower, without the norm, as its weights are passed
around: with 256 channels in the fourth convolution, where the paper of 2014 has 384. "tiny" is that with an eighth of
the channels. What a reader would get wrong: the paper says 224 pixels, and its sums only come out with 2 pixels of
padding before the first convolution.

Departs from the papers: weights start as in He et al. 2015 (arXiv:1502.01852), because with the published deviation of
0.01 for all of them hardly any signal reaches the end of a narrow network. Below 97 pixels a side halvings are left out
from the first on (parts/pictures.py): of the stem's stride of 4, then poolings; the stem's kernel is smaller then.

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

from fathom.models.parts.checks import check_choice, check_shares
from fathom.models.parts.pictures import Standardise, is_one_picture, picture_of, strides_for

USE = "pictures"
SOURCE = "Krizhevsky et al. 2012 (NIPS 25); one tower: Krizhevsky 2014, arXiv:1404.5997, section 5"


class Size(NamedTuple):
    channels: tuple[int, int, int, int, int]
    hidden: int
    towers: int = 1
    response_norm: bool = False


SIZES = {
    "tiny": Size((8, 24, 48, 32, 32), 128),
    "2012": Size((96, 256, 384, 384, 256), 4096, towers=2, response_norm=True),
    "2014": Size((64, 192, 384, 256, 256), 4096),
}
STRIDES = [4, 2, 2, 2]  # of the stem and the three poolings
STEMS = {4: (11, 2), 2: (7, 3), 1: (5, 2)}  # kernel and padding by stride
LARGEST_LAST = 6  # what is left of 224 pixels; more is averaged down to it


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one picture" if is_one_picture(inputs) else None


def build(inputs: dict[str, dict[str, Any]], outputs: int, *, size: str = "tiny", dropout: float = 0.5) -> nn.Module:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    `dropout` is before both wide layers. Raises UserError on inputs that are not one picture and on options that are
    not known.
    """
    about = picture_of(inputs, "alexnet")
    check_shares(dropout=dropout)
    return AlexNet(about, outputs, SIZES[check_choice("size", size, SIZES)], dropout)


class AlexNet(nn.Module):
    """Five convolutions, of which the first, second and fifth may pool, two wide layers, head."""

    def __init__(self, about: dict[str, Any], outputs: int, size: Size, dropout: float) -> None:
        super().__init__()
        stride, *pools = strides_for(min(about["height"], about["width"]), STRIDES)
        one, two, three, four, five = size.channels
        kernel, padding = STEMS[stride]
        stem = _conv(about["channels"], one, kernel, stride=stride, padding=padding)
        self.standardise = Standardise(about)
        self.convolutions = nn.Sequential(
            nn.Sequential(stem, _norm(size), _pool(pools[0])),
            nn.Sequential(_conv(one, two, 5, groups=size.towers), _norm(size), _pool(pools[1])),
            _conv(two, three, 3),
            _conv(three, four, 3, groups=size.towers),
            nn.Sequential(_conv(four, five, 3, groups=size.towers), _pool(pools[2])),
        )
        last = (_side_after(about["height"], stride, pools), _side_after(about["width"], stride, pools))
        self.pool = nn.AdaptiveAvgPool2d(last)
        self.wide = nn.Sequential(
            nn.Dropout(dropout),
            _started(nn.Linear(five * last[0] * last[1], size.hidden)),
            nn.ReLU(),
            nn.Dropout(dropout),
            _started(nn.Linear(size.hidden, size.hidden)),
            nn.ReLU(),
        )
        self.head = nn.Linear(size.hidden, outputs)

    def features(self, pixels: Tensor) -> Tensor:
        """What the head sees: [B, C, H, W] to [B, hidden]."""
        return self.wide(self.pool(self.convolutions(self.standardise(pixels))).flatten(1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))


def _conv(
    channels_in: int, channels_out: int, size: int, *, stride: int = 1, padding: int | None = None, groups: int = 1
) -> nn.Sequential:
    padding = size // 2 if padding is None else padding
    conv = nn.Conv2d(channels_in, channels_out, size, stride, padding, groups=groups)
    return nn.Sequential(_started(conv), nn.ReLU())


def _started(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _pool(stride: int) -> nn.Module:
    """3x3 at every second pixel, so that neighbours overlap (section 3.4); nothing where the halving is left out."""
    return nn.MaxPool2d(3, stride) if stride == 2 else nn.Identity()


def _norm(size: Size) -> nn.Module:
    # Section 3.3: k = 2, n = 5, alpha = 1e-4 of the sum over n channels; torch takes alpha of their mean.
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0) if size.response_norm else nn.Identity()


def _side_after(side: int, stride: int, pools: list[int]) -> int:
    """What the convolutions leave of a side, at most what the published network leaves."""
    kernel, padding = STEMS[stride]
    side = (side + 2 * padding - kernel) // stride + 1
    for pool in pools:
        side = (side - 3) // 2 + 1 if pool == 2 else side
    return min(side, LARGEST_LAST)
