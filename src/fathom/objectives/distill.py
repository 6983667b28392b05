"""Distillation: a network learns from the classes of the rows and from what a teacher makes of them.

Hinton et al. 2015, arXiv:1503.02531, section 2. A teacher's probabilities say which wrong classes are nearly right,
which the class of a row does not. The soft part compares both at a temperature that makes small probabilities visible,
and is multiplied by its square, since gradients shrink by it. What a reader would get wrong: at temperature T a teacher
that gives probabilities and no logits (trees do) is read as p^(1/T), divided by its sum, which is the same thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import Loss
from fathom.objectives import classify
from fathom.objectives.classify import Classify
from fathom.objectives.parts.balance import balanced

TASK = "classify"
TARGETS = ("truth", "teacher")
SOURCE = "Hinton et al. 2015, arXiv:1503.02531, section 2"
# A class that the teacher rules out has a logarithm all the same.
LEAST_PROBABILITY = 1e-7

outputs, decode = classify.outputs, classify.decode


def build(
    spec: Mapping[str, Any],
    *,
    temperature: float = 2.0,
    share: float = 0.5,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    focal: float = 0.0,
) -> Distill:
    """The objective for a spec with "classes". `share` is the weight of the soft part, the rest is the classes' own.

    The other options are those of `classify` and concern the classes' part. Batches are pairs (inputs, {"truth": class
    indices [B] or probabilities [B, C], "teacher": probabilities [B, C] at temperature 1}).

    >>> objective = build({"classes": ["no", "yes"]}, share=1.0)
    >>> teacher = torch.tensor([[0.25, 0.75]])
    >>> objective.total(teacher.log(), {"truth": torch.tensor([0]), "teacher": teacher}).abs() < 1e-6
    tensor(True)
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0, such as 2.")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be from 0 (no teacher) to 1 (nothing but the teacher).")
    hard = classify.build(spec, label_smoothing=label_smoothing, class_weights=class_weights, focal=focal)
    return Distill(hard, temperature, share)


class Distill:
    """The hard part is an objective of its own; the soft part is the divergence from the teacher."""

    def __init__(self, hard: Classify, temperature: float, share: float) -> None:
        self.hard, self.temperature, self.share = hard, temperature, share

    def count(self, batch: Any) -> float:
        return float(len(batch[1]["truth"]))

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        inputs, targets = batch
        yield balanced(model, self.total(model(inputs), targets), self.count(batch))

    def total(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Sum over rows in nats, averaged over members; the soft part is 0 for a network that says what is taught."""
        soft = divergence(logits, targets["teacher"], self.temperature)
        return (1 - self.share) * self.hard.total(logits, targets["truth"]) + self.share * soft


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² times the Kullback-Leibler divergence of the model [B, C] or [B, K, C] from the teacher [B, C], both at T."""
    members = logits.shape[1] if logits.dim() == 3 else 1
    taught = torch.log_softmax(teacher.clamp_min(LEAST_PROBABILITY).log() / temperature, dim=-1)
    if logits.dim() == 3:
        taught = taught[:, None].expand_as(logits)
    found = torch.log_softmax(logits / temperature, dim=-1)
    return temperature**2 * F.kl_div(found, taught, reduction="sum", log_target=True) / members
