"""A throw-away network of one size, to be timed on real batches before the training that it is planned for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from fathom.batches import Batch, Tensors
from fathom.contest import Contest
from fathom.course import TEXTS_TO_WATCH, TOKENS_TO_WATCH, course, network_config
from fathom.data import Examples
from fathom.loop import train
from fathom.network import build
from fathom.optimizer import make_optimizer
from fathom.store import as_network
from fathom.styles import Size
from fathom.training import Epochs

ROWS_TO_TIME, MORE_ROWS_TO_TIME = 16, 256


def _some(batches: Epochs) -> tuple[list[Batch], float]:
    """Up to four batches, and the seconds that making one took: without the first, before which rows are drawn."""
    making = batches.epoch(0)
    found = [next(making)]
    begun = time.perf_counter()
    found += [batch for batch, _ in zip(making, range(3), strict=False)]
    return found, (time.perf_counter() - begun) / max(1, len(found) - 1)


class Probe:
    """A throw-away model of one size, to be timed on real batches."""

    def __init__(self, contest: Contest, size: Size, tensors: Tensors, device: torch.device) -> None:
        recipe, settings = contest.recipe, contest.recipe.train
        assert recipe.model.name is not None and settings.batch_size and settings.learning_rate
        torch.manual_seed(0)
        self.size, self.contest, self.device = size, contest, device
        config = self.config = network_config(contest)
        self.model = build(recipe.model.name, config["about"], config["outputs"], size.options).to(device).train()
        taken = course(contest, config, tensors, 0, device)
        self.objective, self.per_epoch = taken.objective, taken.batches.per_epoch
        self.batches, self.seconds_to_make = _some(taken.batches)
        self.optimizer = make_optimizer(self.model, settings.optimizer or "adamw", settings.learning_rate, 0.0)
        self.turn = 0

    def _next(self) -> Batch:
        self.turn += 1
        return self.batches[self.turn % len(self.batches)]

    def step(self) -> None:
        for _ in train(self.model, self.objective, [self._next()], self.optimizer):
            pass

    def seconds_once(self) -> float:
        begun = time.perf_counter()
        self.step()
        return time.perf_counter() - begun

    def seconds_to_judge(self) -> tuple[float, float]:
        """What predicting all validation and test rows will take, from a few of them, and one validation of a fold."""
        divided, kind = self.contest.divided, self.contest.task.kind
        rows = len(divided.judged) + len(divided.test)
        is_text = kind in ("language", "translate")
        some = self.contest.examples.take(divided.test[: ROWS_TO_TIME if is_text else MORE_ROWS_TO_TIME])
        a_row = self._seconds_to_predict(self.config, some)
        if is_text:
            # An untrained translator never ends a text; a trained one writes about half of what it may.
            share = 0.5 if kind == "translate" else 1.0
            return share * rows * a_row, share * a_row * self._watched()
        once = self._seconds_to_predict(self.config | {"views": 0}, some)
        # The member of each fold answers its own validation rows, and all members the test rows.
        rows = len(divided.judged) + len(divided.folds) * len(divided.test)
        return rows * a_row, len(divided.folds[0].validate) * once

    def _watched(self) -> int:
        """Texts that a validation looks at."""
        rows = self.contest.divided.folds[0].validate
        if self.contest.task.kind == "translate":
            return min(len(rows), TEXTS_TO_WATCH)
        return min(len(rows), 1 + int(np.searchsorted(np.cumsum(self.contest.targets[rows, 0]), TOKENS_TO_WATCH)))

    def _seconds_to_predict(self, config: dict[str, Any], some: Examples) -> float:
        """A row, on its way through the model."""
        begun = time.perf_counter()
        as_network(self.model, config, self.device).predict(some)
        self.model.train()
        return (time.perf_counter() - begun) / len(some)

    def forward_backward(self, context: Callable[[], AbstractContextManager[Any]]) -> None:
        for _ in train(self.model, self.objective, [self._next()], self.optimizer, precision=context):
            pass
