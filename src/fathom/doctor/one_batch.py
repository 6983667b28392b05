"""F9: the model cannot learn one small batch by heart, or does not look at its input. Experiments on copies.

A healthy net of any kind learns a few rows by heart in so many steps at some rate. What a reader would get wrong: how
far the loss can fall is not known (equal rows may have different answers). So a copy whose input is set to zero is
trained beside it: it can know only how often each answer comes, and who does no better does not look at its input.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fathom.doctor.finding import Finding
from fathom.doctor.parts.trial import Trial, without_dropout

STEPS = 150
TAIL = 5
RATES = (1.0, 0.1, 10.0)
LESS_DECAY = 0.01  # times the weight decay
BY_HEART = 0.5  # of the loss of the same model without its input: a model that learns comes below


def find_cannot_learn(trial: Trial) -> Iterator[Finding]:
    batch = trial.batches[0]
    best = float("inf")
    for rate in RATES:
        seeing, blind = (trial.run(STEPS, rate=rate, batches=[batch], edit=edit) for edit in (without_dropout, _blind))
        best = min(best, seeing.last(TAIL))
        if seeing.last(TAIL) < BY_HEART * blind.last(TAIL):
            return
    if any(group.get("weight_decay") for optimizer in trial.optimizers for group in optimizer.param_groups):
        freely = trial.run(STEPS, decay=LESS_DECAY, batches=[batch], edit=without_dropout).last(TAIL)
        if freely < BY_HEART * blind.last(TAIL):
            yield _decayed(freely, best)
            return
    yield Finding(
        "F9",
        seen=f"A copy was trained on one batch for {STEPS} steps at three rates and came to a loss of {best:.4g} at "
        "best, no better than with its input set to zero",
        cause="What the model reads does not reach what it says, or the answers have nothing to do with the input.",
        remedy="Check that inputs and targets belong together, and that the forward pass uses its input.",
        by="experiment",
        symptom_of=("F1", "F3", "F4", "F8", "F2", "F10"),
        evidence={"loss": best},
    )


def _decayed(freely: float, best: float) -> Finding:
    return Finding(
        "F9",
        seen=f"A copy was trained on one batch for {STEPS} steps at three rates and came to a loss of {best:.4g} at "
        f"best; with a hundredth of the weight decay it came to {freely:.4g}",
        cause="The weight decay takes away what the steps have taught.",
        remedy="Take a hundredth of the weight decay.",
        by="experiment",
        symptom_of=("F1", "F3", "F4", "F8", "F2", "F10"),
        evidence={"loss": best, "loss_with_less_decay": freely, "decay": LESS_DECAY},
    )


def _blind(model: nn.Module) -> nn.Module:
    return Blind(without_dropout(model))


class Blind(nn.Module):
    """A model whose input is set to zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*(_zero(value) for value in args), **{name: _zero(value) for name, value in kwargs.items()})


def _zero(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros_like(value)
    if isinstance(value, dict):
        return {name: _zero(inner) for name, inner in value.items()}
    return value
