"""The optimizer of a recipe, with its groups of parameters: which are decayed, which have a rate of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fathom.optimizers.muon import REST, Muon

OPTIMIZERS = ("adamw", "muon")


def make_optimizer(model: nn.Module, name: str, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """The optimizer of that name for all parameters that are trained."""
    assert name in OPTIMIZERS, f"{name} is no optimizer; recipes are checked"
    return (muon if name == "muon" else adamw)(model, learning_rate, weight_decay)


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW in its fused form; weight decay on matrices and filters only, not on biases, norms and scales.

    A module may name parameters that are not decayed, `no_decay()`, and such that want a multiple of the learning
    rate, `rates()`, because their numbers are that much larger than those of other matrices. Loshchilov & Hutter 2019,
    arXiv:1711.05101.
    """
    return torch.optim.AdamW(_groups(model, learning_rate, weight_decay), lr=learning_rate, fused=True)


def muon(model: nn.Module, learning_rate: float, weight_decay: float) -> Muon:
    """Muon for the matrices of linear layers but those of a head, at the learning rate; AdamW for the rest, at a tenth.

    Groups are those of `adamw`. The source is in optimizers/muon.py.
    """
    inside = {
        id(part.weight): part.weight
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and part.weight.requires_grad and "head" not in name.split(".")
    }
    # A matrix that is also the vectors of tokens is no matrix inside the network.
    tied = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    matrices = [weight for key, weight in inside.items() if key not in tied]
    first = {"params": matrices, "lr": learning_rate, "weight_decay": weight_decay, "orthogonal": True}
    rest = _groups(model, REST * learning_rate, weight_decay, without={id(weight) for weight in matrices})
    return Muon([group for group in (first, *rest) if group["params"]], lr=learning_rate)


def _groups(
    model: nn.Module, learning_rate: float, weight_decay: float, without: set[int] | frozenset[int] = frozenset()
) -> list[dict[str, Any]]:
    plain = {id(p) for m in model.modules() for p in getattr(m, "no_decay", lambda: [])()}
    rates = {id(p): rate for m in model.modules() for p, rate in getattr(m, "rates", lambda: [])()}
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for p in model.parameters():
        if p.requires_grad and id(p) not in without:
            groups.setdefault((rates.get(id(p), 1.0), p.dim() > 1 and id(p) not in plain), []).append(p)
    # The decay is a share of the rate: a parameter that moves faster is not to vanish faster.
    return [
        {"params": params, "lr": rate * learning_rate, "weight_decay": weight_decay / rate if is_decayed else 0.0}
        for (rate, is_decayed), params in sorted(groups.items(), key=lambda group: (group[0][0], not group[0][1]))
    ]
