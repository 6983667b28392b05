"""Numbers come with intervals that hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix

from fathom import intervals
from fathom.data import Task
from fathom.evaluate import conformal, confusion, coverage, evaluate, interval
from fathom.rooms import every

BINARY = Task("classify", "y", ("no", "yes"))
NUMBER = Task("regress", "y")


def labelled(generator: np.random.Generator, num_rows: int, num_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    targets = generator.integers(num_classes, size=num_rows)
    logits = generator.normal(size=(num_rows, num_classes))
    logits[np.arange(num_rows), targets] += 1.5
    raised = np.exp(logits)
    return raised / raised.sum(axis=1, keepdims=True), targets


def test_every_measure_of_the_task_has_a_value_inside_its_interval() -> None:
    for task, data in (
        (BINARY, labelled(np.random.default_rng(0), 400)),
        (NUMBER, (np.random.default_rng(0).normal(size=400), np.random.default_rng(1).normal(size=400))),
    ):
        found = evaluate(*data, task)
        assert set(found) == {name for name, module in every("measures").items() if task.kind == module.TASK}
        for name, entry in found.items():
            low, high = entry["interval"]
            assert low <= entry["value"] <= high, name
            assert low < high, name


def test_same_seed_same_numbers() -> None:
    data = labelled(np.random.default_rng(0), 300)
    assert evaluate(*data, BINARY, seed=3) == evaluate(*data, BINARY, seed=3)
    assert evaluate(*data, BINARY, seed=3) != evaluate(*data, BINARY, seed=4)


@pytest.mark.parametrize(
    ("kind", "names"), [("classify", ("accuracy", "auc", "log_loss", "f1")), ("regress", ("rmse", "mae", "r2"))]
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(kind: str, names: tuple[str, ...]) -> None:
    task = BINARY if kind == "classify" else NUMBER

    def draw(generator: np.random.Generator, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        if kind == "classify":
            return labelled(generator, num_rows)
        predictions = generator.normal(size=num_rows)
        return predictions, predictions + generator.standard_t(6, size=num_rows)

    large = draw(np.random.default_rng(99), 400_000)
    truth = {name: every("measures")[name].measure(*large) for name in names}
    held = dict.fromkeys(names, 0)
    for seed in range(150):
        found = evaluate(*draw(np.random.default_rng(seed), 120), task, seed)
        for name in names:
            low, high = found[name]["interval"]
            held[name] += low <= truth[name] <= high
    for name, times in held.items():
        assert 0.88 <= times / 150 <= 0.995, (name, times / 150)


def test_rows_of_one_patient_are_not_new_evidence() -> None:
    predictions, targets = labelled(np.random.default_rng(0), 60)
    ten = np.repeat(np.arange(60), 10)
    once = evaluate(predictions, targets, BINARY)
    copied = evaluate(predictions[ten], targets[ten], BINARY)
    grouped = evaluate(predictions[ten], targets[ten], BINARY, units=ten)
    for name in ("accuracy", "log_loss", "calibration"):
        width = {key: np.diff(found[name]["interval"])[0] for key, found in
                 (("once", once), ("copied", copied), ("grouped", grouped))}  # fmt: skip
        assert width["copied"] < 0.6 * width["once"], name
        assert width["grouped"] > 1.5 * width["copied"], name
    assert np.diff(grouped["accuracy"]["interval"]) == pytest.approx(np.diff(once["accuracy"]["interval"]), rel=0.25)


def test_pieces_of_one_text_are_resampled_as_blocks_of_neighbours() -> None:
    assert intervals.blocks(10, 27).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert intervals.blocks(10, 8).tolist() == list(range(10)), "too few for blocks"
    held = {"alone": 0, "blocks": 0}
    for seed in range(200):
        errors = np.random.default_rng(seed).normal(size=330)
        for i in range(1, 330):
            errors[i] += 0.6 * errors[i - 1]
        errors = errors[30:, None]  # the mean of such errors is 0
        for name, units in (("alone", None), ("blocks", intervals.blocks(300, 300))):
            found = intervals.resample(errors, units, seed=seed)
            low, high = intervals.bca(found.whole[0], found.samples[:, 0], found.without[:, 0])
            held[name] += low <= 0 <= high
    assert held["alone"] < 0.75 * 200
    assert held["blocks"] > 0.84 * 200


def test_large_data_has_the_interval_of_the_normal_law() -> None:
    generator = np.random.default_rng(0)
    predictions, targets = np.zeros(200_000), generator.normal(size=200_000)
    low, high = evaluate(predictions, targets, NUMBER)["mae"]["interval"]
    expected = 2 * 1.96 * np.abs(targets).std() / np.sqrt(len(targets))
    assert high - low == pytest.approx(expected, rel=0.12)


def test_a_perfect_score_on_few_rows_is_not_certainty() -> None:
    task = Task("classify", "y", ("a", "b"))
    targets = np.array([0] * 30 + [1] * 10)
    right = np.eye(2)[targets] * 0.8 + 0.1
    for units, rows in ((None, 10), (np.arange(40) // 8, 5)):
        found = evaluate(right, targets, task, units=units)
        for name in ("auc", "f1", "balanced_accuracy"):
            assert found[name]["value"] == 1.0
            assert found[name]["interval"] == pytest.approx(list(intervals.wilson(rows, rows)))
    nothing = evaluate(1 - right, targets, task)
    assert nothing["auc"]["interval"] == pytest.approx(list(intervals.wilson(0, 10)))


def test_undefined_is_nan_and_no_rows_is_no_error() -> None:
    predictions, targets = labelled(np.random.default_rng(0), 50)
    one_class = evaluate(predictions, np.zeros_like(targets), BINARY)
    assert np.isnan([one_class["auc"]["value"], *one_class["auc"]["interval"]]).all()
    assert np.isfinite(one_class["accuracy"]["interval"]).all()
    assert all(np.isnan(entry["value"]) for entry in evaluate(predictions[:0], targets[:0], BINARY).values())
    evaluate(predictions[:1], targets[:1], BINARY)


def test_confusion_agrees_with_scikit_learn() -> None:
    predictions, targets = labelled(np.random.default_rng(0), 100, 4)
    assert confusion(predictions, targets, 4) == confusion_matrix(targets, predictions.argmax(axis=1)).tolist()


def test_wilson_and_mcnemar_agree_with_scipy() -> None:
    expected = stats.binomtest(37, 40).proportion_ci(method="wilson")
    assert intervals.wilson(37, 40) == pytest.approx((expected.low, expected.high))
    assert intervals.wilson(40, 40)[0] < 0.95
    first, second = np.array([1] * 9 + [0] * 2 + [1] * 30, bool), np.array([0] * 9 + [1] * 2 + [1] * 30, bool)
    assert intervals.mcnemar(first, second) == pytest.approx(stats.binomtest(2, 11).pvalue)
    assert intervals.mcnemar(first, first) == 1


def test_bca_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).lognormal(size=40)
    expected = stats.bootstrap((values,), np.mean, n_resamples=9999, rng=np.random.default_rng(1)).confidence_interval
    found = intervals.resample(values[:, None], seed=0)
    assert intervals.bca(values.mean(), found.samples[:, 0], found.without[:, 0]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_conformal_intervals_cover_new_rows_as_promised(level: float) -> None:
    shares = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        predictions = generator.normal(size=1060)
        targets = predictions + generator.lognormal(size=1060)
        spec = conformal(predictions[:60], targets[:60], level)
        low, high = interval(predictions[60:], spec)
        shares.append(coverage(low, high, targets[60:])["value"])
    assert np.mean(shares) == pytest.approx(level + 0.015, abs=0.025)


def test_widths_follow_the_prediction_only_where_that_is_better() -> None:
    generator = np.random.default_rng(0)
    predictions = generator.uniform(1, 100, size=4000)
    even = predictions + generator.normal(size=4000)
    growing = predictions * (1 + 0.2 * generator.normal(size=4000))
    assert not conformal(predictions, even)["scaled"]
    spec = conformal(predictions[:2000], growing[:2000])
    assert spec["scaled"]
    low, high = interval(predictions[2000:], spec)
    found = coverage(low, high, growing[2000:])
    assert found["value"] == pytest.approx(0.9, abs=0.025)
    small, large = predictions[2000:] < 20, predictions[2000:] > 80
    assert (high - low)[large].mean() > 3 * (high - low)[small].mean()


def test_few_rows_promise_less_and_say_so() -> None:
    spec = conformal(np.zeros(9), np.arange(9.0))
    assert (spec["low"], spec["high"]) == (0, 8)
    assert spec["level"] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="at least 2"):
        conformal(np.zeros(1), np.zeros(1))
