"""A Vision Transformer: one picture cut into patches, read like a text. From 8x8 digits to photographs.

Named sizes have the published measures; left out, the net is small and trains in seconds. `size` is the dial, and the
patch follows from the picture: 2 pixels for 8x8, 4 for 32x32, the published 16 for 224x224. What a reader would get
wrong: the head starts at zero, as published, so that an untrained net answers 0 to everything.

First weights are those of the authors' code: Glorot's range for the blocks' matrices, which follows from their size.
Departures: the patches start with a deviation of 0.02, as the positions do, where theirs give vectors fifty times as
large as the positions (measured: docs/LOG.md); positions and class token are left out of weight decay.

    >>> about = {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    >>> model = build({"photo": about}, outputs=10, width=32, depth=2)
    >>> model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 10])

Shapes: B pictures, C channels, H x W pixels, T positions: the patches, after the class token where there is one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fathom.models.parts.checks import check_choice
from fathom.models.parts.patching import PatchEmbedding, patch_for, with_class_token
from fathom.models.parts.pictures import check_outputs, is_one_picture, picture_of
from fathom.models.parts.pre_norm import Tower, tower

USE = "pictures"
SOURCE = "Dosovitskiy et al. 2021, arXiv:2010.11929"

# Width, depth, heads: Table 1 of the paper; tiny and small as in Touvron et al. 2021, arXiv:2012.12877, Table 1.
SIZES: dict[str, tuple[int, int, int | None]] = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
# The published patch of photographs, where it is not the one that all others have, 16.
PATCHES, PHOTOGRAPH = {"huge": 14}, 224
POOLS = ("class", "mean")


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one picture" if is_one_picture(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    hidden: int | None = None,
    patch: int | None = None,
    pool: str = "class",
    head: bool = True,
    tanh: bool = False,
    activation: str = "gelu",
    norm_eps: float = 1e-6,
    dropout: float = 0.0,
    drop_attention: float = 0.0,
    drop_path: float = 0.0,
) -> ViT:
    """A network from pixels [B, C, H, W] (uint8, or float in 0..255) to [B, outputs].

    `size` is tiny, small, base, large or huge; left out, a net of 64 channels and 2 blocks. `width`, `depth`, `heads`
    and `hidden` (units of each block's hidden layer) change single measures of it. `patch` is the side of a patch in
    pixels; left out, it follows from the picture, and is 14 for "huge" from 224 pixels on. `pool` reads the answer from
    the class token, or from the mean of the patches without any such token (Beyer et al. 2022, arXiv:2205.01580).
    Without `head` the answer is the pooled vector itself; with `tanh` the answers are squashed to -1..1, as the
    published nets do before their last layer while they are pretrained. `drop_path` is the share of branches left out
    in the last block, growing from 0 in the first. Raises UserError on inputs that are not one picture and on options
    out of range.
    """
    about = picture_of(inputs, "vit")
    check_choice("pool", pool, POOLS)
    measures = tower(
        (64, 2, None) if size is None else SIZES[check_choice("size", size, SIZES)],
        width=width,
        depth=depth,
        heads=heads,
        hidden=hidden,
        activation=activation,
        norm_eps=norm_eps,
        dropout=dropout,
        drop_attention=drop_attention,
        drop_path=drop_path,
    )
    check_outputs(outputs, measures.width, head=head)
    if patch is None and min(about["height"], about["width"]) >= PHOTOGRAPH:
        patch = PATCHES.get(size or "")
    return ViT(about, outputs, measures, patch=patch_for(about, patch), pool=pool, head=head, tanh=tanh)


class ViT(nn.Module):
    """Patches, positions, blocks, a norm, one vector for the picture, a linear head."""

    def __init__(
        self, about: dict[str, Any], outputs: int, measures: Tower, *, patch: int, pool: str, head: bool, tanh: bool
    ) -> None:
        super().__init__()
        self.patches = PatchEmbedding(about, patch, measures.width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, measures.width)) if pool == "class" else None
        num_positions = self.patches.num_patches + (pool == "class")
        self.positions = nn.Parameter(torch.zeros(1, num_positions, measures.width))
        self.dropout = nn.Dropout(measures.dropout)
        self.blocks = measures.blocks()
        self.norm = measures.norm()
        self.head = nn.Linear(measures.width, outputs) if head else nn.Identity()
        self.squashed = tanh
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Glorot's range for matrices, deviation 0.02 for patches and positions, 0 for biases, class token and head."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for vectors in (self.patches.project.weight, self.positions):
            nn.init.normal_(vectors, std=0.02)
        if self.patches.project.bias is not None:
            nn.init.zeros_(self.patches.project.bias)
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)

    def no_decay(self) -> list[nn.Parameter]:
        """Parameters that weight decay would hurt: they are vectors to be added, not matrices."""
        return [self.positions] if self.class_token is None else [self.class_token, self.positions]

    def hidden(self, pixels: Tensor) -> Tensor:
        """Normalised states of every position: [B, C, H, W] → [B, T, width]."""
        x = self.patches(pixels)
        if self.class_token is not None:
            x = with_class_token(self.class_token, x)
        x = self.dropout(x + self.positions)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def features(self, pixels: Tensor) -> Tensor:
        """What the head sees, a vector for each picture: [B, C, H, W] → [B, width]."""
        states = self.hidden(pixels)
        return states[:, 0] if self.class_token is not None else states.mean(dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        answers = self.head(self.features(pixels))
        return answers.tanh() if self.squashed else answers
