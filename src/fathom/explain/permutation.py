"""What a model looks at: how much worse it becomes when one source column is shuffled among the rows.

Breiman 2001, Machine Learning 45, section 10. What a reader would get wrong: importance is not cause, and columns that
say the same share it: shuffling one of them alone costs little, because the other still tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fathom.data import Examples, Ragged, Task
from fathom.errors import UserError
from fathom.evaluate import from_mean_of
from fathom.explain.patches import patches
from fathom.explain.words import Encode, words
from fathom.intervals import bca, resample, resampled_values

Predict = Callable[[Examples], np.ndarray]
LEAST_ROWS = 100  # fewer say nothing of a column, however little time there is
PART = ": "  # between a column and what was made of it, as `fields` name it: "when: month"
# Shares of the time: columns are asked for by everybody, patches and words only where there are any.
COLUMN_SHARE = 0.5
PATCH_SHARE = 0.5  # of what the columns left


class Part(NamedTuple):
    """Columns of one input that come from a source column; `columns` is None for a whole picture or text."""

    name: str
    columns: tuple[int, ...] | None


class Base(NamedTuple):
    """The rows that are shuffled, and the predictions as they are."""

    examples: Examples
    targets: np.ndarray
    predictions: np.ndarray
    seconds: float  # that one prediction of all rows takes


def importance(
    predict: Predict,
    examples: Examples,
    targets: np.ndarray,
    task: Task,
    measure: ModuleType,
    *,
    repeats: int = 5,
    rows: int = 2000,
    seed: int = 0,
    seconds: float = 10.0,
    columns: Sequence[str] | None = None,
    encode: Encode | None = None,
) -> list[dict[str, Any]]:
    """Source columns by how much worse `measure` (a module of measures/) becomes without each, the worst loss first.

    `examples` and `targets` [N] are rows that did not train; at most `rows` of them are used. Each entry is JSON:
    {"name", "value", "interval", "rows", "repeats"}: the loss in the measure's own unit, positive when the column
    helps, with its 95 % interval over rows. Pictures add "grid" and "average" (see `patches`), texts add "words".
    `columns` names the source columns, so that 'when: month' is put with 'when' and 'ratio: a' is not put with
    'ratio'; without it everything before the first ': ' is taken for the source. `encode(column, texts)` gives the
    token ids of changed texts; without it a text that is read as tokens gets no words. About `seconds` are used; with
    less time fewer rows, then fewer repeats: only `seconds=inf` gives the same numbers whatever the machine.
    Raises UserError where there are no rows.
    """
    if len(examples) != len(targets) or not len(targets):
        raise UserError(
            f"Importance needs rows with targets: {len(examples)} rows and {len(targets)} targets were given."
        )
    begun = time.monotonic()
    noise = np.random.default_rng(seed)
    sources = source_columns(examples, columns)
    base = _base(predict, examples, targets, noise, rows, COLUMN_SHARE * seconds / max(len(sources), 1))
    shuffled = _shuffle_in_turn(predict, base, sources, noise, repeats, begun + COLUMN_SHARE * seconds)
    found = {name: _entry(name, base, several, measure, seed) for name, several in shuffled.items()}
    pictures = [name for name in examples.of_form("pixels") if name in found]
    for done, name in enumerate(pictures):
        left = (begun + seconds - time.monotonic()) * (PATCH_SHARE if examples.words else 1.0) / (len(pictures) - done)
        found[name] |= patches(
            predict, base.examples, base.targets, base.predictions, task, name, noise, left, base.seconds
        )
    texts = [name for name in examples.words if name in found and (encode is not None or name not in examples.inputs)]
    for done, name in enumerate(texts):
        left = (begun + seconds - time.monotonic()) / (len(texts) - done)
        found[name]["words"] = words(predict, base.examples, base.predictions, task, name, encode, left)
    return sorted(found.values(), key=lambda entry: -entry["value"])


def source_columns(examples: Examples, columns: Sequence[str] | None = None) -> dict[str, list[Part]]:
    """Source column → everything in the inputs that was made from it."""
    known = None if columns is None else set(columns)
    found: dict[str, list[Part]] = {}
    for name, about in examples.about.items():
        if about["form"] not in ("numbers", "categories"):
            found.setdefault(name, []).append(Part(name, None))
            continue
        places: dict[str, list[int]] = {}
        for place, column in enumerate(about["names"]):
            places.setdefault(_source(column, known), []).append(place)
        for source, some in places.items():
            found.setdefault(source, []).append(Part(name, tuple(some)))
    for name in examples.words:
        found.setdefault(name, [])
    return found


def _source(column: str, known: set[str] | None) -> str:
    if known is None:
        return column.split(PART)[0]
    if column in known:
        return column
    starts = [name for name in known if column.startswith(name + PART)]
    return max(starts, key=len, default=column)


def shuffle(examples: Examples, name: str, parts: Sequence[Part], order: np.ndarray) -> Examples:
    """The same rows, but what was made from one source column is taken from other rows: row i has that of order[i]."""
    inputs = dict(examples.inputs)
    for part in parts:
        values = inputs[part.name]
        if part.columns is None or isinstance(values, Ragged):
            inputs[part.name] = values.take(order) if isinstance(values, Ragged) else values[order]
        else:
            changed, chosen = values.copy(), list(part.columns)
            changed[:, chosen] = values[order][:, chosen]
            inputs[part.name] = changed
    spoken = examples.words
    if name in spoken:
        spoken = {**spoken, name: spoken[name][order]}
    return replace(examples, inputs=inputs, words=spoken)


def _base(
    predict: Predict, examples: Examples, targets: np.ndarray, noise: np.random.Generator, rows: int, seconds: float
) -> Base:
    """Chosen rows and their predictions; fewer rows where one prediction of them takes more than `seconds`."""
    num = min(rows, len(targets))
    chosen = noise.permutation(len(targets))[:num]
    few = examples.take(chosen[:LEAST_ROWS])
    predict(few)  # the first call may load and compile
    begun = time.monotonic()
    predict(few)
    per_row = (time.monotonic() - begun) / len(few)
    if num * per_row > seconds:
        num = min(num, max(LEAST_ROWS, int(seconds / per_row)))
    some = examples.take(chosen[:num])
    begun = time.monotonic()
    predictions = predict(some)
    return Base(some, targets[chosen[:num]], predictions, time.monotonic() - begun)


def _shuffle_in_turn(
    predict: Predict,
    base: Base,
    sources: dict[str, list[Part]],
    noise: np.random.Generator,
    repeats: int,
    deadline: float,
) -> dict[str, list[np.ndarray]]:
    """Predictions with each column shuffled. One round over all columns is always made; more while there is time."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in sources}
    for turn in range(repeats):
        for name, parts in sources.items():
            if turn and time.monotonic() > deadline:
                return found
            order = noise.permutation(len(base.targets))
            found[name].append(predict(shuffle(base.examples, name, parts, order)))
    return found


