"""F4 and F5: parameters that were left out join the optimizer, and gradients begin anew after a step.

What a reader would get wrong: parameters with requires_grad=False were frozen by somebody. They stay where anything of
them shows that they were trained before; weights that are as they were drawn at random were not meant to stay so. A
group is made longer rather than a new one added, since schedules count the groups.
"""

from __future__ import annotations

from torch import Tensor

from fathom.doctor.finding import Finding
from fathom.doctor.parts.hooks import before_backward
from fathom.doctor.parts.untrained import are_untrained
from fathom.doctor.remedies.applied import Applied, Declined, Training
from fathom.doctor.remedies.attached import pass_on


def train_what_stays(training: Training, finding: Finding) -> Applied | Declined:
    """F4, of each of its kinds."""
    kind = finding.evidence["kind"]
    if kind == "no gradient":
        return pass_on(training, finding)
    if kind == "zero gradient":
        return Declined("why their gradient is zero is for you to find")
    if len(training.optimizers) > 1:
        return Declined("there are several optimizers: which of them should have the parameters is not known")
    if not can_join(training, finding):
        return Declined("they were trained before: unfreeze them, or declare them frozen")
    return _joined(training, finding.evidence["parameters"])


def can_join(training: Training, finding: Finding) -> bool:
    """Whether the parameters of the finding should be trained, as far as they tell."""
    kind, names = finding.evidence["kind"], finding.evidence["parameters"]
    return kind == "left out" or (kind == "frozen" and are_untrained(training.model, names))


def _joined(training: Training, names: list[str]) -> Applied:
    optimizer, parameters = training.optimizers[0], dict(training.model.named_parameters())
    joining = [parameters[name] for name in names]
    were_trained = [p.requires_grad for p in joining]
    group = optimizer.param_groups[0]["params"]
    before, members = list(group), {id(p) for one in optimizer.param_groups for p in one["params"]}
    kept = [p.detach().clone() for p in joining]
    for p in joining:
        p.grad = None
        p.requires_grad_(True)
    group.extend(p for p in joining if id(p) not in members)

    def undo() -> None:
        group[:] = before
        for p, value, was_trained in zip(joining, kept, were_trained, strict=True):
            optimizer.state.pop(p, None)
            p.requires_grad_(was_trained)
            p.data.copy_(value)

    was_frozen = "" if all(were_trained) else ", which were frozen as they were drawn at random,"
    return Applied(f"{len(joining)} parameters{was_frozen} are trained by the first group of the optimizer", undo)


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
    return Applied(what, before_backward(before), may_harm=False, while_watched=True)
