"""The command: wrong use ends with one message, exit code 2, no traceback and nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

import fathom
from fathom.cli import main
from fathom.interrupts import Stopped

from .conftest import people, write_csv


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The message of a command that must fail cleanly."""
    before = sorted(os.listdir())
    code = main(list(words))
    shown = capsys.readouterr()
    assert code == 2, shown.out
    assert shown.err.startswith("fathom: ")
    assert "Traceback" not in shown.err
    left = {name for name in os.listdir() if name not in before}
    assert left <= {"runs"} and not [p for p in Path("runs").rglob("*") if p.is_file()], "something was left behind"
    return shown.err


@pytest.fixture(autouse=True)
def clean_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(name: str, header: str, *lines: str) -> str:
    Path(name).write_text("\n".join([header, *lines]) + "\n")
    return name


def test_missing_path(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("people.csv"), people(30))
    said = refused(capsys, "fit", "poeple.csv")
    assert "There is no poeple.csv" in said
    assert "Did you mean people.csv" in said


def test_nothing_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Type `fathom fit PATH`" in refused(capsys, "fit")


def test_empty_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.csv").write_text("")
    assert "empty.csv" in refused(capsys, "fit", "empty.csv", "--target", "x")


def test_one_class_only(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"rich": "yes"} for row in people(60)]
    write_csv(Path("people.csv"), rows)
    said = refused(capsys, "fit", "people.csv", "--target", "rich")
    assert "Every row has the same 'rich': 'yes'" in said


def test_misspelt_target_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("people.csv"), people(60))
    said = refused(capsys, "fit", "people.csv", "--target", "ritch")
    assert "no column 'ritch'" in said
    assert "Did you mean 'rich'?" in said
    assert "5 columns; there is no column number 9, counted from 1" in refused(
        capsys, "fit", "people.csv", "--target", "9"
    )


def test_no_target_lists_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("people.csv"), people(60))
    said = refused(capsys, "fit", "people.csv")
    assert "--target NAME" in said
    assert "age, hours, job, rich, wealth" in said


