"""F6: the named parts are in training mode in passes with gradients, and in evaluation mode in passes without.

What a reader would get wrong: the mode is set for each pass and set back after it. Of several passes with gradients
before one backpropagation only the first is touched: the others may judge rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fathom.doctor.finding import Finding
from fathom.doctor.parts.hooks import before_backward
from fathom.doctor.remedies.applied import Applied, Declined, Training


def set_modes(training: Training, finding: Finding) -> Applied | Declined:
    names = finding.evidence["modules"]
    kept: list[tuple[nn.Module, bool]] = []
    open_passes = [0]  # with gradients, not followed by a backpropagation yet

    # Functions of their own, not methods: a copy of the model does not copy what stands around them.
    def before(model: nn.Module, given: Any) -> None:
        has_gradients = torch.is_grad_enabled()
        open_passes[0] += has_gradients
        if has_gradients and open_passes[0] > 1:
            return
        for name in names:
            part = model.get_submodule(name)
            kept.append((part, part.training))
            part.training = has_gradients

    def after(model: nn.Module, given: Any, made: Any) -> None:
        while kept:
            part, was_training = kept.pop()
            part.training = was_training

    def propagated(loss: Tensor) -> None:
        open_passes[0] = 0

    ends = [
        training.model.register_forward_pre_hook(before, prepend=True).remove,
        training.model.register_forward_hook(after, always_call=True).remove,
        before_backward(propagated),
    ]

    def undo() -> None:
        for end in ends:
            end()

    what = "they are set to training mode in passes with gradients, to evaluation mode in passes without"
    return Applied(what, undo, may_harm=False, while_watched=True)
