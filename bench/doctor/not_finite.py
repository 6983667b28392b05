"""Thirty planted numbers that are not finite: does the doctor tell the step, the module and the rows of the first?

    python -m bench.doctor --not-finite

A third are in rows of the data, a third come of an operation in a module, a third appear on the way back alone. What a
reader would get wrong: right means right altogether. The step has to be the one at which it was planted, the module the
one that holds the plant (none for data), and the rows those of the batch, no more and no fewer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.doctor.configurations import PLAIN, draw
from bench.doctor.scores import share
from bench.doctor.training import Training, assemble, run
from fathom.doctor.watch import watch

PLANTS, STEPS = 30, 60
WAYS = ("input", "forwards", "backwards")


@dataclass
class Plant:
    way: str
    step: int  # counted from one
    rows: list[int]
    module: str = ""


class Planted(nn.Module):
    """Changes nothing, until it is armed: then some rows become NaN, or their gradients do."""

    def __init__(self, plant: Plant) -> None:
        super().__init__()
        self.plant, self.is_armed = plant, False

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_armed or self.plant.way == "input":
            return x
        here = torch.zeros(len(x), *[1] * (x.dim() - 1), dtype=torch.bool)
        here[self.plant.rows] = True
        if self.plant.way == "forwards":
            return torch.where(here, -1 - x.square(), torch.ones_like(x)).log() + x
        # Zero, and of infinite slope.
        return x + torch.where(here, 0 * x, torch.ones_like(x)).sqrt() * here


def measure() -> list[dict[str, Any]]:
    return [_one(number) for number in range(PLANTS)]


def _one(number: int) -> dict[str, Any]:
    random = np.random.default_rng([number, 9])
    one = next(
        one for seed in range(10**6) if (one := draw(90_000 + 1000 * number + seed, locked=False)).family in PLAIN
    )
    training = assemble(replace(one, steps=STEPS))
    rows = sorted(random.permutation(one.batch)[: int(random.integers(1, 4))].tolist())
    plant = Plant(WAYS[number % 3], int(random.integers(2, STEPS)), rows)
    _put(training, plant, random)
    with watch(training.model, training.optimizer, stop=False, say=None) as doctor:
        run(training)
    found = next((one for one in doctor.report() if one.id == "T1"), None)
    truth = {"plant": number, "way": plant.way, "step": plant.step, "module": plant.module, "rows": plant.rows}
    return truth | {"told": None if found is None else {"step": found.step, "seen": found.seen, **found.evidence}}


def _put(training: Training, plant: Plant, random: np.random.Generator) -> None:
    assert isinstance(training.model, nn.Sequential)
    parts = list(training.model)
    # Behind the first layer: nothing before it has a gradient.
    place = int(random.integers(1 + isinstance(parts[0], nn.Flatten), len(parts)))
    planted = Planted(plant)
    training.model = nn.Sequential(*parts[:place], planted, *parts[place:])
    if plant.way != "input":
        plant.module = str(place)
    loss, steps = training.loss, iter(range(1, 10**9))

    def armed(model: nn.Module, batch: Any) -> Tensor:
        planted.is_armed = model.training and next(steps) == plant.step
        if planted.is_armed and plant.way == "input":
            x = batch[0].clone()
            x[plant.rows] = float("nan")
            batch = (x, *batch[1:])
        return loss(model, batch)

    training.loss = armed


def told(found: list[dict[str, Any]]) -> str:
    """Shares, by what was asked."""
    lines = []
    for name, is_right in _QUESTIONS.items():
        right = [one for one in found if one["told"] is not None and is_right(one, one["told"])]
        lines.append(f"{name:<8} {share(len(right), len(found))}")
    wrong = [
        one for one in found if one["told"] is None or not all(ask(one, one["told"]) for ask in _QUESTIONS.values())
    ]
    return "\n".join([*lines, *(str(one) for one in wrong)])


_QUESTIONS = {
    "found": lambda truth, told: True,
    "step": lambda truth, told: told["step"] == truth["step"],
    "way": lambda truth, told: told.get("way") == truth["way"],
    "module": lambda truth, told: told.get("module", "") == truth["module"],
    "rows": lambda truth, told: told.get("rows") == truth["rows"],
}
