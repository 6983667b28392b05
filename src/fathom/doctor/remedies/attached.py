"""F4: what a forward pass detaches is passed on, so that the layers before it get their gradients.

What a reader would get wrong: this mends the training that is watched, not the code, where the detach() still stands.
Only calls of `Tensor.detach` in the model's forward pass are passed on, in passes with gradients; under torch.no_grad()
nothing can be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fathom.doctor.finding import Finding
from fathom.doctor.remedies.applied import Applied, Declined, Training, is_no_worse
from fathom.doctor.remedies.mode import Mode


def pass_on(training: Training, finding: Finding) -> Applied | Declined:
    """Where a copy does not learn worse so: that they get no gradient is exact."""
    trial = training.trial
    if trial is None:
        return Declined("without data and loss it cannot be tried on a copy")
    if not is_no_worse(trial, edit=_attached):
        return Declined("a copy learned less where nothing is detached")
    end = attach(training.model)
    what = "what the model's forward pass detaches is passed on while this training is watched; take out the detach()"
    return Applied(what, end, while_watched=True)


def attach(model: nn.Module) -> Callable[[], None]:
    """From here on, until what comes back is called."""
    mode = _Attached()

    def before(part: nn.Module, given: Any) -> None:
        if torch.is_grad_enabled():
            mode.begin()

    def after(part: nn.Module, given: Any, made: Any) -> None:
        mode.end()

    ends = [
        model.register_forward_pre_hook(before).remove,
        model.register_forward_hook(after, always_call=True).remove,
        mode.end,
    ]

    def undo() -> None:
        for end in ends:
            end()

    return undo


def _attached(model: nn.Module) -> nn.Module:
    attach(model)
    return model


class _Attached(Mode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.detach and args[0].requires_grad:
            return args[0]
        return func(*args, **(kwargs or {}))
