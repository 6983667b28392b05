"""F3: inputs that are not normalised, by experiment: a copy behind a layer that standardises them.

Shown first without a scale: how far the spreads of the columns (or channels) are apart, and how far their means are
from zero beside their spread. What a reader would get wrong: odd scales alone are no fault, since a batch norm in
front, or Adam on mild scales, takes care of them. Only where the standardised copy learns clearly better is it told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fathom.doctor.finding import Finding
from fathom.doctor.parts.chance import p_of_mean_above
from fathom.doctor.parts.trial import Trial

STEPS = 40
TAIL = 12
APART = 10.0  # times: spreads, or a mean beside its spread
BETTER = 0.10  # of the loss of the copy as it is: so much lower at least
LEAST = 1e-9  # a loss below it is taken for it
LEAST_ROWS = 32


def find_scales(trial: Trial, level: float) -> Iterator[Finding]:
    """At most one finding, where the model reads numbers [N, F] or pictures [N, C, H, W]; `level` is p's limit."""
    inputs = trial.inputs
    if inputs is None or not inputs.is_floating_point() or inputs.dim() not in (2, 4) or len(inputs) < LEAST_ROWS:
        return
    mean, std = moments(inputs)
    moving = std > 1e-12 * mean.abs().clamp(min=1)
    if not bool(moving.any()):
        return
    apart = float(std[moving].max() / std[moving].min())
    off = float((mean[moving].abs() / std[moving]).median())
    size = float(std[moving].median())
    if max(apart, off, size, 1 / size) < APART:
        return
    std = torch.where(moving, std, torch.ones_like(std))
    plain = trial.run(STEPS)
    scaled = trial.run(STEPS, edit=lambda model: Standardised(model, mean, std))
    if not scaled.is_finite:
        return
    if plain.is_finite:
        # Of logarithms, since losses that run away differ by powers of ten; a loss below zero has none.
        ends = [np.array(outcome.losses[-TAIL:]) for outcome in (plain, scaled)]
        gains = np.log(np.maximum(ends[0], LEAST)) - np.log(np.maximum(ends[1], LEAST))
        if p_of_mean_above(gains, -math.log(1 - BETTER)) > level:
            return
    yield Finding(
        "F3",
        seen=f"Spreads of the inputs differ up to {apart:.3g} times, their mean lies {off:.3g} spreads from 0, and a "
        f"typical spread is {size:.3g}; with standardised inputs a copy comes to a loss of {scaled.last(TAIL):.4g} in "
        f"{STEPS} steps, as they are to {plain.last(TAIL):.4g}",
        cause="The inputs are not normalised: one learning rate cannot suit all of them.",
        remedy="Subtract the mean of the training rows and divide by their deviation, in use as in training.",
        by="experiment",
        evidence={"apart": apart, "off": off, "size": size, "plain": plain.losses, "standardised": scaled.losses},
    )


def moments(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each column [F], or of each channel [C]."""
    axes = [axis for axis in range(inputs.dim()) if axis != 1]
    wide = inputs.double()
    return wide.mean(dim=axes), wide.std(dim=axes)


class Standardised(nn.Module):
    """A model that reads its first input standardised."""

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.mean, self.std = mean, std  # double [F]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        mean, std = (one.view(1, -1, *[1] * (x.dim() - 2)) for one in (self.mean, self.std))
        return self.model(((x - mean) / std).to(x.dtype), *args, **kwargs)
