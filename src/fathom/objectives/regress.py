"""Regression: squared or Huber error between the model's output and the standardised target.

The target is standardised with the training mean and standard deviation (after a logarithm where the spec says so), so
that learning rates mean the same for prices and for ages. `decode` turns outputs back into the target's own unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import Loss

TASK = "regress"
SOURCE = "Huber 1964, Annals of Mathematical Statistics 35"


def build(spec: Mapping[str, Any], *, huber: float = 0.0) -> Regress:
    """The objective for a spec with "mean", "std" and "log". `huber` is the error, in standard deviations of the
    target, from which the loss grows linearly; 0 for plain squared error."""
    if huber < 0:
        raise ValueError(f"huber is {huber}; it must be 0 (squared error) or a positive number of standard deviations.")
    if not spec["std"] > 0:
        raise ValueError(f"The target's standard deviation is {spec['std']}; a constant target cannot be learned.")
    return Regress(spec["mean"], spec["std"], log=spec.get("log", False), huber=huber)


def outputs(spec: Mapping[str, Any]) -> int:
    """One number for each row."""
    return 1


def decode(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Outputs [B, 1] or [B, K, 1] → numbers [B] in the target's unit, float64, averaged over members."""
    numbers = raw.double()[..., 0] * spec["std"] + spec["mean"]
    if spec.get("log", False):
        numbers = torch.expm1(numbers)
    return numbers.mean(dim=1) if numbers.dim() == 2 else numbers


class Regress:
    """Batches are pairs (inputs, targets) with float targets [B] in their own unit."""

    def __init__(self, mean: float = 0.0, std: float = 1.0, *, log: bool = False, huber: float = 0.0) -> None:
        self.mean, self.std, self.log, self.huber = mean, std, log, huber

    def count(self, batch: Any) -> float:
        return float(len(batch[1]))

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        inputs, targets = batch
        yield Loss(self.total(model(inputs), targets), float(len(targets)))

    def total(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Sum over rows of half the squared (or the Huber) error of the standardised target, averaged over members."""
        numbers = torch.log1p(targets) if self.log else targets
        standard = ((numbers - self.mean) / self.std).to(raw.dtype)
        predicted = raw[..., 0]
        members = predicted.shape[1] if predicted.dim() == 2 else 1
        if predicted.dim() == 2:
            standard = standard[:, None].expand_as(predicted)
        if self.huber:
            return F.huber_loss(predicted, standard, reduction="sum", delta=self.huber) / members
        return 0.5 * F.mse_loss(predicted, standard, reduction="sum") / members
