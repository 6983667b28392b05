"""Classification: cross-entropy between the model's logits and the class of each row.

Logits may be [B, C], or [B, K, C] for a network of K members: each member is trained on its own loss, and the
prediction is the mean of the members' probabilities (not of their logits). Targets are class indices, or
probabilities where rows were mixed. What a reader would get wrong: the count is of rows, whatever they weigh, so that
the gradient of a batch stays an unbiased estimate; whoever gives weights scales them to a mean of 1 over training rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fathom.loop import Loss
from fathom.objectives.parts.balance import balanced
from fathom.objectives.parts.classes import class_loss, class_probabilities

TASK = "classify"
SOURCE = "label smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7; focal: Lin et al. 2017, arXiv:1708.02002"


def build(
    spec: Mapping[str, Any],
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    focal: float = 0.0,
) -> Classify:
    """The objective for a spec with "classes".

    `label_smoothing` is the share of the target spread over all classes; `class_weights` is how much a row of each
    class counts, in the order of the classes; `focal` is the exponent of eq. 4 of the focal loss, which turns away from
    rows that are right already (0: all alike). Weighted and focal training answer another question than how often
    each class comes, so their probabilities are no longer frequencies.

    >>> objective = build({"classes": ["no", "yes"]}, class_weights=[0.5, 3.0])
    >>> logits, targets = torch.zeros(2, 2), torch.tensor([0, 1])
    >>> objective.total(logits, targets)  # (0.5 + 3) log 2
    tensor(2.4260)
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1.")
    if focal < 0:
        raise ValueError(f"focal is {focal}; it must be 0 (plain cross-entropy) or more, such as 2.")
    if class_weights is not None and (len(class_weights) != outputs(spec) or not min(class_weights) > 0):
        raise ValueError(f"class_weights are {list(class_weights)}; {outputs(spec)} numbers above 0 were expected.")
    return Classify(outputs(spec), label_smoothing, class_weights, focal)


def outputs(spec: Mapping[str, Any]) -> int:
    """How many numbers the model must produce for a row: one logit for each class."""
    return len(spec["classes"])


def decode(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Logits [B, C] or [B, K, C] → probabilities [B, C] in float64, each row summing to 1."""
    return class_probabilities(raw)


class Classify:
    """Batches are pairs (inputs, targets): class indices int64 [B], or probabilities [B, C]."""

    def __init__(
        self,
        num_classes: int,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        focal: float = 0.0,
    ) -> None:
        self.num_classes = num_classes
        self.label_smoothing, self.class_weights, self.focal = label_smoothing, class_weights, focal
        self._weights: Tensor | None = None

    def count(self, batch: Any) -> float:
        return float(len(batch[1]))

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        inputs, targets = batch
        yield balanced(model, self.total(model(inputs), targets), self.count(batch))

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum over rows of the cross-entropy in nats, averaged over members where there are several."""
        return class_loss(
            logits,
            targets,
            label_smoothing=self.label_smoothing,
            weights=self._weights_beside(logits),
            focal=self.focal,
        )

    def _weights_beside(self, logits: Tensor) -> Tensor | None:
        """The class weights as a tensor where the logits are; moved there once."""
        if self.class_weights is None:
            return None
        if self._weights is None or self._weights.get_device() != logits.get_device():
            self._weights = logits.new_tensor(self.class_weights, dtype=torch.float32)
        return self._weights
