"""How often the doctor's look at data alarms about healthy tables, and how often it finds what was planted.

    python bench/doctor_data.py --seeds 100

Healthy are the tables of `bench/doctor/worlds.py`, each world and seed another table (of bundled data other rows of the
same), and random tables of numbers and categories, of any size, noise and balance. Faults are planted in the latter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import fathom

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.doctor.worlds import WORLDS

FAULTS = ("D1", "D2", "D3", "D4", "D6", "D8", "D9")


def healthy(seed: int) -> pd.DataFrame:
    """Numbers (also skewed, whole, missing or constant nearly everywhere) and categories; a target that they tell."""
    random = np.random.default_rng([seed, 1])
    rows, width = int(10 ** random.uniform(2.4, 3.6)), int(random.integers(2, 12))
    x = random.normal(size=(rows, width))
    weights = random.normal(size=width) * random.integers(0, 2, size=width)
    weights[int(random.integers(width))] += 1.5
    score = x @ weights + (random.uniform(0, 1) * x[:, 0] * x[:, -1])
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(width)])
    for name in frame.columns[: width // 2]:
        way = int(random.integers(4))
        if way == 0:
            frame[name] = np.exp(2 * frame[name]).round(3)
        elif way == 1:
            frame[name] = (3 * frame[name]).round()
        elif way == 2:
            frame.loc[random.random(rows) < random.uniform(0, 0.4), name] = np.nan
    for i in range(int(random.integers(0, 4))):
        codes = random.integers(0, int(random.integers(2, 40)), size=rows)
        score = score + random.normal(size=40)[codes] * random.integers(0, 2)
        frame[f"c{i}"] = [f"v{code}" for code in codes]
    score = (score - score.mean()) / score.std() + random.uniform(0.1, 2.0) * random.normal(size=rows)
    kind = int(random.integers(3))
    if kind == 0:
        return frame.assign(y=score)
    edges = np.quantile(score, np.sort(random.uniform(0.1, 0.9, size=kind)))
    return frame.assign(y=[f"k{k}" for k in np.searchsorted(edges, score)])


def planted(frame: pd.DataFrame, fault: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The same with one fault, of a size between hardly and grossly: data, and test rows where it takes these."""
    random = np.random.default_rng([seed, 2])
    size, rows = float(random.uniform(0.3, 1.0)), len(frame)
    cut = int(0.7 * rows)
    train, test = frame[:cut].copy(), frame[cut:].copy()
    if fault == "D1":
        column = frame.columns[int(random.integers(sum(n.startswith("x") for n in frame)))]
        return frame.assign(**{column: frame[column].where(random.random(rows) > 0.05 * size, np.inf)}), None
    if fault == "D2":
        some = max(4, int(0.1 * size * len(test)))
        return train, pd.concat([test, train.sample(some, random_state=seed)], ignore_index=True)
    if fault == "D3":
        owner = np.repeat(np.arange(-(-rows // 8)), 8)[:rows]
        own = random.normal(size=(owner.max() + 1, 3))[owner] + 0.05 * random.normal(size=(rows, 3))
        new = pd.DataFrame(own, columns=["p", "q", "r"]).assign(who=[f"w{i}" for i in owner])
        return new.assign(y=np.where((random.random(owner.max() + 1) < 0.5)[owner], "k0", "k1")), None
    if fault == "D4":
        codes = frame["y"].rank(method="dense").to_numpy()
        return frame.assign(after=codes / codes.std() + 0.25 * (1 - size) * random.normal(size=rows)), None
    if fault == "D6":
        wrong = random.random(rows) < 0.3 * size
        return frame.assign(y=np.where(wrong, random.permutation(frame["y"]), frame["y"])), None
    if fault == "D8":
        return train, test.assign(**{name: test[name] + 1.5 * size for name in test if name.startswith("x")})
    return frame.assign(y=random.permutation(frame["y"])), None


def examined(frame: pd.DataFrame, test: pd.DataFrame | None = None) -> set[str]:
    if test is None:
        return {one.id for one in fathom.examine(frame, "y")}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "train.csv", Path(folder) / "test.csv"]
        for part, path in zip((frame, test), paths, strict=True):
            part.to_csv(path, index=False)
        return {one.id for one in fathom.examine(paths[0], "y", test=paths[1])}


def world(name: str, seed: int) -> pd.DataFrame:
    made = WORLDS[name](seed)
    parts = (made.train, made.judge, made.test)
    x, y = (np.concatenate([part[i].numpy() for part in parts]) for i in (0, 1))
    kept = np.sort(np.random.default_rng(seed).permutation(len(x))[: int(0.8 * len(x))])  # bundled data: other rows
    frame = pd.DataFrame(x[kept], columns=[f"x{i}" for i in range(x.shape[1])])
    return frame.assign(y=y[kept] if made.kind == "regress" else [f"k{k}" for k in y[kept]])


def told(name: str, hits: int, tried: int, which: Counter[str]) -> None:
    found = stats.binomtest(hits, tried).proportion_ci(0.95)
    print(f"{name:<24} {hits:>4} of {tried:<5} {found.low:6.1%} to {found.high:6.1%}   {dict(which)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    worlds = [name for name in WORLDS if WORLDS[name](0).form == "table"]
    groups = {name: [(name, seed) for seed in seeds] for name in worlds} | {"random tables": [("", s) for s in seeds]}
    for name, cases in groups.items():
        found = [examined(world(kind, seed) if kind else healthy(seed)) for kind, seed in cases]
        told(f"healthy: {name}", sum(map(bool, found)), len(cases), Counter(i for one in found for i in one))
    for fault in FAULTS:
        found = [examined(*planted(healthy(seed), fault, seed)) for seed in seeds]
        told(
            f"planted: {fault}",
            sum(fault in one for one in found),
            len(found),
            Counter(i for one in found for i in one),
        )


if __name__ == "__main__":
    main()
