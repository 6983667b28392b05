"""What every field of the room promises. A new file in fields/ is tested here as soon as it has a line in SAMPLES."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fathom import rooms
from fathom.data import Guess, Ragged

FORMS = {"numbers": np.float32, "categories": np.int32, "pixels": np.uint8}
ROWS = 240


def objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def numbers(rng: np.random.Generator) -> np.ndarray:
    return objects([None if x < 0.1 else f"{100 * x:.2f}" for x in rng.random(ROWS)])


def categories(rng: np.random.Generator) -> np.ndarray:
    return objects([None if i == 5 else f"kind {i}" for i in rng.integers(0, 6, ROWS)])


def texts(rng: np.random.Generator) -> np.ndarray:
    words = np.asarray(
        ["the", "a", "good", "bad", "film", "was", "very", "not", "funny", "slow", "and", "we", "liked", "it"]
    )
    return objects(["" if n == 3 else " ".join(rng.choice(words, n)) for n in rng.integers(3, 12, ROWS)])


def moments(rng: np.random.Generator) -> np.ndarray:
    days = np.datetime64("2011-01-01T00:00") + rng.integers(0, 800_000, ROWS).astype("timedelta64[m]")
    return objects([None if i % 17 == 0 else str(day).replace("T", " ") for i, day in enumerate(days)])


def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (ROWS, 12, 10, 3), dtype=np.uint8)


def prose(rng: np.random.Generator) -> np.ndarray:
    words = np.asarray(["To be,", "or not", "to be:\n", " that is", "the question", "  Whether", "'tis nobler", "ü"])
    return objects(["" if n == 1 else "".join(rng.choice(words, n)) for n in rng.integers(1, 30, ROWS)])


# Never guessed: a task asks for them.
ASKED_FOR = {"plain_text"}
SAMPLES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "number": numbers,
    "category": categories,
    "text": texts,
    "datetime": moments,
    "image": pixels,
    "plain_text": prose,
}


@pytest.fixture(params=rooms.names("fields"))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def field(kind: str) -> Any:
    return rooms.find("fields", kind)


@pytest.fixture
def values(kind: str) -> np.ndarray:
    assert kind in SAMPLES, f"fields/{kind}.py is new: give it sample values in SAMPLES of this test."
    return SAMPLES[kind](np.random.default_rng(0))


def rows_of(encoded: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    return {form: array.take(rows) if isinstance(array, Ragged) else array[rows] for form, array in encoded.items()}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for form in one:
        pairs = zip(one[form], other[form]) if isinstance(one[form], Ragged) else [(one[form], other[form])]
        for a, b in pairs:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_knows_its_own_values_and_says_why(field: Any, values: np.ndarray) -> None:
    guess = field.sniff("column", values)
    if field.__name__.rpartition(".")[2] in ASKED_FOR:
        assert guess is None
        return
    assert isinstance(guess, Guess)
    assert 0.5 < guess.sure <= 1
    assert len(guess.why) > 5


def test_leaves_the_other_fields_their_values(kind: str, field: Any) -> None:
    for other, make in SAMPLES.items():
        theirs = make(np.random.default_rng(1))
        own = rooms.find("fields", other).sniff("column", theirs)
        guess = field.sniff("column", theirs)
        if other != kind and other not in ASKED_FOR:
            assert guess is None or guess.sure < own.sure


def test_everything_but_values_is_an_option(field: Any) -> None:
    for parameter in list(inspect.signature(field.fit).parameters.values())[1:]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


def test_spec_is_json_and_encodes_the_same_after_a_round_trip(kind: str, field: Any, values: np.ndarray) -> None:
    spec = field.fit(values)
    assert spec["kind"] == kind
    again = json.loads(json.dumps(spec, allow_nan=False))
    assert again == spec
    assert_same(field.encode(values, again), field.encode(values, spec))


def test_fit_depends_on_the_training_rows_alone(field: Any, values: np.ndarray) -> None:
    """Whatever the other rows hold, and whatever was fitted and encoded before, training rows give one spec."""
    rng = np.random.default_rng(2)
    train = np.sort(rng.permutation(ROWS)[:160])
    alone = json.dumps(field.fit(values[train]))
    other_rows = np.setdiff1d(np.arange(ROWS), train)
    for change in (values[::-1], np.roll(values, 7, axis=0), np.repeat(values[:1], ROWS, axis=0)):
        changed = values.copy()
        changed[other_rows] = change[other_rows]
        field.encode(changed, field.fit(changed))
        field.sniff("column", changed)
        assert json.dumps(field.fit(changed[train])) == alone


def test_rows_are_encoded_independently_of_each_other(field: Any, values: np.ndarray) -> None:
    spec = field.fit(values[:160])
    whole = field.encode(values, spec)
    for rows in (np.arange(160, ROWS), np.asarray([3]), np.arange(ROWS)[::-1]):
        assert_same(field.encode(values[rows], spec), rows_of(whole, rows))


def test_forms_have_their_types_and_shapes(field: Any, values: np.ndarray) -> None:
    spec = field.fit(values)
    encoded, about = field.encode(values, spec), field.describe(spec)
    for form, array in encoded.items():
        if form in FORMS:
            assert array.dtype == FORMS[form]
            assert len(array) == ROWS
            assert form in about
    if "numbers" in about:
        check_numbers(about["numbers"], encoded["numbers"])
    if "categories" in about:
        assert encoded["categories"].shape == (ROWS, len(about["categories"]["sizes"]))
        assert (encoded["categories"] >= 0).all()
        assert (encoded["categories"].max(axis=0) < about["categories"]["sizes"]).all()
    if "tokens" in about:
        check_tokens(about["tokens"], encoded)
    if "stream" in about:
        check_stream(about["stream"], encoded["stream"])
    if "pixels" in about:
        of = about["pixels"]
        assert encoded["pixels"].shape == (ROWS, of["height"], of["width"], of["channels"])
        assert len(of["mean"]) == len(of["std"]) == of["channels"]
        assert of["mirror"] in (True, False)
        assert of["why_mirror"]


def check_numbers(about: dict[str, Any], array: np.ndarray) -> None:
    assert array.shape == (ROWS, len(about["names"]))
    np.testing.assert_allclose(np.nanmean(array.astype(float), axis=0), about["mean"], rtol=1e-4, atol=1e-5)
    assert all(deviation > 0 for deviation in about["std"])
    for edges in about["quantiles"]:
        assert len(edges) <= 49
        assert edges == sorted(set(edges))


def check_tokens(about: dict[str, Any], encoded: dict[str, Any]) -> None:
    tokens = encoded["tokens"]
    lengths = np.diff(tokens.starts)
    assert tokens.values.dtype == np.int32
    assert len(lengths) == ROWS
    assert tokens.values.min() >= 1
    assert tokens.values.max() < about["vocabulary"]
    assert lengths.min() >= 1
    assert lengths.max() <= about["length"]
    assert all(isinstance(word, str) for word in encoded["words"])


def check_stream(about: dict[str, Any], stream: Ragged) -> None:
    assert stream.values.dtype == np.int32
    assert len(stream.starts) == ROWS + 1
    assert stream.values.min() >= 1
    assert stream.values.max() < about["vocabulary"]
    assert about["length"] > 1
    assert about["continues"] in (True, False)


def test_decode_gives_one_value_a_row_that_encodes_the_same(field: Any, values: np.ndarray) -> None:
    spec = field.fit(values)
    encoded = field.encode(values, spec)
    decoded = field.decode(encoded, spec)
    assert len(decoded) == ROWS
    again = field.encode(decoded, spec)
    for form in set(encoded) - {"words"}:
        for a, b in (
            zip(encoded[form], again[form]) if isinstance(encoded[form], Ragged) else [(encoded[form], again[form])]
        ):
            np.testing.assert_allclose(a, b, atol=2e-3)


def test_healthy_values_are_not_broken(field: Any, values: np.ndarray) -> None:
    assert field.broken(values) == {}


def test_missing_values_are_encoded(kind: str, field: Any, values: np.ndarray) -> None:
    spec = field.fit(values)
    encoded = field.encode(objects([None, float("nan"), ""]), spec)
    if "numbers" in encoded:
        assert np.isnan(encoded["numbers"]).all()
    if "categories" in encoded:
        assert (encoded["categories"] == 0).all()
    if "tokens" in encoded:
        assert encoded["tokens"].values.tolist() == [1, 1, 1]
    if "stream" in encoded:
        assert encoded["stream"].values.tolist() == [1, 1, 1]  # borders, and nothing between them
    if "pixels" in encoded:
        assert (encoded["pixels"] == encoded["pixels"][0, 0, 0]).all()


def test_no_rows_are_encoded_as_no_rows(field: Any, values: np.ndarray) -> None:
    for array in field.encode(values[:0], field.fit(values)).values():
        assert len(array.starts if isinstance(array, Ragged) else array) == isinstance(array, Ragged)


def test_fields_do_not_import_torch() -> None:
    code = "import sys; from fathom import rooms; rooms.every('fields'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
