"""T1: the first number that is not finite, with its root: the module, the operation, the rows, and what is to blame.

It is seen when a loss is to be propagated back, or when an optimizer is about to move by a gradient, while the weights
are still those of the forward pass: the pass is made again under a magnifying glass (parts/roots.py). What a reader
would get wrong: nothing is stopped by a loss that somebody then leaves out; only a step that would ruin the weights is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fathom.compute import random_states
from fathom.doctor.finding import Finding
from fathom.doctor.parts.family import Moment
from fathom.doctor.parts.graph import loss_terms, operations
from fathom.doctor.parts.rehearse import rehearse
from fathom.doctor.parts.roots import ON_THE_EDGE, Call, Root, find_root

NEAR = 3  # first parameters, among which a vector is looked for
SMALL = 16_384  # numbers of a matrix that may be summed at each step
LOOKED_AT = 16  # forward passes after which a model that drew no random numbers is taken for one that draws none
GROWN = 30.0  # times the weights' size at the beginning
LARGE = 1e4  # numbers that went in, beside which those of a healthy net are small
SHOWN = 8  # rows
# What explains it, where that was found too.
CAUSES = {"rate": ("F10", "F5", "F3", "F8", "F2", "T2"), "data": ("D1",)}
MOST_CALLS = 64  # kept of one step


class NotFinite:
    """The roots of losses and of gradients that are not finite."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.probes, self.large = _probes(model)
        self.device = next((p.device.type for p in model.parameters()), "cpu")
        self.begin = _size(model)
        self.calls: list[Call] = []  # since the last step
        self.of_loss: list[str] = []  # what made the loss, the last first
        self.bad_answers: list[int] = []  # rows whose targets are not finite
        self.is_told = self.is_busy = False
        self._unlike = LOOKED_AT  # forward passes before it is known that none draws random numbers
        self._random: dict[str, Tensor] = {}

    def forward(self, part: nn.Module, args: Any, kwargs: Any) -> None:
        """Keep what was called with what, and the random numbers of then."""
        if self._unlike > 0:
            self._random = random_states()
        autocast = torch.get_autocast_dtype(self.device) if torch.is_autocast_enabled(self.device) else None
        self.calls.append(Call(part, args, kwargs, self._random, autocast))
        if len(self.calls) > MOST_CALLS:
            del self.calls[0]

    def answered(self, made: Any) -> None:
        """Keep the gradient by what the last call answered, when it comes."""
        if not self.calls:
            return
        if isinstance(made, Tensor) and made.grad_fn is not None:
            call = self.calls[-1]
            call.made = made
            if not made.retains_grad:
                call.is_asked = True
                made.retain_grad()  # a hook would keep it as well, and take ten times as long
        if 0 < self._unlike < LOOKED_AT + 1:
            self._learn_whether_it_draws()

    def _learn_whether_it_draws(self) -> None:
        now = random_states()
        if all(torch.equal(value, now[device]) for device, value in self._random.items()):
            self._unlike -= 1
        else:
            self._unlike = LOOKED_AT + 1  # it does: keep them at each step

    def after_step(self) -> None:
        for call in self.calls:
            if call.made is not None and call.is_asked:
                call.made.grad = None
        self.calls.clear()

    def before_backward(self, loss: Tensor, moment: Moment) -> Iterator[Finding]:
        """Where a loss is not finite."""
        if not self.is_told:
            self.of_loss, self.bad_answers = operations(loss), _bad_answers(loss, moment.num_rows)
            yield from self._tell("The loss is not finite", moment)

    def before_step(self, moment: Moment) -> Iterator[Finding]:
        """Where `is_fine` said no."""
        if not self.is_told:
            yield from self._tell("The loss is finite, but gradients are not", moment)

    def is_fine(self, is_looking: bool) -> bool:
        """Whether gradients are finite; those of large matrices are summed only at steps that are looked at."""
        for p in self.probes:
            gradient = p.grad
            # A sum tells it at once, but may itself run over.
            if gradient is not None and not math.isfinite(gradient.sum().item()) and not is_finite(gradient):
                return False
        return not is_looking or all(p.grad is None or is_finite(p.grad) for p in self.large)

    def _tell(self, seen: str, moment: Moment) -> Iterator[Finding]:
        self.is_told = self.is_busy = True
        try:
            root = find_root(self.model, self.calls, self.of_loss)
            if root is not None and root.way == "loss" and self.bad_answers:
                root = replace(root, way="answers", rows=self.bad_answers, operation="")
            tried = [] if root is None else rehearse(self.model, self.calls, root)
        finally:
            self.is_busy = False
        yield _finding(seen, moment, root, _size(self.model) / max(self.begin, 1e-12), tried)


