"""The training keys of classes and numbers, through a whole fit: weights, focus, heads with measured intervals."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import prediction
from fathom.candidates import Fold
from fathom.data import Task
from fathom.evaluate import conformal, coverage, interval
from fathom.recipe import TrainRecipe, from_mapping

from .conftest import people, write_csv

QUICK = {
    "train__epochs": 3, "train__precision": "fp32", "threads": 1, "explain_rows": 0, "quiet": True,
    "model__name": "mlp", "model__options": {"width": 16, "members": 2, "bins": 4},
}  # fmt: skip


def contest(targets: list[int], wanted: Any) -> Any:
    """As much of a contest as class weights look at: the last row does not train."""
    fold = Fold(np.arange(len(targets) - 1), np.array([len(targets) - 1]))
    return types.SimpleNamespace(
        recipe=types.SimpleNamespace(train=TrainRecipe(class_weights=wanted)),
        task=Task("classify", "y", ("a", "b", "c")),
        targets=np.array(targets),
        divided=types.SimpleNamespace(folds=(fold,)),
    )


def test_balanced_weights_give_every_class_the_same_say() -> None:
    targets = [0] * 6 + [1] * 3 + [2] * 1 + [2]
    weights = prediction.class_weights(contest(targets, "balanced"), 0)
    assert weights is not None
    np.testing.assert_allclose(np.array(weights) * [6, 3, 1], 10 / 3)


def test_given_weights_are_scaled_to_one_on_average_over_training_rows() -> None:
    targets = [0] * 6 + [1] * 3 + [2] * 1 + [2]
    weights = prediction.class_weights(contest(targets, {"c": 5.0, "b": 2}), 0)
    assert weights is not None
    np.testing.assert_allclose(np.array(weights) / weights[0], [1, 2, 5])
    assert np.dot(weights, [6, 3, 1]) == pytest.approx(10)
    assert prediction.class_weights(contest(targets, None), 0) is None


@pytest.mark.parametrize(
    ("train", "found"),
    [
        ({"class_weights": "even"}, "expected balanced"),
        ({"class_weights": {"yes": 0}}, "'yes' is 0; expected a number above 0"),
        ({"class_weights": {"yes": "two"}}, "'two'"),
        ({"focal": -1}, "train.focal is -1"),
        ({"mixup": -0.1}, "train.mixup"),
        ({"head": "quantiles"}, "Did you mean 'quantile'"),
        ({"head": "gaussian", "huber": 1.0}, "has a loss of its own"),
    ],
    ids=str,
)
def test_impossible_training_keys_are_refused(train: dict[str, Any], found: str) -> None:
    with pytest.raises(fathom.UserError, match=found):
        from_mapping({"train": train})


NUMBERS = {"numbers": {"form": "numbers"}}
PICTURE = {"photo": {"form": "pixels"}}
TEXT = {"said": {"form": "tokens"}}


@pytest.mark.parametrize(
    ("key", "value", "kind", "about", "says"),
    [
        ("train.huber", 1.0, "classify", NUMBERS, "train.huber is for numbers; the task here is 'classify'"),
        ("train.huber", 1.0, "translate", TEXT, "train.huber is for numbers"),
        ("train.label_smoothing", 0.1, "regress", NUMBERS, "is for classes or a language or translation or pictures"),
        ("train.augment", {"shift": 0.1}, "classify", NUMBERS, "train.augment changes pictures; .* here are numbers"),
        ("train.views", 1, "regress", TEXT, "train.views is for pictures alone; the inputs here are tokens"),
        ("train.views", 1, "classify", NUMBERS | PICTURE, "the inputs here are numbers, pixels"),
        ("text.unit", "bytes", "translate", TEXT, "text.unit is for a language; the task here is 'translate'"),
        ("text.context", 64, "classify", TEXT, "text.context is for a language"),
        ("text.masked", 0.15, "classify", TEXT, "text.masked is for a language"),
        ("text.vocabulary", 900, "classify", TEXT, "text.vocabulary is for a language or translation or pictures"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_keys_that_mean_nothing_here_are_refused(
    key: str, value: Any, kind: Any, about: dict[str, Any], says: str
) -> None:
    group, name = key.split(".")
    with pytest.raises(fathom.UserError, match=says):
        prediction.refuse_unfit(from_mapping({group: {name: value}}), Task(kind, "y"), about)


@pytest.mark.parametrize("kind", ["classify", "regress", "language", "translate", "pair"])
def test_keys_that_ask_for_nothing_are_taken_everywhere(kind: Any) -> None:
    train = {"huber": 0.0, "label_smoothing": 0.0, "mixup": 0.0, "focal": 0.0, "augment": {}, "views": 0}
    prediction.refuse_unfit(from_mapping({"train": train | {"head": "number"}}), Task(kind, "y"), TEXT)


def test_keys_are_taken_where_they_mean_something() -> None:
    given = {"train": {"augment": {"shift": 0.1}, "label_smoothing": 0.1}, "text": {"vocabulary": 900}}
    prediction.refuse_unfit(from_mapping(given), Task("pair", "said"), PICTURE | TEXT)
    prediction.refuse_unfit(from_mapping({"train": {"views": 1}}), Task("classify", "y"), PICTURE)
    text = {"unit": "bytes", "context": 64, "masked": 0.15}
    prediction.refuse_unfit(from_mapping({"text": text}), Task("language", "said"), {"said": {"form": "stream"}})


def test_a_margin_makes_a_models_own_intervals_honest() -> None:
    """Ends that are too close (or too far) hold 90 % of new rows all the same, and stay as uneven as they were."""
    shares, generator = [], np.random.default_rng(0)
    for boldness in (0.3, 3.0):
        spread = generator.uniform(0.5, 3.0, size=9000)
        targets = spread * generator.normal(size=9000)
        ends = boldness * np.stack([-spread, spread], axis=1)
        spec = conformal(np.zeros(4000), targets[:4000], ends=ends[:4000])
        assert (spec["margin"] > 0) == (boldness < 1)
        low, high = interval(np.zeros(5000), spec, ends[4000:])
        shares.append(coverage(low, high, targets[4000:])["value"])
        assert np.ptp(high - low) == pytest.approx(np.ptp(ends[4000:, 1] - ends[4000:, 0]), rel=0.3)
    np.testing.assert_allclose(shares, 0.9, atol=0.02)


def test_the_margin_is_the_rank_of_the_paper() -> None:
    """Romano et al. 2019, eq. 8: of 20 rows the ⌈21 · 0.9⌉th smallest distance; fewer rows promise less."""
    targets = np.arange(1.0, 21.0)
    assert conformal(np.zeros(20), targets, ends=np.zeros((20, 2))) == {"level": 0.9, "margin": 19.0, "rows": 20}
    few = conformal(np.zeros(4), targets[:4], ends=np.zeros((4, 2)))
    assert (few["margin"], few["level"]) == (4.0, 0.8)


def test_an_interval_that_is_turned_inside_out_still_holds_its_number() -> None:
    low, high = interval(np.array([1.0]), {"margin": -5.0}, np.array([[0.0, 2.0]]))
    assert low[0] <= 1.0 <= high[0]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("head", ["quantile", "gaussian"])
@pytest.mark.parametrize("folds", [1, 2])
def test_a_head_with_intervals_goes_the_whole_way(tmp_path: Path, head: str, folds: int) -> None:
    data = write_csv(tmp_path / "people.csv", people(200), without=("rich",))
    given = {"target": "wealth", "baselines": {"linear": {}}, "split__folds": folds, "train__head": head}
    run = fathom.fit(data, out=tmp_path / "run", **QUICK, **given)
    metrics, kept = run.metrics, run.folder.read_table("predictions.parquet")
    assert "margin" in metrics["validation"]["mlp"]["conformal"]
    assert "margin" not in metrics["validation"]["linear"]["conformal"]
    inside = (kept["truth"] >= kept["mlp:low"]) & (kept["truth"] <= kept["mlp:high"])
    assert metrics["test"]["mlp"]["coverage"]["value"] == pytest.approx(inside.mean())
    assert np.ptp(kept["mlp:high"] - kept["mlp:low"]) > 0
    found = run.predict([people(200)[row] for row in kept["row"]], candidate="mlp")
    for name, values in (("mlp", found.values), ("mlp:low", found.low), ("mlp:high", found.high)):
        np.testing.assert_allclose(values, kept[name], rtol=1e-4)
    told = run.evaluate(data, candidate="mlp")["coverage"]
    assert told["level"] == 0.9
    assert told["value"] == pytest.approx(0.9, abs=0.08)
    again = fathom.fit(recipe=run.path / "recipe.yaml", out=tmp_path / "again", quiet=True)
    rows = [one.folder.read_rows("metrics.csv") for one in (run, again)]
    assert [row["validate_loss"] for row in rows[0]] == [row["validate_loss"] for row in rows[1]]


@pytest.mark.usefixtures("patient")
def test_weights_turn_a_network_towards_the_rare_class(tmp_path: Path) -> None:
    rows = [row for number, row in enumerate(people(400)) if row["rich"] == "no" or number % 6 == 0]
    data = write_csv(tmp_path / "people.csv", rows, without=("wealth",))
    given = {"target": "rich", "baselines": {}, "split__folds": 1}
    given |= QUICK | {"train__epochs": 15}
    shares = []
    for name, weights in (("plain", None), ("balanced", "balanced"), ("more", {"yes": 50.0})):
        run = fathom.fit(data, out=tmp_path / name, train__class_weights=weights, **given)
        shares.append(float(run.predict_proba(data)[:, 1].mean()))
    assert shares[0] < shares[1] < shares[2]
    with pytest.raises(fathom.UserError, match="class_weights has no class 'yess'. Did you mean 'yes'"):
        fathom.fit(data, out=tmp_path / "no", train__class_weights={"yess": 2.0}, **given)


@pytest.mark.usefixtures("patient")
def test_focus_changes_training_and_not_what_chooses_the_weights(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "people.csv", people(200), without=("wealth",))
    given = {"target": "rich", "baselines": {}, "split__folds": 1, "train__focal": 2.0}
    run = fathom.fit(data, out=tmp_path / "run", **QUICK, **given)
    best = min(float(row["validate_loss"]) for row in run.folder.read_rows("metrics.csv"))
    assert best == pytest.approx(run.metrics["validation"]["mlp"]["log_loss"], rel=1e-6)
    with pytest.raises(fathom.UserError, match="train.head is for numbers"):
        fathom.fit(data, out=tmp_path / "no", train__head="gaussian", **QUICK, **given)
