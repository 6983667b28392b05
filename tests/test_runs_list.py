"""`fathom runs` says of many runs what their files say, without opening more of them than it must."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fathom import run
from fathom.cli import main
from fathom.compare import SUMMARY, compare, keep_summary
from fathom.run import RunFolder, every_run

from .hostile import change, reseal
from .make_kept_runs import HERE

KEPT = HERE / f"format-{run.FORMAT}"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("classes", "numbers", "language"):
        shutil.copytree(KEPT / name / "run", tmp_path / name)
        keep_summary(RunFolder(tmp_path / name))
    return tmp_path


def listed(runs: Path) -> list[dict[str, Any]]:
    return compare(list(every_run(runs)))


def without_summaries(runs: Path) -> list[dict[str, Any]]:
    for path in runs.glob(f"*/{SUMMARY}"):
        path.unlink()
    return listed(runs)


def test_a_fit_keeps_the_summary() -> None:
    assert all((path / "run" / SUMMARY).exists() for path in KEPT.iterdir())


def test_a_list_says_the_same_with_and_without_summaries(runs: Path) -> None:
    found = listed(runs)
    assert all("value" in entry for entry in found)
    assert found == without_summaries(runs)


def test_a_summary_of_other_metrics_is_not_used(runs: Path) -> None:
    change(runs / "numbers" / "metrics.json", "seconds.total", 4711.0)
    assert "is damaged" in {entry["run"]: entry for entry in listed(runs)}["numbers"]["unreadable"]
    reseal(runs / "numbers")
    found = {entry["run"]: entry for entry in listed(runs)}
    assert found["numbers"]["seconds"] == 4711.0 and found["classes"]["seconds"] != 4711.0
    shutil.copy(runs / "classes" / SUMMARY, runs / "language" / SUMMARY)
    assert listed(runs) == without_summaries(runs)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metric", "../os"),
        ("interval", []),
        ("interval", ["x", "y"]),
        ("value", "x"),
        ("rows", {"a": "b"}),
        ("task", 1),
    ],
)
def test_a_hostile_summary_is_not_used(key: str, value: object, runs: Path) -> None:
    change(runs / "classes" / SUMMARY, f"verdict.{key}", value)
    reseal(runs / "classes")
    assert main(["runs", "--in", str(runs)]) == 0
    assert listed(runs) == without_summaries(runs)


def test_few_files_of_a_run_are_opened_and_its_folder_is_not_walked_through(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    read = Path.read_bytes

    def noted(self: Path) -> bytes:
        opened.append(self.name)
        return read(self)

    def walked(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Path, "read_bytes", noted)
    monkeypatch.setattr(os, "walk", walked)
    listed(runs)
    assert sorted(opened) == sorted(3 * ["format.json", "metrics.json", SUMMARY])


def test_a_link_that_leads_out_is_not_read(runs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.json"
    (runs / "classes" / "metrics.json").rename(outside)
    (runs / "classes" / "metrics.json").symlink_to(outside)
    assert "leads out" in {entry["run"]: entry for entry in listed(runs)}["classes"]["unreadable"]
    assert json.loads(outside.read_text())["advised"]
