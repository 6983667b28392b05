"""Which batches give a row the same answer, to the last bit, as it gets alone: found out by trying them.

What a reader would get wrong: the numbers of a matrix product may depend on how many rows it has, for libraries choose
other kernels for one row, for few and for many. Which do, differs by model, library and processor; so single rows are
answered together only in batches of sizes that were tried here, filled up to one of them, and otherwise one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fathom.candidates import Predictor
from fathom.data import Examples, Places, Ragged, Table
from fathom.fields.text import tokenizer_of

SIZES: tuple[int, ...] = (4, 16, 64)
FIRST, ROWS = 16, 512  # rows that are tried: of a linear model of a table three in a hundred may differ, and no more


def equal_sizes(candidate: Predictor, examples: Examples) -> tuple[int, ...]:
    """The sizes of batches in which each row gets the answer that it gets alone, wherever it stands."""
    found = SIZES
    for count in (min(FIRST, len(examples)), len(examples)):  # most that differ do so at once
        alone = np.concatenate([candidate.predict(examples.take(np.array([row]))) for row in range(count)])
        found = tuple(size for size in found if _is_equal(candidate, examples, alone, size))
        if not found:
            break
    return found


def _is_equal(candidate: Predictor, examples: Examples, alone: np.ndarray, size: int) -> bool:
    """Whether every row that was asked alone is answered so in batches: each in two places, among other neighbours."""
    rows = np.resize(np.arange(len(alone)), max(size, len(alone)))
    for order in (rows, np.roll(rows[::-1], size // 2 - 1)):
        for start in range(0, len(order) - size + 1, size):
            some = order[start : start + size]
            if not np.array_equal(candidate.predict(examples.take(some)), alone[some], equal_nan=True):
                return False
    return True


def predict(candidate: Predictor, examples: Examples, sizes: tuple[int, ...]) -> np.ndarray:
    """The answers to single rows, in batches of these sizes; one by one where there are none."""
    count = len(examples)
    if not sizes or count == 1:
        return np.concatenate([candidate.predict(examples.take(np.array([row]))) for row in range(count)])
    pieces = []
    for start in range(0, count, sizes[-1]):
        rows = np.arange(start, min(start + sizes[-1], count))
        size = next(one for one in sizes if one >= len(rows))
        filled = np.resize(rows, size)  # repeats from the first on
        pieces.append(candidate.predict(examples.take(filled))[: len(rows)])
    return np.concatenate(pieces)


def joined(several: list[Examples]) -> Examples:
    """Encoded rows of several requests, one after the other."""
    first = several[0]
    if len(several) == 1:
        return first
    inputs: dict[str, Any] = {}
    for name, values in first.inputs.items():
        all_values = [one.inputs[name] for one in several]
        inputs[name] = _joined_ragged(all_values) if isinstance(values, Ragged) else np.concatenate(all_values)
    words = {name: np.concatenate([one.words[name] for one in several]) for name in first.words}
    return Examples(inputs, first.about, words, sum(map(len, several)))


def _joined_ragged(several: list[Any]) -> Ragged:
    lengths = np.concatenate([np.diff(one.starts) for one in several])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(np.concatenate([one.values for one in several]), starts)


def made_rows(fields: Mapping[str, Mapping[str, Any]], *, seed: int = 0) -> Table:
    """ROWS rows of values such as the columns held, and a few that are missing."""
    random = np.random.default_rng(seed)
    columns = {}
    for name, spec in fields.items():
        columns[name] = values = np.empty(ROWS, object)
        values[:] = _made(spec, random)
        values[random.random(ROWS) < 0.05] = None
    return Table("made", columns, Places.of_rows("row", ROWS), f"{ROWS} rows")


def _made(spec: Mapping[str, Any], random: np.random.Generator) -> list[Any]:
    kind = spec["kind"]
    if kind == "number":
        low, high = (spec[end] if spec[end] is not None else 0.0 for end in ("minimum", "maximum"))
        return [str(value) for value in random.uniform(low, high, ROWS)]
    if kind == "category":
        return random.choice([*spec["classes"][:100], "a category that is new"], ROWS).tolist()
    if kind == "datetime":
        return random.choice([spec["start"], spec["end"]], ROWS).tolist()
    if kind == "image":
        return list(random.integers(0, 256, (ROWS, spec["height"], spec["width"], 3), np.uint8))
    words = sorted(tokenizer_of(dict(spec)).get_vocab())
    return [" ".join(random.choice(words, random.integers(1, 2 + spec["length"]))) for _ in range(ROWS)]