def test_target_with_thousands_of_words(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{i % 7},name{i}x" for i in range(5000)]
    table("t.csv", "a,who", *lines)
    said = refused(capsys, "fit", "t.csv", "--target", "who")
    assert "5,000 distinct strings" in said or "5,000 distinct values" in said


def test_target_without_values(capsys: pytest.CaptureFixture[str]) -> None:
    table("t.csv", "a,b", *[f"{i}," for i in range(50)])
    assert "Column 'b' has no value in any of 50 rows" in refused(capsys, "fit", "t.csv", "--target", "b")


def test_features_without_values(capsys: pytest.CaptureFixture[str]) -> None:
    table("t.csv", "a,b", *[f",{i % 2}" for i in range(50)])
    assert "No column" in refused(capsys, "fit", "t.csv", "--target", "b")


def test_unreadable_pictures_are_named_and_too_few_left_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("ant", "bee"):
        (Path("photos") / kind).mkdir(parents=True)
        for i in range(12):
            (Path("photos") / kind / f"{i}.jpg").write_bytes(b"no picture")
    said = refused(capsys, "fit", "photos")
    assert "photos/ant/0.jpg" in said


def test_binary_file_named_csv(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_bytes(np.random.default_rng(0).bytes(4000))
    assert "t.csv" in refused(capsys, "fit", "t.csv", "--target", "x")


def test_truncated_gzip(capsys: pytest.CaptureFixture[str]) -> None:
    content = gzip.compress(b"a,b\n" + b"1,2\n" * 20_000)
    Path("t.csv.gz").write_bytes(content[: len(content) // 2])
    assert "t.csv.gz" in refused(capsys, "fit", "t.csv.gz", "--target", "b")


def test_unknown_recipe_key_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("people.csv"), people(60))
    assert "Did you mean 'epochs'?" in refused(capsys, "fit", "people.csv", "--target", "rich", "train.epoch=3")
    said = refused(capsys, "fit", "people.csv", "--target", "rich", "model=mpl")
    assert "Did you mean 'mlp'?" in said
    said = refused(capsys, "fit", "people.csv", "--target", "rich", "model=mlp", "model.widht=3")
    assert "Did you mean 'width'?" in said
    assert "--help" in refused(capsys, "fit", "people.csv", "--tagret", "rich")


def test_budget_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be more than 0" in refused(capsys, "fit", "digits", "--budget", "0")
    assert "was not understood" in refused(capsys, "fit", "digits", "--budget", "soon")


def test_unknown_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'gpu9' is not a device" in refused(capsys, "fit", "digits", "device=gpu9")


def test_run_folder_that_exists(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    said = refused(capsys, "fit", "digits", "--out", "mine")
    assert "mine exists already" in said
    assert list((tmp_path / "mine").iterdir()) == []


def test_run_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no run folder" in refused(capsys, "predict", "runs/none", "x.csv")
    assert "There is no folder runs" in refused(capsys, "runs")


def test_unknown_split_column(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("people.csv"), people(60))
    said = refused(capsys, "fit", "people.csv", "--target", "rich", "--group", "jobb")
    assert "Did you mean 'job'?" in said


def test_fit_predict_evaluate_runs_models_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("people.csv"), people(), without=("wealth",))
    write_csv(Path("new.csv"), people(5, seed=9), without=("wealth", "rich"))
    quick = ["train.epochs=2", "split.folds=2", "threads=1"]
    assert main(["fit", "people.csv", "--target", "rich", *quick]) == 0
    shown = capsys.readouterr().out
    for label in ("Reading", "Task", "Fields", "Splitting", "Baseline", "Planning", "Verdict", "Kept in"):
        assert f"\n{label}" in "\n" + shown
    assert "\r" not in shown, "a bar was drawn into a pipe"
    assert Path("runs/people-1/log.txt").read_text().splitlines()[0] == shown.splitlines()[0]
    assert main(["predict", "runs/people-1", "new.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == ["row", "prediction", "probability of no", "probability of yes"]
    assert len(lines) == 6
    row = '{"age": 33, "hours": 20, "job": "cook"}'
    assert main(["predict", "runs/people-1", row.replace(" ", 99 * " "), "--to", "out.csv"]) == 0
    assert Path("out.csv").exists()
    assert main(["evaluate", "runs/people-1", "people.csv", "--json"]) == 0
    capsys.readouterr()
    assert main(["runs", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["run"] == "people-1" and listed["finished"]
    assert main(["runs"]) == 0
    assert "people-1" in capsys.readouterr().out
    assert main(["report", "runs/people-1"]) == 0
    assert "report.html" in capsys.readouterr().out


def test_runs_that_cannot_be_read_do_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("a", '{"format": 99}'), ("b", "[]"), ("c", '{"format": 1}'), ("d", "no JSON")):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "format.json").write_text(content)
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "not readable" in line] == ["a", "b", "d"]
    assert [line.split()[0] for line in lines if "not finished" in line] == ["c"]
    assert any("reads up to" in line and "99" in line for line in lines)
    assert main(["runs", "--json"]) == 0
    assert [entry["run"] for entry in json.loads(capsys.readouterr().out) if "unreadable" in entry] == ["a", "b", "d"]
    assert main(["evaluate", "runs/b", "x.csv"]) == 2
    assert "b/format.json is damaged" in capsys.readouterr().err


def test_numbers_that_are_not_defined_are_null(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Run:
        def evaluate(self, data: str, candidate: str | None) -> dict[str, object]:
            return {"rows": 1, "measures": {"auc": {"value": float("nan"), "interval": (0.0, np.inf)}}}

    monkeypatch.setattr("fathom.api.load", lambda folder: Run())
    assert main(["evaluate", "runs/a", "x.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"rows": 1, "measures": {"auc": {"value": None, "interval": [0.0, None]}}}


def test_models_are_listed_with_use_source_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    found = {part["name"]: part for part in json.loads(capsys.readouterr().out)}
    assert {"mlp", "resnet", "transformer", "lstm", "fused", "constant", "linear", "boosted_trees", "tfidf"} <= set(
        found
    )
    assert all(part["use"] and part["source"] for part in found.values())
    assert "width" in found["mlp"]["options"]


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["fit", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    assert fathom.__version__ in capsys.readouterr().out


def test_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **more: object) -> None:
        raise Stopped(Path("runs/mine"))

    monkeypatch.setattr("fathom.api.make", interrupted)
    assert main(["fit", "digits"]) == 130
    assert "fathom resume runs/mine" in capsys.readouterr().err