def _entry(name: str, base: Base, several: list[np.ndarray], measure: ModuleType, seed: int) -> dict[str, Any]:
    sign = 1.0 if measure.HIGHER_IS_BETTER else -1.0
    value = sign * (
        measure.measure(base.predictions, base.targets) - np.mean([measure.measure(p, base.targets) for p in several])
    )
    low, high = sorted(sign * end for end in _ends(base, several, measure, seed))
    return {
        "name": name,
        "value": float(value),
        "interval": [low, high],
        "rows": len(base.targets),
        "repeats": len(several),
    }


def _ends(base: Base, several: list[np.ndarray], measure: ModuleType, seed: int) -> tuple[float, float]:
    """95 % interval of measure(as it is) − mean of measure(shuffled), over rows."""
    own = measure.per_row(base.predictions, base.targets)
    if own is None:

        def difference(rows: np.ndarray) -> np.ndarray:
            shuffled = [measure.measure(p[rows], base.targets[rows]) for p in several]
            return np.array([measure.measure(base.predictions[rows], base.targets[rows]) - np.mean(shuffled)])

        samples = resampled_values(difference, len(base.targets), seed=seed, resamples=100)
        low, high = np.quantile(samples, (0.025, 0.975))
        return float(low), float(high)
    other = np.mean([measure.per_row(p, base.targets) for p in several], axis=0)
    from_mean = from_mean_of(measure)
    drawn = resample(np.column_stack([own, other]), seed=seed)
    samples, without = (from_mean(means[:, 0]) - from_mean(means[:, 1]) for means in (drawn.samples, drawn.without))
    return bca(float(from_mean(drawn.whole[0]) - from_mean(drawn.whole[1])), samples, without)
