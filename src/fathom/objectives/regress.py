"""Regression: the error between the model's output and the standardised target, and how sure the model is.

The target is standardised with the training mean and standard deviation (after a logarithm where the spec says so), so
that learning rates mean the same for prices and for ages. `decode` turns outputs back into the target's own unit.
A spec's "head" says what the model makes of a row: one number (squared or Huber error), the median between two
quantiles ("quantile", pinball loss), or a mean and a variance ("gaussian", likelihood); `interval` reads the ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import Loss
from fathom.objectives.parts import heads
from fathom.objectives.parts.balance import balanced

TASK = "regress"
SOURCE = (
    "Huber 1964, Annals of Mathematical Statistics 35; quantiles: Koenker and Bassett 1978, Econometrica 46; "
    "Gaussian: Nix and Weigend 1994, ICNN; Seitzer et al. 2022, arXiv:2203.09168"
)
HEADS = {"number": 1, "quantile": 3, "gaussian": 2}  # head → outputs
LEVEL = 0.9  # of the intervals that a head makes


def build(spec: Mapping[str, Any], *, huber: float = 0.0, beta: float = 0.5) -> Regress:
    """The objective for a spec with "mean", "std", "log", and "head" where it is not "number".

    `huber` is the error, in standard deviations of the target, from which the loss of a single number grows linearly; 0
    for plain squared error. `beta` (0 to 1) goes from the plain likelihood to errors weighted alike, for a Gaussian.

    >>> objective = build({"mean": 0.0, "std": 1.0, "log": False, "head": "quantile"})
    >>> batch = (torch.zeros(4, 3), torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    >>> next(objective.losses(nn.Identity(), batch)).count
    4.0
    """
    if huber < 0:
        raise ValueError(f"huber is {huber}; it must be 0 (squared error) or a positive number of standard deviations.")
    if not 0 <= beta <= 1:
        raise ValueError(f"beta is {beta}; it must be from 0 (likelihood) to 1 (every row's error weighs the same).")
    if not spec["std"] > 0:
        raise ValueError(f"The target's standard deviation is {spec['std']}; a constant target cannot be learned.")
    return Regress(spec["mean"], spec["std"], log=spec.get("log", False), huber=huber, head=head_of(spec), beta=beta)


def head_of(spec: Mapping[str, Any]) -> str:
    """What the model makes of a row. Raises ValueError for a head that is not known."""
    head = str(spec.get("head", "number"))
    if head not in HEADS:
        raise ValueError(f"There is no head '{head}'. Known: {', '.join(HEADS)}.")
    return head


def outputs(spec: Mapping[str, Any]) -> int:
    """One number for each row; three for quantiles, two for a Gaussian."""
    return HEADS[head_of(spec)]


def decode(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Outputs [B, n] or [B, K, n] → numbers [B] in the target's unit, float64, averaged over members."""
    numbers = _in_unit(raw.double()[..., 0], spec)
    return numbers.mean(dim=1) if numbers.dim() == 2 else numbers


def makes_interval(spec: Mapping[str, Any]) -> bool:
    """Whether `interval` has anything to read."""
    return head_of(spec) != "number"


def interval(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Outputs [B, n] or [B, K, n] → lower and upper end [B, 2] in the target's unit, float64, around `decode`'s number.

    As the model believes: between them should lie `LEVEL` of the targets. Measure that on rows that trained nothing.

    >>> spec = {"mean": 10.0, "std": 2.0, "log": False, "head": "gaussian"}
    >>> interval(torch.zeros(1, 2), spec)
    tensor([[ 6.7103, 13.2897]], dtype=torch.float64)
    """
    by_member = raw.double() if raw.dim() == 3 else raw.double()[:, None]
    if head_of(spec) == "quantile":
        ends = _in_unit(heads.quantiles(by_member)[..., 1:], spec).mean(dim=1)
    else:
        middle, deviation = heads.mixed(*heads.mean_and_log_variance(by_member))
        half = heads.deviations(LEVEL) * deviation
        ends = _in_unit(torch.stack([middle - half, middle + half], dim=1), spec)
    # Members that disagree wildly on a logarithm may have a mean outside of their common interval.
    number = decode(raw, spec)
    return torch.stack([torch.minimum(ends[:, 0], number), torch.maximum(ends[:, 1], number)], dim=1)


def held_out_loss(numbers: Tensor, ends: Tensor, targets: Tensor, spec: Mapping[str, Any]) -> float:
    """Mean loss of finished predictions [B] with their intervals [B, 2] in float64, by what the head is trained for."""
    middle, low, high = (_standard(one, spec) for one in (numbers, *ends.unbind(dim=1)))
    wanted = _standard(targets, spec)
    if head_of(spec) == "quantile":
        losses = heads.quantile_loss(torch.stack([middle, low, high], dim=1), wanted, LEVEL)
    else:
        deviation = (high - low) / (2 * heads.deviations(LEVEL))
        losses = heads.gaussian_loss((low + high) / 2, 2 * torch.log(deviation), wanted)
    return float(losses.mean())


def _in_unit(standard: Tensor, spec: Mapping[str, Any]) -> Tensor:
    numbers = standard * spec["std"] + spec["mean"]
    return torch.expm1(numbers) if spec.get("log", False) else numbers


def _standard(numbers: Tensor, spec: Mapping[str, Any]) -> Tensor:
    scaled = torch.log1p(numbers) if spec.get("log", False) else numbers
    return (scaled - spec["mean"]) / spec["std"]


class Regress:
    """Batches are pairs (inputs, targets) with float targets [B] in their own unit."""

    def __init__(
        self,
        mean: float = 0.0,
        std: float = 1.0,
        *,
        log: bool = False,
        huber: float = 0.0,
        head: str = "number",
        beta: float = 0.5,
    ) -> None:
        self.spec = {"mean": mean, "std": std, "log": log, "head": head}
        self.huber, self.beta = huber, beta

    def count(self, batch: Any) -> float:
        return float(len(batch[1]))

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        inputs, targets = batch
        yield balanced(model, self.total(model(inputs), targets), self.count(batch))

    def total(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Sum over rows of the head's loss of the standardised target, averaged over members.

        Of a single number that is half the squared error, or the Huber error.
        """
        # Targets in bf16 would be known to three digits only.
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        standard = _standard(targets, self.spec).to(raw.dtype)
        members = raw.shape[1] if raw.dim() == 3 else 1
        if raw.dim() == 3:
            standard = standard[:, None].expand(-1, members)
        if self.spec["head"] == "quantile":
            return heads.quantile_loss(heads.quantiles(raw), standard, LEVEL).sum() / members
        if self.spec["head"] == "gaussian":
            return heads.gaussian_loss(*heads.mean_and_log_variance(raw), standard, beta=self.beta).sum() / members
        if self.huber:
            return F.huber_loss(raw[..., 0], standard, reduction="sum", delta=self.huber) / members
        return 0.5 * F.mse_loss(raw[..., 0], standard, reduction="sum") / members