def _bad_answers(loss: Tensor, num_rows: int) -> list[int]:
    """Rows of the batch whose targets hold numbers that are not finite."""
    found: set[int] = set()
    for term in loss_terms(loss):
        target = term.target
        if target is not None and target.is_floating_point() and num_rows and target.numel() % num_rows == 0:
            bad = ~torch.isfinite(target.reshape(num_rows, -1)).all(dim=1)
            found |= set(bad.nonzero().flatten().tolist())
    return sorted(found)


def _probes(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters whose gradients are looked at before each step, and those only at steps that are looked at.

    What is not finite anywhere is so in all layers before it: so a vector of the first layer tells of all, with the
    smallest matrix for what stands beside the way there. The first matrix itself may be large, as an embedding is.
    """
    trained: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    near = [p for p in trained[:NEAR] if p.dim() < 2][:1]
    small = sorted((p for p in trained if p.dim() > 1 and p.numel() <= SMALL), key=Tensor.numel)[:1]
    often = list({id(p): p for p in [*(near or trained[:1]), *small]}.values())
    return often, [p for p in trained[:1] if all(p is not one for one in often)]


def is_finite(x: Tensor) -> bool:
    """Whether all are finite. A sum tells it at once, but may itself run over."""
    total = x.detach().sum(dtype=torch.float32 if x.element_size() < 4 else None)
    return math.isfinite(total.item()) or bool(torch.isfinite(x).all())


def _size(model: nn.Module) -> float:
    """The root of the weights' mean square."""
    weights = [p.detach().double().square() for p in model.parameters()]
    total = sum(float(w.sum()) for w in weights)
    return (total / max(sum(w.numel() for w in weights), 1)) ** 0.5


def _finding(seen: str, moment: Moment, root: Root | None, grown: float, tried: list[dict[str, Any]]) -> Finding:
    given = None if root is None or root.call is None else (root.call.args, root.call.kwargs)
    ids = None if given is None else moment.ids_of(given)
    named = [] if root is None else root.rows if ids is None else [ids[at] for at in root.rows if at < len(ids)]
    helped = [one["fix"] for one in tried if one.get("is_finite")]
    where, cause, remedy, blame = _explained(root, grown, helped, _listed(named, has_ids=ids is not None))
    evidence: dict[str, Any] = {"kind": "not finite", "blame": blame, "grown": grown, "rehearsed": tried}
    if root is not None:
        evidence |= {"way": root.way, "module": root.module, "operation": root.operation}
        evidence |= {"rows": named, "positions": root.rows, "has_ids": ids is not None}
    return Finding(
        "T1", seen=f"{seen}: {where}", cause=cause, remedy=remedy, by="exact", step=moment.step, evidence=evidence,
        symptom_of=CAUSES.get(blame, ()),
    )  # fmt: skip


def _listed(rows: list[int], *, has_ids: bool) -> str:
    if not rows:
        return ""
    shown = ", ".join(map(str, rows[:SHOWN])) + (" …" if len(rows) > SHOWN else "")
    return f", rows {shown}" + ("" if has_ids else " of the batch")


def _explained(root: Root | None, grown: float, helped: list[str], rows: str) -> tuple[str, str, str, str]:
    """Where, cause, remedy, and what is to blame: "data", "rate", "edge" or "precision"; `helped` was rehearsed."""
    if root is None:
        told = "made again, everything is finite"
        return (
            told,
            "It hangs on chance, or on what other processes do.",
            "Train in float32 with a fixed seed.",
            "unknown",
        )
    if root.way == "input":
        told = f"what the model reads is not finite{rows}"
        tried = " Without them the step is finite." if "rows left out" in helped else ""
        return (told, "The data holds NaN or infinite numbers.", f"Leave these rows out, or fill their gaps.{tried}",
                "data")  # fmt: skip
    if root.way == "answers":
        return (f"the answers it is to learn are not finite{rows}", "The data holds NaN or infinite answers.",
                "Leave these rows out.", "data")  # fmt: skip
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
    is_large = max(abs(root.least), abs(root.greatest)) > LARGE
    if root.operation not in ON_THE_EDGE and (is_large or "float64" in helped):
        tried = " The same step in 64 bits is finite." if "float64" in helped else ""
        return (told, "Numbers have become too large for their type.", f"Use float32 or bfloat16, or norms.{tried}",
                "precision")  # fmt: skip
    return (told, f"{root.operation or 'The operation'} is asked for a number on the edge of what it takes.",
            "Keep what goes in away from the edge: clamp it, or add a small number.", "edge")  # fmt: skip
