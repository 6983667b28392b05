"""The few calls that a watch listens to: a model's forward, `backward`, an optimizer's step. All are taken off again.

`backward` has no hook of its own, so while anybody watches `torch.autograd.backward`, which `Tensor.backward` calls, is
replaced by one that tells the watchers first. What a reader would get wrong: it changes nothing that is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

_told: list[Callable[[Tensor], None]] = []
_original = torch.autograd.backward
_depth = 0  # of backpropagations within each other


@wraps(_original)
def _backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
    global _depth
    losses = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    # Under a mode of torch, such as a default device, the original calls this one again.
    for tell in tuple(_told) if _depth == 0 else ():
        for loss in losses:
            tell(loss)
    _depth += 1
    try:
        _original(losses, *args, **kwargs)
    finally:
        _depth -= 1


def before_backward(tell: Callable[[Tensor], None]) -> Callable[[], None]:
    """Call `tell(loss)` before each backpropagation; what comes back ends it."""
    _told.append(tell)
    torch.autograd.backward = _backward

    def end() -> None:
        if tell in _told:
            _told.remove(tell)
        if not _told:
            torch.autograd.backward = _original

    return end
