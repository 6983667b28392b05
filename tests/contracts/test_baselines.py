"""What every baseline must hold. A new file in baselines/ is tested from the day it appears; there is no list."""

from __future__ import annotations

import inspect
import re
import shutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from fathom import rooms
from fathom.data import Examples, Ragged, Task
from fathom.errors import UserError

BASELINES = rooms.every("baselines")
ROWS = 400
WORDS = np.array(["the", "a", "film", "plot", "was", "is", "of", "and", "actor", "scene", "music", "very", "quite"])
MOODS = (
    np.array(["bad", "dull", "awful"]),
    np.array(["good", "bright", "lovely"]),
    np.array(["odd", "weird", "strange"]),
)


class Case(NamedTuple):
    examples: Examples
    targets: np.ndarray
    task: Task


def numbers_about(num_columns: int) -> dict[str, Any]:
    edges = np.linspace(-2, 2, 17).tolist()
    return {"form": "numbers", "names": [f"n{i}" for i in range(num_columns)], "mean": [0.0] * num_columns,
            "std": [1.0] * num_columns, "quantiles": [edges] * num_columns}  # fmt: skip


def task_of(num_classes: int) -> Task:
    return Task("classify", "y", tuple("abcdef"[:num_classes])) if num_classes else Task("regress", "y")


def targets_of(signal: np.ndarray, num_classes: int) -> np.ndarray:
    """Numbers that follow the signal, or classes of equal size along it."""
    if not num_classes:
        return 50 + 10 * signal
    return (np.argsort(np.argsort(signal)) * num_classes // len(signal)).astype(np.int64)


def numbers(num_classes: int, *, with_categories: bool) -> Case:
    generator = np.random.default_rng(num_classes)
    values = generator.normal(size=(ROWS, 4)).astype(np.float32)
    signal = values[:, 0] + 0.5 * values[:, 1]
    values[generator.random(values.shape) < 0.05] = np.nan
    inputs: dict[str, Any] = {"numbers": values}
    about = {"numbers": numbers_about(4)}
    if with_categories:
        codes = generator.integers(4, size=(ROWS, 2)).astype(np.int32)
        signal = signal + codes[:, 0]
        inputs["categories"] = codes
        about["categories"] = {"form": "categories", "names": ["c0", "c1"], "sizes": [4, 4]}
    return Case(Examples(inputs, about, {}, ROWS), targets_of(signal, num_classes), task_of(num_classes))


def only_categories(num_classes: int) -> Case:
    codes = np.random.default_rng(0).integers(5, size=(ROWS, 3)).astype(np.int32)
    about = {"categories": {"form": "categories", "names": ["c0", "c1", "c2"], "sizes": [5, 5, 5]}}
    signal = codes[:, 0] + 0.1 * codes[:, 1]
    return Case(Examples({"categories": codes}, about, {}, ROWS), targets_of(signal, num_classes), task_of(num_classes))


def text(num_classes: int, *, with_numbers: bool = False) -> Case:
    generator = np.random.default_rng(0)
    moods = np.arange(ROWS) % max(num_classes, 3)
    lines = [" ".join([*generator.choice(WORDS, 6), *generator.choice(MOODS[mood % 3], 2)]) for mood in moods]
    codes = {word: i + 1 for i, word in enumerate(sorted({w for line in lines for w in line.split()}))}
    tokens = [[codes[word] for word in line.split()] for line in lines]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in tokens])]).astype(np.int64)
    inputs: dict[str, Any] = {"review": Ragged(np.concatenate(tokens).astype(np.int32), starts)}
    about: dict[str, dict[str, Any]] = {"review": {"form": "tokens", "vocabulary": len(codes) + 1, "length": 8}}
    if with_numbers:
        values = generator.normal(size=(ROWS, 2)).astype(np.float32)
        inputs, about = {"numbers": values} | inputs, {"numbers": numbers_about(2)} | about
    targets = moods.astype(np.int64) if num_classes else 5.0 * moods
    return Case(Examples(inputs, about, {"review": np.array(lines, dtype=object)}, ROWS), targets, task_of(num_classes))


