"""F4 and F5: parameters that were left out join the optimizer, and gradients begin anew after a step.

What a reader would get wrong: parameters with requires_grad=False stay as they are, since somebody froze them; and a
group is made longer rather than a new one added, since schedules count the groups.
"""

from __future__ import annotations

from torch import Tensor

from fathom.doctor.finding import Finding
from fathom.doctor.parts.hooks import before_backward
from fathom.doctor.remedies.applied import Applied, Declined, Training


def add_left_out(training: Training, finding: Finding) -> Applied | Declined:
    """F4. Parameters whose gradient never comes cannot be helped from here."""
    if len(training.optimizers) > 1:
        return Declined("there are several optimizers: which of them should have the parameters is not known")
    if not is_left_out(training, finding):
        return Declined("what is frozen, or whose gradient does not come, is for you to say")
    optimizer = training.optimizers[0]
    parameters = dict(training.model.named_parameters())
    left_out = [parameters[name] for name in finding.evidence["parameters"]]
    group = optimizer.param_groups[0]["params"]
    before = list(group)
    kept = [p.detach().clone() for p in left_out]
    for p in left_out:
        p.grad = None
    group.extend(left_out)

    def undo() -> None:
        group[:] = before
        for p, value in zip(left_out, kept, strict=True):
            optimizer.state.pop(p, None)
            p.data.copy_(value)

    return Applied(f"{len(left_out)} parameters were added to the first group of the optimizer", undo)


def is_left_out(training: Training, finding: Finding) -> bool:
    """Whether all parameters of the finding could be trained and belong to no optimizer."""
    moved = {id(p) for one in training.optimizers for group in one.param_groups for p in group["params"]}
    parameters = dict(training.model.named_parameters())
    asked = [parameters[name] for name in finding.evidence["parameters"]]
    return all(p.requires_grad and id(p) not in moved for p in asked)


def reset_gradients(training: Training, finding: Finding) -> Applied | Declined:
    """F5: before the first backpropagation after a step."""
    steps = -1  # after which gradients were reset last

    def before(loss: Tensor) -> None:
        nonlocal steps
        if training.rates.steps != steps:
            steps = training.rates.steps
            for optimizer in training.optimizers:
                optimizer.zero_grad(set_to_none=True)

    what = "gradients are reset before each backward that follows a step"
    return Applied(what, before_backward(before), may_harm=False)
