"""Mix the rows of a training batch in pairs, inputs and classes alike, so that a network learns to go over smoothly.

Mixup (Zhang et al. 2018, arXiv:1710.09412, eq. 1) takes a weighted mean of two rows, CutMix (Yun et al. 2019,
arXiv:1905.04899, eq. 1) puts a rectangle of one picture into another; the target is shared in the same proportion.
What a reader would get wrong: each row is mixed with the row before it, which in a shuffled batch is any other row, and
each draws its own share. Mixing means something only where a mean does: pictures and numbers, not categories or words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fathom.objectives.parts.classes import as_probabilities

Inputs = Tensor | dict[str, Tensor]
Targets = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Mix:
    """`mixup` and `cutmix` are the parameters of Beta distributions that shares are drawn from; 0 for none.

    The smaller, the nearer to whole rows; 1 is uniform. With both, each batch is mixed in one of the two ways, by the
    toss of a coin.

    >>> numbers, classes = torch.tensor([[0.0], [10.0]]), torch.tensor([0, 1])
    >>> inputs, targets = Mix(2, mixup=1.0)(numbers, classes, np.random.default_rng(0))
    >>> torch.allclose(inputs, 10 * targets[:, 1:])
    True
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, inputs: Inputs, targets: Targets, random: np.random.Generator) -> tuple[Inputs, Targets]:
        """The mixed rows [B, ..], of the type they had, and their classes as probabilities float32 [B, C]."""
        is_cut = self.cutmix > 0 and (self.mixup == 0 or random.random() < 0.5)
        alpha = self.cutmix if is_cut else self.mixup
        given = inputs if isinstance(inputs, dict) else {"": inputs}
        rows = len(next(iter(given.values())))
        shares = random.beta(alpha, alpha, size=rows)
        if is_cut:
            mixed, own = _cut(given, shares, random)
        else:
            # Mixing a with b is mixing b with a: the larger share is called the row's own, so that few are met twice.
            own = _beside(np.maximum(shares, 1 - shares), given)
            mixed = {name: _mean(values, own) for name, values in given.items()}
        return mixed if isinstance(inputs, dict) else mixed[""], self._shared(targets, own)

    def _shared(self, targets: Targets, own: Tensor) -> Targets:
        if isinstance(targets, dict):
            return {name: _mean(as_probabilities(one, self.num_classes), own) for name, one in targets.items()}
        return _mean(as_probabilities(targets, self.num_classes), own)


def _mean(values: Tensor, own: Tensor) -> Tensor:
    """own * row + (1 - own) * the row before; a number that either misses stays the row's own. Pixels are rounded."""
    share = own.view(-1, *[1] * (values.dim() - 1))
    other = values.roll(1, 0)
    if values.dtype == torch.uint8:
        return (share * values.float() + (1 - share) * other.float()).round_().to(torch.uint8)
    mixed = share * values + (1 - share) * other
    return torch.where(mixed.isnan(), values, mixed)


def _cut(
    pictures: dict[str, Tensor], shares: np.ndarray, random: np.random.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Each picture with a rectangle of the one before it, and the share [B] of it that is still its own.

    Of several pictures in a row all get the same rectangle, in parts of their sides.
    """
    middles = random.random((2, len(shares)))
    side = np.sqrt(1 - shares) / 2  # in parts of height and width, on each side of the middle
    mixed, own = {}, torch.ones(len(shares))
    for name, pixels in pictures.items():
        H, W = pixels.shape[-2:]
        inside = _within(H, middles[0], side)[:, :, None] & _within(W, middles[1], side)[:, None, :]
        mask = torch.from_numpy(inside).to(pixels.device)
        mixed[name] = torch.where(mask[:, None], pixels.roll(1, 0), pixels)
        # Counted, not computed: a rectangle ends at the border and at whole pixels.
        own = 1 - mask.float().mean(dim=(1, 2))
    return mixed, own


def _within(length: int, middles: np.ndarray, side: np.ndarray) -> np.ndarray:
    """[B, length] of bool: which pixels lie within `side` of `middles` [B], both in parts of the length."""
    places = (np.arange(length) + 0.5) / length
    return np.abs(places - middles[:, None]) < side[:, None]


def _beside(shares: np.ndarray, given: dict[str, Tensor]) -> Tensor:
    """The shares as a tensor, where the inputs are."""
    return torch.from_numpy(shares.astype(np.float32)).to(next(iter(given.values())).device)
