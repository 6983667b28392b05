"""What every measure must hold, and what scikit-learn says of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn import metrics

from fathom.rooms import every

MEASURES = every("measures")


def labelled(seed: int, num_rows: int, num_classes: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(num_classes, size=num_rows)
    logits = generator.normal(size=(num_rows, num_classes))
    logits[np.arange(num_rows), targets] += 1
    predictions = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if ties:
        predictions = np.round(predictions, 1) + 0.01
        predictions /= predictions.sum(axis=1, keepdims=True)
    return predictions, targets


def numbers(seed: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.lognormal(size=num_rows)
    return targets + generator.normal(size=num_rows), targets


def language(seed: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(1, 60, size=num_rows)
    sizes = np.column_stack([tokens, tokens + generator.integers(60, size=num_rows)]).astype(np.float64)
    return -tokens * generator.lognormal(0.5, 0.3, size=num_rows), sizes


def translations(seed: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences of 4 to 12 words, and references that differ from them in some."""
    generator = np.random.default_rng(seed)
    words = np.array(["ein", "Mann", "sitzt", "auf", "der", "Bank", ",", "und", "eine", "Frau", "liest", "3,5", "."])
    given = [generator.choice(words, size) for size in generator.integers(4, 13, size=num_rows)]
    wanted = [np.where(generator.random(len(row)) < 0.2, generator.choice(words, len(row)), row) for row in given]
    return objects(map(" ".join, given)), objects(map(" ".join, wanted))


