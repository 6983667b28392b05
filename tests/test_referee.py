"""The verdict: decided on validation rows, reported on test rows, and the simpler model wins ties."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fathom.data import Task
from fathom.decision import decide, tempered
from fathom.ensemble import select
from fathom.evaluate import measures_of
from fathom.measures import log_loss
from fathom.referee import Candidate, average, judge

CLASSES = Task("classify", "y", ("a", "b", "c"))
NUMBER = Task("regress", "price")


def classifiers(
    seed: int, num_rows: int, gains: tuple[float, ...], noise: float = 0.5
) -> tuple[list[Candidate], np.ndarray, np.ndarray]:
    """Candidates that share most of what they know; the last is the network. `gains` are what each knows besides."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(3, size=2 * num_rows)
    right = np.eye(3)[targets]
    shared = generator.normal(size=right.shape) + 1.5 * right
    candidates = []
    for rank, gain in enumerate(gains):
        raised = np.exp(shared + gain * right + noise * generator.normal(size=right.shape))
        both = raised / raised.sum(axis=1, keepdims=True)
        kind = "network" if rank + 1 == len(gains) else "baseline"
        name = "resnet" if kind == "network" else ("constant", "linear", "trees")[rank]
        candidates.append(
            Candidate(name, rank, both[:num_rows], both[num_rows:], 0.0003 * (1 + 6 * (kind == "network")), kind)
        )
    return candidates, targets[:num_rows], targets[num_rows:]


