"""By how much a healthy training's score varies when it is made again: the measure of harm.

    python -m bench.doctor --spread

trains a configuration of each pair of world and family five times over, on the same rows with other first weights and
another order, and writes the deviations to spread.json, which is kept. What a reader would get wrong: of five scores a
deviation is known to a third. So each is drawn half way, in squares, to the mean of its world, and none is less than
what one test row makes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.doctor.configurations import FAMILIES, Configuration, draw, form_of
from bench.doctor.healthy import trains_well
from bench.doctor.processes import solved
from bench.doctor.training import assemble, run
from bench.doctor.worlds import WORLDS

FILE = Path(__file__).parent / "spread.json"
RERUNS = 5
HARM = 3.0  # deviations
LEAST_R2 = 0.01
SEED = 40_000


def measure(workers: int) -> None:
    """Make the file anew."""
    scores = {"/".join(pair): found for pair, found, error in solved(rerun, pairs(), workers=workers) if error is None}
    left = [pair for pair in pairs() if "/".join(pair) not in scores]
    assert not left, f"{left} failed or took too long"
    FILE.write_text(json.dumps({"reruns": RERUNS, "scores": dict(sorted(scores.items()))}, indent=1) + "\n")


def pairs() -> list[tuple[str, str]]:
    return [(world, family) for world in WORLDS for family in FAMILIES[form_of(world)]]


def rerun(pair: tuple[str, str]) -> list[float]:
    """The test scores of the first configuration of a pair that trains well, made again and again."""
    for one in _of(pair):
        training = assemble(one)
        first = run(training)
        if trains_well(training.world, first):
            return [first.score, *(run(assemble(replace(one, again=i))).score for i in range(1, RERUNS))]
    raise RuntimeError(f"No configuration of {pair} trained well.")


def _of(pair: tuple[str, str]) -> Iterator[Configuration]:
    for seed in range(SEED, SEED + 20_000):
        one = draw(seed, locked=True)
        if (one.world, one.family) == pair:
            yield one


class Spread:
    """Deviations by world and family, from the file."""

    def __init__(self, path: Path = FILE) -> None:
        scores: dict[str, list[float]] = json.loads(path.read_text())["scores"]
        self.variances = {key: float(np.var(values, ddof=1)) for key, values in scores.items()}

    def of(self, case: dict[str, Any]) -> float:
        """The deviation of a case's score; never less than one test row's worth."""
        one = case["configuration"]
        alike = [value for key, value in self.variances.items() if key.split("/")[0] == one["world"]]
        own = self.variances.get(f"{one['world']}/{one['family']}", float(np.mean(alike)))
        least = LEAST_R2 if case["kind"] == "regress" else 1 / case["test_rows"]
        return max(math.sqrt((own + float(np.mean(alike))) / 2), least)

    def is_harmful(self, case: dict[str, Any]) -> bool:
        return case["twin"] - case["score"] > HARM * self.of(case)