def ranks(seed: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Most first, a few far behind."""
    generator = np.random.default_rng(seed)
    return generator.geometric(0.15, size=(num_rows, 2)).astype(np.float64), objects(map(str, range(num_rows)))


def objects(texts: Iterable[str]) -> np.ndarray:
    listed = list(texts)
    found = np.empty(len(listed), object)
    found[:] = listed
    return found


class Kind(NamedTuple):
    """What the measures of a task are tried on."""

    example: Callable[[int, int], tuple[np.ndarray, np.ndarray]]  # seed, rows → predictions, targets
    perfect: Callable[[np.ndarray], np.ndarray]  # targets → predictions that leave nothing to be wished
    monotonous: Callable[[np.ndarray], np.ndarray]  # targets → targets that are all the same
    undefined: tuple[str, ...] = ()  # measures that such targets leave without a value


KINDS = {
    "classify": Kind(lambda seed, rows: labelled(seed, rows, 3), lambda y: np.eye(3)[y], np.zeros_like, ("auc",)),
    "regress": Kind(numbers, lambda y: y, np.zeros_like, ("r2",)),
    "language": Kind(language, lambda y: np.zeros(len(y)), np.zeros_like,
                     ("cross_entropy", "perplexity", "bits_per_byte")),
    "translate": Kind(translations, lambda y: y, lambda y: objects(["Ein Mann sitzt auf der Bank."] * len(y))),
    "pair": Kind(ranks, lambda y: np.ones((len(y), 2)), lambda y: objects(["a cat"] * len(y))),
}  # fmt: skip


def example(module: ModuleType, seed: int = 0, num_rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    return KINDS[module.TASK].example(seed, num_rows)


def perfect(module: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    _, targets = example(module)
    return KINDS[module.TASK].perfect(targets), targets


@pytest.mark.parametrize("name", MEASURES)
def test_says_what_it_is(name: str) -> None:
    module = MEASURES[name]
    assert module.TASK in KINDS
    assert module.UNIT in ("%", "target", "score", "")
    assert isinstance(module.HIGHER_IS_BETTER, bool)
    assert module.LABEL
    assert module.RANGE[0] < module.RANGE[1]


@pytest.mark.parametrize("name", MEASURES)
def test_is_a_number_in_its_range_and_best_when_perfect(name: str) -> None:
    module = MEASURES[name]
    value, best = module.measure(*example(module)), module.measure(*perfect(module))
    assert isinstance(value, float)
    assert module.RANGE[0] <= value <= module.RANGE[1]
    assert best == pytest.approx(module.RANGE[1] if module.HIGHER_IS_BETTER else module.RANGE[0], abs=1e-9)
    assert (value < best) == module.HIGHER_IS_BETTER


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("num_rows", [1, 7, 200])
def test_rows_average_to_the_measure(name: str, num_rows: int) -> None:
    module = MEASURES[name]
    predictions, targets = example(module, 1, num_rows)
    rows = module.per_row(predictions, targets)
    if rows is not None:
        assert rows.shape == (num_rows,)
        made = getattr(module, "FROM_MEAN", lambda mean: mean)(rows.mean())
        assert made == pytest.approx(module.measure(predictions, targets), nan_ok=True)


@pytest.mark.parametrize("name", MEASURES)
def test_rows_have_the_spread_of_the_measure(name: str) -> None:
    """Resampling the contributions must be as good as resampling the rows, also where they are a linearisation."""
    module = MEASURES[name]
    predictions, targets = example(module, 2, 600)
    rows = module.per_row(predictions, targets)
    if rows is None:
        return
    draws = [np.random.default_rng(i).integers(600, size=600) for i in range(400)]
    from_mean = getattr(module, "FROM_MEAN", lambda mean: mean)
    linear = np.std([from_mean(rows[draw].mean()) for draw in draws])
    whole = np.std([module.measure(predictions[draw], targets[draw]) for draw in draws])
    assert linear == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize("name", [name for name, module in MEASURES.items() if hasattr(module, "statistics")])
@pytest.mark.parametrize("num_rows", [1, 7, 200])
def test_sums_of_statistics_give_the_measure_of_any_rows(name: str, num_rows: int) -> None:
    module = MEASURES[name]
    predictions, targets = example(module, 1, num_rows)
    counts = module.statistics(predictions, targets)
    assert counts.dtype == np.float64
    assert counts.shape[0] == num_rows
    draws = np.random.default_rng(0).integers(num_rows, size=(3, 5, num_rows))
    found = module.from_statistics(counts[draws].sum(axis=2))
    assert found.shape == (3, 5)
    expected = [[module.measure(predictions[rows], targets[rows]) for rows in several] for several in draws]
    assert np.allclose(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", MEASURES)
def test_no_rows_one_row_and_one_class_raise_nothing(name: str) -> None:
    module = MEASURES[name]
    predictions, targets = example(module)
    assert math.isnan(module.measure(predictions[:0], targets[:0]))
    module.measure(predictions[:1], targets[:1])
    kind = KINDS[module.TASK]
    assert math.isnan(module.measure(predictions, kind.monotonous(targets))) == (name in kind.undefined)


@pytest.mark.parametrize("name", MEASURES)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    module = MEASURES[name]
    predictions, targets = example(module)
    order = np.random.default_rng(0).permutation(len(targets))
    assert module.measure(predictions[order], targets[order]) == pytest.approx(module.measure(predictions, targets))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_classes_agree_with_scikit_learn(seed: int, num_classes: int, ties: bool) -> None:
    predictions, targets = labelled(seed, 150, num_classes, ties=ties)
    chosen = predictions.argmax(axis=1)
    scores: Any = predictions[:, 1] if num_classes == 2 else predictions
    one_hot = np.eye(num_classes)[targets]
    expected = {
        "accuracy": metrics.accuracy_score(targets, chosen),
        "balanced_accuracy": metrics.balanced_accuracy_score(targets, chosen),
        "f1": metrics.f1_score(targets, chosen, average="macro"),
        "log_loss": metrics.log_loss(targets, predictions),
        "auc": metrics.roc_auc_score(targets, scores, multi_class="ovr", average="macro"),
        "brier": ((predictions - one_hot) ** 2).sum(axis=1).mean(),
    }
    for name, value in expected.items():
        assert MEASURES[name].measure(predictions, targets) == pytest.approx(value), name


def test_absent_and_unexpected_classes_agree_with_scikit_learn() -> None:
    """Class 2 has no rows, but is predicted once: macro F1 counts it, balanced accuracy does not."""
    predictions, targets = labelled(0, 60, 3)
    predictions, targets = predictions[targets < 2], targets[targets < 2]
    chosen = predictions.argmax(axis=1)
    assert 2 in chosen
    assert MEASURES["f1"].measure(predictions, targets) == pytest.approx(
        metrics.f1_score(targets, chosen, average="macro")
    )
    recalls = metrics.recall_score(targets, chosen, labels=[0, 1], average="macro")
    assert MEASURES["balanced_accuracy"].measure(predictions, targets) == pytest.approx(recalls)


@pytest.mark.parametrize("seed", range(4))
def test_numbers_agree_with_scikit_learn(seed: int) -> None:
    predictions, targets = numbers(seed, 150)
    expected = {
        "rmse": metrics.root_mean_squared_error(targets, predictions),
        "mae": metrics.mean_absolute_error(targets, predictions),
        "r2": metrics.r2_score(targets, predictions),
        "median_error": metrics.median_absolute_error(targets, predictions),
    }
    for name, value in expected.items():
        assert MEASURES[name].measure(predictions, targets) == pytest.approx(value), name


def test_a_sure_mistake_costs_much_but_not_infinitely() -> None:
    assert 30 < MEASURES["log_loss"].measure(np.array([[1.0, 0.0]]), np.array([1])) < 40


def test_calibration_is_near_zero_for_honest_probabilities_and_finds_false_ones() -> None:
    generator = np.random.default_rng(0)
    honest, false = [], []
    for _ in range(40):
        sure = generator.uniform(0.5, 1, size=300)
        targets = (generator.uniform(size=300) < sure).astype(np.int64)
        honest.append(MEASURES["calibration"].measure(np.column_stack([1 - sure, sure]), targets))
        claimed = np.minimum(sure + 0.2, 1 - 1e-9)
        actual = (generator.uniform(size=300) < claimed - 0.2).astype(np.int64)
        false.append(MEASURES["calibration"].measure(np.column_stack([1 - claimed, claimed]), actual))
    # The plain estimate with 15 bins of 20 rows would stand near 0.09.
    assert np.mean(honest) < 0.04
    assert np.mean(false) == pytest.approx(0.2, abs=0.02)
