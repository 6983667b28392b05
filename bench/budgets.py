"""Twelve tasks ten times too large for the time or the memory they are given: is what was promised kept?

    python bench/budgets.py FOLDER                 all twelve
    python bench/budgets.py FOLDER 3 7             the third and the seventh

Data are made here by seed and kept. What a reader would get wrong: seconds are counted from before Python starts to
after it ended, and memory is the system's VmHWM, pages of mapped files among it; neither is what Fathom says of itself.
What Fathom forecast before the first epoch is compared with what it then took.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

import measured_run
from large_data import make_pictures, make_table, some_rows

TABLE, CSV, PICTURES, TEXTS, BOOK = "table.parquet", "table.csv", "pictures", "texts.csv", "book.txt"
ROWS = {TABLE: 3_000_000, CSV: 500_000, PICTURES: 20_000, TEXTS: 200_000, BOOK: 400_000}
# Most that may be passed: a share of the budget, or seconds where that is less than these.
SHARE, SECONDS = 0.05, 5.0


class Case(NamedTuple):
    data: str
    arguments: str
    budget: int  # seconds
    memory: str | None = None


CASES = (
    Case(TABLE, "--target label", 20),
    Case(TABLE, "--target label", 60),
    Case(TABLE, "--target label", 90, "1GB"),
    Case(TABLE, "--target x1", 45, "900MB"),
    Case(CSV, "--target label", 30),
    Case(CSV, "--target label", 60, "900MB"),
    Case(PICTURES, "", 30),
    Case(PICTURES, "", 90, "1.2GB"),
    Case(PICTURES, "", 60, "900MB"),
    Case(TEXTS, "--target topic", 30),
    Case(TEXTS, "--target topic", 60, "1GB"),
    Case(BOOK, "", 60),
)


def make(path: Path) -> None:
    """The data of that name, in the folder that `path` lies in."""
    rows, random = ROWS[path.name], np.random.default_rng(1)
    if path.name == TABLE:
        make_table(path, rows)
    elif path.name == CSV:
        pa.csv.write_csv(some_rows(random, rows), path)
    elif path.name == PICTURES:
        make_pictures(path, rows)
    elif path.name == TEXTS:
        words, topics = _words(random), random.integers(4, size=rows)
        lines = ["topic,text", *(f"topic {t},{_sentence(words, random, t)}" for t in topics.tolist())]
        path.write_text("\n".join(lines) + "\n")
    else:
        words = _words(random)
        path.write_text("\n".join(f"{_sentence(words, random, 0).capitalize()}." for _ in range(rows)) + "\n")


def _words(random: np.random.Generator) -> np.ndarray:
    """20,000 made words."""
    letters = np.array(list("abcdefghijklmnoprstuvw"))
    return np.array(["".join(random.choice(letters, size=random.integers(2, 9))) for _ in range(20_000)])


def _sentence(words: np.ndarray, random: np.random.Generator, topic: int) -> str:
    """Words by Zipf's law; a few of them are the topic's own."""
    ranks = np.minimum(random.zipf(1.3, size=random.integers(8, 25)) - 1, len(words) - 1)
    own = random.random(len(ranks)) < 0.15
    ranks[own] = 200 + 50 * topic + random.integers(50, size=int(own.sum()))
    return " ".join(words[ranks])


def run(case: Case, folder: Path, number: int) -> dict[str, object]:
    """One case, measured."""
    path, out = folder / case.data, folder / f"run-{number}"
    if not path.exists():
        make(path)
    shutil.rmtree(out, ignore_errors=True)
    limits = ["--budget", str(case.budget), *(["--memory", case.memory] if case.memory else []), "--out", str(out)]
    took = measured_run.fit([str(path), *case.arguments.split(), *limits], folder / f"run-{number}.log")
    kept = json.loads((out / "forecast.json").read_text()) if (out / "forecast.json").exists() else {}
    advised = json.loads((out / "metrics.json").read_text())["advised"] if took.status == 0 else ""
    return {"case": number, **case._asdict(), "status": took.status, "seconds": round(took.seconds, 1),
            "busy": round(took.busy, 1), "peak_MB": round(took.peak / 1e6), "anonymous_MB": round(took.anonymous / 1e6),
            "advised": advised, "load": os.getloadavg()[0]} | kept  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="*", type=int, metavar="CASE", help="numbers from 1")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print("case  data             asked     took    over     busy   asked      peak  advised: forecast s an epoch, MB")
    with (given.folder / "budgets.jsonl").open("a") as file:
        for number in given.cases or range(1, len(CASES) + 1):
            found = run(CASES[number - 1], given.folder, number)
            file.write(json.dumps(found) + "\n")
            file.flush()
            print(_line(found), flush=True)


def _line(found: dict) -> str:
    over = found["seconds"] - found["budget"]
    mark = "!" if over > max(SECONDS, SHARE * found["budget"]) else " "
    told = [found.get(one) for one in ("forecast", "measured")]
    compared = "  →  ".join(f"{one['seconds_per_epoch']:.3g}, {one['memory'] / 1e6:.0f}" for one in told if one)
    time = f"{found['budget']:>5} s {found['seconds']:>6.1f} s {over:>+6.1f}{mark} {found['busy']:>5.1f} s"
    memory = f"{found['memory'] or '':>7} {found['peak_MB']:>6} MB"
    return f"{found['case']:>4}  {found['data']:<14} {time} {memory}  {found['advised'] or 'refused'}: {compared}"


if __name__ == "__main__":
    main()
