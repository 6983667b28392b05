"""Kill runs at random moments, take them up, and compare them with the run that was never interrupted, bit by bit.

    python bench/kill.py --kills 100 --seed 0

Three tasks in turn: a table with accumulation, an average of weights and patience that ends the training; pictures that
are augmented and mixed; texts. Each run is killed by SIGKILL, a third of them twice, at a moment drawn over the whole
command or, every other time, over its training, and goes on by `fathom resume`. Another third is stopped by Ctrl-C
first, which keeps a state in the middle of an epoch, and is killed after it was taken up. What a reader would get
wrong: what is measured on the machine (threads, precision) is written into the recipe of a first run, which all others
repeat; or the clock would tell them apart. A command that is killed before its folder stands has kept nothing, and
there is nothing to resume; it is typed again, and counted apart. Moments are drawn in time of computing, which /proc
tells: it runs under Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from same_run import differing

# In the child every epoch is kept, as it is in trainings whose epochs take longer than these.
CHILD = "import fathom.networks as n, fathom.cli, sys; n.SECONDS_BETWEEN_CHECKPOINTS = 0.0; sys.exit(fathom.cli.main())"
AGAIN, STOPPED = 0.33, 0.33  # of the runs are killed a second time; are stopped by Ctrl-C before they are killed
IN_TRAINING = 0.5  # of the moments are drawn from when the first epoch was made
TRAINING = 0.2  # of the time of the whole command goes into the epochs, about
SHARED = [
    "--seed",
    "3",
    "split.folds=1",
    "baselines={constant: {}}",
    "explain_rows=20",
    "threads=1",
    "train.schedule=cosine",
]
TASKS = {
    "table": ["model=mlp", "train.epochs=40", "train.accumulate=2", "train.average=1.0", "train.patience=3"],
    "pictures": [
        "model=resnet",
        "model.width=16",
        "train.epochs=4",
        "train.average=0.5",
        "train.augment={shift: 1, rotate: 10, scale: 0.1, erase: 0.2}",
        "train.mixup=0.2",
    ],
    "texts": ["model=transformer", "train.epochs=5", "train.label_smoothing=0.1"],
}


def write_data(task: str, folder: Path) -> Path:
    """A small data set of that kind: numbers and words, digits, sentences."""
    random = np.random.default_rng(0)
    path = folder / f"{task}.csv"
    if task == "table":
        x = random.normal(size=(900, 4))
        colour = random.choice(["red", "green", "blue"], size=900)
        y = (x[:, 0] + (colour == "red") + 0.5 * random.normal(size=900)) > 0.3
        lines = [
            f"{a:.4f},{b:.4f},{c:.4f},{d:.4f},{e},{int(f)}" for (a, b, c, d), e, f in zip(x, colour, y, strict=True)
        ]
        path.write_text("\n".join(["a,b,c,d,colour,label", *lines]) + "\n")
    elif task == "texts":
        words = [f"word{i}" for i in range(60)]
        lines = []
        for label in random.integers(2, size=900):
            chosen = [
                *random.choice(words[:50], size=7),
                *random.choice(words[50 + 5 * label : 55 + 5 * label], size=2),
            ]
            lines.append(f"{' '.join(random.permutation(chosen))},{['no', 'yes'][label]}")
        path.write_text("\n".join(["text,label", *lines]) + "\n")
    else:
        return Path("digits")
    return path


def plan(task: str, data: Path, out: Path) -> list[str]:
    """A run that measures and chooses; its recipe holds what was chosen, so that all others do the same."""
    return [sys.executable, "-c", CHILD, "fit", str(data), "--out", str(out), *SHARED, *TASKS[task]]


def command(recipe: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", CHILD, "fit", "--recipe", str(recipe), "--out", str(out)]


def resume(out: Path) -> list[str]:
    return [sys.executable, "-c", CHILD, "resume", str(out)]


def completed(arguments: list[str]) -> float:
    """Run to the end; the seconds of computing it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ended(arguments: list[str], after: float, by: signal.Signals, since: Path | None) -> bool:
    """Start, and end by that signal after so many seconds of computing; whether it was still running then.

    They are counted from the beginning, or from when the file `since` stands.
    """
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = 0.0 if since is None else None
    while process.poll() is None:
        # The clock of the wall would hit a machine that is at work on other things too early, or an idle one too late.
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        spent = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if begun is None and since is not None and since.exists():
            begun = spent
        if begun is not None and spent - begun >= after:
            process.send_signal(by)
            process.wait()
            return True
        time.sleep(0.002)
    return False


