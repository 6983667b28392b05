"""First weights of layers: how large they are, and weights made anew that carry the signal through all layers.

These are drawn orthogonal; then each layer, in the order in which they are called, is scaled and its biases set so that
what it makes of real rows has mean zero and deviation one. What a reader would get wrong: norms stay as they are, and
so do weights that are all zero, as the last of a residual branch may be on purpose.

Sources: Saxe et al. 2014, arXiv:1312.6120; Mishkin & Matas 2016, arXiv:1511.06422 (the scales); Krähenbühl et al. 2016,
arXiv:1511.06856 (the means).
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from fathom.doctor.parts.hooks import copied
from fathom.doctor.parts.trial import Trial, as_if_nothing_happened

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
SEED = 0
HEAD = 0.5  # deviation of the first answers, about that of torch's own first weights


def sizes(model: nn.Module) -> dict[str, float]:
    """Of each layer's weights the root of the mean square, times that of the fan-in: torch's own 0.58, He's 1.4."""
    return {
        name: float(part.weight.detach().double().square().mean().sqrt()) * part.weight[0].numel() ** 0.5
        for name, part in own_layers(model).items()
    }


@torch.no_grad()
def restarted(model: nn.Module, trial: Trial) -> nn.Module:
    """The model itself, its layers made anew."""
    with as_if_nothing_happened():
        torch.manual_seed(SEED)
        # On a copy, since norms would remember the rows.
        made, _ = copied(model, [])
        layers = own_layers(made)
        for part in layers.values():
            nn.init.orthogonal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        head = called(trial)[-1:]
        waiting = set(layers)

        def settle(name: str, part: nn.Module, given: object, out: Tensor) -> Tensor:
            if name not in waiting:
                return out
            waiting.discard(name)
            return _settled(part, out, HEAD if [name] == [one for one, _ in head] else 1.0)

        for name, part in layers.items():
            part.register_forward_hook(partial(settle, name))
        trial.loss(made, _joined(trial.batches))
        for name, part in own_layers(model).items():
            part.load_state_dict(made.get_submodule(name).state_dict())
    return model


def own_layers(model: nn.Module) -> dict[str, Any]:
    """Layers by name, without those whose weights are all zero or belong to another part too."""
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, LAYERS) and bool(part.weight.any()) and owners[id(part.weight)] == 1
    }


def _settled(part: Any, out: Tensor, deviation: float) -> Tensor:
    """What the layer gives [N, …] once it is scaled to that deviation, each unit about zero."""
    axis = out.dim() - 1 if isinstance(part, nn.Linear) else 1
    values, others = out.double(), [i for i in range(out.dim()) if i != axis]
    middle = values.mean(dim=others, keepdim=True)
    spread = float((values - middle).square().mean().sqrt())
    if not spread > 0:
        return out  # nothing differs between the rows
    factor = deviation / spread
    part.weight.mul_(factor)
    if part.bias is None:
        return out * factor
    part.bias.copy_(-factor * middle.flatten())  # biases were zero
    return ((values - middle) * factor).to(out)


def _joined(batches: list[Any]) -> Any:
    """All batches as one where they are alike, else the first."""
    try:
        return tree_map(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *batches)
    except (RuntimeError, TypeError, ValueError):  # of different lengths or structure, as texts are
        return batches[0]


def layer(model: nn.Module, name: str) -> Any:
    return model.get_submodule(name)


def called(trial: Trial) -> list[tuple[str, float]]:
    """Layers in the order in which they are called: each name, and the deviation of what it gives."""
    model, _ = copied(trial.model, [])
    called: dict[str, float] = {}

    def seen(name: str, part: nn.Module, given: object, made: Tensor) -> None:
        called.pop(name, None)  # the last call counts
        called[name] = float(made.detach().double().std())

    for name, part in model.named_modules():
        if isinstance(part, LAYERS):
            part.register_forward_hook(partial(seen, name))
    trial.losses(model)
    return list(called.items())
