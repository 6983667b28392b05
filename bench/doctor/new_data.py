"""How often `fathom doctor RUN --on NEW` raises an alarm on clean rows, and how often it finds a planted shift.

A data set is split at random into rows to fit (a linear baseline, which is cheap) and the rest, several times; from the
rest new rows are drawn many times; into some of these draws each shift is planted. What a reader would get wrong: draws
share rows, so their alarms are not independent; an interval around the rate is too narrow.

    python -m bench.doctor.new_data digits breast-cancer --fits 10 --draws 20
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fathom.aftercare import examine_run
from fathom.console import Console
from fathom.doctor.finding import Finding
from fathom.fitting import fit
from fathom.recipe import from_mapping
from fathom.sources.samples import open as open_sample

MOST_FIT, MOST_NEW = 2_000, 1_000
RECIPE = {
    "model": {"name": "none"},
    "baselines": {"constant": {}, "linear": {"penalty": 1.0, "bends": 0, "iterations": 50}},
    "split": {"folds": 1},
    "threads": 1,
    "budget": 60,
    "explain_rows": 0,
}
Rows = dict[str, np.ndarray]
Plant = Callable[[Rows, np.random.Generator], Rows]


def load(name: str) -> tuple[Rows, str]:
    """All columns of a data set, and which is the target."""
    root = Path(os.environ.get("FATHOM_DATA", ""))
    files = {
        "adult": ("adult/adult-train.csv.gz", "column 14"),
        "california": ("california_housing/housing.csv.gz", "median_house_value"),
    }
    if name not in files:
        table = open_sample(name)
        assert table.target is not None
        return dict(table.columns), table.target
    path, target = files[name]
    frame = pd.read_csv(root / path, skipinitialspace=True, header=None if name == "adult" else 0)
    frame = frame.rename(columns=lambda column: f"column {column}" if isinstance(column, int) else column)
    return {column: frame[column].to_numpy() for column in frame}, target


def as_data(rows: Rows, target: str) -> Any:
    """As `fit` and `predict` take it: pictures with labels, or a frame."""
    if "image" in rows:
        return rows["image"], rows[target]
    return pd.DataFrame(rows)


def take(rows: Rows, which: np.ndarray) -> Rows:
    return {name: values[which] for name, values in rows.items()}


def plants(rows: Rows, target: str) -> dict[str, Plant]:
    """The shifts that make sense for these columns."""
    found: dict[str, Plant] = {}
    numeric = [n for n, v in rows.items() if n != target and v.ndim == 1 and v.dtype.kind in "iuf"]
    words = [n for n, v in rows.items() if n != target and v.dtype == object]
    if numeric:
        column = numeric[0]
        found["column x 1000"] = lambda r, g: r | {column: r[column] * 1000.0}
        found["column + 0.5 spreads"] = lambda r, g: r | {column: r[column] + 0.5 * np.nanstd(r[column])}
        found["column half empty"] = lambda r, g: r | {column: _half_empty(r[column], g)}
    if words:
        found["category renamed"] = lambda r, g: r | {words[0]: _renamed(r[words[0]])}
    if "image" in rows:
        found["pictures 40 levels brighter"] = lambda r, g: r | {"image": _brighter(r["image"])}
    labels = rows[target]
    is_number = labels.dtype.kind == "f" or len(np.unique(labels)) > 20
    if is_number:
        found["rule: target + 2 spreads of it"] = lambda r, g: r | {target: r[target] + 2 * np.std(labels)}
    else:
        found["half of the classes 4 times as rare"] = lambda r, g: _rarer(r, target, g)
        found["rule: 30 % of labels others"] = lambda r, g: r | {target: _wrong(r[target], g)}
    return found


def _half_empty(numbers: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.where(generator.random(len(numbers)) < 0.5, np.nan, numbers)


def _renamed(words: np.ndarray) -> np.ndarray:
    known, counts = np.unique(words.astype(str), return_counts=True)
    top = known[counts.argmax()]
    return np.where(words == top, top.swapcase(), words)


def _brighter(pictures: np.ndarray) -> np.ndarray:
    return np.clip(pictures.astype(int) + 40, 0, 255).astype(np.uint8)


def _rarer(rows: Rows, target: str, generator: np.random.Generator) -> Rows:
    known = np.unique(rows[target])
    kept = ~np.isin(rows[target], known[: len(known) // 2]) | (generator.random(len(rows[target])) < 0.25)
    return take(rows, np.flatnonzero(kept))


def _wrong(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    moved = np.flatnonzero(generator.random(len(labels)) < 0.3)
    known = np.unique(labels)
    found = labels.copy()
    found[moved] = known[(np.searchsorted(known, labels[moved]) + 1) % len(known)]
    return found


def told(findings: list[Finding]) -> list[str]:
    """What was found, in a few words."""
    shifts = [(one.id, one.evidence.get("shift_of", "cells")) for one in findings]
    return [f"{id_} {of}" if id_ == "P1" else id_ for id_, of in shifts]


def measure(name: str, fits: int, draws: int, planted: int) -> dict[str, Counter[str]]:
    """How many draws had which findings, by what was planted ("" for nothing)."""
    rows, target = load(name)
    num_rows = len(rows[target])
    found: dict[str, Counter[str]] = {}
    for number in range(fits):
        generator = np.random.default_rng(number)
        order = generator.permutation(num_rows)
        num_rest = min(2 * MOST_NEW, int(0.4 * num_rows))
        rest, old = order[:num_rest], order[num_rest : num_rest + MOST_FIT]
        recipe = from_mapping(RECIPE | ({"task": "classify"} if "image" in rows else {"target": target}))
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            fit(recipe, as_data(take(rows, old), target), out=run, console=Console(quiet=True)).folder.seal()
            for draw in range(draws):
                new = take(rows, generator.choice(rest, num_rest // 2, replace=False))
                cases: dict[str, Plant] = {"": lambda r, g: r} | (plants(rows, target) if draw < planted else {})
                for plant, change in cases.items():
                    seen = examine_run(run, on=as_data(change(new, np.random.default_rng(draw)), target))
                    found.setdefault(plant, Counter()).update({"draws", *(one.id for one in seen), *told(seen)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--planted", type=int, default=3, help="draws of each fit")
    given = parser.parse_args()
    for name in given.names:
        for plant, count in measure(name, given.fits, given.draws, given.planted).items():
            others = {key: value for key, value in count.most_common() if key != "draws"}
            print(f"{name:<14} {plant or 'clean':<36} {count['draws']:>4} draws: {others}", flush=True)


if __name__ == "__main__":
    main()
