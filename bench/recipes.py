"""Run a recipe with several seeds and print what its header claims: score and spread on the test rows, and seconds.

    FATHOM_DATA=/path/to/data python bench/recipes.py recipes/adult.yaml --seeds 0 1 2

Each seed is one `fathom fit` in a process of its own, one after the other: seconds are those of the whole command.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def one(recipe: Path, seed: int, out: Path) -> dict[str, object]:
    """Fit once; the numbers of the run, or its error."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "fathom", "fit", "--recipe", str(recipe), "--seed", str(seed), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - begun
    if done.returncode:
        return {"seed": seed, "error": done.stderr.strip(), "seconds": seconds}
    metrics = json.loads((out / "metrics.json").read_text())
    return {"seed": seed, "seconds": seconds, "advised": metrics["advised"], "test": metrics["test"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, help="keep the run folders in this folder")
    given = parser.parse_args()
    keep = given.keep or Path(tempfile.mkdtemp())
    for recipe in given.recipes:
        found = [one(recipe, seed, keep / f"{recipe.stem}-{seed}") for seed in given.seeds]
        print(
            f"\n{recipe.stem}: " + "; ".join(f"{f.get('advised', f.get('error'))} {f['seconds']:.0f} s" for f in found)
        )
        good = [f for f in found if "test" in f]
        if not good:
            continue
        for candidate in good[0]["test"]:  # type: ignore[attr-defined]
            scores = [f["test"][candidate] for f in good if candidate in f["test"]]  # type: ignore[index, operator]
            print(
                f"  {candidate:<16}" + "  ".join(_spread(name, scores) for name in scores[0] if name in SHOWN),
                flush=True,
            )
        advised = [f["test"][f["advised"]] for f in good]  # type: ignore[index]
        print(
            f"  {'advised':<16}" + "  ".join(_spread(name, advised) for name in advised[0] if name in SHOWN), flush=True
        )


SHOWN = ("accuracy", "auc", "log_loss", "rmse", "mae", "r2")


def _spread(name: str, scores: list[dict[str, float]]) -> str:
    values = [score[name] for score in scores]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{name} {statistics.mean(values):.5g} ± {spread:.2g}"


if __name__ == "__main__":
    main()
