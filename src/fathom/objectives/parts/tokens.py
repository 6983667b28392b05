"""Cross-entropy over the tokens of a batch: what all objectives of texts share. Id 0 is padding and costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import Loss
from fathom.objectives.parts.balance import balanced

PAD = 0


class TokenLoss:
    """Batches are pairs (inputs, targets): int64 targets [B, T], 0 where there is nothing to say."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1.")
        self.label_smoothing = label_smoothing

    def count(self, batch: Any) -> float:
        return float((batch[1] != PAD).sum())

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        inputs, targets = batch
        total = token_loss(model, inputs, targets, label_smoothing=self.label_smoothing)
        yield balanced(model, total, self.count(batch))


def token_loss(model: nn.Module, inputs: Any, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Sum over positions with a target of the cross-entropy in nats, of the model's logits [B, T, V]."""
    logits = model(inputs)
    return F.cross_entropy(
        logits.flatten(0, -2),
        targets.flatten(),
        ignore_index=PAD,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def log_probabilities(raw: Tensor) -> Tensor:
    """Logits [.., V] → log-probabilities [.., V] in float64, in nats."""
    return torch.log_softmax(raw.double(), dim=-1)