def is_amid_an_epoch(out: Path) -> bool:
    """Whether the last state of a fold was kept in the middle of an epoch."""
    steps = {int(path.stem.split("-")[3]): path for path in (out / "last").glob("fold-0-step-*.json")}
    return bool(steps) and any(json.loads(steps[max(steps)].read_text())["sums"])


def stands(out: Path) -> bool:
    """Whether enough was kept to go on from."""
    return (out / "recipe.yaml").exists()


def attempt(
    task: str, recipe: Path, whole: Path, seconds: float, out: Path, random: np.random.Generator
) -> dict[str, object]:
    """One run, killed and taken up until it is done, beside the one that was never killed."""
    drawn = random.random()
    signals = [signal.SIGKILL] * (1 + int(drawn < AGAIN))
    if AGAIN < drawn < AGAIN + STOPPED:
        signals = [signal.SIGINT, signal.SIGKILL]
    moments, nothing_kept, amid = [], 0, 0
    for by in signals:
        in_training = by == signal.SIGINT or random.random() < IN_TRAINING
        moment = float(random.uniform(0.0, TRAINING * seconds if in_training else seconds))
        since = out / "metrics.csv" if in_training else None
        was_running = ended(resume(out) if stands(out) else command(recipe, out), moment, by, since)
        told = f"{by.name} {moment:.3f}{' of training' if in_training else ''}"
        moments.append(told if was_running else None)
        amid += stands(out) and is_amid_an_epoch(out)
        if not stands(out):
            nothing_kept += 1
            shutil.rmtree(out, ignore_errors=True)
    completed(resume(out) if stands(out) else command(recipe, out))
    counts = {"nothing_kept": nothing_kept, "amid_an_epoch": amid}
    return {"task": task, "ended_at": moments} | counts | {"differing": differing(whole, out)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="runs that are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file of JSON lines, one for each run")
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    results = []
    with tempfile.TemporaryDirectory(prefix="fathom-kill-") as name:
        folder = Path(name)
        data = {task: write_data(task, folder) for task in TASKS}
        seconds, recipes = {}, {}
        for task in TASKS:
            completed(plan(task, data[task], folder / f"{task}-plan"))
            recipes[task] = folder / f"{task}-plan" / "recipe.yaml"
            seconds[task] = completed(command(recipes[task], folder / f"{task}-whole"))
            print(f"{task}: never killed, {seconds[task]:.1f} s", flush=True)
        for number in range(given.kills):
            task = list(TASKS)[number % len(TASKS)]
            out = folder / f"{task}-{number}"
            result = attempt(task, recipes[task], folder / f"{task}-whole", seconds[task], out, random)
            results.append(result)
            print(json.dumps(result), flush=True)
            if given.out is not None:
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
            if not result["differing"]:
                shutil.rmtree(out)
    same = sum(not result["differing"] for result in results)
    early = sum(bool(result["nothing_kept"]) for result in results)
    late = sum(None in result["ended_at"] for result in results)  # type: ignore[operator]
    amid = sum(bool(result["amid_an_epoch"]) for result in results)
    print(f"{same} of {len(results)} ended the same to the last bit; {early} were killed before their folder stood, "
          f"{late} had ended before they were to be killed, {amid} went on in the middle of an epoch.")  # fmt: skip
    sys.exit(same < len(results))


if __name__ == "__main__":
    main()
