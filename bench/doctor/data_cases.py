"""Tables that are healthy, and tables with one thing wrong, each given to `fathom.examine` before any training.

    python -m bench.doctor --data --seed 1 --cases 200

Half are tables of `worlds.py`, in units of their own; half are made at random, of any size, noise and balance. What a
reader would get wrong: harm is not measured here. What is planted is wrong by construction, from barely to
gross; an honest column that tells nearly all, rows equal by chance and a rare class that is easily told are not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import fathom
from bench.doctor.faults import between
from bench.doctor.worlds import WORLDS

TABLES = ("blobs", "spirals", "breast_cancer", "wine", "diabetes", "friedman")
MADE = "random table"
TARGET = "answer"
SHARE_HARD = 0.5

Random = np.random.Generator
Change = Callable[[pd.DataFrame, float, Random], pd.DataFrame]


@dataclass(frozen=True)
class DataTask:
    number: int
    seed: int
    faults: tuple[str, ...] = ()
    magnitude: float = 0.0
    hard: str | None = None


@dataclass(frozen=True)
class DataFault:
    change: Change
    causes: tuple[str, ...]
    classes: bool = False  # classes only
    of_test: bool = False  # planted into rows that are given as the test


def _is_classes(frame: pd.DataFrame) -> bool:
    return not pd.api.types.is_numeric_dtype(frame[TARGET])


def _numbers(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if name != TARGET and pd.api.types.is_numeric_dtype(frame[name])]


def _codes(frame: pd.DataFrame) -> np.ndarray:
    """The answers as numbers: those of classes in the order of their names."""
    return pd.factorize(frame[TARGET], sort=True)[0] if _is_classes(frame) else frame[TARGET].to_numpy()


def copies(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """So many rows stand there twice, in places of their own."""
    more = frame.sample(frac=between(0.02, 0.3, magnitude), random_state=int(random.integers(2**31)))
    return pd.concat([frame, more]).sample(frac=1.0, random_state=int(random.integers(2**31))).reset_index(drop=True)


def leaked(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """A column that is the answer, but for a little."""
    codes = _codes(frame) / _codes(frame).std()
    return frame.assign(total=codes + random.normal(scale=between(0.05, 0.001, magnitude), size=len(frame)))


def flipped(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    rows = random.random(len(frame)) < between(0.05, 0.4, magnitude)
    kinds = frame[TARGET].unique()
    other = {kind: [k for k in kinds if k != kind] for kind in kinds}
    return frame.assign(**{TARGET: [str(random.choice(other[y])) if bad else y for y, bad in zip(frame[TARGET], rows)]})


def misaligned(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """The answers of so many rows are those of others, as after a join by position."""
    rows = random.permutation(len(frame))[: round(between(0.7, 1.0, magnitude) * len(frame))]
    answers = frame[TARGET].to_numpy().copy()
    answers[rows] = answers[random.permutation(rows)]
    return frame.assign(**{TARGET: answers})


def rare_class(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """Few rows of one class are left, and these lie among the others."""
    kind = frame[TARGET].iloc[0]
    rows = np.flatnonzero(frame[TARGET] == kind)
    left = random.permutation(rows)[: round(between(40, 12, magnitude))]
    keep = frame.drop(index=np.setdiff1d(rows, left)).reset_index(drop=True)
    among, names = (keep[TARGET] == kind).to_numpy(), _numbers(keep)
    values = keep[names].to_numpy().copy()
    values[among] = 0.3 * values[among] + 0.7 * values[random.permutation(np.flatnonzero(~among))[: among.sum()]]
    return keep.assign(**dict(zip(names, values.T, strict=True)))


def mixed_types(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """Words among the numbers of a column."""
    name = str(random.choice(_numbers(frame)))
    bad = random.random(len(frame)) < between(0.01, 0.2, magnitude)
    words = random.choice(["n/a", "error", "-"], size=len(frame))
    return frame.assign(**{name: np.where(bad, words, frame[name].astype(str))})


def groups(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """Several rows of one person, who is nearly the same each time, on both sides of the split."""
    count = round(between(4, 16, magnitude))
    persons = frame.sample(n=len(frame) // count, random_state=int(random.integers(2**31)))
    rows = persons.loc[persons.index.repeat(count)].reset_index(drop=True)
    for name in _numbers(rows):
        rows[name] += random.normal(scale=0.1 * frame[name].std(), size=len(rows))
    if _is_classes(rows):
        # Whose answer hangs on the person, not on the columns.
        rows[TARGET] = np.repeat(random.choice(frame[TARGET].unique(), len(persons)), count)
    else:
        rows[TARGET] = np.repeat(random.permutation(persons[TARGET].to_numpy()), count)
    rows["person"] = [f"p{i:04d}" for i in np.repeat(np.arange(len(persons)), count)]
    return rows.sample(frac=1.0, random_state=int(random.integers(2**31))).reset_index(drop=True)


def shifted(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """The test rows come from elsewhere: half of the columns have moved."""
    names = _numbers(frame)
    moved = random.permutation(names)[: max(1, len(names) // 2)]
    return frame.assign(**{name: frame[name] + between(0.5, 3, magnitude) * frame[name].std() for name in moved})


def other_unit(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """One column of the test rows is in another unit."""
    name = str(random.choice(_numbers(frame)))
    return frame.assign(**{name: frame[name] * between(3, 1000, magnitude)})


DATA_FAULTS: dict[str, DataFault] = {
    "copies": DataFault(copies, ("D2",)),
    "leaked": DataFault(leaked, ("D4",)),
    "flipped": DataFault(flipped, ("D6", "D9"), classes=True),
    "misaligned": DataFault(misaligned, ("D9", "D6")),
    "rare_class": DataFault(rare_class, ("D7",), classes=True),
    "mixed_types": DataFault(mixed_types, ("D1",)),
    "groups": DataFault(groups, ("D3", "D2")),
    "shifted": DataFault(shifted, ("D8",), of_test=True),
    "other_unit": DataFault(other_unit, ("D8", "D1"), of_test=True),
}


# Hard negatives: what looks like one of these and is none.


def few_levels(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """The four columns that go with the answer most, so coarse that rows are equal by chance."""
    codes = pd.Series(_codes(frame))
    names = sorted(_numbers(frame), key=lambda name: -abs(frame[name].corr(codes)))[:4]
    return frame[[*names, TARGET]].assign(**{name: (2 * frame[name]).round() / 2 for name in names})


def dominant(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """Honest and strong, and the other columns still tell something."""
    codes = _codes(frame)
    return frame.assign(strong=codes / codes.std() + random.normal(scale=0.7, size=len(frame)))


def rare_and_easy(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """Every fourth row of a class is left, and it lies apart."""
    kind = frame[TARGET].iloc[0]
    keep = frame[(frame[TARGET] != kind) | (np.arange(len(frame)) % 4 == 0)].reset_index(drop=True)
    is_kind = (keep[TARGET] == kind).to_numpy()
    return keep.assign(**{name: keep[name] + 4 * keep[name].std() * is_kind for name in _numbers(keep)})


def gaps(frame: pd.DataFrame, magnitude: float, random: Random) -> pd.DataFrame:
    """A tenth of a column is missing, by chance."""
    name = str(random.choice(_numbers(frame)))
    return frame.assign(**{name: frame[name].where(random.random(len(frame)) > 0.1)})


DATA_HARD: dict[str, tuple[Change, bool]] = {
    "few_levels": (few_levels, False),
    "dominant": (dominant, False),
    "rare_and_easy": (rare_and_easy, True),
    "gaps": (gaps, False),
}


def plan(seed: int, cases: int) -> list[DataTask]:
    random = np.random.default_rng([seed, 10])
    hard = [str(random.choice(list(DATA_HARD))) if random.random() < SHARE_HARD else None for _ in range(cases)]
    tasks = [DataTask(i, seed, hard=name) for i, name in enumerate(hard)]
    names = [str(name) for _ in range(cases // len(DATA_FAULTS) + 1) for name in random.permutation(list(DATA_FAULTS))]
    tasks += [DataTask(cases + i, seed, (name,), float(random.uniform())) for i, name in enumerate(names[:cases])]
    return [tasks[i] for i in random.permutation(len(tasks))]


def solve(task: DataTask) -> tuple[dict[str, Any], dict[str, Any]]:
    begun, random = time.process_time(), np.random.default_rng([task.seed, task.number, 11])
    fault = DATA_FAULTS[task.faults[0]] if task.faults else None
    needs_classes = fault.classes if fault else bool(task.hard) and DATA_HARD[task.hard][1]
    names = [name for name in TABLES if not needs_classes or WORLDS[name](0).kind == "classify"]
    name = str(random.choice(names)) if task.number % 4 < 2 else MADE
    train, test = made(random, needs_classes=needs_classes) if name == MADE else _frames(name, random)
    has_test = fault.of_test if fault else task.hard is None and task.number % 2 == 0
    if fault is not None and fault.of_test:
        test = fault.change(test, task.magnitude, random)
    elif not has_test:
        change = fault.change if fault else DATA_HARD[task.hard][0] if task.hard else lambda frame, *_: frame
        train = change(pd.concat([train, test], ignore_index=True), task.magnitude, random)
    found = _examined(train, test if has_test else None)
    said = {"fathom": [{"ids": [one.id], "by": one.by, "seen": one.seen} for one in found]}
    truth = {"case": task.number, "configuration": {"world": name}, "hard": task.hard, "magnitude": task.magnitude,
             "faults": task.faults, "causes": fault.causes if fault else (), "structural": bool(task.faults),
             "inside": True, "score": 0.0, "twin": 0.0, "redrawn": 0,
             "seconds": time.process_time() - begun}  # fmt: skip
    return {"case": task.number, "said": said}, truth


def made(random: Random, *, needs_classes: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to train on and rows to test: numbers (also skewed, whole or missing) and categories, which tell the answer.

    No class has less than a tenth of the rows.
    """
    rows, width = int(10 ** random.uniform(2.4, 3.6)), int(random.integers(3, 12))
    x = random.normal(size=(rows, width))
    weights = random.normal(size=width) * random.integers(0, 2, size=width)
    weights[int(random.integers(width))] += 1.5
    score = x @ weights + random.uniform() * x[:, 0] * x[:, -1]
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(width)])
    for name in frame.columns[: width // 2]:
        way = int(random.integers(4))
        if way == 0:
            frame[name] = np.exp(2 * frame[name]).round(3)
        elif way == 1:
            frame[name] = (3 * frame[name]).round()
        elif way == 2:
            frame.loc[random.random(rows) < random.uniform(0, 0.4), name] = np.nan
    for i in range(int(random.integers(4))):
        codes = random.integers(0, int(random.integers(2, 40)), size=rows)
        score = score + random.normal(size=40)[codes] * random.integers(0, 2)
        frame[f"c{i}"] = [f"v{code}" for code in codes]
    score = (score - score.mean()) / score.std() + random.uniform(0.1, 2.0) * random.normal(size=rows)
    if needs_classes or random.random() < 0.5:
        shares = 0.1 + random.dirichlet(np.ones(kinds := int(random.integers(2, 4)))) * (1 - 0.1 * kinds)
        edges = np.quantile(score, np.cumsum(shares)[:-1])
        frame = frame.assign(**{TARGET: [f"kind {k}" for k in np.searchsorted(edges, score)]})
    else:
        frame = frame.assign(**{TARGET: score})
    cut = int(0.75 * rows)
    return frame[:cut].copy(), frame[cut:].reset_index(drop=True)


def _frames(name: str, random: Random) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to train on and rows to test, in units of their own, with answers as words where they are classes."""
    world = WORLDS[name](int(random.integers(2**31)))
    columns = world.train[0].shape[1]
    size, middle = np.exp(random.normal(size=columns)), random.normal(scale=3, size=columns)
    parts = (tuple(torch.cat(pair) for pair in zip(world.train, world.judge, strict=True)), world.test)
    units = [(torch.from_numpy(size * (x.numpy() + middle)), y) for x, y in parts]
    return tuple(_frame(*part, is_classes=world.kind == "classify") for part in units)


def _frame(x: torch.Tensor, y: torch.Tensor, *, is_classes: bool) -> pd.DataFrame:
    answer = [f"kind {int(one)}" for one in y] if is_classes else y.numpy()
    return pd.DataFrame(x.numpy(), columns=[f"x{i}" for i in range(x.shape[1])]).assign(**{TARGET: answer})


def _examined(train: pd.DataFrame, test: pd.DataFrame | None) -> list[Any]:
    if test is None:
        return fathom.examine(train, TARGET)
    with tempfile.TemporaryDirectory() as folder:
        test.to_csv(Path(folder) / "test.csv", index=False)
        return fathom.examine(train, TARGET, test=Path(folder) / "test.csv")
