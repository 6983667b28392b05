"""Classification: cross-entropy between the model's logits and the class of each row.

Logits may be [B, C], or [B, K, C] for a network of K members: each member is trained on its own loss, and the
prediction is the mean of the members' probabilities (not of their logits).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import Loss

TASK = "classify"
SOURCE = "label smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7"


def build(spec: Mapping[str, Any], *, label_smoothing: float = 0.0) -> Classify:
    """The objective for a spec with "classes". `label_smoothing` is the share of the target spread over all classes."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1.")
    return Classify(outputs(spec), label_smoothing)


def outputs(spec: Mapping[str, Any]) -> int:
    """How many numbers the model must produce for a row: one logit for each class."""
    return len(spec["classes"])


def decode(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Logits [B, C] or [B, K, C] → probabilities [B, C] in float64, each row summing to 1."""
    probabilities = torch.softmax(raw.double(), dim=-1)
    return probabilities.mean(dim=1) if probabilities.dim() == 3 else probabilities


class Classify:
    """Batches are pairs (inputs, targets) with int64 targets [B]."""

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def count(self, batch: Any) -> float:
        return float(len(batch[1]))

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        inputs, targets = batch
        yield Loss(self.total(model(inputs), targets), float(len(targets)))

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum over rows of the cross-entropy in nats, averaged over members where there are several."""
        if logits.dim() == 2:
            return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=self.label_smoothing)
        members = logits.shape[1]
        repeated = targets[:, None].expand(-1, members).reshape(-1)
        flat = logits.reshape(-1, logits.shape[-1])
        return F.cross_entropy(flat, repeated, reduction="sum", label_smoothing=self.label_smoothing) / members