def pictures(num_classes: int, channels: int) -> Case:
    generator = np.random.default_rng(0)
    kinds = np.arange(ROWS) % max(num_classes, 3)
    pixels = generator.integers(60, size=(ROWS, 12, 12, channels))
    for row, kind in enumerate(kinds):
        pixels[row, 4 * (kind % 3) : 4 * (kind % 3) + 4] += 150
    about = {"picture": {"form": "pixels", "height": 12, "width": 12, "channels": channels, "mean": [0.3] * channels,
                         "std": [0.3] * channels, "mirror": True, "why_mirror": "made for a test"}}  # fmt: skip
    examples = Examples({"picture": pixels.astype(np.uint8)}, about, {}, ROWS)
    return Case(examples, kinds.astype(np.int64) if num_classes else 5.0 * kinds, task_of(num_classes))


def language(*, continues: bool) -> Case:
    """Each token follows the two before it, but for every fifth; documents end with the border, 1."""
    generator = np.random.default_rng(0)
    vocabulary, length = 12, 15
    follows = generator.integers(3, vocabulary, size=(vocabulary, vocabulary))
    rows = []
    for _ in range(ROWS):
        row = list(generator.integers(3, vocabulary, size=2))
        while len(row) < length:
            is_free = generator.random() < 0.2
            row.append(generator.integers(3, vocabulary) if is_free else follows[row[-2], row[-1]])
        rows.append(row if continues else [*row, 1])
    stream = Ragged(np.concatenate(rows).astype(np.int32), np.arange(ROWS + 1, dtype=np.int64) * len(rows[0]))
    about = {"text": {"form": "stream", "vocabulary": vocabulary, "length": 8, "continues": continues}}
    examples = Examples({"text": stream}, about, {"text": np.full(ROWS, "never read", object)}, ROWS)
    return Case(examples, np.full((ROWS, 2), len(rows[0]), np.float64), Task("language", "text"))


WHO = {"the man": "der Mann", "a woman": "eine Frau", "the children": "die Kinder", "my dog": "mein Hund"}
DOES = {"sees": "sieht", "hears": "hört", "looks for": "sucht", "paints": "malt"}
WHAT = {"a red house": "ein rotes Haus", "the sea": "das Meer", "two birds": "zwei Vögel", "nothing": "nichts"}
WHEN = {"today": "heute", "at night": "in der Nacht", "often": "oft", "in the rain": "im Regen"}


def translations() -> Case:
    """Sentences of four phrases, begun with a capital and ended with a full stop or an exclamation mark."""
    generator = np.random.default_rng(0)
    texts: tuple[list[str], list[str]] = ([], [])
    for _ in range(ROWS):
        phrases = [list(part.items())[generator.integers(len(part))] for part in (WHO, DOES, WHAT, WHEN)]
        end = ".!"[generator.integers(2)]
        for side, lines in enumerate(texts):
            line = " ".join(phrase[side] for phrase in phrases) + end
            lines.append(line[0].upper() + line[1:])
    about: dict[str, dict[str, Any]] = {"en": {"form": "tokens", "vocabulary": 3, "length": 4}}
    tokens = Ragged(np.full(2 * ROWS, 2, np.int32), np.arange(ROWS + 1, dtype=np.int64) * 2)
    source, target = (np.array(lines, dtype=object) for lines in texts)
    return Case(Examples({"en": tokens}, about, {"en": source}, ROWS), target, Task("translate", "de"))


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (230, 230, 230)}
PLACES = {"above": (0, 5), "left": (5, 0), "right": (5, 10), "below": (10, 5)}


