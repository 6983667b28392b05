"""Importance finds what a known model looks at, and nothing else, for every form of input."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import numpy as np
import pytest

from fathom.data import Examples, Places, Ragged, Table, Task
from fathom.encode import encode as encode_table
from fathom.encode import fit_fields
from fathom.errors import UserError
from fathom.explain.permutation import importance, source_columns
from fathom.explain.words import words
from fathom.rooms import find

ACCURACY, RMSE = find("measures", "accuracy"), find("measures", "rmse")
TWO = Task("classify", "y", ("no", "yes"))


def table(rows: int = 800) -> tuple[Examples, np.ndarray]:
    """The class is the sign of 'age' plus a little of 'date: month'; 'sepal: length' and the categories are noise."""
    noise = np.random.default_rng(0)
    numbers = noise.standard_normal((rows, 5)).astype(np.float32)
    about = {
        "numbers": {
            "form": "numbers",
            "names": ["age", "sepal: length", "sepal: width", "date: month", "date: weekday"],
        },
        "categories": {"form": "categories", "names": ["job", "date: holiday"], "sizes": [3, 3]},
    }
    categories = noise.integers(3, size=(rows, 2)).astype(np.int32)
    targets = (numbers[:, 0] + 0.4 * numbers[:, 3] > 0).astype(np.int64)
    return Examples({"numbers": numbers, "categories": categories}, about, {}, rows), targets


def by_sign(examples: Examples) -> np.ndarray:
    numbers = examples.inputs["numbers"]
    assert isinstance(numbers, np.ndarray)
    yes = 1 / (1 + np.exp(-8.0 * (numbers[:, 0] + 0.4 * numbers[:, 3])))
    return np.stack([1 - yes, yes], axis=1)


COLUMNS = ("age", "sepal: length", "sepal: width", "date", "job")


def test_columns_that_matter_come_first_and_noise_is_zero() -> None:
    examples, targets = table()
    found = importance(by_sign, examples, targets, TWO, ACCURACY, columns=COLUMNS, seed=1)
    assert [entry["name"] for entry in found[:2]] == ["age", "date"]
    assert {entry["name"] for entry in found} == set(COLUMNS)
    for entry in found[:2]:
        assert 0 < entry["interval"][0] < entry["value"] < entry["interval"][1]
    for entry in found[2:]:
        assert entry["value"] == 0
    json.dumps(found)


def test_parts_of_a_date_go_together_and_names_alike_do_not() -> None:
    examples, _ = table()
    known = source_columns(examples, COLUMNS)
    assert [(p.name, p.columns) for p in known["date"]] == [("numbers", (3, 4)), ("categories", (1,))]
    assert [p.columns for p in known["sepal: length"]] == [(1,)]
    assert set(source_columns(examples)) == {"age", "sepal", "date", "job"}


def test_parts_of_a_column_of_dates_are_shuffled_together() -> None:
    days = np.datetime64("2020-01-01") + 7 * np.arange(200)
    columns = {"when": days, "when: sold": np.arange(200.0), "a.b": np.arange(200.0)}
    rows = Table("t", columns, Places.of_rows("t.csv", 200), "rows")
    specs = fit_fields(rows, {"when": "datetime", "when: sold": "number", "a.b": "number"}, dict.fromkeys(columns, ""),
                       np.arange(200))  # fmt: skip
    examples = encode_table(rows, specs)
    for known in (source_columns(examples, list(columns)), source_columns(examples)):
        assert len(known["when"][0].columns or ()) >= 4
        assert [len(part.columns or ()) for part in known["a.b"]] == [1]
    assert [len(part.columns or ()) for part in source_columns(examples, list(columns))["when: sold"]] == [1]


def test_a_worse_error_counts_as_importance_although_it_is_larger() -> None:
    examples, _ = table()
    numbers = examples.inputs["numbers"]
    assert isinstance(numbers, np.ndarray)
    targets = numbers[:, 0].astype(float)
    found = importance(
        lambda e: e.inputs["numbers"][:, 0].astype(float) + 0.1,  # type: ignore[index, call-overload]
        examples, targets, Task("regress", "y"), RMSE, columns=COLUMNS,
    )  # fmt: skip
    # Shuffling a unit normal leaves differences with a deviation of root two.
    assert found[0]["name"] == "age"
    assert found[0]["value"] == pytest.approx(np.sqrt(2) - 0.1, abs=0.1)
    assert found[0]["interval"][0] > 1


@pytest.mark.parametrize("name", ["calibration", "median_error"])
def test_measures_without_row_contributions_have_intervals_too(name: str) -> None:
    examples, targets = table(300)
    measure = find("measures", name)
    predict: Any = by_sign if measure.TASK == "classify" else lambda e: by_sign(e)[:, 1]
    task = TWO if measure.TASK == "classify" else Task("regress", "y")
    found = importance(predict, examples, targets, task, measure, columns=COLUMNS, repeats=2)
    assert all(np.isfinite([e["value"], *e["interval"]]).all() for e in found)


def test_the_same_seed_tells_the_same() -> None:
    examples, targets = table()
    told = [importance(by_sign, examples, targets, TWO, ACCURACY, columns=COLUMNS, seed=3, rows=400) for _ in range(2)]
    assert told[0] == told[1]
    assert told[0][0]["rows"] == 400


def test_nothing_that_was_given_is_changed() -> None:
    examples, targets = table()
    before = {name: np.array(values) for name, values in examples.inputs.items()}
    importance(by_sign, examples, targets, TWO, ACCURACY, columns=COLUMNS)
    for name, values in before.items():
        np.testing.assert_array_equal(examples.inputs[name], values)


def test_little_time_means_fewer_rows_and_repeats() -> None:
    examples, targets = table(2000)

    def slow(some: Examples) -> np.ndarray:
        time.sleep(len(some) * 1e-4)
        return by_sign(some)

    begun = time.monotonic()
    found = importance(slow, examples, targets, TWO, ACCURACY, columns=COLUMNS, seconds=0.4)
    assert time.monotonic() - begun < 2.0
    assert {entry["name"] for entry in found} == set(COLUMNS)
    assert found[0]["rows"] < 2000
    assert found[0]["name"] == "age"


def test_no_rows_are_refused() -> None:
    examples, targets = table(10)
    with pytest.raises(UserError, match="needs rows with targets"):
        importance(by_sign, examples.take(np.arange(0)), targets[:0], TWO, ACCURACY)


@pytest.mark.parametrize("seconds", [5.0, float("inf")])
def test_very_small_pictures_have_no_patches(seconds: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(200, 5, 4, 1)).astype(np.uint8)
    examples = Examples({"photo": pixels}, {"photo": {"form": "pixels"}}, {}, 200)
    half = np.full((200, 2), 0.5)
    (entry,) = importance(lambda e: half[: len(e)], examples, np.arange(200) % 2, TWO, ACCURACY, seconds=seconds)
    assert "grid" not in entry


def test_the_patch_that_a_model_looks_at_stands_out() -> None:
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, size=(200, 12, 24, 3)).astype(np.uint8)
    examples = Examples({"photo": pixels}, {"photo": {"form": "pixels"}}, {}, 200)

    def corner(some: Examples) -> np.ndarray:
        photo = some.inputs["photo"]
        assert isinstance(photo, np.ndarray)
        yes = 1 / (1 + np.exp(-(photo[:, :3, -3:].mean(axis=(1, 2, 3)) - 127) / 5))
        return np.stack([1 - yes, yes], axis=1)

    targets = corner(examples).argmax(axis=1)
    entry = importance(corner, examples, targets, TWO, ACCURACY)[0]
    grid = np.array(entry["grid"])
    assert grid.shape[1] == 2 * grid.shape[0], "patches are square where the picture is not"
    assert np.unravel_index(grid.argmax(), grid.shape) == (0, grid.shape[1] - 1)
    assert np.count_nonzero(grid) <= 4
    header, _, png = entry["average"].partition(",")
    assert header == "data:image/png;base64"
    from PIL import Image

    assert Image.open(io.BytesIO(base64.b64decode(png))).size == (24, 12)
    json.dumps(entry)


VOCABULARY = {word: i + 1 for i, word in enumerate(["the", "film", "is", "good", "bad", "long", "and"])}


def encode(column: str, texts: np.ndarray) -> Ragged:
    ids = [[VOCABULARY[w] for w in text.lower().replace("!", "").split()] for text in texts]
    return Ragged(np.array([i for one in ids for i in one], np.int32), np.cumsum([0] + [len(one) for one in ids]))


def reviews() -> tuple[Examples, np.ndarray]:
    texts = np.array(
        ["The film is good", "the film is BAD and long", "Good film!", "bad bad film", "the film is long"] * 8, object
    )
    about = {"review": {"form": "tokens", "vocabulary": 8, "length": 6}}
    return Examples({"review": encode("review", texts)}, about, {"review": texts}, 40), np.array([1, 0, 1, 0, 0] * 8)


def by_words(some: Examples) -> np.ndarray:
    tokens = some.inputs["review"]
    assert isinstance(tokens, Ragged)
    padded = tokens.padded(np.arange(len(some)), 10)
    score = (padded == VOCABULARY["good"]).any(axis=1) * 3.0 - (padded == VOCABULARY["bad"]).any(axis=1) * 2.0 - 0.5
    yes = 1 / (1 + np.exp(-score))
    return np.stack([1 - yes, yes], axis=1)


def test_words_pull_toward_the_class_they_speak_for() -> None:
    examples, targets = reviews()
    entry = importance(by_words, examples, targets, TWO, ACCURACY, encode=encode)[0]
    assert entry["name"] == "review"
    assert entry["value"] > 0
    told = {word["word"]: word for word in entry["words"]}
    assert [word["word"] for word in entry["words"][:2]] == ["good", "bad"]
    assert (told["good"]["toward"], told["bad"]["toward"]) == ("yes", "no")
    assert told["good"]["count"] == 16
    assert told["film"]["value"] == 0
    assert "grid" not in entry


def test_texts_read_as_tokens_need_an_encoder_for_words() -> None:
    examples, targets = reviews()
    assert "words" not in importance(by_words, examples, targets, TWO, ACCURACY)[0]


def test_texts_without_tokens_need_none() -> None:
    examples, targets = reviews()
    plain = Examples({}, {}, examples.words, 40)

    def predict(some: Examples) -> np.ndarray:
        return by_words(Examples({"review": encode("review", some.words["review"])}, {}, {}, len(some)))

    entry = importance(predict, plain, targets, TWO, ACCURACY)[0]
    assert entry["value"] > 0
    assert entry["words"][0]["word"] == "good"


def test_words_of_a_number_speak_for_higher_or_lower() -> None:
    examples, _ = reviews()
    score = lambda some: by_words(some)[:, 1] * 10  # noqa: E731
    told = words(score, examples, score(examples), Task("regress", "stars"), "review", encode, 5.0)
    assert {w["word"]: w["toward"] for w in told[:2]} == {"good": "higher", "bad": "lower"}


def test_without_a_limit_of_time_everything_is_done_and_nothing_depends_on_the_clock() -> None:
    examples, targets = reviews()
    told = [
        importance(by_words, examples, targets, TWO, ACCURACY, encode=encode, seconds=float("inf")) for _ in range(2)
    ]
    assert told[0] == told[1]
    assert told[0][0]["repeats"] == 5
    assert {word["word"] for word in told[0][0]["words"]} == set(VOCABULARY)
