"""The loss of each number that a loss function was given, and of the constant that would do best in its place.

Read from what autograd keeps (parts/graph.py). What a reader would get wrong: the constant is no fixed number; it
follows from the targets seen so far: the classes' shares, or the mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.doctor.parts.graph import LossTerm

CLASSES, NUMBERS, BITS = ("cross_entropy",), ("squared_error",), (
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
)  # fmt: skip


def can_read(term: LossTerm) -> bool:
    if term.given is None or term.target is None or term.is_expanded or not term.is_plain:
        return False
    if term.kind in CLASSES:
        return term.given.dim() > 1 and not term.target.is_floating_point()
    return term.kind in (*NUMBERS, *BITS) and term.given.shape == term.target.shape and term.target.dim() > 0


def losses(term: LossTerm) -> Tensor:
    """[N, …] as the targets are; zero where a target is left out."""
    given, target = term.given, term.target
    assert given is not None and target is not None
    if term.kind in CLASSES:
        return _of_classes(term, -given)
    if term.kind in NUMBERS:
        return (given - target).square()
    if term.kind == "binary_cross_entropy":
        return F.binary_cross_entropy(given, target, reduction="none")
    return F.binary_cross_entropy_with_logits(given, target, reduction="none")


def of_each_row(term: LossTerm, num_rows: int) -> Tensor | None:
    """[num_rows]: means over what belongs to one row, such as tokens or members."""
    if not can_read(term) or num_rows == 0:
        return None
    every = losses(term)
    return every.reshape(num_rows, -1).mean(dim=1) if every.numel() % num_rows == 0 else None


def _of_classes(term: LossTerm, losses: Tensor) -> Tensor:
    """[N, C, …] → [N, …]: of the target's class, times its weight."""
    target = term.target
    assert target is not None
    left_out = target == term.ignored
    index = target.masked_fill(left_out, 0)
    found = losses.gather(1, index.unsqueeze(1)).squeeze(1)
    found = found if term.weight is None else found * term.weight[index]
    return found.masked_fill(left_out, 0.0)


class Constant:
    """The best constant for the targets seen so far."""

    def __init__(self) -> None:
        self.count = 0.0
        self.total: Tensor | None = None  # of each class, or of each number

    def add(self, term: LossTerm) -> float:
        """The mean loss of the constant over the targets of a batch, which are seen from now on."""
        target = term.target
        assert target is not None and term.given is not None
        own = _count(term, target) if term.kind in CLASSES else target.double().sum(dim=0)
        if self.total is None or self.total.shape != own.shape:  # answers of another length: begin anew
            self.count, self.total = 0.0, torch.zeros_like(own)
        self.count += len(target)
        self.total = self.total + own
        if term.kind in CLASSES:
            wanted = self.total if term.weight is None else self.total * term.weight.double()
            surprise = -torch.log((wanted / wanted.sum()).clamp(min=1e-12))
            paid = own * surprise if term.weight is None else own * surprise * term.weight.double()
            return float(paid.sum()) / max(target.numel(), 1)
        mean = self.total / self.count
        if term.kind in NUMBERS:
            return float((target.double() - mean).square().mean())
        mean = mean.clamp(1e-6, 1 - 1e-6)
        return float(F.binary_cross_entropy(mean.expand(target.shape), target.double()))


def _count(term: LossTerm, target: Tensor) -> Tensor:
    """How many targets there are of each class [C]."""
    assert term.given is not None
    return torch.bincount(target[target != term.ignored], minlength=term.given.shape[1]).double()