def regressors(seed: int, num_rows: int, errors: tuple[float, ...]) -> tuple[list[Candidate], np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = 1000 + 300 * generator.normal(size=2 * num_rows)
    candidates = []
    for rank, error in enumerate(errors):
        both = targets + error * generator.normal(size=2 * num_rows)
        kind = "network" if rank + 1 == len(errors) else "baseline"
        candidates.append(Candidate(f"model_{rank}", rank, both[:num_rows], both[num_rows:], 0.001, kind))
    return candidates, targets[:num_rows], targets[num_rows:]


def test_a_clearly_better_network_is_advised_with_its_numbers() -> None:
    verdict = judge(*classifiers(0, 800, (0, 0.3, 1.5)), CLASSES, "accuracy", seed=0, noun="picture")
    assert verdict.advised == "resnet"
    found = verdict.difference
    assert (found["of"], found["to"]) == ("resnet", "linear")
    assert found["interval"][0] > 0
    assert found["p"] < 0.001
    value, low, high = (f"{100 * number:.1f}" for number in (found["value"], *found["interval"]))
    expected = f"use the network: +{value} points (95 % interval {low} to {high}); 2.1 ms a picture against 0.3"
    assert verdict.sentence == expected


def test_ties_go_to_the_simpler_model_and_the_sentence_says_so() -> None:
    candidates, *targets = classifiers(3, 600, (0.5, 0.5, 0.5), noise=0.2)
    verdict = judge(candidates, *targets, CLASSES, "accuracy", seed=0)
    assert verdict.advised == "constant"
    assert verdict.sentence.startswith("use the constant: the network is not better (")
    assert verdict.difference["of"] == "resnet"
    assert not any(look["beats"] for look in verdict.decision["looks"])


def test_test_rows_choose_nothing() -> None:
    candidates, validation, test = classifiers(0, 500, (0, 0, 1.5))
    upside_down = [replace(c, test=candidates[-1 - i].test) for i, c in enumerate(candidates)]
    one, other = (judge(c, validation, test, CLASSES, "accuracy", seed=0) for c in (candidates, upside_down))
    assert one.advised == other.advised == "resnet"
    assert one.decision == other.decision
    assert "though not on the test rows" in other.sentence


def test_seconds_decide_nothing() -> None:
    """What the clock measured differs from run to run; the advice must not."""
    candidates, *targets = classifiers(1, 300, (0, 0.3, 0.6))
    slower = [replace(c, rank=0, seconds_per_row=1 / (i + 1)) for i, c in enumerate(candidates)]
    same = [replace(c, rank=0) for c in candidates]
    assert (
        judge(slower, *targets, CLASSES, "accuracy", seed=0).advised
        == judge(same, *targets, CLASSES, "accuracy", seed=0).advised
    )


def advised_rank(seed: int, num_rows: int, gains: tuple[float, ...]) -> int:
    candidates, validation, _ = classifiers(seed, num_rows, gains)
    return decide(candidates, validation, "accuracy", measures_of(CLASSES)["accuracy"], seed=seed)[0].rank


def test_chance_rarely_breaks_a_tie_however_many_candidates() -> None:
    wrong = sum(advised_rank(seed, 250, (0.0, 0.0, 0.0, 0.0)) > 0 for seed in range(100))
    assert wrong <= 10  # 5 expected at most; more than 10 has a chance of 1 %


def test_log_loss_shows_in_few_rows_what_accuracy_cannot() -> None:
    both = [decide(*classifiers(seed, 250, (0, 0.25))[:2], "accuracy", measures_of(CLASSES)["accuracy"], seed=0)[1][0]
            for seed in range(25)]  # fmt: skip
    by_accuracy = sum(look["by"] == "accuracy" for look in both)
    by_either = sum(look["beats"] for look in both)
    assert by_either >= by_accuracy + 5
    assert by_either >= 18


def test_better_log_loss_never_wins_with_worse_accuracy() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(2, size=1000)
    # The second is right a little less often, but knows which rows are hard.
    sure = np.where(generator.random(1000) < 0.9, 0.7, 0.3)
    hard = generator.random(1000) < 0.25
    knows = np.where(hard, 0.47, 0.97)
    task = Task("classify", "y", ("a", "b"))
    probabilities = [np.where(np.eye(2, dtype=bool)[targets], p[:, None], 1 - p[:, None]) for p in (sure, knows)]
    candidates = [Candidate(str(i), i, p, p, 0.001) for i, p in enumerate(probabilities)]
    advised, looks = decide(candidates, targets, "accuracy", measures_of(task)["accuracy"], seed=0)
    assert looks[0]["information"]["interval"][0] > 0
    assert looks[0]["gain"] < 0
    assert advised.name == "0"


def test_overconfidence_alone_loses_no_comparison() -> None:
    candidates, validation, _ = classifiers(0, 2000, (0.5, 0.5), noise=0.0)
    sharp = candidates[0].validation ** 8
    sharp /= sharp.sum(axis=1, keepdims=True)
    assert log_loss.measure(sharp, validation) > 1.2 * log_loss.measure(candidates[1].validation, validation)
    cured = [log_loss.measure(tempered(p, validation), validation) for p in (sharp, candidates[1].validation)]
    assert cured[0] == pytest.approx(cured[1], rel=1e-3)


def test_five_rows_are_not_enough_for_accuracy() -> None:
    """The bootstrap of 5 differing rows in 200 excludes zero; McNemar's exact p is 0.0625."""
    targets = np.zeros(200, np.int64)
    first, second = np.tile([1.0, 0.0], (200, 1)), np.tile([1.0, 0.0], (200, 1))
    first[:5] = [0.0, 1.0]
    # The second is as unsure as can be wherever it is right, so that only accuracy speaks for it.
    second[:] = [0.51, 0.49]
    task = Task("classify", "y", ("a", "b"))
    candidates = [Candidate("a", 0, first, first, 0.0), Candidate("b", 1, second, second, 0.0)]
    _, looks = decide(candidates, targets, "accuracy", measures_of(task)["accuracy"], seed=0)
    assert looks[0]["interval"][0] > 0
    assert looks[0]["p"] == pytest.approx(0.0625)
    assert looks[0]["by"] != "accuracy"


def test_what_is_advised_is_not_beaten_by_something_between() -> None:
    """The network beats the linear model but not the trees: the trees are advised, not the network."""
    candidates, *targets = classifiers(5, 700, (0.0, 1.0, 1.0), noise=0.3)
    assert judge(candidates, *targets, CLASSES, "accuracy", seed=0).advised == "linear"


def test_a_worse_model_in_the_middle_is_passed_over() -> None:
    candidates, *targets = classifiers(0, 700, (0.5, -2.0, 2.0))
    assert judge(candidates, *targets, CLASSES, "accuracy", seed=0).advised == "resnet"


def test_numbers_are_compared_in_the_unit_of_the_target() -> None:
    verdict = judge(*regressors(0, 500, (100.0, 60.0)), NUMBER, "rmse", seed=0)
    assert verdict.advised == "model_1"
    found = verdict.difference
    assert found["value"] < 0
    assert found["interval"][0] < found["value"] < found["interval"][1] < 0
    assert verdict.sentence.startswith("use the network: -")
    assert "root mean squared error, -" in verdict.sentence
    assert verdict.test["model_1"]["coverage"]["value"] == pytest.approx(0.9, abs=0.05)
    assert verdict.validation["model_1"]["conformal"]["level"] == 0.9


@pytest.mark.parametrize("metric", ["rmse", "mae", "median_error", "r2"])
def test_any_measure_of_numbers_can_decide(metric: str) -> None:
    assert judge(*regressors(0, 300, (100.0, 50.0)), NUMBER, metric, seed=0).advised == "model_1"


@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1", "log_loss", "auc", "brier"])
def test_any_measure_of_classes_can_decide(metric: str) -> None:
    assert judge(*classifiers(0, 400, (0, 1.5)), CLASSES, metric, seed=0).advised == "resnet"


def test_groups_take_away_false_certainty() -> None:
    candidates, validation, test = classifiers(2, 40, (0, 0.8))
    repeated = np.repeat(np.arange(40), 12)
    many = [replace(c, validation=c.validation[repeated], test=c.test[repeated]) for c in candidates]
    plain = judge(many, validation[repeated], test[repeated], CLASSES, "accuracy", seed=0)
    grouped = judge(many, validation[repeated], test[repeated], CLASSES, "accuracy", seed=0,
                    validation_units=repeated, test_units=repeated)  # fmt: skip
    width = {name: np.diff(v.difference["interval"])[0] for name, v in (("plain", plain), ("grouped", grouped))}
    assert width["grouped"] > 2 * width["plain"]


def test_metrics_json_is_valid_and_whole() -> None:
    candidates, validation, test = classifiers(0, 100, (0, 1.0))
    verdict = judge(candidates, validation, np.zeros_like(test), CLASSES, "auc", seed=0)
    text = json.dumps(verdict.to_json(), allow_nan=False)
    kept = json.loads(text)
    assert {"version", "task", "metric", "advised", "sentence", "validation", "test", "difference", "decision",
            "confusion", "classes"} <= set(kept)  # fmt: skip
    assert kept["test"]["constant"]["auc"] is None
    assert kept["test"]["constant"]["seconds_per_row"] == 0.0003
    assert kept["validation"]["constant"]["interval"] == kept["validation"]["constant"]["intervals"]["auc"]
    assert "undefined on the test rows" in verdict.sentence
    assert np.sum(kept["confusion"]) == 100


def test_an_undefined_metric_on_validation_rows_gives_way_to_log_loss() -> None:
    candidates, validation, test = classifiers(0, 100, (0, 1.0))
    verdict = judge(candidates, np.zeros_like(validation), test, CLASSES, "auc", seed=0)
    assert verdict.decision["metric"] == "log_loss"


def test_one_candidate_is_advised_without_a_comparison() -> None:
    candidates, *targets = classifiers(0, 50, (0.5,))
    verdict = judge(candidates, *targets, CLASSES, "accuracy", seed=0)
    assert verdict.sentence == "use the network: nothing else was tried"
    assert verdict.difference == {}


def test_wrong_use_is_refused() -> None:
    candidates, *targets = classifiers(0, 50, (0, 1))
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        judge(candidates, *targets, CLASSES, "acuracy", seed=0)
    with pytest.raises(ValueError, match="shape"):
        judge([replace(candidates[0], test=candidates[0].test[:-1])], *targets, CLASSES, "accuracy", seed=0)
    with pytest.raises(ValueError, match="not finite"):
        judge([replace(candidates[0], test=candidates[0].test * np.nan)], *targets, CLASSES, "accuracy", seed=0)


def test_an_ensemble_of_models_that_err_differently_wins() -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=2000)
    made = [targets + generator.normal(size=2000) for _ in range(3)]
    candidates = [Candidate(f"m{i}", i, p[:1000], p[1000:], 0.001) for i, p in enumerate(made)]
    found = average(candidates, targets[:1000], NUMBER, seed=0)
    assert found is not None
    assert sum(found.members.values()) == pytest.approx(1)
    assert all(weight == pytest.approx(1 / 3, abs=0.1) for weight in found.members.values())
    assert found.seconds_per_row == pytest.approx(0.003)
    expected = sum(weight * candidates[int(name[1])].test for name, weight in found.members.items())
    assert np.allclose(found.test, expected)
    verdict = judge([*candidates, found], targets[:1000], targets[1000:], NUMBER, "rmse", seed=0)
    assert verdict.advised == "ensemble"
    assert verdict.members == found.members


