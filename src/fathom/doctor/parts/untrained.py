"""Whether weights are still as they were drawn at random.

Weights drawn between two limits, as most layers of torch begin, have none beyond: a few steps leave some. Numbers drawn
by another law can be put in any order: the largest singular value of a large matrix is what it would be after a
shuffle, while training leaves an order. What a reader would get wrong: of a small matrix that was drawn by another law
nothing is known; then the answer is no, as it is where any weight shows that it was trained.

Source: Martin & Mahoney 2021, arXiv:1810.01075, section 3 (spectra of random and of trained matrices).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

LEAST = 64  # numbers of a matrix, less say nothing
WITHIN = 1.85  # largest number in units of the root mean square: 1.73 between two limits
LARGE = 4096  # numbers, of which singular values tell
SHUFFLES = 19
ABOVE = 5.0  # deviations of the largest singular value between shuffles: further above is an order
MOST = 1024  # rows and columns that are looked at
ONE = 0.9, 1.1  # root mean square of an embedding as torch draws it
SEED = 0
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@torch.no_grad()
def are_untrained(model: nn.Module, names: Iterable[str]) -> bool:
    """Whether the named parameters are surely as they were drawn; False where nothing is known of one."""
    parameters, matrices = dict(model.named_parameters()), 0
    for name in names:
        part, values = model.get_submodule(name.rpartition(".")[0]), parameters[name].detach().float().cpu()
        if isinstance(part, NORMS):
            is_as_made = bool((values == 0).all()) or bool((values == 1).all())
        elif values.dim() < 2 or values.numel() < LEAST:
            is_as_made = True  # biases and the like say nothing
        else:
            matrices += 1
            is_as_made = _is_as_drawn(part, values.flatten(1))
        if not is_as_made:
            return False
    return matrices > 0


def _is_as_drawn(part: nn.Module, matrix: Tensor) -> bool:
    size = float(matrix.square().mean().sqrt())
    if isinstance(part, nn.Embedding):
        return ONE[0] < size < ONE[1]
    if float(matrix.abs().max()) < WITHIN * size:
        return True
    return matrix.numel() >= LARGE and not _has_order(matrix[:MOST, :MOST])


def _has_order(matrix: Tensor) -> bool:
    if not bool(torch.isfinite(matrix).all()):
        return True  # not as it was made
    generator, numbers = torch.Generator().manual_seed(SEED), matrix.flatten()
    shuffled = [
        numbers[torch.randperm(len(numbers), generator=generator)].reshape(matrix.shape) for _ in range(SHUFFLES)
    ]
    own, *others = (float(torch.linalg.matrix_norm(one, 2)) for one in (matrix, *shuffled))
    return bool(own > np.mean(others) + ABOVE * np.std(others, ddof=1))
