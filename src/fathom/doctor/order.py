"""T7: rows that are not shuffled: batches are more alike inside, and more unlike each other, than chance makes them.

The answers of the first batches are compared by their variance between batches and within (intraclass correlation,
from the F of an analysis of variance; classes as one column each). What a reader would get wrong: batches that are
more even than chance are no fault, as a sampler that balances classes makes them; only those that are less even are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from fathom.doctor.finding import Finding
from fathom.doctor.parts.chance import ErrorBudget
from fathom.doctor.parts.family import Family, Moment
from fathom.doctor.parts.graph import LossTerm
from fathom.doctor.parts.row_losses import can_read
from fathom.doctor.parts.trial import some_batches

BATCHES = 8  # of a look; two looks must agree
LOOKS = 2
CERTAIN, CERTAIN_P = 0.5, 1e-9  # or one, where so much and so surely lies between batches
MOST = 64  # batches of a look
LEAST_BATCHES = 3  # of a look before the first step
ALIKE = 0.2  # intraclass correlation: so much of the variance lies between batches
LEAST_ROWS = 4  # of a batch


class Order(Family):
    def __init__(self) -> None:
        self.batches: list[Tensor] = []
        self.found: list[tuple[float, float]] = []  # correlation and p of each look
        self.seen = 0  # batches
        self.is_over = False

    def before_backward(self, moment: Moment) -> Iterator[Finding]:
        if self.is_over or moment.graph is None:
            return
        terms = moment.graph.terms
        answers = _answers(terms[0], moment.num_rows) if len(terms) == 1 else None
        if answers is None:
            self.is_over = True
            return
        self.batches = [*self.batches[1 - MOST :], answers]
        if len(self.batches) < BATCHES or len(self.batches) % BATCHES:
            return
        share, p = _likeness(self.batches)
        if math.isnan(share):
            return  # one answer only, as when rows are sorted and there are many of each: go on until another comes
        self.found.append((share, p))
        self.seen, self.batches = self.seen + len(self.batches), []
        is_alike = share > ALIKE and p < ErrorBudget().level(len(self.found))
        self.is_over = not is_alike or len(self.found) == LOOKS or (share > CERTAIN and p < CERTAIN_P)
        if is_alike and self.is_over:
            yield _told(min(one for one, _ in self.found), max(p for _, p in self.found), self.seen, moment.step)


def find_order(data: Iterable[Any]) -> Iterator[Finding]:
    """The same of the first batches of a source, before the first step, where a batch is (inputs, answers)."""
    found = some_batches(data, MOST, _answers_of)
    batches = [one for one in found if one is not None]
    if len(batches) < max(LEAST_BATCHES, len(found)):
        return
    share, p = _likeness(batches)
    if share > ALIKE and p < CERTAIN_P:
        yield _told(share, p, len(batches), None)


def _told(share: float, p: float, batches: int, step: int | None) -> Finding:
    return Finding(
        "T7",
        seen=f"Rows of one batch have like answers: {share:.0%} of the answers' variance lies between batches, "
        f"where shuffled rows have none ({batches} batches)",
        cause="The rows come in the order they are stored in, sorted by their answers or in blocks. Each step "
        "unlearns what the last one taught.",
        remedy="Shuffle the training rows anew in each epoch: DataLoader(..., shuffle=True). Where the order is "
        "meant, say watch(..., curriculum=True).",
        by="test",
        confidence=1 - p,
        step=step,
        evidence={"share_between": share, "batches": batches, "p": p, "settings": {"shuffle": True}},
    )


def _answers_of(batch: Any) -> Tensor | None:
    if not isinstance(batch, list | tuple) or len(batch) != 2 or not all(isinstance(one, Tensor) for one in batch):
        return None
    return _of_each_row(batch[1], len(batch[0]))


def _answers(term: LossTerm, num_rows: int) -> Tensor | None:
    """One answer for each row: class or number [N]; nothing where a row has several, as a text has."""
    return _of_each_row(term.target, num_rows) if can_read(term) and term.target is not None else None


def _of_each_row(target: Tensor, num_rows: int) -> Tensor | None:
    if num_rows < LEAST_ROWS:
        return None
    if target.dim() == 2 and target.shape[1] > 1 and bool((target.sum(dim=1) == 1).all()):
        target = target.argmax(dim=1)  # one-hot
    if target.numel() % num_rows or (target.dim() > 1 and target.numel() != len(target)):
        return None
    rows = target.reshape(num_rows, -1)  # members of a net have the same answers
    return rows[:, 0].clone() if bool((rows == rows[:, :1]).all()) else None


def _likeness(batches: list[Tensor]) -> tuple[float, float]:
    """The intraclass correlation of answers of a batch, and p that there is none; NaN where all answers are one."""
    size = min(map(len, batches))
    values = torch.stack([one[:size] for one in batches]).cpu().numpy()  # [batches, rows]
    columns = [values.astype(float)]
    if values.dtype.kind in "iu":
        columns = [(values == kind).astype(float) for kind in np.unique(values)]
    between = sum(size * ((one.mean(axis=1) - one.mean()) ** 2).sum() for one in columns)
    within = sum(((one - one.mean(axis=1, keepdims=True)) ** 2).sum() for one in columns)
    free = max(len(columns) - 1, 1)
    if between + within == 0:
        return math.nan, 1.0
    df = (len(batches) - 1) * free, len(batches) * (size - 1) * free
    ratio = (between / df[0]) / max(within / df[1], 1e-12)
    return float((ratio - 1) / (ratio - 1 + size)), float(stats.f.sf(ratio, *df))
