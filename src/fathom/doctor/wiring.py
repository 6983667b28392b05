"""F4 and F5: parameters that nothing trains, and gradients that nobody resets; exact, from the parameters themselves.

What a reader would get wrong: a gradient of exactly zero is no proof. A bias before a batch norm has one by
construction, and so has, in the first steps, whatever stands behind a weight that starts at zero, and for ever a vector
for missing values where none is missing. So no gradient at all is told of any parameter, one of zero only of the
matrices of layers, and both only after several steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fathom.doctor.finding import Finding

LOOKS = 6  # steps without any gradient before it is told
TIMES = 2  # steps in a row that began with old gradients
PROBES = 3  # parameters whose gradients are followed
SHOWN = 5  # names


class Wiring:
    """Which parameters are moved. `frozen` are patterns of names that are meant to stay ("backbone.*")."""

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer], frozen: Sequence[str]) -> None:
        self.model, self.optimizers, self.frozen = model, optimizers, tuple(frozen)
        self.looks = 0
        self.moving: set[str] = set()  # parameters that had a gradient other than zero
        layers = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase)
        self.matrices = {
            f"{name}.{own}".lstrip(".")
            for name, part in model.named_modules()
            if isinstance(part, layers)
            for own, p in part.named_parameters(recurse=False)
            if p.dim() > 1
        }
        self.is_told = False

    def begin(self) -> Iterator[Finding]:
        moved = {id(p) for p in _moved_by(self.optimizers)}
        left_out = {n: p for n, p in self._expected() if p.requires_grad and id(p) not in moved}
        fixed = {n: p for n, p in self._expected() if not p.requires_grad}
        if left_out:
            yield self._never(
                left_out,
                "left out",
                "belong to no optimizer",
                "The optimizer was made from other parameters, for example before the model was changed or for a part "
                "of it.",
                "Give it model.parameters() after the model is complete.",
            )
        if fixed:
            yield self._never(
                fixed,
                "frozen",
                "have requires_grad=False",
                "Somebody froze them.",
                "Set requires_grad_(True), or say that it is meant: watch(..., frozen=['name.*']).",
            )

    def before_step(self, step: int) -> Iterator[Finding]:
        """Which parameters have a gradient now."""
        self.looks += 1
        for name, p in self._expected():
            if name not in self.moving and p.grad is not None and bool(p.grad.any()):
                self.moving.add(name)
        if self.looks < LOOKS or self.is_told:
            return
        self.is_told = True
        moved = {id(p) for p in _moved_by(self.optimizers)}
        still = {
            name: p
            for name, p in self._expected()
            if p.requires_grad
            and id(p) in moved
            and name not in self.moving
            and (p.grad is None or name in self.matrices)
        }
        if not still:
            return
        never_any = all(p.grad is None for p in still.values())
        yield self._never(
            still,
            "no gradient" if never_any else "zero gradient",
            f"had {'no' if never_any else 'a'} gradient{'' if never_any else ' of exactly zero'} at {self.looks} steps",
            "The loss does not depend on them: the forward pass does not use them, or detaches what they make.",
            "Follow the forward pass from them to the loss; look for detach(), .data, no_grad, argmax.",
            step=step,
            symptom_of=() if never_any else ("F1", "T4"),
        )

    def _expected(self) -> Iterator[tuple[str, Tensor]]:
        for name, p in self.model.named_parameters():
            if not any(fnmatch(name, pattern) for pattern in self.frozen):
                yield name, p

    def _never(self, found: dict[str, Tensor], kind: str, seen: str, cause: str, remedy: str, **more: Any) -> Finding:
        count, whole = sum(p.numel() for p in found.values()), sum(p.numel() for p in self.model.parameters())
        names = ", ".join(list(found)[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        return Finding(
            "F4",
            seen=f"{len(found)} parameters ({count:,} of {whole:,} numbers) {seen}: {names}",
            cause=cause,
            remedy=remedy,
            by="exact",
            evidence={"kind": kind, "parameters": list(found), "share": count / max(whole, 1)},
            **more,
        )


def _moved_by(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]


class Resets:
    """F5: whether gradients begin anew after a step."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        trained = [p for p in _moved_by(optimizers) if p.requires_grad]
        matrices, rest = [p for p in trained if p.dim() > 1], [p for p in trained if p.dim() < 2]
        self.probes = [*sorted(matrices, key=Tensor.numel), *sorted(rest, key=Tensor.numel)][:PROBES]
        self.old: list[Tensor | None] = [None] * len(self.probes)  # gradients with which a step was made
        self.kept: set[int] = set()  # probes that went on with the old gradient in this step
        self.times = 0
        self.is_told = False

    def hooks(self) -> list[Callable[[], None]]:
        """Put hooks on the probes; what comes back takes them off."""
        incoming: dict[int, Tensor] = {}
        handles = []
        for place, p in enumerate(self.probes):
            handles.append(p.register_hook(lambda g, place=place: incoming.__setitem__(place, g.detach())))
            handles.append(
                p.register_post_accumulate_grad_hook(lambda p, place=place: self._compare(place, p, incoming))
            )
        return [handle.remove for handle in handles]

    def _compare(self, place: int, p: Tensor, incoming: dict[int, Tensor]) -> None:
        old, new = self.old[place], incoming.pop(place, None)
        self.old[place] = None
        if new is None or p.grad is None or p.grad.is_sparse:
            return  # sparse ones, as of an embedding, cannot be compared
        if torch.equal(p.grad, new):
            # Reset since: what another player's backward pass, as a generator's, has added here moves nothing.
            self.kept.discard(place)
        elif old is not None and bool(old.any()) and torch.equal(p.grad, old + new):
            self.kept.add(place)

    def after_step(self, step: int) -> Iterator[Finding]:
        self.times = self.times + 1 if self.kept else 0
        self.kept.clear()
        self.old = [None if p.grad is None else p.grad.detach().clone() for p in self.probes]
        if self.times >= TIMES and not self.is_told:
            self.is_told = True
            yield Finding(
                "F5",
                seen=f"The gradients of {self.times} steps in a row were added to those of the step before",
                cause="Nobody calls zero_grad between the steps.",
                remedy="Call optimizer.zero_grad() before each backward().",
                by="exact",
                step=step,
                evidence={"steps": self.times},
            )
