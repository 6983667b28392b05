"""Runs killed by the operating system in the middle of their training end the same to the last bit as those that nobody
killed: a small sample of what `bench/kill.py --kills 100` does at random moments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fathom
from fathom import networks
from fathom.cli import main

from .conftest import people, write_csv
from .make_kept_runs import shapes
from .test_bad_cases import differing, pressing
from .test_fit import _content

# In the child every epoch is kept, as it is in trainings whose epochs take longer than these.
CHILD = "import fathom.networks as n, fathom.cli, sys; n.SECONDS_BETWEEN_CHECKPOINTS = 0.0; sys.exit(fathom.cli.main())"
SETTINGS = [
    "--quiet",
    "split.folds=1",
    "threads=1",
    "train.precision=fp32",
    "explain_rows=0",
    "baselines={constant: {}}",
]
TASKS = {
    # Patience ends it long before 60 epochs; accumulation leaves a smaller step at the end of each.
    "table": ["--target", "rich", "model=mlp", "model.width=8", "train.learning_rate=0.05",
              "train.schedule=constant", "train.epochs=60", "train.batch_size=16",
              "train.accumulate=2", "train.average=0.5", "train.patience=3"],
    "pictures": ["--target", "label", "model=resnet", "model.width=4", "train.epochs=12", "train.batch_size=8",
                 "train.augment={shift: 1, rotate: 10, erase: 0.2}", "train.mixup=0.2"],
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: None) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    write_csv(tmp_path / "table.csv", people(150), without=("wealth",))
    pictures, labels = shapes(120)
    np.savez(tmp_path / "pictures.npz", x=pictures, y=labels.astype(str))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def fit(task: str, out: str) -> list[str]:
    data = next(Path().glob(f"{task}.*")).resolve()
    return ["fit", str(data), "--out", out, "--budget", "1h", *SETTINGS, *TASKS[task]]


def steps(out: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[3]) for path in (out / "last").glob("fold-0-step-*.json"))


def kill_after_state(words: list[str], out: Path, beyond: int) -> None:
    """Start the command, and kill it as soon as a state after that step is kept: in the middle of the epoch after."""
    source = os.pathsep.join([str(Path(fathom.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen([sys.executable, "-c", CHILD, *words], env=os.environ | {"PYTHONPATH": source})
    try:
        while not any(step > beyond for step in steps(out)):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


def kill_twice(first: list[str], beyond: int) -> None:
    """Kill what `first` types and its resumption; then go on to the end, which is that of the whole run."""
    out, last = Path("killed"), steps(Path("whole"))[-1]
    kill_after_state(first, out, beyond)
    before = steps(out)[-1]
    assert beyond < before < last
    kill_after_state(["resume", "killed"], out, before)
    assert before < steps(out)[-1] < last, "both kills came before its end"
    assert main(["resume", "killed"]) == 0
    assert differing(_content(Path("whole")), _content(out)) == []


def test_pictures_that_are_augmented_and_mixed(here: Path) -> None:
    assert main(fit("pictures", "whole")) == 0
    kill_twice(fit("pictures", "killed"), 0)


def test_accumulation_averages_and_patience_from_the_middle_of_an_epoch(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(fit("table", "whole")) == 0
    told = json.loads(next(Path("whole/last").glob("*.json")).read_text())
    assert told["epoch"] == told["best_epoch"] + 3 < 60, "patience ended it"
    with monkeypatch.context() as patch:
        pressing(patch, 6)
        assert main(fit("table", "killed")) == 130
    assert steps(Path("killed"))[-1] == 6 and 6 % (told["step"] // told["epoch"]), "it stands amid an epoch"
    kill_twice(["resume", "killed"], 6)
