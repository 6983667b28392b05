"""F8 and F2: first weights that carry the signal through all layers, and a head that begins by knowing only how often
each class comes. Rehearsed on a copy.

What a reader would get wrong: later than before the first step weights are made anew only on findings that are told
where hardly anything was learned that could be lost.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

from fathom.doctor.finding import Finding
from fathom.doctor.parts.first_weights import HEAD, called, layer, restarted
from fathom.doctor.parts.hooks import copied
from fathom.doctor.parts.trial import Edit
from fathom.doctor.remedies.applied import Applied, Declined, Training, is_better, is_no_worse
from fathom.doctor.remedies.snapshot import Snapshot

NOTHING_LEARNED = ("T3", "T4", "T5")


def learn_at_all(training: Training, finding: Finding) -> Applied | Declined:
    """F9, by its cause."""
    if "decay" not in finding.evidence:
        return start_again(training, finding)
    decay = finding.evidence["decay"]
    if training.trial is None or not is_better(training.trial, decay=decay):
        return Declined("a copy did not learn better with less weight decay")
    groups = [group for optimizer in training.optimizers for group in optimizer.param_groups]
    before = [group.get("weight_decay", 0.0) for group in groups]

    def undo() -> None:
        for group, value in zip(groups, before, strict=True):
            group["weight_decay"] = value

    for group, value in zip(groups, before, strict=True):
        group["weight_decay"] = decay * value
    return Applied(f"the weight decay is {decay:g} times what is set", undo)


def start_again(training: Training, finding: Finding) -> Applied | Declined:
    """F8, F9, which it may be the cause of, and what is told later where nothing is learned."""
    if training.has_begun and finding.id not in NOTHING_LEARNED:
        return Declined("the training has begun; first weights can only be made anew before it")
    trial = training.trial
    if trial is None:
        return Declined("without data and loss it cannot be tried on a copy")
    edit = partial(restarted, trial=trial)
    # What is exact needs no proof that it matters, only that the remedy does no harm.
    helps = is_no_worse if finding.by == "exact" else is_better
    if not helps(trial, edit=edit):
        return Declined("a copy did not learn better from weights made anew")
    what = "weights of layers were made anew, so that each gives real rows mean 0 and deviation 1"
    return Applied(what, _nothing, weights=_edited(training, edit))


def _nothing() -> None:
    """Weights go back by themselves where a remedy is taken back."""


def _edited(training: Training, edit: Edit) -> Snapshot:
    """The weights of an edited copy, and optimizers that begin anew."""
    made, _ = copied(training.model, [])
    edit(made)
    found = Snapshot(made, [])
    found.model, found.optimizers = training.model, list(training.optimizers)
    found.states = [{} for _ in training.optimizers]
    return found


def calm_head(training: Training, finding: Finding) -> Applied | Declined:
    """F2."""
    trial, shares = training.trial, finding.evidence["shares"]
    if trial is None or training.has_begun:
        return Declined("the training has begun; by now the head is what was learned")
    name, deviation = (called(trial) or [("", 0.0)])[-1]
    if not name or layer(trial.model, name).weight.shape[0] % len(shares):
        return Declined("no last layer with an output for each class was found")
    edit = partial(_calmed, name=name, factor=min(1.0, HEAD / max(deviation, 1e-12)), shares=shares)
    if not is_better(trial, edit=edit):
        return Declined("a copy did not learn better from a smaller head")
    what = f"'{name}' starts near zero, its bias at the logarithm of the classes' shares"
    return Applied(what, _nothing, weights=_edited(training, edit))


@torch.no_grad()
def _calmed(model: nn.Module, name: str, factor: float, shares: list[float]) -> nn.Module:
    head = layer(model, name)
    head.weight.mul_(factor)
    if head.bias is not None:
        logarithms = np.log(np.maximum(shares, 1e-3))
        prior = torch.as_tensor(logarithms - logarithms.mean()).to(head.bias)
        head.bias.copy_(prior.repeat(len(head.bias) // len(prior)))
    return model
