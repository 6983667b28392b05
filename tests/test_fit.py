"""The whole way, on small data: raw file in, run folder out, predictions, the same run again, a run taken up again."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import recipe as recipes
from fathom.candidates import FittedBaseline, Fold, fit_baseline, load_baseline
from fathom.run import RunFolder

from .conftest import people, write_csv

pytestmark = pytest.mark.usefixtures("patient")

QUICK = {
    "train__epochs": 3,
    "train__precision": "fp32",
    "split__folds": 2,
    "threads": 1,
    "explain_rows": 50,
    "quiet": True,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fathom.Run:
    folder = tmp_path_factory.mktemp("people")
    data = write_csv(folder / "people.csv", people(), without=("wealth",))
    return fathom.fit(data, target="rich", out=folder / "run", **QUICK)


@pytest.fixture(scope="module")
def numeric_run(tmp_path_factory: pytest.TempPathFactory) -> fathom.Run:
    folder = tmp_path_factory.mktemp("wealth")
    data = write_csv(folder / "wealth.csv", people(), without=("rich",))
    return fathom.fit(data, target="wealth", out=folder / "run", **QUICK)


def test_the_folder_holds_everything_and_no_pickle(run: fathom.Run) -> None:
    names = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    expected = {
        "recipe.yaml", "spec.json", "split.parquet", "model.safetensors", "config.json", "metrics.csv", "metrics.json",
        "findings.json", "predictions.parquet", "manifest.json", "checksums.json", "log.txt", "left_out.csv",
        "report.html",
    }  # fmt: skip
    assert expected <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".joblib"))]


def test_the_verdict_is_machine_readable(run: fathom.Run) -> None:
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["task"] == "classify"
    assert metrics["metric"] == "accuracy"
    assert set(metrics["test"]) >= {"constant", "linear", "boosted_trees", "mlp"}
    assert metrics["advised"] in metrics["test"]
    for scores in metrics["test"].values():
        assert scores["interval"][0] <= scores["accuracy"] <= scores["interval"][1]
        assert scores["seconds_per_row"] > 0
    assert {"of", "to", "value", "interval", "p"} <= set(metrics["difference"])
    assert metrics["test"]["constant"]["accuracy"] < metrics["test"][metrics["advised"]]["accuracy"]


def test_no_row_stands_on_two_sides(run: fathom.Run) -> None:
    split = run.folder.read_table("split.parquet")
    assert len(set(split["row"])) == len(split["row"]) == 240
    assert set(split["part"]) == {"validate", "test"}  # with folds every other row is held out once
    assert set(split["fold"][split["part"] == "validate"]) == {0, 1}


def test_kept_predictions_are_what_predict_says(run: fathom.Run, tmp_path: Path) -> None:
    kept = run.folder.read_table("predictions.parquet")
    rows = people()
    data = write_csv(tmp_path / "again.csv", [rows[i] for i in kept["row"]], without=("wealth",))
    for candidate in run.metrics["test"]:
        found = run.predict(data, candidate=candidate)
        assert list(found.values) == list(kept[candidate])
        assert found.probabilities is not None
        np.testing.assert_allclose(found.probabilities[:, 1], kept[f"{candidate}:yes"], atol=1e-6)


def test_predicts_without_target_in_another_order_with_new_categories(run: fathom.Run, tmp_path: Path) -> None:
    rows = [{"job": "astronaut", "hours": "40", "age": ""}, {"job": "cook", "hours": "x", "age": "33"}]
    found = run.predict(write_csv(tmp_path / "new.csv", rows))
    assert len(found) == 2
    assert set(found.values) <= {"yes", "no"}
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0)
    one = run.predict({"hours": 40, "job": "astronaut", "age": None})
    np.testing.assert_allclose(one.probabilities[0], found.probabilities[0], atol=1e-6)  # type: ignore[index]


def test_a_missing_column_is_named(run: fathom.Run) -> None:
    with pytest.raises(fathom.UserError, match="Column 'hours' is missing in .*Did you mean 'hour'"):
        run.predict({"age": 40, "hour": 30, "job": "cook"})


def test_predictions_are_written(run: fathom.Run, tmp_path: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    found = run.predict([{"hours": 40, "job": "cook", "age": 20}, {"hours": 60, "job": "pilot", "age": 70}])
    read = pyarrow.csv.read_csv(found.write(tmp_path / "out.csv"))
    assert read.column_names == ["row", "prediction", "probability of no", "probability of yes"]
    assert pyarrow.parquet.read_table(found.write(tmp_path / "out.parquet")).num_rows == 2
    with pytest.raises(fathom.UserError, match=r"\.csv or \.parquet"):
        found.write(tmp_path / "out.xlsx")


def test_numbers_come_with_intervals(numeric_run: fathom.Run) -> None:
    found = numeric_run.predict([{"age": 30, "hours": 20, "job": "cook"}, {"age": 70, "hours": 60, "job": "pilot"}])
    assert found.low is not None and found.high is not None
    assert (found.low < found.values).all() and (found.values < found.high).all()
    assert found.values[1] > found.values[0]
    assert 0.8 <= found.level <= 0.95
    metrics = numeric_run.metrics
    assert metrics["metric"] == "rmse"
    assert metrics["test"][metrics["advised"]]["rmse"] < metrics["test"]["constant"]["rmse"]


def test_evaluate_measures_labelled_data(run: fathom.Run, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "more.csv", people(60, seed=5), without=("wealth",))
    found = run.evaluate(data)
    assert found["rows"] == 60
    accuracy = found["measures"]["accuracy"]
    assert accuracy["interval"][0] < accuracy["value"] < accuracy["interval"][1]
    unlabelled = write_csv(tmp_path / "bare.csv", people(10), without=("wealth", "rich"))
    with pytest.raises(fathom.UserError, match="must hold the target 'rich'"):
        run.evaluate(unlabelled)


def _content(folder: Path) -> dict[str, bytes]:
    """Every file of a run, times aside: as the bench that kills runs compares them."""
    path = Path(__file__).parent.parent / "bench" / "same_run.py"
    spec = importlib.util.spec_from_file_location("same_run", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, bytes] = module.content(folder)
    return found


def test_a_saved_recipe_gives_the_same_run_to_the_last_bit(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "people.csv", people(), without=("wealth",))
    first = fathom.fit(data, target="rich", budget=12, out=tmp_path / "one", quiet=True)
    second = fathom.fit(recipe=first.path / "recipe.yaml", out=tmp_path / "two", quiet=True)
    one, two = _content(first.path), _content(second.path)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_a_killed_run_is_taken_up_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fathom import networks

    monkeypatch.setattr(networks, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    data = write_csv(tmp_path / "people.csv", people(), without=("wealth",))
    options = QUICK | {"train__epochs": 6, "budget": 600}
    whole = fathom.fit(data, target="rich", out=tmp_path / "whole", **options)

    class Killed(BaseException):
        pass

    saves = []
    save = networks.save_checkpoint

    def save_and_die(folder: RunFolder, fold: int, saved: object) -> None:
        save(folder, fold, saved)  # type: ignore[arg-type]
        saves.append(fold)
        if len(saves) == 10:  # in the middle of the second fold
            raise Killed

    monkeypatch.setattr(networks, "save_checkpoint", save_and_die)
    with pytest.raises(Killed):
        fathom.fit(data, target="rich", out=tmp_path / "killed", **options)
    monkeypatch.setattr(networks, "save_checkpoint", save)
    with pytest.raises(fathom.UserError, match="not finished.*fathom resume"):
        fathom.load(tmp_path / "killed")
    given: list[float] = []
    fold_seconds = networks._fold_seconds
    monkeypatch.setattr(networks, "_fold_seconds", lambda *a: given.append(fold_seconds(*a)) or given[-1])
    resumed = fathom.resume(tmp_path / "killed")
    assert given
    assert all(seconds < math.inf for seconds in given), "a run taken up again keeps a clock"
    one, two = _content(whole.path), _content(resumed.path)
    assert [name for name in one if one[name] != two.get(name)] == []


def test_epochs_that_were_asked_for_are_not_cut_by_the_usual_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fathom import fitting

    monkeypatch.setattr(fitting, "default_budget", lambda *_: 0.01)
    data = write_csv(tmp_path / "people.csv", people(), without=("wealth",))
    options = {"target": "rich", "baselines": {}, "split__folds": 1, "explain_rows": 20, "quiet": True, "model": "mlp"}
    asked = fathom.fit(data, out=tmp_path / "asked", train__epochs=3, train__patience=9, **options)
    assert len((asked.path / "metrics.csv").read_text().splitlines()) == 1 + 3
    budget = fathom.fit(data, out=tmp_path / "budget", train__epochs=3, budget=0.01, **options)
    assert len((budget.path / "metrics.csv").read_text().splitlines()) == 1 + 1


def test_frames_and_arrays_are_opened(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(people(120)).drop(columns="wealth")
    elsewhere = {"data": str(write_csv(tmp_path / "people.csv", people(30)))}
    run = fathom.fit(frame, target="rich", recipe=elsewhere, out=tmp_path / "frame", model="none", **QUICK)
    assert len(run.predict(frame.drop(columns="rich"))) == 120
    assert run.recipe.data is None, "what was not read is not what the run would be taken up with"
    random = np.random.default_rng(0)
    inputs = random.normal(size=(150, 3))
    run = fathom.fit((inputs, inputs @ [1.0, 2.0, 0.0]), out=tmp_path / "arrays", model="none", **QUICK)
    assert run.metrics["task"] == "regress"
    (tmp_path / "arrays" / "metrics.json").unlink()
    with pytest.raises(fathom.UserError, match="data in memory"):
        fathom.resume(tmp_path / "arrays")


@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        (["3,141", "2,5", "10,75"], ["3,141", "abc", "2,5"], [3.141, math.nan, 2.5]),
        (["3,141", "2,5", "10,75"] * 5 + ["abc"], ["3,141", "10,75"], [3.141, 10.75]),
        (["950", "1.234", "1.234.567"], ["1.234", "950"], [1234, 950]),
    ],
    ids=["decimal comma", "a word among them", "thousands points"],
)
def test_numbers_of_new_data_are_read_as_those_of_the_training_data(
    tmp_path: Path, first: list[str], later: list[str], expected: list[float]
) -> None:
    cells = [first[i % len(first)] for i in range(64)]
    lines = "".join(f"{'no' if i % 2 else 'yes'};{cell};{i % 7}\n" for i, cell in enumerate(cells))
    asked = {"target": "kind", "model": "none", "baselines": {"constant": {}}, "treat_as": {"n": "number"}, **QUICK}
    (tmp_path / "a.csv").write_text("kind;n;m\n" + lines)
    run = fathom.fit(tmp_path / "a.csv", out=tmp_path / "run", **asked)

    def numbers(of: fathom.Run, data: object) -> list[float]:
        return of.model.examples(of.model.table(data)[0]).inputs["numbers"][:, 0].tolist()  # type: ignore[index,union-attr]

    (tmp_path / "new.csv").write_text("m;n\n" + "".join(f"{i};{cell}\n" for i, cell in enumerate(later)))
    assert numbers(run, tmp_path / "new.csv") == pytest.approx(expected, nan_ok=True)
    assert numbers(run, [{"n": cell, "m": 1} for cell in later]) == pytest.approx(expected, nan_ok=True)
    assert numbers(run, {"n": 1.234, "m": 1}) == pytest.approx([1.234])
    # Without names columns go by their place, and here the target's is missing.
    (tmp_path / "b.csv").write_text(lines)
    asked |= {"target": 1, "treat_as": {"column_2": "number"}, "options__header": False}
    unnamed = fathom.fit(tmp_path / "b.csv", out=tmp_path / "unnamed", **asked)
    (tmp_path / "new.csv").write_text("".join(f"{cell};{i}\n" for i, cell in enumerate(later)))
    assert numbers(unnamed, tmp_path / "new.csv") == pytest.approx(expected, nan_ok=True)


def test_a_recipe_that_is_given_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fathom.api.make", lambda recipe, *rest, **more: recipe)
    mine = {"model": {"name": "mlp", "options": {"depth": 2}}, "split": {"folds": 2}}
    made = fathom.fit("people.csv", recipe=mine, group="house", model__depth=3)
    assert (made.model.options, made.split.group) == ({"depth": 3}, "house")  # type: ignore[attr-defined]
    assert mine == {"model": {"name": "mlp", "options": {"depth": 2}}, "split": {"folds": 2}}


def test_a_finished_run_without_a_report_is_given_one(run: fathom.Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "copy")
    (tmp_path / "copy" / "report.html").unlink()
    fathom.resume(tmp_path / "copy")
    assert (tmp_path / "copy" / "report.html").is_file()


def test_names_of_files_that_are_no_text_can_be_kept(tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for kind in (b"ant", b"b\xe9e"):
        folder = tmp_path / os.fsdecode(b"photos \xe8") / os.fsdecode(kind)
        try:
            folder.mkdir(parents=True)
        except OSError:
            pytest.skip("this file system takes names in UTF-8 only")
        for number in range(16):
            name = os.fsdecode(b"\xe9%d.png" % number)
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name)
        (folder / os.fsdecode(b"\xff.txt")).write_text("no picture")
    asked = QUICK | {"model": "none", "baselines": {"constant": {}}}
    run = fathom.fit(folder.parent, out=tmp_path / "run", **asked)
    kept = run.folder.read_table("predictions.parquet")
    assert all("\\udce9" in place for place in kept["place"]) and set(kept["truth"]) == {"ant", "b\\udce9e"}
    assert len(run.folder.read_rows("left_out.csv")) == 2
    assert len(run.predict(folder.parent)) == 32
    assert fathom.fit(recipe=run.path / "recipe.yaml", out=tmp_path / "again").metrics["test"].keys() == {"constant"}


def test_damaged_and_foreign_folders_are_named(run: fathom.Run, tmp_path: Path) -> None:
    with pytest.raises(fathom.UserError, match="There is no run folder"):
        fathom.load(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(fathom.UserError, match="is not a run folder"):
        fathom.load(tmp_path / "empty")
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(fathom.UserError, match=r"model\.safetensors is damaged"):
        fathom.load(copy).predict({"age": 1, "hours": 1, "job": "cook"}, candidate="mlp")
    (copy / "metrics.json").write_text("{")
    with pytest.raises(fathom.UserError, match=r"metrics\.json is damaged"):
        fathom.load(copy).predict({"age": 1, "hours": 1, "job": "cook"})


def test_the_recipe_says_why(run: fathom.Run) -> None:
    recipe = recipes.load(run.path / "recipe.yaml")
    assert recipe.resolved
    assert recipe.train.precision in ("fp32", "bf16")
    assert {reason["what"] for reason in recipe.reasons} >= {"budget", "model", "size"}
    assert all(reason["why"] for reason in recipe.reasons)
    assert recipe.why("boosted trees").startswith("boosted trees, ")
    assert recipe.why("boosted trees").endswith("leaves: validation rows improved no more")


def test_a_baseline_that_is_read_back_still_says_why(run: fathom.Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "copy")
    folder, folds = RunFolder.open(tmp_path / "copy"), [Fold(np.arange(9), np.arange(9))] * 2

    def read_back() -> FittedBaseline:
        """Nothing to learn from: what is fitted already is only read."""
        none: Any = None
        return fit_baseline("boosted_trees", none, none, folds, none, folder, seed=0, seconds=None, options=[{}, {}])

    again = read_back()
    assert again.why == "validation rows improved no more"
    assert [one["leaves"] for one in again.settings] == [15, 15]
    done = tmp_path / "copy" / "baseline" / "boosted_trees" / "1" / "done.json"
    for content in ("{", "[]", "{}"):
        done.write_text(content)
        with pytest.raises(fathom.UserError, match=r"done\.json is damaged"):
            load_baseline(folder, "boosted_trees")


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"baselines": {"linear": 3}}, "baselines.linear is 3; expected its options"),
    ({"baselines": {"linear": {"penalty": 0}}}, "baselines.linear.penalty is 0; it must be above 0"),
    ({"baselines": {"linear": {"iterations": 0}}}, "baselines.linear.iterations is 0; it must be at least 1"),
    ({"baselines": {"boosted_trees": [{}, {"leaves": 1}]}}, "leaves is 1; it must be at least 2"),
    ({"baselines": {"linear": [{}]}}, "baselines.linear has 1 settings for 2 folds"),
    ({"baselines": {"ngram": {}}}, "'ngram' is not made for this data .*boosted_trees, constant, linear"),
    ({"baselines": {}, "model": "none"}, "There is nothing to fit"),
    ({"model": "resnet"}, "resnet takes one picture .*; found numbers"),
    ({"model": "mlp", "model__dropout": 2.0}, "model.dropout=2.0: expected a share"),
    ({"drop": ["age", "hours", "job", "rich"]}, "All 4 columns are dropped"),
    ({"train__huber": 1.0}, "train.huber is for numbers"),
]


@pytest.mark.parametrize(("keys", "says"), IMPOSSIBLE, ids=[says[:30] for _, says in IMPOSSIBLE])
def test_what_cannot_be_fitted_is_refused_before_anything_is_written(
    tmp_path: Path, keys: dict[str, Any], says: str
) -> None:
    data = write_csv(tmp_path / "people.csv", people(60), without=("wealth",))
    with pytest.raises(fathom.UserError, match=says):
        fathom.fit(data, target="rich", out=tmp_path / "run", **QUICK | keys)
    assert not (tmp_path / "run").exists()


def test_joined_batches_are_steps_when_epochs_are_counted(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "people.csv", people(60), without=("wealth",))
    keys = {"train__steps": 4, "train__accumulate": 3, "train__batch_size": 8, "split__folds": 1, "baselines": {}}
    steps = QUICK | keys | {"model": "mlp", "train__epochs": None}
    run = fathom.fit(data, target="rich", out=tmp_path / "run", **steps)
    per_epoch = math.ceil(run.metrics["rows"]["train"] // 8 / 3)
    assert recipes.load(run.path / "recipe.yaml").train.epochs == 4 / per_epoch == 2


def test_nothing_that_is_fitted_sees_a_test_row(tmp_path: Path) -> None:
    """Other values in the test rows leave the specs and every baseline's files as they were."""
    rows = people(240)
    data = write_csv(tmp_path / "one.csv", rows, without=("wealth",))
    one = fathom.fit(data, target="rich", out=tmp_path / "one", model="none", **QUICK)
    split = one.folder.read_table("split.parquet")
    for row in split["row"][split["part"] == "test"]:
        rows[row] |= {"hours": str(1000 + row), "job": "astronaut"}
    changed = write_csv(tmp_path / "two.csv", rows, without=("wealth",))
    two = fathom.fit(changed, target="rich", out=tmp_path / "two", model="none", **QUICK)
    assert list(two.folder.read_table("split.parquet")["part"]) == list(split["part"])
    specs = [run.folder.read_json("spec.json")["fields"] for run in (one, two)]
    for spec in specs:
        for field in spec.values():
            field.pop("why")  # the guess of a column's kind looks at all rows, and says how many
    assert specs[0] == specs[1]
    fitted = [_content(run.path / "baseline") for run in (one, two)]
    assert fitted[0] == fitted[1]
