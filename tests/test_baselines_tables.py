"""Boosted trees and linear models on tables and pictures: what is special to them."""

from __future__ import annotations

import gc
import itertools
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fathom.baselines import boosted_trees, linear
from fathom.baselines.parts import growth, table_features
from fathom.baselines.parts.linear_design import Design
from fathom.baselines.parts.picture_features import picture_features
from fathom.baselines.parts.table_features import Features, features
from fathom.data import Examples, Ragged, Task
from fathom.errors import UserError
from fathom.rooms import options

BOTH = pytest.mark.parametrize("part", [boosted_trees, linear], ids=["trees", "linear"])
TWO = Task("classify", "y", ("no", "yes"))
THREE = Task("classify", "y", ("a", "b", "c"))
NUMBER = Task("regress", "y")
KINDS = pytest.mark.parametrize("task", [TWO, THREE, NUMBER], ids=["two", "three", "number"])


def table(num_rows: int = 600, *, seed: int = 0) -> tuple[Examples, np.ndarray]:
    """Three numbers with holes, two categories, and a score that depends on both."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(num_rows, 3)).astype(np.float32)
    categories = random.integers(1, 5, size=(num_rows, 2)).astype(np.int32)
    score = numbers[:, 0] + np.abs(numbers[:, 1]) + np.array([0, -2, 0, 2, 1])[categories[:, 0]]
    numbers[random.random(numbers.shape) < 0.1] = np.nan
    about: dict[str, dict[str, Any]] = {
        "numbers": {"form": "numbers", "names": ["u", "v", "w"]},
        "categories": {"form": "categories", "names": ["k", "l"], "sizes": [5, 5]},
    }
    return Examples({"numbers": numbers, "categories": categories}, about, {}, num_rows), score


def targets_for(task: Task, score: np.ndarray) -> np.ndarray:
    if task.kind == "regress":
        return 10 * score + 100
    cuts = np.quantile(score, np.linspace(0, 1, task.num_outputs + 1)[1:-1])
    return np.searchsorted(cuts, score).astype(np.int64)


def split(num_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.random.default_rng(1).permutation(num_rows)
    half, most = num_rows // 2, num_rows * 3 // 4
    return rows[:half], rows[half:most], rows[most:]


def pictures(num_rows: int = 200, side: int = 12) -> tuple[Examples, np.ndarray]:
    """Stripes that lie or stand, in noise."""
    random = np.random.default_rng(0)
    classes = random.integers(0, 2, num_rows)
    stripes = 150 * (np.arange(side) // 2 % 2)
    lying, standing = np.repeat(stripes[:, None], side, 1), np.repeat(stripes[None], side, 0)
    pixels = np.where(classes[:, None, None] == 0, lying, standing) + random.integers(0, 80, (num_rows, side, side))
    inputs: dict[str, np.ndarray | Ragged] = {"picture": pixels[..., None].astype(np.uint8)}
    return Examples(inputs, {"picture": {"form": "pixels"}}, {}, num_rows), classes


@BOTH
def test_claims_tables_and_pictures_but_not_text(part: ModuleType) -> None:
    assert part.claims({"numbers": {"form": "numbers"}}, TWO)
    assert part.claims({"categories": {"form": "categories"}, "name": {"form": "tokens"}}, NUMBER)
    assert part.claims({"photo": {"form": "pixels"}}, TWO)
    assert part.claims({"name": {"form": "tokens"}}, TWO) is None
    assert part.claims({}, TWO) is None


@BOTH
@KINDS
def test_learns_and_predicts_in_the_promised_shape(part: ModuleType, task: Task) -> None:
    examples, score = table()
    targets = targets_for(task, score)
    train, validate, test = split(len(examples))
    predicted = part.fit(examples, targets, train, validate, task).predict(examples)
    assert predicted.dtype == np.float64
    if task.kind == "regress":
        assert predicted.shape == (600,)
        assert np.mean((predicted[test] - targets[test]) ** 2) < 0.5 * np.var(targets[test])
    else:
        assert predicted.shape == (600, task.num_outputs)
        np.testing.assert_allclose(predicted.sum(axis=1), 1)
        assert (predicted[test].argmax(axis=1) == targets[test]).mean() > 0.7


@BOTH
@KINDS
def test_saved_is_loaded_to_the_last_bit(part: ModuleType, task: Task, tmp_path: Path) -> None:
    examples, score = table()
    train, validate, _ = split(len(examples))
    fitted = part.fit(examples, targets_for(task, score), train, validate, task)
    fitted.save(tmp_path / "kept")
    loaded = part.load(tmp_path / "kept")
    np.testing.assert_array_equal(loaded.predict(examples), fitted.predict(examples))
    assert loaded.settings == fitted.settings
    assert loaded.describe() == fitted.describe()


@BOTH
@KINDS
def test_settings_given_back_make_the_same_model_whatever_the_clock(part: ModuleType, task: Task) -> None:
    examples, score = table()
    targets = targets_for(task, score)
    train, validate, _ = split(len(examples))
    first = part.fit(examples, targets, train, validate, task, seed=3, seconds=5.0)
    assert set(first.settings) <= set(options(part.fit))
    again = part.fit(examples, targets, train, validate, task, seed=3, seconds=0.0, **first.settings)
    np.testing.assert_array_equal(again.predict(examples), first.predict(examples))
    assert again.settings == first.settings


@BOTH
def test_training_never_sees_other_rows(part: ModuleType) -> None:
    examples, score = table()
    targets = targets_for(TWO, score)
    train, validate, test = split(len(examples))
    first = part.fit(examples, targets, train, validate, TWO).predict(examples)
    spoiled = targets.copy()
    spoiled[test] = 1 - spoiled[test]
    numbers = np.array(examples.inputs["numbers"])
    numbers[test] = 1e9
    changed = Examples(examples.inputs | {"numbers": numbers}, examples.about, {}, len(examples))
    second = part.fit(changed, spoiled, train, validate, TWO)
    np.testing.assert_array_equal(second.predict(examples), first)


@BOTH
def test_missing_and_unseen_values_have_an_answer(part: ModuleType) -> None:
    examples, score = table()
    train, validate, _ = split(len(examples))
    fitted = part.fit(examples, targets_for(TWO, score), train, validate, TWO)
    inputs: dict[str, np.ndarray | Ragged] = {
        "numbers": np.array([[np.nan] * 3, [1e30, -1e30, 0], [0, 0, 0]], np.float32),
        "categories": np.array([[0, 0], [1, 2], [99, 7]], np.int32),
    }
    predicted = fitted.predict(Examples(inputs, examples.about, {}, 3))
    assert np.isfinite(predicted).all()


@BOTH
def test_a_column_without_any_value_and_a_constant_one_do_no_harm(part: ModuleType) -> None:
    examples, score = table()
    numbers = np.array(examples.inputs["numbers"])
    numbers[:, 1], numbers[:, 2] = np.nan, 7
    changed = Examples(examples.inputs | {"numbers": numbers}, examples.about, {}, len(examples))
    train, validate, _ = split(len(examples))
    assert np.isfinite(part.fit(changed, targets_for(NUMBER, score), train, validate, NUMBER).predict(changed)).all()


@BOTH
def test_a_class_that_no_training_row_has_gets_little_but_not_nonsense(part: ModuleType) -> None:
    examples, score = table()
    targets = targets_for(TWO, score)  # the third class never comes
    train, validate, _ = split(len(examples))
    predicted = part.fit(examples, targets, train, validate, THREE).predict(examples)
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert predicted[:, 2].max() < 0.1


@BOTH
@pytest.mark.parametrize("num_rows", [12, 40])
def test_few_rows_are_enough_to_answer(part: ModuleType, num_rows: int) -> None:
    examples, score = table(num_rows)
    train, validate, _ = split(num_rows)
    assert np.isfinite(part.fit(examples, targets_for(TWO, score), train, validate, TWO).predict(examples)).all()


@BOTH
def test_pictures_are_learned_from_simple_features(part: ModuleType, tmp_path: Path) -> None:
    examples, classes = pictures()
    train, validate, test = split(len(examples))
    fitted = part.fit(examples, classes, train, validate, TWO)
    predicted = fitted.predict(examples)
    assert (predicted[test].argmax(axis=1) == classes[test]).mean() > 0.95
    fitted.save(tmp_path)
    np.testing.assert_array_equal(part.load(tmp_path).predict(examples), predicted)


@BOTH
def test_text_alone_is_refused(part: ModuleType) -> None:
    tokens = Ragged(np.array([1, 2]), np.array([0, 1, 2]))
    examples = Examples({"said": tokens}, {"said": {"form": "tokens"}}, {}, 2)
    with pytest.raises(UserError, match="tokens"):
        part.fit(examples, np.array([0, 1]), np.array([0]), np.array([1]), TWO)


@BOTH
def test_no_validation_rows_is_said(part: ModuleType) -> None:
    examples, score = table()
    with pytest.raises(UserError, match="validation rows"):
        part.fit(examples, targets_for(TWO, score), np.arange(500), np.arange(0), TWO)


@BOTH
def test_a_damaged_or_missing_file_is_said(part: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        part.load(tmp_path / "nowhere")
    examples, score = table()
    train, validate, _ = split(len(examples))
    part.fit(examples, targets_for(TWO, score), train, validate, TWO).save(tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match="cannot be read"):
        part.load(tmp_path)


def slow_clock(monkeypatch: pytest.MonkeyPatch, seconds_a_look: float) -> None:
    """Every look at the clock costs so many seconds: deadlines are tested without waiting."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks) * seconds_a_look)