def test_an_ensemble_that_is_not_advised_keeps_its_members_too() -> None:
    candidates, validation, test = classifiers(0, 400, (0.5, 0.5, 0.5), noise=0.02)
    simple = candidates[0]
    blend = replace(simple, name="ensemble", rank=9, kind="ensemble", members={"a": 0.5, "b": 0.5})
    verdict = judge([simple, blend], validation, test, CLASSES, "accuracy", seed=0)
    assert verdict.advised == simple.name
    assert verdict.members == blend.members


def test_an_ensemble_of_equals_does_not_earn_its_cost() -> None:
    candidates, validation, test = classifiers(0, 400, (0.5, 0.5, 0.5), noise=0.02)
    found = average(candidates, validation, CLASSES, seed=0)
    several = candidates if found is None else [*candidates, found]
    assert judge(several, validation, test, CLASSES, "accuracy", seed=0).advised == "constant"


def test_one_dominant_model_makes_no_ensemble() -> None:
    candidates, validation, _ = regressors(0, 300, (500.0, 400.0, 1.0))
    assert average(candidates, validation, NUMBER, seed=0) is None


def test_an_ensemble_cannot_win_by_weights_fitted_to_its_judges() -> None:
    """Forty useless models on forty rows: fitted weights look good on the rows that made them, honest ones do not."""
    generator = np.random.default_rng(0)
    own, honest = [], []
    for _ in range(20):
        targets = generator.normal(size=40)
        made = [generator.normal(size=40) for _ in range(40)]
        weights = select(np.stack(made), targets, NUMBER)
        own.append(np.mean((weights @ np.stack(made) - targets) ** 2))
        found = average([Candidate(str(i), i, p, p, 0.0) for i, p in enumerate(made)], targets, NUMBER, seed=0)
        assert found is not None
        honest.append(np.mean((found.validation - targets) ** 2))
    assert np.mean(own) < 0.8
    assert np.mean(honest) > 1.0


