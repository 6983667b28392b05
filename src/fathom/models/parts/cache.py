"""What a model remembers of the positions that it has read, so that each new token costs one position and not all.

What a reader would get wrong: a cache belongs to the rows it was begun with and only grows. Another text needs another
cache.

    >>> cache = Cache()
    >>> key, value = cache.extend(0, torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 4))
    >>> key, value = cache.extend(0, torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))
    >>> key.shape
    torch.Size([1, 2, 6, 4])
"""

from __future__ import annotations

import torch
from torch import Tensor


class Cache:
    """One for each batch of sequences being written, shared by all layers of a model.

    A model first asks `note` for the mask of all positions; each layer hands its new keys and values [B, G, T, D] to
    `extend` and gets those of all positions so far; after the last layer the model adds T to `length`. Recurrent layers
    keep their states in `layers` instead. Whatever is kept has the rows first.
    """

    def __init__(self) -> None:
        self.length = 0  # positions read before the tokens now coming in
        self.inside: Tensor | None = None  # bool [B, positions read], where any of them is padding
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self.layers: dict[int, tuple[Tensor, ...]] = {}  # a recurrent layer's state after `length` positions

    def note(self, inside: Tensor | None, tokens: Tensor) -> Tensor | None:
        """The mask of all positions, those of the new tokens [B, T] among them; None where no mask was ever given."""
        if inside is None and self.inside is None:
            return None
        before = self.inside if self.inside is not None else _all_real(tokens.shape[0], self.length, tokens)
        new = inside if inside is not None else _all_real(tokens.shape[0], tokens.shape[1], tokens)
        self.inside = torch.cat([before, new], dim=1)
        return self.inside

    def extend(self, layer: int, key: Tensor, value: Tensor, *, window: int | None = None) -> tuple[Tensor, Tensor]:
        """All keys and values that the new positions may look at. With a `window` only so many latest are kept."""
        if layer in self.keys:
            key = torch.cat([self.keys[layer], key], dim=2)
            value = torch.cat([self.values[layer], value], dim=2)
        kept = slice(None) if window is None else slice(-window, None)
        self.keys[layer], self.values[layer] = key[:, :, kept], value[:, :, kept]
        return key, value

    def reorder(self, rows: Tensor) -> None:
        """Go on with these rows, int64 [B], in their order; a row may be taken several times."""
        self.keys = {layer: key.index_select(0, rows) for layer, key in self.keys.items()}
        self.values = {layer: value.index_select(0, rows) for layer, value in self.values.items()}
        self.layers = {layer: tuple(part.index_select(0, rows) for part in s) for layer, s in self.layers.items()}
        self.inside = None if self.inside is None else self.inside.index_select(0, rows)


def _all_real(rows: int, length: int, like: Tensor) -> Tensor:
    return torch.ones(rows, length, dtype=torch.bool, device=like.device)