def test_trees_stop_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, score = table()
    train, validate, _ = split(len(examples))
    targets = targets_for(TWO, score)
    free = boosted_trees.fit(examples, targets, train, validate, TWO, learning_rate=0.03)
    slow_clock(monkeypatch, 1.0)
    hurried = boosted_trees.fit(examples, targets, train, validate, TWO, learning_rate=0.03, seconds=20.0)
    assert hurried.why == "time was up"
    assert 1 <= hurried.settings["trees"] <= 20 < free.settings["trees"]


def test_learning_rate_rises_where_time_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, score = table()
    train, validate, _ = split(len(examples))
    slow_clock(monkeypatch, 1.0)
    hurried = boosted_trees.fit(examples, targets_for(TWO, score), train, validate, TWO, seconds=60.0)
    assert hurried.settings["learning_rate"] == growth.HIGHEST_RATE
    relaxed = boosted_trees.fit(examples, targets_for(TWO, score), train, validate, TWO, seconds=1e6)
    assert relaxed.settings["learning_rate"] == growth.USUAL_RATE


def test_linear_stops_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, score = table()
    train, validate, _ = split(len(examples))
    slow_clock(monkeypatch, 1.0)
    fitted = linear.fit(examples, targets_for(TWO, score), train, validate, TWO, seconds=1.0)
    assert fitted.settings["iterations"] == linear.ITERATIONS_AT_A_TIME


