"""Keys and values of the positions that were read already, so that each new token costs one position and not all."""

from __future__ import annotations

import torch
from torch import Tensor


class Cache:
    """One per sequence being written, shared by all layers of a model.

    A layer hands its new keys and values [B, G, T, D] to `extend` and gets those of all positions so far. With a
    `window` only that many latest positions are kept; `length` still counts all that were read.
    """

    def __init__(self, *, window: int | None = None) -> None:
        self.window = window
        self.length = 0  # positions read before the tokens now coming in; the model adds to it after its last layer
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self.keys:
            key = torch.cat([self.keys[layer], key], dim=2)
            value = torch.cat([self.values[layer], value], dim=2)
        kept = slice(None) if self.window is None else slice(-self.window, None)
        self.keys[layer], self.values[layer] = key[:, :, kept], value[:, :, kept]
        return key, value