def captions() -> Case:
    """A square of some colour in some place, and both in words; no two captions are quite the same."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(60, size=(ROWS, 16, 16, 3)).astype(np.uint8)
    lines = []
    for row in range(ROWS):
        (colour, shade), (place, (y, x)) = (list(d.items())[generator.integers(4)] for d in (COLOURS, PLACES))
        pixels[row, y : y + 6, x : x + 6] = shade
        lines.append(f"a {colour} square {place} in picture number {row}")
    tokens = Ragged(np.full(2 * ROWS, 2, np.int32), np.arange(ROWS + 1, dtype=np.int64) * 2)
    about: dict[str, dict[str, Any]] = {
        "photo": {"form": "pixels", "height": 16, "width": 16, "channels": 3, "mean": [0.2] * 3, "std": [0.3] * 3,
                  "mirror": True, "why_mirror": "made for a test"},
        "caption": {"form": "tokens", "vocabulary": 3, "length": 4},
    }  # fmt: skip
    words = np.array(lines, dtype=object)
    return Case(Examples({"photo": pixels, "caption": tokens}, about, {"caption": words}, ROWS), words,
                Task("pair", "caption"))  # fmt: skip


CASES: dict[str, Any] = {
    "numbers-regress": lambda: numbers(0, with_categories=False),
    "numbers-binary": lambda: numbers(2, with_categories=False),
    "mixed-regress": lambda: numbers(0, with_categories=True),
    "mixed-3-classes": lambda: numbers(3, with_categories=True),
    "categories-binary": lambda: only_categories(2),
    "text-3-classes": lambda: text(3),
    "text-regress": lambda: text(0),
    "text-and-numbers-3-classes": lambda: text(3, with_numbers=True),
    "grey-pictures-3-classes": lambda: pictures(3, 1),
    "color-pictures-regress": lambda: pictures(0, 3),
    "language-of-one-text": lambda: language(continues=True),
    "language-of-documents": lambda: language(continues=False),
    "translations": translations,
    "captions": captions,
}
METRIC = {"classify": "accuracy", "regress": "rmse", "language": "cross_entropy", "translate": "bleu",
          "pair": "mean_reciprocal_rank"}  # fmt: skip
TRAIN, VALIDATE, TEST = np.arange(0, 260), np.arange(260, 330), np.arange(330, ROWS)


@cache
def case(name: str) -> Case:
    return CASES[name]()


def claimed(part: ModuleType, name: str) -> bool:
    return part.claims(case(name).examples.about, case(name).task) is not None


CLAIMED = [(part, name) for part, module in BASELINES.items() for name in CASES if claimed(module, name)]
each_claimed = pytest.mark.parametrize(("part", "name"), CLAIMED)


def fit(part: str, name: str, found: Case | None = None, **options: Any) -> Any:
    examples, targets, task = found or case(name)
    order = np.random.default_rng(0).permutation(ROWS - len(TEST))
    train, validate = order[: len(TRAIN)], order[len(TRAIN) :]
    return BASELINES[part].fit(examples, targets, train, validate, task, seed=7, seconds=None, **options)


@cache
def fitted(part: str, name: str) -> Any:
    return fit(part, name)


@pytest.mark.parametrize("part", BASELINES)
def test_claims_something_and_takes_only_known_options(part: str) -> None:
    assert any(one == part for one, _ in CLAIMED)
    assert {"seed", "seconds"} <= set(rooms.options(BASELINES[part].fit))
    assert isinstance(BASELINES[part].RANK, int)


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_data_has_a_baseline_that_learns(name: str) -> None:
    assert len([part for part, one in CLAIMED if one == name]) >= 2


def check_predictions(found: np.ndarray, task: Task) -> None:
    """What every prediction of such a task is, good or bad."""
    if task.kind == "translate":
        assert found.shape == (ROWS,)
        assert found.dtype == object
        assert all(type(text) is str for text in found)
        return
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    if task.kind == "classify":
        assert found.shape == (ROWS, task.num_outputs)
        assert found.min() >= 0
        assert np.allclose(found.sum(axis=1), 1, atol=1e-9)
    elif task.kind == "pair":
        assert found.shape == (ROWS, 2)
        assert found.min() >= 1
        assert found.max() <= ROWS
    else:
        assert found.shape == (ROWS,)
    if task.kind == "language":
        assert found.max() <= 0


@each_claimed
def test_predicts_what_its_task_asks_for(part: str, name: str) -> None:
    examples, _, task = case(name)
    check_predictions(fitted(part, name).predict(examples), task)


def floor(name: str) -> np.ndarray:
    """What the constant says of every row; of translations the most frequent one."""
    examples, targets, task = case(name)
    if task.kind != "translate":
        return fitted("constant", name).predict(examples)
    seen, times = np.unique(targets[TRAIN].astype(str), return_counts=True)
    return np.full(ROWS, str(seen[times.argmax()]), object)


@each_claimed
def test_learns_what_can_be_learned(part: str, name: str) -> None:
    if part == "constant":
        return
    examples, targets, task = case(name)
    measure = rooms.find("measures", METRIC[task.kind])
    predictions = fitted(part, name).predict(examples), floor(name)
    own, least = (measure.measure(found[TEST], targets[TEST]) for found in predictions)
    # Most cases need only part of what is given; text beside numbers is not read by a model of numbers.
    if name.startswith("text-and-numbers") and part != "tfidf":
        return
    # An accuracy of a class in three, a BLEU of a sentence like the others, an error or loss of knowing nothing; of 400
    # captions some 25 have the right colour and place.
    better = {"classify": own > least + 0.15, "translate": own > least + 40, "pair": own > 5 * least}
    assert better.get(task.kind, own < 0.8 * least)


@each_claimed
def test_saved_equals_loaded_and_holds_no_pickle(part: str, name: str, tmp_path: Path) -> None:
    examples = case(name).examples
    fitted(part, name).save(tmp_path / "kept")
    loaded = BASELINES[part].load(tmp_path / "kept")
    assert np.array_equal(loaded.predict(examples), fitted(part, name).predict(examples))
    assert loaded.describe() == fitted(part, name).describe()
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.suffix not in (".pkl", ".pickle", ".joblib", ".bin"), path
        # Protocol 2 and later begin so; earlier ones are text that ends in a full stop and imports by name.
        content = path.read_bytes()
        assert not content.startswith(b"\x80"), path
        assert b"cnumpy" not in content, path
        assert b"csklearn" not in content, path


@each_claimed
def test_a_damaged_folder_is_named(part: str, name: str, tmp_path: Path) -> None:
    fitted(part, name).save(tmp_path / "whole")
    for file in sorted(path.name for path in (tmp_path / "whole").iterdir()):
        for content in (None, b"", b"nonsense"):
            folder = tmp_path / "damaged"
            shutil.copytree(tmp_path / "whole", folder)
            (folder / file).unlink()
            if content is not None:
                (folder / file).write_bytes(content)
            with pytest.raises(UserError, match=f"{re.escape(str(folder))} cannot be read"):
                BASELINES[part].load(folder)
            shutil.rmtree(folder)


@pytest.mark.parametrize("part", BASELINES)
def test_every_number_has_a_range_and_is_refused_outside(part: str) -> None:
    given = inspect.signature(BASELINES[part].fit).parameters.values()
    numbers = {one.name for one in given if re.match("int|float", str(one.annotation))} - {"seed", "seconds"}
    ranges = getattr(BASELINES[part], "RANGES", {})
    assert set(ranges) == numbers
    for option, (sign, bound) in ranges.items():
        for value in (bound - 1, bound, float("nan"))[:: 1 if sign == ">" else 2]:
            with pytest.raises(UserError, match=f"baselines.{part}.{option} is {value}; it must be"):
                rooms.check_ranges(ranges, {option: value}, f"baselines.{part}")
        rooms.check_ranges(ranges, {option: bound + 1}, f"baselines.{part}")


@each_claimed
def test_the_least_of_every_range_can_be_fitted(part: str, name: str) -> None:
    examples, _, task = case(name)
    for option, (sign, bound) in getattr(BASELINES[part], "RANGES", {}).items():
        if sign == ">=":
            check_predictions(fit(part, name, **{option: bound}).predict(examples), task)


@each_claimed
def test_a_second_run_is_identical_also_from_its_settings(part: str, name: str) -> None:
    examples = case(name).examples
    first = fitted(part, name)
    again = fit(part, name)
    assert np.array_equal(again.predict(examples), first.predict(examples))
    assert again.settings == first.settings
    rooms.check_options(BASELINES[part].fit, first.settings, part)
    replayed = fit(part, name, **first.settings)
    assert np.array_equal(replayed.predict(examples), first.predict(examples))
    assert replayed.settings == first.settings


@each_claimed
def test_never_reads_rows_outside_train_and_validate(part: str, name: str) -> None:
    examples, targets, task = case(name)
    others = targets.copy()
    others[TEST] = targets[::-1][TEST]
    spoiled = Case(spoil(examples), others, task)
    before, after = fitted(part, name), fit(part, name, spoiled)
    assert np.array_equal(before.predict(examples), after.predict(examples))
    assert before.settings == after.settings


def spoil(examples: Examples) -> Examples:
    """The same examples with other values in the test rows."""
    inputs: dict[str, Any] = {}
    for name, values in examples.inputs.items():
        if isinstance(values, Ragged):
            spoiled = values.values.copy()
            spoiled[values.starts[TEST[0]] :] = 1
            inputs[name] = Ragged(spoiled, values.starts)
        else:
            inputs[name] = values.copy()
            inputs[name][TEST] = 1e6 if values.dtype.kind == "f" else values.max()
    words = {name: values.copy() for name, values in examples.words.items()}
    for values in words.values():
        values[TEST] = "garbage unseen nonsense"
    return Examples(inputs, examples.about, words, len(examples))


@each_claimed
def test_a_row_is_predicted_the_same_alone_and_among_others(part: str, name: str) -> None:
    examples = case(name).examples
    if case(name).task.kind == "pair":
        return  # ranks are among the rows: alone every row comes first
    together = fitted(part, name).predict(examples)
    # Of a text that goes on from row to row only the first has nothing before it.
    goes_on = any(facts.get("continues") for facts in examples.about.values())
    for row in (0,) if goes_on else (0, 331):
        alone = fitted(part, name).predict(examples.take(np.array([row])))
        if together.dtype == object:
            assert np.array_equal(alone, together[[row]])
        else:
            assert np.allclose(alone, together[[row]], rtol=1e-9, atol=1e-12)


@each_claimed
def test_no_time_left_still_gives_a_model(part: str, name: str) -> None:
    examples, targets, task = case(name)
    found = BASELINES[part].fit(examples, targets, TRAIN, VALIDATE, task, seed=0, seconds=0.0)
    check_predictions(found.predict(examples), task)


@each_claimed
def test_claims_depend_on_the_task_and_not_only_on_the_inputs(part: str, name: str) -> None:
    """The very same columns can be there to be classified, translated, matched, or learned as a language."""
    about, own = case(name).examples.about, case(name).task.kind
    for kind in {"language", "translate", "pair"} - {own}:
        assert BASELINES[part].claims(about, Task(kind, "y")) is None


@each_claimed
def test_a_class_without_training_rows_is_no_error(part: str, name: str) -> None:
    examples, targets, task = case(name)
    if task.num_outputs < 3:
        return
    train = TRAIN[targets[TRAIN] != 2]
    found = BASELINES[part].fit(examples, targets, train, VALIDATE, task, seed=0, seconds=None).predict(examples)
    assert found.shape == (ROWS, task.num_outputs)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-9)


@each_claimed
def test_describes_itself_in_one_line(part: str, name: str) -> None:
    line = fitted(part, name).describe()
    assert line
    assert "\n" not in line
    assert len(line) <= 120