def test_linear_uses_fewer_rows_where_time_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, score = table(1000)
    targets = targets_for(THREE, score)
    train, validate, _ = split(len(examples))
    monkeypatch.setattr(linear, "SEARCH_ROWS", 100)
    slow_clock(monkeypatch, 1.0)
    hurried = linear.fit(examples, targets, train, validate, THREE, seconds=12.0)
    assert 100 <= hurried.settings["rows"] < len(train)
    again = linear.fit(examples, targets, train, validate, THREE, **hurried.settings)
    np.testing.assert_array_equal(again.predict(examples), hurried.predict(examples))


def test_trees_are_the_same_on_one_thread_and_on_two(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, score = table(3000)
    train, validate, _ = split(len(examples))
    texts = []
    for threads in (1, 2):
        monkeypatch.setattr(growth, "threads_for", lambda rows, threads=threads: threads)
        fitted = boosted_trees.fit(examples, targets_for(NUMBER, score), train, validate, NUMBER, trees=40)
        texts.append(fitted.predict(examples))
    np.testing.assert_array_equal(texts[0], texts[1])


def test_log_target_is_taken_where_validation_rows_gain_by_it() -> None:
    examples, score = table(2000)
    train, validate, test = split(len(examples))
    steep = np.exp(2 * score)
    fitted = boosted_trees.fit(examples, steep, train, validate, NUMBER)
    assert fitted.settings["log_target"]
    assert "logarithm" in fitted.describe()
    assert np.corrcoef(np.log1p(fitted.predict(examples)[test]), score[test])[0, 1] > 0.8
    even = boosted_trees.fit(examples, score, train, validate, NUMBER)
    assert not even.settings["log_target"]


def test_no_log_of_negative_targets_is_taken() -> None:
    examples, score = table(2000)
    train, validate, _ = split(len(examples))
    fitted = boosted_trees.fit(examples, np.exp(score) - 5, train, validate, NUMBER)
    assert not fitted.settings["log_target"]


def test_more_pictures_than_needed_are_not_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosted_trees, "PICTURE_ROWS", 60)
    examples, classes = pictures()
    train, validate, _ = split(len(examples))
    assert boosted_trees.fit(examples, classes, train, validate, TWO).settings["rows"] == 60


