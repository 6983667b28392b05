"""TF-IDF with a linear model: what it may see, that it comes back from disk unchanged, and that it keeps its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.baselines import tfidf
from fathom.data import Examples, Task
from fathom.errors import UserError

BINARY = Task("classify", "mood", ("bad", "good"))
THREE = Task("classify", "mood", ("bad", "good", "odd"))
NUMBER = Task("regress", "stars")
GOOD, BAD, NEUTRAL = ["lovely", "great", "fun"], ["awful", "dull", "poor"], ["film", "story", "actors", "scene", "end"]


def reviews(rows: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows)
    texts = [" ".join([*random.choice(NEUTRAL, 4), random.choice(GOOD if good else BAD)]) + " ." for good in labels]
    return np.array(texts, object), labels


def examples(words: dict[str, np.ndarray], **beside: Any) -> Examples:
    num_rows = len(next(iter(words.values())))
    about: dict[str, dict[str, Any]] = {name: {"form": "tokens", "vocabulary": 9, "length": 9} for name in words}
    inputs = {}
    if "numbers" in beside:
        inputs["numbers"] = beside["numbers"].astype(np.float32)
        width = inputs["numbers"].shape[1]
        about["numbers"] = {"form": "numbers", "names": ["x"] * width, "mean": [0.0] * width, "std": [1.0] * width}
    if "categories" in beside:
        inputs["categories"] = beside["categories"].astype(np.int32)
        about["categories"] = {"form": "categories", "names": ["c"], "sizes": [int(inputs["categories"].max()) + 1]}
    return Examples(inputs, about, words, num_rows)


def parts(rows: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.arange(rows)
    return order[: rows // 2], order[rows // 2 : 3 * rows // 4], order[3 * rows // 4 :]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_tells_good_from_bad() -> None:
    texts, labels = reviews()
    train, validate, test = parts()
    fitted = tfidf.fit(examples({"review": texts}), labels, train, validate, BINARY)
    predicted = fitted.predict(examples({"review": texts}))
    assert predicted.shape == (200, 2)
    assert predicted.dtype == np.float64
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert np.mean(predicted[test].argmax(axis=1) == labels[test]) == 1
    assert "words and pairs" in fitted.describe()


def test_loaded_predicts_the_same_bits_and_no_pickle_is_written(tmp_path: Path) -> None:
    texts, labels = reviews()
    train, validate, _ = parts()
    random = np.random.default_rng(1)
    rows = examples(
        {"title": texts, "body": texts[::-1]},
        numbers=random.normal(size=(200, 2)),
        categories=random.integers(0, 3, (200, 1)),
    )
    fitted = tfidf.fit(rows, labels, train, validate, THREE)
    fitted.save(tmp_path / "tfidf")
    loaded = tfidf.load(tmp_path / "tfidf")
    np.testing.assert_array_equal(loaded.predict(rows), fitted.predict(rows))
    assert loaded.settings == fitted.settings
    assert loaded.describe() == fitted.describe()
    assert sorted(files(tmp_path / "tfidf")) == ["tfidf.json", "tfidf.safetensors"]


@pytest.mark.parametrize("task", [BINARY, NUMBER])
def test_settings_given_back_make_the_same_files(task: Task, tmp_path: Path) -> None:
    texts, labels = reviews()
    train, validate, _ = parts()
    targets = labels if task.kind == "classify" else labels * 3.5 + 1
    first = tfidf.fit(examples({"t": texts}), targets, train, validate, task, seconds=30, seed=4)
    assert set(first.settings) == {"C", "characters", "rows", "features", "steps"}
    again = tfidf.fit(examples({"t": texts}), targets, train, validate, task, seed=4, **first.settings)
    first.save(tmp_path / "first")
    again.save(tmp_path / "again")
    assert files(tmp_path / "first") == files(tmp_path / "again")


def test_only_training_rows_teach_words() -> None:
    texts, labels = reviews()
    train, validate, test = parts()
    texts[validate[0]] += " zebra"
    texts[test[0]] += " quagga"
    fitted = tfidf.fit(examples({"t": texts}), labels, train, validate, BINARY, C=1.0)
    known = set(fitted.bags.bags["t", "words"].vocabulary_)
    assert known & {"lovely", "awful"}
    assert not known & {"zebra", "quagga"}
    labels[test] = 1 - labels[test]
    other = tfidf.fit(examples({"t": texts}), labels, train, validate, BINARY, C=1.0)
    np.testing.assert_array_equal(other.linear.weights, fitted.linear.weights)


def test_strength_is_chosen_on_validation_rows() -> None:
    """Where the validation labels are noise, strong weights cost much and the smallest strength wins."""
    texts, labels = reviews()
    train, validate, _ = parts()
    noisy = labels.copy()
    noisy[validate] = np.random.default_rng(5).integers(0, 2, len(validate))
    clean = tfidf.fit(examples({"t": texts}), labels, train, validate, BINARY).settings["C"]
    assert tfidf.fit(examples({"t": texts}), noisy, train, validate, BINARY).settings["C"] == min(tfidf.STRENGTHS)
    assert clean > min(tfidf.STRENGTHS)


def test_a_word_in_the_title_is_not_the_word_in_the_body() -> None:
    """The body says the opposite of the title: together the words of a row never differ."""
    labels = reviews()[1]
    said = np.array(["an awful story", "a lovely story"], object)
    train, validate, test = parts()
    rows = examples({"title": said[labels], "body": said[1 - labels]})
    predicted = tfidf.fit(rows, labels, train, validate, BINARY).predict(rows)
    assert np.mean(predicted[test].argmax(axis=1) == labels[test]) == 1


@pytest.mark.parametrize("form", ["numbers", "categories"])
def test_numbers_and_categories_stand_beside(form: str) -> None:
    """Labels that no word tells are learned from the column beside."""
    texts, labels = reviews()
    labels = np.random.default_rng(3).permutation(labels)
    column = labels[:, None] * 2.0 - 1 if form == "numbers" else labels[:, None] + 1
    rows = examples({"t": texts}, **{form: column})
    train, validate, test = parts()
    predicted = tfidf.fit(rows, labels, train, validate, BINARY).predict(rows)
    assert np.mean(predicted[test].argmax(axis=1) == labels[test]) == 1


def test_missing_texts_and_numbers_are_answered() -> None:
    texts, labels = reviews()
    texts[[3, 150]] = None
    numbers = np.random.default_rng(0).normal(size=(200, 1))
    numbers[[4, 151]] = np.nan
    train, validate, _ = parts()
    rows = examples({"t": texts}, numbers=numbers)
    assert np.isfinite(tfidf.fit(rows, labels, train, validate, BINARY).predict(rows)).all()


def test_numbers_are_predicted_in_their_own_unit() -> None:
    texts, labels = reviews()
    stars = 1000.0 + 400 * labels
    train, validate, test = parts()
    fitted = tfidf.fit(examples({"t": texts}), stars, train, validate, NUMBER)
    predicted = fitted.predict(examples({"t": texts}))
    assert predicted.shape == (200,)
    assert np.sqrt(np.mean((predicted[test] - stars[test]) ** 2)) < 60


def test_class_without_training_rows_gets_no_probability() -> None:
    texts, labels = reviews()
    train, validate, _ = parts()
    predicted = tfidf.fit(examples({"t": texts}), labels * 2, train, validate, THREE).predict(examples({"t": texts}))
    assert predicted.shape == (200, 3)
    assert (predicted[:, 1] == 0).all()


def test_rare_class_survives_when_rows_are_thinned() -> None:
    texts, labels = reviews(400)
    train = np.arange(300)
    labels[train] = 0
    labels[7] = 1
    fitted = tfidf.fit(examples({"t": texts}), labels, train, np.arange(300, 400), BINARY, rows=20, C=1.0)
    assert fitted.settings["rows"] == 20
    assert list(fitted.linear.classes) == [0, 1]


def test_time_is_kept_by_leaving_out_characters_and_rows() -> None:
    random = np.random.default_rng(0)
    vocabulary = np.array([f"word{i}" for i in range(3000)], object)
    texts = np.array([" ".join(random.choice(vocabulary, 60)) for _ in range(6000)], object)
    labels = random.integers(0, 2, 6000)
    fitted = tfidf.fit(examples({"t": texts}), labels, np.arange(5000), np.arange(5000, 6000), BINARY, seconds=1.0)
    assert fitted.settings["characters"] is False
    assert fitted.settings["rows"] < 5000


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (np.array(["", None, " "] * 20, object), np.arange(60) % 2, "not one word in 't'"),
        (reviews(60)[0], np.zeros(60, int), "one class of 'mood'"),
    ],
)
def test_nothing_to_learn_is_said(texts: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tfidf.fit(examples({"t": texts}), labels, np.arange(40), np.arange(40, 60), BINARY)


def test_claims_only_texts() -> None:
    assert tfidf.claims({"t": {"form": "tokens"}}, BINARY) == "a text"
    text, picture = {"form": "tokens"}, {"form": "pixels"}
    assert tfidf.claims({"title": text, "body": text, "photo": picture}, BINARY) == "2 texts"
    assert tfidf.claims({"numbers": {"form": "numbers"}}, BINARY) is None
