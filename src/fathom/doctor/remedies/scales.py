"""F3: inputs are normalised on their way into the model, with means and deviations of the first training batches.

What a reader would get wrong: the normaliser is part of what was trained. It stays before the model after the watch has
ended, and has to be kept with it: `torch.nn.Sequential(doctor.normaliser, model)` where its weights are loaded again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fathom.doctor.finding import Finding
from fathom.doctor.remedies.applied import Applied, Declined, Training, is_better
from fathom.doctor.scales import Standardised, moments

FAR = 5.0  # times the spread of most rows: a deviation beyond that is made by a few
MOST_NUMBERS = 1 << 20  # of which quantiles are taken


class Normaliser(nn.Module):
    """Numbers [N, F] or pictures [N, C, H, W], each column or channel minus its mean and divided by its deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().double())
        self.register_buffer("std", std.detach().double())

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        # In double precision: of a mean a million deviations away nothing else is left in single.
        return ((x - self.mean.to(x.device).view(shape)) / self.std.to(x.device).view(shape)).to(x.dtype)


def _middle_spread(inputs: Tensor) -> Tensor:
    """Half the width of the middle two thirds of each column or channel: the deviation, were the numbers normal.

    Infinite where most are the same.
    """
    columns = inputs.double().movedim(1, -1).flatten(0, -2)
    columns = columns[:: 1 + columns.numel() // MOST_NUMBERS]
    low, high = (columns.quantile(share, dim=0) for share in (0.1587, 0.8413))
    spread = (high - low) / 2
    return torch.where(spread > 0, spread, torch.full_like(spread, torch.inf))


def normalise(training: Training, finding: Finding) -> Applied | Declined:
    trial = training.trial
    if trial is None or trial.inputs is None:
        return Declined("the rows are not known")
    if training.has_begun:
        return Declined("the training has begun on the inputs as they are")
    mean, std = moments(trial.inputs)
    std = torch.where(std > 1e-12 * mean.abs().clamp(min=1), std, torch.ones_like(std))
    if bool((std > FAR * _middle_spread(trial.inputs)).any()):
        return Declined("a few rows lie far from all others: look at them first, or they set the scale of all")
    if not is_better(trial, edit=lambda model: Standardised(model, mean, std)):
        return Declined("a copy did not learn better with it")
    normaliser = Normaliser(mean, std)

    def before(model: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (normaliser(args[0]), *args[1:])

    handle = training.model.register_forward_pre_hook(before)
    what = "a normaliser stands before the model from here on, and stays there; keep doctor.normaliser with the weights"
    return Applied(what, handle.remove, module=normaliser)
