"""Data larger than the memory that is allowed: a table of 20 million rows and 20 columns, and 200,000 pictures.

Both are made here, by seed, and are kept for the next time. What a reader would get wrong: the promise is about the
memory of the process, so the bench asks the system for it (bench/measured_run.py), not Fathom.

    python bench/large_data.py FOLDER                      both
    python bench/large_data.py FOLDER table --rows 2000000 smaller, to see it work
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import measured_run

ROWS_A_GROUP = 1_000_000
SIDE, CLASSES = 64, 10


def make_table(path: Path, rows: int) -> None:
    """15 numbers, 4 categories and a class that depends on some of them: no row is like another."""
    random = np.random.default_rng(0)
    with pq.ParquetWriter(path, some_rows(random, 1).schema) as file:
        for begin in range(0, rows, ROWS_A_GROUP):
            file.write_table(some_rows(random, min(ROWS_A_GROUP, rows - begin)))


def some_rows(random: np.random.Generator, rows: int) -> pa.Table:
    columns = {f"x{i}": random.normal(size=rows).astype(np.float32) for i in range(15)}
    words = np.array(["ash", "birch", "cedar", "elm", "fir", "oak", "pine", "yew"])
    codes = [random.integers(len(words), size=rows) for _ in range(4)]
    score = columns["x0"] + columns["x1"] * columns["x2"] + np.sin(2 * columns["x3"]) + (codes[0] == 3)
    label = np.where(score + random.normal(size=rows) > 0.2, "yes", "no")
    arrays = {name: pa.array(values) for name, values in columns.items()}
    arrays |= {f"tree{i}": pa.array(words[code]) for i, code in enumerate(codes)}
    return pa.table(arrays | {"label": pa.array(label)})


def make_pictures(folder: Path, pictures: int) -> None:
    """Ten classes of gratings: each has a direction, and noise and a colour of its own."""
    random = np.random.default_rng(0)
    across = np.arange(SIDE)[None, :] / SIDE, np.arange(SIDE)[:, None] / SIDE
    for name in range(CLASSES):
        (folder / f"direction {name}").mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        label = number % CLASSES
        angle = np.pi * (label + random.normal() / 4) / CLASSES
        wave = np.sin(2 * np.pi * (6 * (np.cos(angle) * across[0] + np.sin(angle) * across[1]) + random.random()))
        colour = random.uniform(40, 100, size=3)
        pixels = 128 + colour * wave[..., None] + random.normal(0, 40, size=(SIDE, SIDE, 1))
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        picture.save(folder / f"direction {label}" / f"{number:06}.jpg", quality=80)


def cases(given: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of each fit; what it reads is there."""
    if given.what in ("both", "table"):
        path = given.folder / f"table-{given.rows}.parquet"
        if not path.exists():
            make_table(path.with_suffix(".part"), given.rows)
            path.with_suffix(".part").rename(path)
        yield f"table of {given.rows:,} rows and 20 columns", [str(path), "--target", "label"]
    if given.what in ("both", "pictures"):
        path = given.folder / f"pictures-{given.pictures}"
        if not path.exists():
            make_pictures(path.with_suffix(".part"), given.pictures)
            path.with_suffix(".part").rename(path)
        yield f"{given.pictures:,} pictures of {SIDE}×{SIDE} pixels", [str(path)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", nargs="?", default="both", choices=("both", "table", "pictures"))
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--all", action="store_true", help="make all rows ready, whether or not the time allows it")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in cases(given):
        out = given.folder / f"run-{os.getpid()}-{len(name)}"
        limits = ["--budget", given.budget, "--memory", given.memory, "--out", str(out)]
        limits += ["sample.further=1000000000"] if given.all else []
        took = measured_run.fit([*arguments, *limits], out.with_suffix(".log"))
        print(took.output)
        rows = json.loads((out / "metrics.json").read_text())["rows"] if took.status == 0 else {}
        print(f"{name}: exit {took.status}, {took.seconds:.0f} s; rows: {rows}")
        told = [f"{value / 2**20:,.0f} MiB" for value in (took.peak, took.anonymous, took.of_files)]
        print("most resident {}; at most {} anonymous, {} of files".format(*told), flush=True)


if __name__ == "__main__":
    main()
