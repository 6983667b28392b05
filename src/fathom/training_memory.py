"""How much memory a training will take, told from a forward pass of a few rows, and kept below a bound.

What a reader would get wrong: this is an estimate with room, not a measurement. What a forward pass leaves for the way
back is counted exactly, and grows with the rows of a batch; what kernels take for themselves is not, and is covered
by ROOM. A batch that is cut into parts moves the same weights, only what is held at once is less.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathom.candidates import Fold
from fathom.contest import Contest
from fathom.course import course, network_config, tensors_of
from fathom.divide import Divided
from fathom.errors import UserError
from fathom.limits import roomy, told
from fathom.memory import resident_bytes
from fathom.network import ROWS_AT_A_TIME, build
from fathom.styles import Size

ROWS = 8  # that are passed forward; no batch is cut into smaller parts, and no fewer are predicted at once
ROOM = 1.5
# Copies of the weights: gradients, two moments of the optimizer, the average, the best, and all that a checkpoint
# keeps, once as tensors and once as the bytes of its file.
STATES = 16
# Judging by a bootstrap, explaining and the report.
JUDGING = 90e6


@dataclass(frozen=True)
class Need:
    """Bytes that a network of one size takes: in all cases, for each row of a batch, and for each row predicted."""

    fixed: float
    a_row: float
    a_prediction: float

    def training(self, rows: int) -> float:
        return self.fixed + ROOM * rows * self.a_row

    def predicting(self, rows: int) -> float:
        return self.fixed + ROOM * rows * self.a_prediction


def need_of(contest: Contest, size: Size) -> Need:
    """Measured by building the network and passing ROWS training rows forward. Of classes and numbers only."""
    rows = contest.divided.folds[0].train[:ROWS]
    own = np.arange(len(rows))
    trial = replace(
        contest,
        recipe=copy.deepcopy(contest.recipe),
        examples=contest.examples.take(rows),
        targets=contest.targets[rows],
        divided=Divided((Fold(own, own),), own, None, ()),
        store=None,
        taught=None if contest.taught is None else [contest.taught[0][rows]],
    )
    trial.recipe.model.options, trial.recipe.train.batch_size = size.options, len(rows)
    config, device = network_config(trial), torch.device("cpu")
    state = torch.get_rng_state()
    model = build(str(config["name"]), config["about"], config["outputs"], size.options).train()
    taken = course(trial, config, tensors_of(trial, device), 0, device)
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = next(taken.batches.epoch(0))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = next(taken.objective.losses(model, batch))  # held, so that no storage is used twice
    torch.set_rng_state(state)
    weight_bytes = sum(one.numel() * one.element_size() for one in model.parameters())
    del loss
    # While predicting, a layer's input and output are there, and what it makes of them.
    largest = max(seen.values(), default=0)
    return Need(STATES * weight_bytes + JUDGING, sum(seen.values()) / len(rows), 3 * largest / len(rows))


def keep_within(contest: Contest, size: Size) -> bool:
    """Whether this size can be trained within the recipe's memory; then batches are cut into parts that fit.

    True without a bound, and for tasks of texts, which are not told.
    """
    recipe = contest.recipe
    if recipe.memory is None or contest.task.kind not in ("classify", "regress"):
        return True
    need, settings = need_of(contest, size), recipe.train
    assert settings.batch_size is not None
    free = recipe.memory - resident_bytes()
    if max(need.training(ROWS), need.predicting(ROWS)) > free:
        return False
    parts = 1
    while need.training(settings.batch_size // parts) > free and settings.batch_size // (2 * parts) >= ROWS:
        parts *= 2
    if need.training(settings.batch_size // parts) > free:
        return False
    if parts > 1:
        whole = settings.batch_size
        settings.batch_size, settings.accumulate = whole // parts, settings.accumulate * parts
        why = f"{whole} rows at once would not fit into {told(recipe.memory)}"
        recipe.explain("batch", f"{settings.accumulate} parts of {settings.batch_size}", why)
    at_once = ROWS_AT_A_TIME
    while need.predicting(at_once) > free and at_once > ROWS:
        at_once //= 2
    if at_once < ROWS_AT_A_TIME:
        settings.predict_rows = at_once
    return True


def refuse_too_little(contest: Contest, smallest: Size) -> None:
    """Raise UserError where not even the smallest size fits, with the memory that would do."""
    memory = contest.recipe.memory
    if memory is None:
        return
    least = resident_bytes() + JUDGING
    if contest.task.kind in ("classify", "regress"):
        need = need_of(contest, smallest)
        least = resident_bytes() + max(need.training(ROWS), need.predicting(ROWS))
    if least > memory:
        name = contest.recipe.model.name
        raise UserError(
            f"--memory allows {told(memory)}; the libraries, {len(contest.examples):,} rows and the smallest network "
            f"({name}, {ROWS} rows at once) need {told(least)}. Say --memory {roomy(least)}."
        )
