"""One case of the benchmark: a healthy training or a faulty one beside its twin, and what each doctor says of it.

What a reader would get wrong: prediction and truth leave this file apart. What doctors said is written and hashed
before anybody joins it with what was planted (scores.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bench.doctor import repairs
from bench.doctor.beside import watched
from bench.doctor.configurations import LOCKED_FAULTS
from bench.doctor.faults import FAULTS
from bench.doctor.healthy import SHARE_HARD, Healthy, drawn, trains_well
from bench.doctor.training import Result, Training, run
from bench.doctor.worlds import World

SHARE_DOUBLE, SHARE_OUTSIDE = 0.10, 0.05
# Faults of data, habits and loss, which any other fault may meet.
SECOND = ("softmax_twice", "scaled", "shuffled", "no_reset", "judged_in_train", "trained_in_eval", "bad_rows")
MOST_DRAWN = 400
AT_RANDOM = 4  # of so many faulty cases one is repaired at random too


@dataclass(frozen=True)
class Task:
    number: int
    seed: int
    locked: bool
    faults: tuple[str, ...] = ()  # none: a healthy one
    magnitude: float = 0.0
    is_hard: bool = False
    repairs: bool = False


def plan(seed: int, cases: int, *, locked: bool, repairs: bool = False) -> list[Task]:
    """`cases` healthy ones and as many faulty, in random order: what ran before a stop is a fair sample."""
    random = np.random.default_rng([seed, 5 if locked else 6])
    names = [name for name in FAULTS if locked or name not in LOCKED_FAULTS]
    inside, outside = ([n for n in names if FAULTS[n].is_inside is known] for known in (True, False))
    tasks = [Task(i, seed, locked, is_hard=bool(random.random() < SHARE_HARD)) for i in range(cases)]
    rounds = [name for _ in range(cases // len(inside) + 1) for name in random.permutation(inside)]
    for number, name in enumerate(rounds[:cases], start=cases):
        first = str(random.choice(outside)) if random.random() < SHARE_OUTSIDE else str(name)
        more = [n for n in SECOND if n != first and n in names]
        second = (str(random.choice(more)),) if random.random() < SHARE_DOUBLE else ()
        tasks.append(Task(number, seed, locked, (first, *second), float(random.uniform())))
    return [replace(tasks[i], repairs=repairs) for i in random.permutation(len(tasks))]


def solve(task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the doctors say of the case, and the truth; both carry its number."""
    begun = time.process_time()
    said, truth = _faulty(task) if task.faults else _healthy(task)
    truth |= {"case": task.number, "faults": task.faults, "seconds": time.process_time() - begun}
    return {"case": task.number, **said}, truth


def _healthy(task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    for redrawn, candidate in enumerate(_candidates(task)):
        training = candidate.training()
        said, result = watched(training)
        if trains_well(training.world, result):
            truth = {**_about(candidate, training.world, result), "redrawn": redrawn}
            return said, truth | _repaired(task, candidate, said["said"])
    raise RuntimeError(f"None of {MOST_DRAWN} configurations trained well.")


def _faulty(task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    redrawn = 0
    for candidate in _candidates(task):
        training = candidate.training()
        if not all(FAULTS[name].fits(candidate.one, training) for name in task.faults):
            continue
        twin = run(training)
        if not trains_well(training.world, twin):
            redrawn += 1
            continue
        training = candidate.training()
        plant(training, task)
        said, result = watched(training)
        planted = _planted(task) | {
            "magnitude": task.magnitude,
            "twin": twin.score,
            "redrawn": redrawn,
        }
        truth = {**_about(candidate, training.world, result), **planted}
        return said, truth | _repaired(task, candidate, said["said"])
    raise RuntimeError(f"{task.faults} fit none of {MOST_DRAWN} configurations.")


def _planted(task: Task) -> dict[str, Any]:
    """What follows from the faults alone, fixed before anything is run."""
    faults = [FAULTS[name] for name in task.faults]
    return {
        "causes": sorted({cause for fault in faults for cause in fault.causes}),
        "structural": any(fault.structural for fault in faults),
        "inside": faults[0].is_inside,
    }


def _repaired(task: Task, candidate: Healthy, said: dict[str, list[Any]]) -> dict[str, Any]:
    """What repairs come to: ours and AutoTrainer's where they raised an alarm, random ones on a part of the faulty."""

    def make() -> Training:
        training = candidate.training()
        plant(training, task)
        return training

    found: dict[str, Any] = {}
    if task.repairs and said["fathom"]:
        found["fathom"] = repairs.ours(make)
    if task.repairs and said["autotrainer"]:
        found["autotrainer"] = repairs.autotrainer(make, said["autotrainer"])
    if task.repairs and task.faults and task.number % AT_RANDOM == 0:
        found["random"] = repairs.at_random(make, task.number)
    return {"repairs": found}


def plant(training: Training, task: Task) -> None:
    """The second fault first: it touches data, habits and loss only, which the first may then see."""
    for place, name in reversed(list(enumerate(task.faults))):
        FAULTS[name].edit(training, task.magnitude, np.random.default_rng([task.seed, task.number, place]))


def _candidates(task: Task) -> Iterator[Healthy]:
    for i in range(MOST_DRAWN):
        seed = int(np.random.default_rng([task.seed, int(task.locked), task.number, i]).integers(2**31))
        yield drawn(seed, locked=task.locked, hard=task.is_hard)


def _about(candidate: Healthy, world: World, result: Result) -> dict[str, Any]:
    return {"configuration": asdict(candidate.one), "hard": candidate.hard, "score": result.score,
            "kind": world.kind, "test_rows": len(world.test[0]),
            "first_loss": result.losses[0], "last_losses": result.losses[-5:]}  # fmt: skip
