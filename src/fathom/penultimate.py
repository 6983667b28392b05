"""What a network sees of a row: the values that go into its last layer, on a few random directions.

What a reader would get wrong: of several folds' networks it is the first's. Different networks see different things,
and their mean is nothing; new rows are looked at by the same one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fathom.batches import Tensors, in_order
from fathom.candidates import Candidate, Predictor
from fathom.data import Examples
from fathom.network import Network

DIRECTIONS = 32


def features_of(model: Predictor, examples: Examples) -> Tensor | None:
    """float16 [N, 32 or fewer]; None where the model is no network of classes or numbers, or has no such layer."""
    network = model.members[0] if isinstance(model, Candidate) else None
    if not isinstance(network, Network) or not len(examples):
        return None
    found = _last_inputs(network, examples)
    if found is None:
        return None
    width = found.shape[1]
    if width > DIRECTIONS:
        # Johnson and Lindenstrauss 1984: distances between rows are kept by random directions. Always the same ones.
        directions = np.random.default_rng(0).standard_normal((width, DIRECTIONS)) / np.sqrt(width)
        found = found @ torch.from_numpy(directions)
    # Beyond float16 there is nothing to compare.
    return found.clamp(-65_504, 65_504).to(torch.float16).contiguous()


@torch.inference_mode()
def _last_inputs(network: Network, examples: Examples) -> Tensor | None:
    """float64 [N, D]: what went into the layer with weights that was called last, means over its positions."""
    network.model.eval()
    last: list[Tensor] = []

    def remember(part: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor) and given[0].is_floating_point() and given[0].dim() > 1:
            # Channels come second in pictures, and last in all else.
            last[:] = [given[0].flatten(2).transpose(1, 2) if isinstance(part, nn.Conv2d) else given[0]]

    layers = [part for part in network.model.modules() if list(part.parameters(recurse=False))]
    hooks = [part.register_forward_pre_hook(remember) for part in layers]
    found: Tensor | None = None
    try:
        tensors = Tensors(examples, network.device)
        for chosen, inputs in in_order(tensors, np.arange(len(examples)), network.rows_at_a_time):
            network.model(inputs)
            seen = _by_row(last[0], len(chosen)) if last else None
            if seen is None:
                return None
            found = torch.empty((len(examples), seen.shape[1]), dtype=torch.float64) if found is None else found
            found[torch.from_numpy(chosen)] = seen.double().cpu()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _by_row(values: Tensor, rows: int) -> Tensor | None:
    """Means [rows, D] over whatever stands between rows and values: positions, pieces, members of an average."""
    return values.reshape(rows, -1, values.shape[-1]).mean(dim=1) if values.shape[0] == rows else None
