"""T1: the first number that is not finite, with its root: the module, the operation, the rows, and what is to blame.

It is seen when a loss is to be propagated back, or when an optimizer is about to move by a gradient, while the weights
are still those of the forward pass: the pass is made again under a magnifying glass (parts/roots.py). What a reader
would get wrong: nothing is stopped by a loss that somebody then leaves out; only a step that would ruin the weights is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fathom.compute import random_states
from fathom.doctor.finding import Finding
from fathom.doctor.parts.graph import operations
from fathom.doctor.parts.roots import ON_THE_EDGE, Call, Root, find_root

GROWN = 30.0  # times the weights' size at the beginning
LARGE = 1e4  # numbers that went in, beside which those of a healthy net are small
SHOWN = 8  # rows
MOST_CALLS = 64  # kept of one step


class NotFinite:
    """Looks at every loss, and at the gradients of a few parameters before each step."""

    def __init__(self, model: nn.Module, probes: Sequence[Tensor]) -> None:
        self.model = model
        first = next((p for p in model.parameters() if p.requires_grad), None)
        # What is not finite anywhere is so in all layers before it: the first, and a small one for what stands beside.
        self.probes = [*([] if first is None else [first]), *probes[:1]]
        self.begin = _size(model)
        self.calls: list[Call] = []  # since the last step
        self.of_loss: list[str] = []  # what made the loss, the last first
        self.is_told = self.is_busy = False

    def forward(self, part: nn.Module, args: Any, kwargs: Any) -> None:
        """Keep what was called with what, and the random numbers of then."""
        self.calls = [*self.calls[1 - MOST_CALLS :], Call(part, args, kwargs, random_states())]

    def answered(self, made: Any) -> None:
        """Keep the gradient by what the last call answered, when it comes."""
        if isinstance(made, Tensor) and made.requires_grad and self.calls:
            call = self.calls[-1]

            def keep(gradient: Tensor) -> None:
                call.from_above = gradient.detach()

            made.register_hook(keep)

    def after_step(self) -> None:
        self.calls = []

    def before_backward(self, loss: Tensor, step: int) -> Iterator[Finding]:
        if self.is_told:
            return
        if not _finite(loss):
            self.of_loss = operations(loss)
            yield from self._tell("The loss is not finite", step)

    def before_step(self, step: int) -> Iterator[Finding]:
        if not self.is_told and not self._is_fine():
            yield from self._tell("The loss is finite, but gradients are not", step)

    def _is_fine(self) -> bool:
        return all(p.grad is None or _finite(p.grad) for p in self.probes)

    @property
    def would_ruin(self) -> bool:
        """Whether a step now would leave weights that are not finite."""
        return not self._is_fine()

    def _tell(self, seen: str, step: int) -> Iterator[Finding]:
        self.is_told = self.is_busy = True
        try:
            root = find_root(self.model, self.calls, self.of_loss)
        finally:
            self.is_busy = False
        yield _finding(seen, step, root, _size(self.model) / max(self.begin, 1e-12))


def _finite(x: Tensor) -> bool:
    """Whether all are finite. A sum tells it at once, but may itself run over."""
    total = x.detach().sum(dtype=torch.float32 if x.element_size() < 4 else None)
    return math.isfinite(total.item()) or bool(torch.isfinite(x).all())


def _size(model: nn.Module) -> float:
    """The root of the weights' mean square."""
    weights = [p.detach().double().square() for p in model.parameters()]
    total = sum(float(w.sum()) for w in weights)
    return (total / max(sum(w.numel() for w in weights), 1)) ** 0.5


def _finding(seen: str, step: int, root: Root | None, grown: float) -> Finding:
    where, cause, remedy, blame = _explained(root, grown)
    evidence: dict[str, Any] = {"blame": blame, "grown": grown}
    if root is not None:
        evidence |= {"way": root.way, "module": root.module, "operation": root.operation, "rows": root.rows}
    return Finding("T1", seen=f"{seen}: {where}", cause=cause, remedy=remedy, by="exact", step=step, evidence=evidence)


def _explained(root: Root | None, grown: float) -> tuple[str, str, str, str]:
    """Where, cause, remedy, and what is to blame: "data", "rate", "edge" or "precision"."""
    if root is None:
        told = "made again, everything is finite"
        return (
            told,
            "It hangs on chance, or on what other processes do.",
            "Train in float32 with a fixed seed.",
            "unknown",
        )
    rows = (
        f", rows {', '.join(map(str, root.rows[:SHOWN]))}{' …' if len(root.rows) > SHOWN else ''} of the batch"
        * bool(root.rows)
    )
    if root.way == "input":
        told = f"what the model reads is not finite{rows}"
        return told, "The data holds NaN or infinite numbers.", "Leave these rows out, or fill their gaps.", "data"
    place = f"'{root.module}'" if root.module else "the model's own forward pass"
    if root.way == "weights":
        told = f"{root.operation} of {place} is not finite"
        return (
            told,
            "An earlier step has ruined the weights.",
            "Go back to weights from before, and lower the rate.",
            "rate",
        )
    if root.way == "loss":
        place = "the loss"
    way = "the gradient of " if root.way == "backwards" else ""
    went_in = f"; what went in lies from {root.least:.3g} to {root.greatest:.3g}" if root.way == "forwards" else ""
    told = f"first {way}{root.operation or 'an operation'} in {place}{rows}{went_in}"
    if grown > GROWN:
        return (told, f"The weights have grown {grown:.3g} times: the learning rate is too high.",
                "Take a tenth of the rate, or clip gradients.", "rate")  # fmt: skip
    if max(abs(root.least), abs(root.greatest)) > LARGE and root.operation not in ON_THE_EDGE:
        return (
            told,
            "Numbers have become too large for their type.",
            "Use float32 or bfloat16, or norms.",
            "precision",
        )
    return (told, f"{root.operation or 'The operation'} is asked for a number on the edge of what it takes.",
            "Keep what goes in away from the edge: clamp it, or add a small number.", "edge")  # fmt: skip
