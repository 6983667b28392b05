"""A picture as a sequence: cut into square patches, each projected to a vector. ViT and CLIP begin so.

Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1 and, for pictures of another size, 3.2. What a reader would get
wrong: positions are learned for one grid of patches. A net for another size of pictures needs them interpolated (see
`resized`); pixels of another size alone are refused.

Shapes: B pictures, C channels, H x W pixels, a grid of rows x columns patches.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.checks import check_sizes
from fathom.models.parts.pictures import Standardise

Model = TypeVar("Model", bound=nn.Module)


class PatchEmbedding(nn.Module):
    """Pixels [B, C, H, W] (uint8, or float in 0..255) → vectors [B, rows · columns, width], row by row.

    Pictures whose sides the patch does not divide are padded at the bottom and on the right with their mean colour.

    >>> about = {"height": 8, "width": 12, "channels": 1, "mean": [0.5], "std": [0.5]}
    >>> patches = PatchEmbedding(about, patch=4, width=16)
    >>> patches.grid, patches(torch.zeros(2, 1, 8, 12, dtype=torch.uint8)).shape
    ((2, 3), torch.Size([2, 6, 16]))
    """

    def __init__(self, about: dict[str, Any], patch: int, width: int, *, bias: bool = True) -> None:
        super().__init__()
        self.standardise = Standardise(about)
        self.size = (int(about["height"]), int(about["width"]))
        self.project = nn.Conv2d(about["channels"], width, patch, stride=patch, bias=bias)

    @property
    def patch(self) -> int:
        return self.project.kernel_size[0]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return math.ceil(self.size[0] / self.patch), math.ceil(self.size[1] / self.patch)

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = self.size
        if tuple(pixels.shape[-2:]) != self.size:
            raise UserError(
                f"Pictures of {pixels.shape[-2]} x {pixels.shape[-1]} pixels came to a model for {height} x {width}. "
                "Scale them, or make a model of their size with fathom.models.parts.patching.resized."
            )
        x = self.standardise(pixels)
        down, right = -height % self.patch, -width % self.patch
        if down or right:
            x = F.pad(x, (0, right, 0, down))
        return self.project(x).flatten(2).transpose(1, 2)


def patch_for(about: dict[str, Any], patch: int | None = None) -> int:
    """The patch asked for; left out, the power of two nearest to the root of the picture's side.

    A picture is then about as many patches high as a patch has pixels. Raises UserError where it is larger than the
    picture.

    >>> [patch_for({"height": side, "width": side}) for side in (8, 28, 32, 96, 224)]
    [2, 4, 4, 8, 16]
    """
    if patch is None:
        side = math.sqrt(about["height"] * about["width"])
        return min(2 ** math.ceil(math.log2(side) / 2 - 0.5), about["height"], about["width"])
    check_sizes(patch=patch)
    if patch > min(about["height"], about["width"]):
        raise UserError(
            f"model.patch={patch}: expected at most the side of a picture, which is {about['height']} x "
            f"{about['width']} pixels. Type model.patch={patch_for(about)}, or leave it out."
        )
    return patch


def with_class_token(token: Tensor, patches: Tensor) -> Tensor:
    """The learned vector in front of each picture's patches: [B, T, width] → [B, 1 + T, width]."""
    return torch.cat([token.expand(patches.shape[0], 1, -1), patches], dim=1)


def resize_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Learned positions [.., extra + old rows · columns, width] for a grid of another size, by bicubic interpolation.

    What stands before the patches (a class token) keeps its own. The same size gives the same tensor.

    >>> resize_positions(torch.randn(1, 1 + 2 * 2, 8), (2, 2), (3, 4)).shape
    torch.Size([1, 13, 8])
    """
    if old == new:
        return positions
    extra = positions.shape[-2] - old[0] * old[1]
    kept, moved = positions[..., :extra, :], positions[..., extra:, :]
    width = positions.shape[-1]
    picture = moved.reshape(*old, width).permute(2, 0, 1)[None]
    scaled = F.interpolate(picture, size=new, mode="bicubic", align_corners=False)
    return torch.cat([kept, scaled[0].permute(1, 2, 0).reshape(*kept.shape[:-2], -1, width)], dim=-2)


def resized(model: Model, height: int, width: int) -> Model:
    """A copy of a model for pictures of another size, with the positions of its patches interpolated.

    For models that keep `patches` and `positions`, in themselves or in a part: ViT and CLIP. To build it again, name
    the new size in its inputs.
    """
    model = copy.deepcopy(model)
    found = [(p, p.patches) for p in model.modules() if isinstance(getattr(p, "patches", None), PatchEmbedding)]
    if not found:
        raise UserError(f"{type(model).__name__} does not cut pictures into patches; nothing of it can be resized.")
    for part, patches in found:
        assert isinstance(patches, PatchEmbedding) and isinstance(part.positions, Tensor)
        patch_for({"height": height, "width": width}, patches.patch)
        old = patches.grid
        patches.size = (height, width)
        part.positions = nn.Parameter(resize_positions(part.positions.detach(), old, patches.grid))
    return model