def test_one_group_decides_nothing_and_it_is_said() -> None:
    candidates, validation, test = classifiers(0, 300, (0, 0.3, 1.5))
    units = np.zeros(300, int)
    verdict = judge(candidates, validation, test, CLASSES, "accuracy", seed=0, validation_units=units, test_units=units)
    assert verdict.advised == "constant"
    assert average(candidates, validation, CLASSES, seed=0, validation_units=units) is None
    for look in verdict.decision["looks"]:
        assert "one validation group" in look["reason"] and not look["beats"]
        assert verdict.sentence.endswith(look["reason"])
        assert look["gain"] > 0 and np.isnan(look["interval"]).all() and np.isnan(look["information"]["interval"]).all()


@pytest.mark.parametrize("num_groups", [3, 5])
def test_a_handful_of_groups_decides_where_they_agree(num_groups: int) -> None:
    candidates, validation, _ = classifiers(0, 300, (0, 0.3, 1.5))
    units, module = np.arange(300) % num_groups, measures_of(CLASSES)["accuracy"]
    advised, looks = decide(candidates, validation, "accuracy", module, seed=0, units=units)
    assert advised.name == "resnet" and "reason" not in looks[0]


@pytest.mark.parametrize("num_groups", [2, 3, 4])
def test_groups_that_differ_by_chance_seldom_make_a_winner(num_groups: int) -> None:
    """Two equal models, each better in some groups by luck: the more complex one wins in about one of forty."""
    won, module = 0, measures_of(NUMBER)["mae"]
    for seed in range(200):
        generator = np.random.default_rng(seed)
        units = np.repeat(np.arange(num_groups), 20)
        targets = np.zeros(len(units))
        made = [
            Candidate(name, rank, errors, errors, 0.0)
            for rank, name in enumerate(("one", "other"))
            for errors in [(5 + generator.normal(size=num_groups))[units] + generator.normal(size=len(units))]
        ]
        advised, _ = decide(made, targets, "mae", module, seed=seed, units=units)
        won += advised.name == "other"
    assert won <= 14


@pytest.mark.parametrize("metric", ["accuracy", "auc", "calibration"])
def test_one_test_group_allows_no_interval_and_the_sentence_says_so(metric: str) -> None:
    candidates, validation, test = classifiers(0, 300, (0, 0.3, 1.5))
    verdict = judge(candidates, validation, test, CLASSES, metric, seed=0, test_units=np.zeros(300, int))
    assert "the test rows are one group, which allows no interval" in verdict.sentence
    assert np.isnan([*verdict.difference["interval"], verdict.difference["p"]]).all()
    assert all(np.isnan(scores["interval"]).all() for scores in verdict.test.values())
    assert "undefined" not in verdict.sentence
