"""Run recipes with several seeds; print score and spread on the test rows, and with --write put them into the header.

    FATHOM_DATA=/path/to/data python bench/recipes.py recipes/adult.yaml --seeds 0 1 2 --write

Each seed is one `fathom fit` in a process of its own, one after the other: seconds are those of the whole command. With
--keep a seed whose run folder is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fathom import rooms
from fathom.show import shown, shown_interval

SHOWN = ("accuracy", "auc", "log_loss", "rmse", "mae", "r2", "cross_entropy", "bits_per_byte", "bleu", "chrf")


def one(recipe: Path, seed: int, out: Path) -> dict[str, Any]:
    """Fit once, or read the run that is there; its metrics and the seconds of the whole command."""
    clock = out.with_suffix(".seconds")
    if not (out / "metrics.json").exists():
        begun = time.monotonic()
        command = [sys.executable, "-m", "fathom", "fit", "--recipe", str(recipe), "--seed", str(seed)]
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{recipe} with seed {seed}: {done.stderr.strip()}")
        clock.write_text(f"{time.monotonic() - begun:.1f}")
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics | {"seed": seed, "command_seconds": float(clock.read_text())}


def spread(name: str, values: list[float]) -> str:
    """'accuracy 93.31 % ± 0.05 %': mean and standard deviation over seeds."""
    measure = rooms.find("measures", name)
    alone = len(values) < 2
    return f"{measure.LABEL} {shown(measure, statistics.mean(values))}" + (
        "" if alone else f" ± {shown(measure, statistics.stdev(values))}"
    )


def candidates(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Test scores of each candidate that every seed has, and of whatever was advised."""
    shared = [name for name in runs[0]["test"] if all(name in run["test"] for run in runs)]
    found = {name: [run["test"][name] for run in runs] for name in shared}
    return found | {"advised": [run["test"][run["advised"]] for run in runs]}


def header(runs: list[dict[str, Any]]) -> list[str]:
    """The lines of a recipe's header that say what was measured."""
    seconds = sorted(round(run["command_seconds"]) for run in runs)
    took = " to ".join(dict.fromkeys((str(seconds[0]), str(seconds[-1]))))
    advised = Counter(run["advised"] for run in runs).most_common()
    name = runs[0]["metric"]
    interval = shown_interval(rooms.find("measures", name), runs[0]["test"][runs[0]["advised"]]["interval"])
    seeds = ", ".join(str(run["seed"]) for run in runs)
    votes = ", ".join(f"{one} ({count} of {len(runs)})" for one, count in advised)
    lines = [
        f"# Seeds {seeds}: the whole command took {took} s; advised {votes}; "
        f"95 % interval of seed {runs[0]['seed']}: {interval}.",
        "# Test rows, mean ± standard deviation over the seeds:",
    ]
    for candidate, scores in candidates(runs).items():
        told = [spread(n, [score[n] for score in scores]) for n in dict.fromkeys((name, *SHOWN)) if n in scores[0]]
        lines.append(f"#   {candidate:<14} {'; '.join(told)}")
    return lines


def write(recipe: Path, lines: list[str]) -> None:
    """Put the lines under the two that name the command and the machine, in place of earlier ones."""
    old = recipe.read_text().splitlines()
    settings = [line for line in old if not line.startswith("#")]
    recipe.write_text("\n".join([*old[:2], *lines, *settings]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, help="keep the run folders in this folder")
    parser.add_argument("--write", action="store_true", help="write what was measured into the recipe's header")
    given = parser.parse_args()
    keep = given.keep or Path(tempfile.mkdtemp())
    keep.mkdir(parents=True, exist_ok=True)
    for recipe in given.recipes:
        lines = header([one(recipe, seed, keep / f"{recipe.stem}-{seed}") for seed in given.seeds])
        print(recipe, *lines, sep="\n", flush=True)
        if given.write:
            write(recipe, lines)


if __name__ == "__main__":
    main()
