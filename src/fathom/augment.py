"""Change training pictures a little, a whole batch at a time, so that a network does not learn them by heart.

Pictures stay uint8 [B, C, H, W], 0..255. All chance comes from the generator that is given, and it is drawn where the
generator lives: the same generator state gives the same pictures on every device. Nothing is mirrored unless it is
asked for: a mirrored digit is another digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """How strongly pictures are changed; every strength 0 changes nothing.

    Each picture gets its own draw, uniform between minus and plus the strength: `shift` as a share of height and of
    width, `rotate` in degrees, `scale` as a share of the size. `mirror` turns left and right over in half of the
    pictures. `erase` is the share of pictures that lose a rectangle (Zhong et al. 2020, arXiv:1708.04896).
    """

    mirror: bool = False
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    erase: float = 0.0

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Changed pictures of the same shape, type and device. `pixels` itself is left as it was."""
        moved = self._move(pixels, generator)
        return self._erase(moved, generator) if self.erase > 0 else moved

    def _move(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Mirror, turn, size and shift in one resampling, so that pictures are blurred once and not four times."""
        if not (self.mirror or self.shift or self.rotate or self.scale):
            return pixels.clone()
        B, _, H, W = pixels.shape
        chance = torch.rand(B, 5, generator=generator, device=generator.device).to(pixels.device)
        across, down, turn, size, side = (2 * chance - 1).unbind(1)
        angle = turn * math.radians(self.rotate)
        zoom = 1 + size * self.scale
        flip = torch.where(side < 0, -1.0, 1.0) if self.mirror else torch.ones_like(side)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        # grid_sample counts from -1 to 1 along each side. So a share of the width is twice as much there, and turning a
        # picture that is not square needs the ratio of its sides.
        x, y = _places(W, pixels.device), _places(H, pixels.device)
        from_x = _sum(x, cos * flip, y, -sin * (H / W), 2 * self.shift * across)
        from_y = _sum(x, sin * flip * (W / H), y, cos, 2 * self.shift * down)
        grid = torch.stack([from_x, from_y], dim=-1)
        # What comes in from outside repeats the border: right for a plain background of any colour.
        moved = F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
        return moved.round_().to(pixels.dtype)

    def _erase(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Some pictures lose a rectangle of a quarter to a half of each side; it is filled with their mean colour.

        Writes into `pixels`. How many lose one is fixed, so that a GPU need not be asked: only which ones is chance.
        """
        B, _, H, W = pixels.shape
        num_erased = round(self.erase * B)
        chosen = torch.rand(B, generator=generator, device=generator.device).argsort()[:num_erased].to(pixels.device)
        chance = torch.rand(num_erased, 4, generator=generator, device=generator.device).to(pixels.device)
        high, wide, down, across = chance.unbind(1)
        rows = _inside(H, (0.25 + 0.25 * high) * H, down)[:, None, :, None]
        columns = _inside(W, (0.25 + 0.25 * wide) * W, across)[:, None, None, :]
        whole = pixels[chosen]
        mean = whole[..., ::2, ::2].float().mean(dim=(2, 3), keepdim=True).round().to(pixels.dtype)
        pixels[chosen] = torch.where(rows & columns, mean, whole)
        return pixels


def _places(side: int, device: torch.device) -> Tensor:
    """Where the middles of `side` pixels lie between -1 and 1."""
    return (2 * torch.arange(side, device=device) + 1) / side - 1


def _sum(x: Tensor, of_x: Tensor, y: Tensor, of_y: Tensor, constant: Tensor) -> Tensor:
    """[B, H, W]: of_x x + of_y y + constant, with a coefficient for each picture."""
    return (of_x[:, None] * x)[:, None, :] + (of_y[:, None] * y + constant[:, None])[:, :, None]


def _inside(side: int, length: Tensor, start: Tensor) -> Tensor:
    """[B, side] of bool: which pixels lie in a stretch of `length` [B] pixels at a relative `start` [B] in 0..1."""
    first = start * (side - length)
    position = torch.arange(side, device=length.device) + 0.5
    return (position >= first[:, None]) & (position < (first + length)[:, None])


def views(pixels: Tensor, *, mirror: bool, shift: int = 0) -> list[Tensor]:
    """Pictures as they might as well have been taken, to average a prediction over; the first is `pixels` itself.

    With `mirror` each view also comes turned over; with `shift` it is moved by that many pixels up-left and down-right
    (Jordan 2024, arXiv:2404.00498). So a prediction costs 1, 2, 3 or 6 forward passes.
    """
    seen = [pixels]
    if shift:
        padded = F.pad(pixels.float(), (shift,) * 4, mode="replicate").to(pixels.dtype)
        H, W = pixels.shape[-2:]
        seen += [padded[..., :H, :W], padded[..., 2 * shift :, 2 * shift :]]
    return [view for one in seen for view in ((one, one.flip(-1)) if mirror else (one,))]