def test_bends_are_taken_for_a_curve_and_not_for_a_line() -> None:
    examples, _ = table(2000)
    numbers = np.nan_to_num(np.array(examples.inputs["numbers"]))
    train, validate, _ = split(len(examples))
    curved = linear.fit(examples, numbers[:, 0] ** 2, train, validate, NUMBER)
    assert curved.settings["bends"] > 0
    straight = linear.fit(examples, numbers[:, 0] * 3, train, validate, NUMBER, bends=0)
    assert "bent" not in straight.describe()


def test_rare_and_unseen_categories_share_a_column() -> None:
    codes = np.array([[1]] * 30 + [[2]] * 30 + [[3]] * 2, np.int32)
    none = np.empty((len(codes), 0), np.float32)
    design = Design.fit(Features(none, codes), bends=0)
    asked = np.array([[1], [2], [3], [0], [9]], np.int32)
    matrix = design.matrix(Features(none[:5], asked))
    np.testing.assert_array_equal(matrix, [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]])


def test_many_categories_make_a_sparse_matrix_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, score = table()
    train, validate, _ = split(len(examples))
    fitted = linear.fit(examples, targets_for(TWO, score), train, validate, TWO)
    dense = fitted.predict(examples)
    monkeypatch.setattr("fathom.baselines.parts.linear_design.DENSE_COLUMNS", 1)
    np.testing.assert_allclose(fitted.predict(examples), dense, rtol=1e-5)


def test_pictures_beside_a_table_are_read_too() -> None:
    examples, _ = table(50)
    shots, _ = pictures(50)
    both = Examples(examples.inputs | shots.inputs, examples.about | shots.about, {}, 50)
    read = features(both, np.arange(50))
    assert read.numbers.shape[1] > 3
    assert read.categories.shape == (50, 2)


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (100, 37, 3), (1, 1, 3), (3, 200, 4)])
def test_picture_features_are_bounded_and_do_not_depend_on_the_batch(shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    some = random.integers(0, 256, (5, *shape), dtype=np.uint8)
    whole = picture_features(some, np.arange(5))
    assert whole.dtype == np.float32
    assert whole.min() >= 0
    assert whole.max() <= 1
    np.testing.assert_array_equal(picture_features(some, np.array([3])), whole[3:4])
    assert picture_features(some, np.arange(0)).shape == (0, whole.shape[1])


def test_picture_features_tell_lying_from_standing_edges() -> None:
    examples, classes = pictures(40)
    pixels = examples.inputs["picture"]
    assert isinstance(pixels, np.ndarray)
    edges = picture_features(pixels, np.arange(40))[:, : 3 * 3 * 8].reshape(40, -1, 8).mean(axis=1)
    standing = edges[:, 0] > edges[:, 4]  # direction 0: brightness changes across, the edge stands
    np.testing.assert_array_equal(standing, classes == 1)


def test_picture_features_are_computed_once_and_forgotten_with_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, _ = pictures(30)
    pixels = examples.inputs["picture"]
    assert isinstance(pixels, np.ndarray)
    first = features(examples, np.array([3, 1, 3])).numbers
    np.testing.assert_array_equal(first, picture_features(pixels, np.array([3, 1, 3])))
    counted: list[int] = []

    def counting(given: np.ndarray, rows: np.ndarray) -> np.ndarray:
        counted.append(len(rows))
        return picture_features(given, rows)

    monkeypatch.setattr(table_features, "picture_features", counting)
    np.testing.assert_array_equal(features(examples, np.array([1, 3, 4])).numbers[:2], first[[1, 0]])
    assert counted == [1]
    key = id(pixels)
    assert key in table_features._kept
    del examples, pixels
    gc.collect()
    assert key not in table_features._kept
