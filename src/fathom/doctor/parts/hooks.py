"""The few calls that a watch listens to: a model's forward, `backward`, an optimizer's step. All are taken off again.

`backward` has no hook of its own, so while anybody watches `torch.autograd.backward`, which `Tensor.backward` calls, is
replaced by one that tells the watchers first. What a reader would get wrong: it changes nothing that is computed.
Experiments in the middle of a training are made `unheard`, on copies without the hooks of those who listen.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Whose hooks only listen. Those of other remedies belong to what is trained, and so do anybody else's.
LISTENERS = ("fathom.doctor.watch", "fathom.doctor.remedies.rates", "fathom.doctor.remedies.rollback")
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")

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


@contextmanager
def unheard() -> Iterator[None]:
    """Nobody is told of backpropagations within."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


class CannotCopyError(Exception):
    """A model keeps something of its last pass, of which no copy can be made."""


def copied(model: nn.Module, optimizers: Sequence[Optimizer]) -> tuple[nn.Module, list[Optimizer]]:
    """Copies that nobody listens to. Raises CannotCopyError."""
    held = [(one, name) for one in (*model.modules(), *optimizers) for name in HOOKS if name in vars(one)]
    kept = [vars(one)[name] for one, name in held]
    try:
        for (one, name), hooks in zip(held, kept, strict=True):
            # Another dict, since one of these hooks may be what is running.
            vars(one)[name] = OrderedDict((key, hook) for key, hook in hooks.items() if not _listens(hook))
        return copy.deepcopy((model, list(optimizers)))
    except RuntimeError as error:
        raise CannotCopyError(f"no copy of the model can be made: {error}") from error
    finally:
        for (one, name), hooks in zip(held, kept, strict=True):
            vars(one)[name] = hooks


def _listens(hook: Any) -> bool:
    return getattr(hook, "__module__", None) in LISTENERS
