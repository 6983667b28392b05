"""`--log` tells trackers what stands in a run's plain files, without a connection; the files stay the truth."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import fathom
from fathom import rooms, tracking
from fathom.cli import main
from fathom.rooms import find

from .conftest import people, write_csv
from .test_bad_cases import differing, pressing
from .test_fit import _content

SETTINGS = ["--target", "rich", "train.epochs=3", "train.batch_size=16", "split.folds=2", "model=mlp", "model.width=8",
            "threads=1", "baselines.constant={}", "explain_rows=0", "train.precision=fp32"]  # fmt: skip
TRACKERS = rooms.names("trackers")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: None) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "people.csv", people(90), without=("wealth",))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def fit(out: str, *more: str) -> int:
    return main(["fit", "people.csv", "--quiet", "--out", out, *SETTINGS, *more])


class Noted:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, float], int]] = []
        self.settings: dict[str, Any] = {}
        self.results: dict[str, float] = {}
        self.closed = 0

    def scalars(self, values: dict[str, float], step: int) -> None:
        self.told.append((dict(values), step))

    def finish(self, settings: dict[str, Any], results: dict[str, float]) -> None:
        self.settings, self.results = settings, results

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Noted]:
    """TensorBoard's place is taken by trackers that keep what they are told, one for each command."""
    made: list[Noted] = []
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.setattr(find("trackers", "tensorboard"), "open", lambda *_: made.append(Noted()) or made[-1])
    return made


def curves(folder: Path) -> list[tuple[dict[str, float], int]]:
    """The lines of metrics.csv as a tracker is told them."""
    found = []
    with open(folder / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            names = {"train_loss": "train_loss", "validate_loss": "validate_loss", "metric": "validate_accuracy"}
            names |= {"learning_rate": "learning_rate"}
            values = {f"fold {int(row['fold']) + 1}/{names[name]}": float(row[name]) for name in names}
            found.append((values, int(row["step"])))
    return found


def test_trackers_are_told_what_the_files_hold_and_change_nothing(here: Path, noted: list[Noted]) -> None:
    assert fit("alone") == 0
    assert noted == []
    assert fit("told", "--log", "tensorboard") == 0
    [tracker] = noted
    assert tracker.told == curves(Path("told")) and len(tracker.told) == 6
    scores = json.loads(Path("told/metrics.json").read_text())["test"]
    assert tracker.results["test/mlp/accuracy"] == scores["mlp"]["accuracy"]
    assert tracker.settings["train.epochs"] == 3 and tracker.settings["model.options.width"] == 8
    assert tracker.closed == 1
    assert differing(_content(Path("alone")), _content(Path("told"))) == ["recipe.yaml"], "which names the tracker"


def test_a_run_taken_up_again_tells_all_of_it(here: Path, noted: list[Noted], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        pressing(patch, 6)
        assert fit("stopped", "--log", "tensorboard") == 130
    assert main(["resume", "stopped"]) == 0
    first, second = noted
    assert first.closed == second.closed == 1 and first.results == {} and len(first.told) < 6
    assert second.told == curves(Path("stopped")) and len(second.told) == 6


def test_what_cannot_be_logged_is_said_before_anything_is_fitted(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("run", "--log", "tensorbord") == 2
    assert "Did you mean 'tensorboard'?" in capsys.readouterr().err
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    assert fit("run", "--log", "mlflow") == 2
    assert "--log mlflow needs the package mlflow. Type `pip install 'fathom-dl[mlflow]'`" in capsys.readouterr().err
    assert not Path("run").exists()


def test_each_tracker_is_an_extra() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    for name in TRACKERS:
        assert f"\n{name} = [" in text


# The real libraries. Each runs in a process of its own, in which nobody can connect but to itself.

ALONE = """
import socket, sys
def refused(self, address, connect=socket.socket.connect):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
        print("CONNECTION", address, file=sys.stderr)
        raise OSError("no connections here")
    return connect(self, address)
socket.socket.connect = refused
import fathom.cli
sys.exit(fathom.cli.main())
"""


def logged(name: str, here: Path) -> None:
    """Fit with that tracker; whatever would go out by a proxy, as programs that it starts do, would be seen."""
    if importlib.util.find_spec(find("trackers", name).NEEDS) is None:
        pytest.skip(f"{name} is not installed: pip install 'fathom-dl[{name}]'")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        where = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        source = os.pathsep.join([str(Path(fathom.__file__).parent.parent), *sys.path])
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
        env = os.environ | dict.fromkeys(names, where) | {"PYTHONPATH": source, "NO_PROXY": "127.0.0.1,localhost"}
        words = ["fit", "people.csv", "--quiet", "--out", "runs/told", "--log", name, *SETTINGS]
        done = subprocess.run([sys.executable, "-c", ALONE, *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "CONNECTION" not in done.stderr
        proxy.settimeout(0.5)
        with pytest.raises(TimeoutError):
            proxy.accept()
    assert main(["predict", "runs/told", "people.csv", "--to", "out.csv"]) == 0, "what it writes is in nobody's way"
    assert main(["runs"]) == 0


def test_tensorboard_shows_the_curves(here: Path) -> None:
    logged("tensorboard", here)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("runs/told/trackers/tensorboard").Reload()
    scores = json.loads(Path("runs/told/metrics.json").read_text())["test"]
    assert events.Scalars("test/mlp/accuracy")[0].value == pytest.approx(scores["mlp"]["accuracy"])
    for fold in (1, 2):
        expected = [(step, values) for values, step in curves(Path("runs/told")) if f"fold {fold}/train_loss" in values]
        found = events.Scalars(f"fold {fold}/train_loss")
        assert [one.step for one in found] == [step for step, _ in expected]
        assert [one.value for one in found] == pytest.approx([v[f"fold {fold}/train_loss"] for _, v in expected])


def test_mlflow_has_the_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged("mlflow", here)
    for name, value in find("trackers", "mlflow").QUIET.items():
        monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    client = MlflowClient(Path("runs/mlruns").resolve().as_uri())
    [experiment] = [one for one in client.search_experiments() if one.name == "fathom"]
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "told" and found.info.status == "FINISHED"
    assert found.data.params["train.epochs"] == "3"
    scores = json.loads(Path("runs/told/metrics.json").read_text())["test"]
    assert found.data.metrics["test/mlp/accuracy"] == pytest.approx(scores["mlp"]["accuracy"])
    history = client.get_metric_history(found.info.run_id, "fold 1/train_loss")
    expected = [(step, v["fold 1/train_loss"]) for v, step in curves(Path("runs/told")) if "fold 1/train_loss" in v]
    assert [(one.step, one.value) for one in history] == expected


def test_wandb_has_the_run_offline(here: Path) -> None:
    logged("wandb", here)
    [folder] = Path("runs/wandb").glob("offline-run-*")
    run_id = json.loads(Path("runs/told/manifest.json").read_text())["run"]
    content = next(folder.glob("*.wandb")).read_bytes()
    assert folder.name.endswith(run_id)
    assert b"fold 1/train_loss" in content and b"test/mlp/accuracy" in content
