"""F8 and F2: first weights by the rules, and a head that begins by knowing only how often each class comes.

Rehearsed on a copy, and only before the first step: later it would throw away what was learned. What a reader would get
wrong: norms stay as they are, and so do weights that are all zero, as the last of a residual branch may be on purpose.

Sources: He et al. 2015, arXiv:1502.01852, eq. 10; Glorot & Bengio 2010, eq. 12; sigmoids four times as large, as their
slope is a quarter.
"""

from __future__ import annotations

import copy
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from fathom.doctor.bad_start import LAYERS
from fathom.doctor.finding import Finding
from fathom.doctor.parts.trial import Trial, as_if_nothing_happened
from fathom.doctor.remedies.applied import Applied, Declined, Training, is_better, is_no_worse
from fathom.doctor.remedies.snapshot import Snapshot

SEED = 0
ONE_SIDED = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.ReLU6, nn.Mish, nn.Softplus)
SYMMETRIC = {nn.Tanh: 5 / 3, nn.Sigmoid: 4.0}
HEAD = 0.5  # deviation of the first logits, about that of torch's own first weights


def start_again(training: Training, finding: Finding) -> Applied | Declined:
    """F8, and F9, which it may be the cause of."""
    if training.has_begun:
        return Declined("the training has begun; first weights can only be made anew before it")
    # What is exact needs no proof that it matters, only that the remedy does no harm.
    helps = is_no_worse if finding.by == "exact" else is_better
    if training.trial is None or not helps(training.trial, edit=_restarted):
        return Declined("a copy did not learn better from weights made anew")
    before = Snapshot(training.model, training.optimizers)
    _restarted(training.model)
    return Applied("weights of layers were made anew, by He's or Glorot's rule", before.restore)


@torch.no_grad()
def _restarted(model: nn.Module) -> nn.Module:
    """Each layer by the rule of the activation that follows it; where none is seen, He's, but for the last layer."""
    parts = [part for part in model.modules() if isinstance(part, (*LAYERS, *ONE_SIDED, *SYMMETRIC))]
    has_activations = any(not isinstance(part, LAYERS) for part in parts)
    with as_if_nothing_happened():
        torch.manual_seed(SEED)
        for part, following in pairwise([*parts, None]):
            if not isinstance(part, LAYERS) or not bool(part.weight.any()):
                continue
            symmetric = next((gain for kind, gain in SYMMETRIC.items() if isinstance(following, kind)), None)
            if isinstance(following, ONE_SIDED) or (not has_activations and following is not None):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            else:
                nn.init.xavier_normal_(part.weight, gain=symmetric or 1.0)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return model


def calm_head(training: Training, finding: Finding) -> Applied | Declined:
    """F2."""
    trial, shares = training.trial, finding.evidence["shares"]
    if trial is None or training.has_begun:
        return Declined("the training has begun; by now the head is what was learned")
    found = _head(trial, len(shares))
    if found is None:
        return Declined("no last layer with an output for each class was found")
    name, deviation = found
    edit = partial(_calmed, name=name, factor=min(1.0, HEAD / max(deviation, 1e-12)), shares=shares)
    if not is_better(trial, edit=edit):
        return Declined("a copy did not learn better from a smaller head")
    before = Snapshot(training.model, training.optimizers)
    edit(training.model)
    return Applied(f"'{name}' starts near zero, its bias at the logarithm of the classes' shares", before.restore)


@torch.no_grad()
def _calmed(model: nn.Module, name: str, factor: float, shares: list[float]) -> nn.Module:
    head = model.get_submodule(name)
    assert isinstance(head, LAYERS)
    head.weight.mul_(factor)
    if head.bias is not None:
        logarithms = np.log(np.maximum(shares, 1e-3))
        prior = torch.as_tensor(logarithms - logarithms.mean()).to(head.bias)
        head.bias.copy_(prior.repeat(len(head.bias) // len(prior)))
    return model


def _head(trial: Trial, classes: int) -> tuple[str, float] | None:
    """The last layer that is called and gives a number for each class: its name, and the deviation of what it gives."""
    model = copy.deepcopy(trial.model)
    last: list[tuple[str, float]] = []

    def seen(name: str, part: nn.Module, given: object, made: Tensor) -> None:
        last[:] = [(name, float(made.detach().double().std()))]

    for name, part in model.named_modules():
        if isinstance(part, LAYERS):
            part.register_forward_hook(partial(seen, name))
    trial.losses(model)
    if not last:
        return None
    layer = model.get_submodule(last[0][0])
    assert isinstance(layer, LAYERS)
    return last[0] if layer.weight.shape[0] % classes == 0 else None
