"""A finished run teaches another: what it tells, to whom, and that it never tells of rows which judge."""

from __future__ import annotations

import shutil
import types
from pathlib import Path

import numpy as np
import pytest

import fathom
from fathom import fitting
from fathom import teacher as teaching
from fathom.candidates import Fold
from fathom.encode import encode
from fathom.run import RunFolder
from fathom.store import open_candidate

from .conftest import people, write_csv

pytestmark = pytest.mark.usefixtures("patient")
QUICK = {
    "train__epochs": 2, "train__precision": "fp32", "split__folds": 2, "threads": 1, "explain_rows": 0, "quiet": True,
    "model__name": "mlp", "model__options": {"width": 8, "members": 2, "bins": 4, "depth": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("people") / "people.csv", people(160), without=("wealth",))


@pytest.fixture(scope="module")
def teacher(data: Path) -> fathom.Run:
    baselines = {"linear": {}, "boosted_trees": {}}
    return fathom.fit(data, target="rich", out=data.parent / "teacher", baselines=baselines, **QUICK)


def student(data: Path, teacher: fathom.Run, out: Path, **keys: object) -> fathom.Run:
    given = {"baselines": {}, "train__teacher": str(teacher.path)} | QUICK | keys
    return fathom.fit(data, target="rich", out=out, **given)  # type: ignore[arg-type]


def losses(run: fathom.Run) -> list[str]:
    return [row["train_loss"] for row in run.folder.read_rows("metrics.csv")]


@pytest.mark.parametrize("candidate", ["boosted_trees", "mlp"])
def test_each_fold_is_taught_by_the_member_that_did_not_see_its_validation_rows(
    data: Path, teacher: fathom.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidate: str
) -> None:
    taught, seen = fitting.soft_targets, []

    def watched(*given: object) -> object:
        seen.append((given, taught(*given)))  # type: ignore[arg-type]
        return seen[-1][1]

    monkeypatch.setattr(fitting, "soft_targets", watched)
    student(data, teacher, tmp_path / "student", train__teacher_candidate=candidate)
    (_, prepared, divided, _), told = seen[0]
    examples = encode(prepared.table, teacher.folder.read_json("spec.json")["fields"])
    members = open_candidate(teacher.folder, candidate).members  # type: ignore[union-attr]
    for number, fold in enumerate(divided.folds):
        expected = members[number].predict(examples.take(fold.train))
        np.testing.assert_allclose(told[number][fold.train], expected, atol=1e-6)
        others = np.setdiff1d(np.arange(160), fold.train)
        assert np.isnan(told[number][others]).all()


def test_a_student_learns_something_else_and_its_recipe_repeats(
    data: Path, teacher: fathom.Run, tmp_path: Path
) -> None:
    taught = student(data, teacher, tmp_path / "taught", train__temperature=3.0, train__teacher_share=0.9)
    again = fathom.fit(recipe=taught.path / "recipe.yaml", out=tmp_path / "again", quiet=True)
    alone = student(data, teacher, tmp_path / "alone", train__teacher=None)
    assert losses(taught) == losses(again) != losses(alone)
    shutil.copytree(taught.path, tmp_path / "moved")  # it is used without its teacher
    moved = fathom.load(tmp_path / "moved")
    row = {"age": 30, "hours": 60, "job": "pilot"}
    np.testing.assert_allclose(moved.predict_proba(row), taught.predict_proba(row))


def test_the_average_of_candidates_can_teach(data: Path, teacher: fathom.Run, tmp_path: Path) -> None:
    blended = tmp_path / "blended"
    shutil.copytree(teacher.path, blended)
    folder = RunFolder.open(blended)
    metrics = folder.read_json("metrics.json")
    metrics["members"] = {"linear": 0.25, "mlp": 0.75}
    metrics["test"]["ensemble"] = metrics["test"]["linear"]
    folder.write_json("metrics.json", metrics)
    folder.seal()
    run = student(data, fathom.load(blended), tmp_path / "student", train__teacher_candidate="ensemble")
    assert run.folder.read_json("config.json")["objective"] == "distill"


@pytest.mark.parametrize("keys", [{"seed": 1}, {"split__folds": 3}, {"split__test": 0.3}], ids=str)
def test_a_teacher_that_trained_on_rows_that_judge_is_refused(
    data: Path, teacher: fathom.Run, tmp_path: Path, keys: dict[str, object]
) -> None:
    with pytest.raises(
        fathom.UserError, match=r"trained or chosen by \d+ of the rows that judge .*people.csv:\d+.*--seed 0"
    ):
        student(data, teacher, tmp_path / "student", **keys)
    assert not (tmp_path / "student").exists()


def test_a_teacher_that_met_a_test_row_teaches_nobody_and_one_that_never_had_a_row_may(
    teacher: fathom.Run,
) -> None:
    divided = types.SimpleNamespace(test=np.array([4, 5]))
    prepared = types.SimpleNamespace(table=types.SimpleNamespace(places=[f"people.csv:{row}" for row in range(6)]))
    fold = Fold(np.array([0, 1]), np.array([2, 3]))

    def members(*part: str, held_out: tuple[int, ...] = (0, 1, 0, 0, -1, -1)) -> list[int]:
        seen = teaching._Seen(np.array(part), np.array(held_out), 2)
        return teaching._honest(teacher.folder, seen, fold, divided, prepared)  # type: ignore[arg-type]

    assert members(*["validate"] * 4, "test", "test") == [0]
    assert members(*["validate"] * 2, "", "test", "", "test") == [0, 1]
    for met in ("train", "validate"):
        with pytest.raises(
            fathom.UserError, match="trained or chosen by 1 of the rows that judge this run, such as people.csv:5"
        ):
            members(*["validate"] * 4, "test", met)


def test_a_file_that_was_moved_is_known_again(data: Path, teacher: fathom.Run, tmp_path: Path) -> None:
    moved = tmp_path / "people.csv"
    shutil.copy(data, moved)
    assert "other data" not in _log(student(moved, teacher, tmp_path / "student"))
    with pytest.raises(fathom.UserError, match="trained or chosen by"):
        student(moved, teacher, tmp_path / "leaky", seed=1)


def test_the_same_rows_are_known_whatever_the_data_is_called(data: Path, teacher: fathom.Run, tmp_path: Path) -> None:
    shutil.copytree(teacher.path, tmp_path / "renamed")
    folder = RunFolder.open(tmp_path / "renamed")
    folder.write_json("spec.json", folder.read_json("spec.json") | {"name": "folks"})
    folder.seal()
    renamed = fathom.load(tmp_path / "renamed")
    with pytest.raises(fathom.UserError, match="trained or chosen by"):
        student(data, renamed, tmp_path / "leaky", seed=1)
    assert "other data" not in _log(student(data, renamed, tmp_path / "student"))


def test_other_data_can_be_taught_and_it_is_said_that_nobody_can_check(
    data: Path, teacher: fathom.Run, tmp_path: Path
) -> None:
    other = write_csv(tmp_path / "others.csv", people(120, seed=4), without=("wealth",))
    assert "other data ('people')" in _log(student(other, teacher, tmp_path / "student"))


def _log(run: fathom.Run) -> str:
    return (run.path / "log.txt").read_text()


def test_what_cannot_teach_is_refused_by_name(data: Path, teacher: fathom.Run, tmp_path: Path) -> None:
    def refused(match: str, source: Path = data, **keys: object) -> None:
        with pytest.raises(fathom.UserError, match=match):
            student(source, teacher, tmp_path / "student", **keys)
        assert not (tmp_path / "student").exists()

    refused("no candidate 'boosted_tree'. Did you mean 'boosted_trees'", train__teacher_candidate="boosted_tree")
    refused("There is no run folder", train__teacher=str(tmp_path / "absent"))
    refused("reads the column 'hours', which this run lacks", drop=["hours"])
    refused("needs a teacher", train__teacher=None, train__temperature=2.0)
    refused("expected a share", train__teacher_share=1.5)
    refused("expected a number above 0", train__temperature=0.0)
    rows = [row | {"rich": "perhaps" if number % 3 else row["rich"]} for number, row in enumerate(people(120))]
    refused("other classes .only here: perhaps", write_csv(tmp_path / "three.csv", rows, without=("wealth",)))
    unfinished = tmp_path / "unfinished"
    shutil.copytree(teacher.path, unfinished)
    (unfinished / "metrics.json").unlink()
    refused("is not finished", train__teacher=str(unfinished))
    numbers = write_csv(tmp_path / "numbers.csv", people(120), without=("rich",))
    with pytest.raises(fathom.UserError, match="teacher is for classes"):
        fathom.fit(numbers, target="wealth", out=tmp_path / "n", train__teacher=str(teacher.path), **QUICK)


def test_classes_are_told_in_the_order_of_the_student(
    data: Path, teacher: fathom.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = tmp_path / "turned"
    shutil.copytree(teacher.path, turned)
    spec = teacher.folder.read_json("spec.json")
    spec["task"]["classes"].reverse()
    RunFolder.open(turned).write_json("spec.json", spec)
    RunFolder.open(turned).seal()
    taught, told = fitting.soft_targets, []

    def watched(*given: object) -> object:
        told.append(taught(*given))  # type: ignore[arg-type]
        return told[-1]

    monkeypatch.setattr(fitting, "soft_targets", watched)
    for number, path in enumerate((teacher.path, turned)):
        student(data, fathom.load(path), tmp_path / f"student-{number}", train__teacher_candidate="linear")
    np.testing.assert_array_equal(told[0][0], told[1][0][:, ::-1])
