"""Contrast: of all captions in the batch a picture must find its own, and a caption its picture.

The symmetric loss of CLIP, Radford et al. 2021, arXiv:2103.00020, figure 3 (InfoNCE: van den Oord et al. 2018,
arXiv:1807.03748, eq. 4). What a reader would get wrong: what a row costs depends on the other rows of its batch, which
are the wrong answers; so a larger batch is a harder question, and a batch cut into pieces is another objective.

Shapes: B rows; the model answers [B, 2, D], a vector for each side whose dot products are the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import Loss
from fathom.objectives.parts.balance import balanced

TASK = "pair"
SOURCE = "Radford et al. 2021, arXiv:2103.00020, figure 3"
CUT_CHANGES = "the other rows of a batch are the wrong answers"
# Section 2.5: logits are never scaled by more than 100, which is the square of the vectors' length.
LONGEST = 10.0


def build(spec: Mapping[str, Any], *, label_smoothing: float = 0.0) -> Contrastive:
    """The objective for a spec with "width", the length D of the vectors.

    Batches are pairs ({"photo": …, "caption": …}, ids int64 [B]): where an id comes twice in a batch, such as that of a
    picture with several captions, either answer is right (Yang et al. 2022, arXiv:2204.03610, eq. 2 and 3). Ids [B, K]
    are of several kinds, such as of the picture and of the caption: rows that share any are right for each other.
    `label_smoothing` is the share of the target spread over all rows of the batch.

    >>> vectors = 5 * torch.eye(3)[:, None].expand(3, 2, 3)  # each picture's vector is its caption's
    >>> loss = next(build({"width": 3}).losses(nn.Identity(), (vectors, torch.arange(3))))
    >>> loss.count, bool(loss.total < 1e-6)
    (3.0, True)
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1.")
    return Contrastive(label_smoothing)


def outputs(spec: Mapping[str, Any]) -> int:
    """The length of the vectors that pictures and captions become."""
    return int(spec["width"])


def decode(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Vectors [N, 2, D] → for each picture how likely each caption is its own: [N, N] in float64, rows summing to 1."""
    return torch.softmax(similarity(raw.double()), dim=1)


def similarity(raw: Tensor) -> Tensor:
    """Vectors [B, 2, D] → the logit of each first with each second [B, B]; what is longer than allowed is shortened."""
    length = torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
    bounded = raw * (LONGEST / length.clamp_min(LONGEST))
    return bounded[:, 0] @ bounded[:, 1].T


class Contrastive:
    """The mean of two cross-entropies: which caption for a picture, and which picture for a caption."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def count(self, batch: Any) -> float:
        return float(len(batch[1]))

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        inputs, ids = batch
        yield balanced(model, self.total(model(inputs), ids), self.count(batch))

    def total(self, raw: Tensor, ids: Tensor) -> Tensor:
        """Sum over rows in nats."""
        # Logits of up to a hundred have steps of a half in bf16, to which autocast would bring this product too.
        logits = similarity(raw.double())
        shared = ids[:, None] == ids
        same = shared.reshape(*logits.shape, -1).any(dim=-1).to(logits.dtype)
        target = same / same.sum(dim=1, keepdim=True)
        losses = [
            F.cross_entropy(one, target, reduction="sum", label_smoothing=self.label_smoothing)
            for one in (logits, logits.T)
        ]
        return 0.5 * (losses[0] + losses[1])
