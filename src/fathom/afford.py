"""How many rows the time and the memory allow: all of them, or a sample that everything but the network learns from.

A pilot of a few rows is read, prepared, split, encoded and looked at as all would be, to see what a row takes. What a
reader would get wrong: this decides once. What was decided stands in the recipe, and a recipe that is run again draws
the same sample, whatever the clock says.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from fathom.checkup import LEAST_ROWS, check
from fathom.compute import Budget
from fathom.data import Ragged, Stream, Table, Task
from fathom.divide import Divided, divide
from fathom.errors import UserError
from fathom.learn import Learned, learn
from fathom.limits import roomy, told
from fathom.memory import available_bytes, resident_bytes
from fathom.prepare import expanded, prepare, read, with_test
from fathom.recipe import Recipe, SampleRecipe
from fathom.rooms import every
from fathom.sampling import beginning_of, pieces_of, sample_of
from fathom.sources.parts.choose import stream_any

TEXT_TASKS = ("language", "translate", "pair")
# Of the time that is left, what reading, preparing, splitting, encoding and looking may take together.
SHARE = 0.25
# Data of fewer values is taken whole without a pilot, and no sample has fewer rows.
FEW_VALUES, FEW_PICTURES, LEAST_SAMPLE = 1_000_000, 5_000, 2_000
PILOT_ROWS, PILOT_PICTURES, PILOT_PIECES = 4_000, 800, 4
PILOT_PARTS = 4  # a pilot of every fourth row goes before: what is left of the difference is what rows take
# Of a long text, a thousand tokens each: a fifth of them is judged by every model, token by token.
PIECES_A_SECOND, LEAST_PIECES = 10, 100
COSTLY_BYTES, LEAST_COSTLY = 20_000, 500  # of a row that is a picture or a long text; then fewer rows will do
# Pieces of the file that a sample is spread over, where time allows.
SPREAD = 64
# Bytes that a row takes at the worst moment, as multiples of what is held of it: encoded, and raw. Measured, with room:
# the linear model bends each number at twelve places (bench/budgets.py).
NUMBER, TEXT, PIXEL, PICTURE, OTHER = 300, 100, 5, 24_000, 150
# What PyTorch, the trees and a small network take besides what is loaded when the rows are counted.
MARGIN = 250e6


@dataclass
class Stock:
    """What there is, before all of it is read: an open table, or rows in pieces."""

    data: Any
    table: Table | None
    stream: Stream | None = None

    @property
    def num_rows(self) -> int:
        assert self.table is not None or self.stream is not None
        return self.stream.num_rows if self.stream is not None else len(self.table)  # type: ignore[arg-type]

    @property
    def continues(self) -> bool:
        return self.table is not None and self.table.continues

    def read(self, recipe: Recipe) -> Table:
        """All rows, or the sample that the recipe says; with the test set where one was named."""
        if recipe.sample.rows is not None and self.stream is not None:
            return with_test(sample_of(self.stream, recipe), recipe)
        if self.table is not None:
            return with_test(beginning_of(self.table, recipe) if self.continues else self.table, recipe)
        return read(recipe, self.data)


def survey(recipe: Recipe, data: Any) -> Stock:
    """Look at what there is. A file that can be read in pieces is not read yet."""
    alone = copy.deepcopy(recipe)
    alone.test, alone.sample = None, SampleRecipe()
    if recipe.task in TEXT_TASKS:
        return Stock(data, read(alone, data))
    stream = stream_any(expanded(data), **recipe.options)
    if stream is not None and stream.num_rows:
        return Stock(data, None, stream)
    table = read(alone, data)
    return Stock(data, table, None if table.continues or table.task in TEXT_TASKS else pieces_of(table))


class Pilot(NamedTuple):
    """What a row takes, and a piece of the file."""

    seconds: float
    seconds_a_piece: float
    bytes: float


def choose_sample(stock: Stock, recipe: Recipe, budget: Budget) -> None:
    """Write into the recipe how many rows are sampled, where all would take too long or too much memory."""
    stream = stock.stream
    if recipe.resolved or recipe.sample.rows is not None:
        return
    if stock.continues and recipe.budget is not None and stock.num_rows > PIECES_A_SECOND * recipe.budget:
        recipe.sample.rows = max(LEAST_PIECES, int(PIECES_A_SECOND * recipe.budget))
        recipe.explain("sample", f"{recipe.sample.rows:,} pieces", f"{PIECES_A_SECOND} for each second of the budget")
        return
    if stream is None or _is_small(stock):
        return
    pilot = _pilot(stock, recipe)
    if pilot is None:
        return
    # What others take of this machine they will take of all that follows, too.
    seconds, memory = budget.share(SHARE / budget.slowness), memory_for_rows(recipe)
    by_memory = int(memory / pilot.bytes)
    fewest = LEAST_SAMPLE if pilot.bytes < COSTLY_BYTES else LEAST_COSTLY
    if by_memory < fewest <= stream.num_rows:
        least = resident_bytes() + MARGIN + fewest * pilot.bytes
        raise UserError(
            f"{fewest:,} of the {stream.num_rows:,} rows are the least that is learned from, and need "
            f"{told(least)} of memory; {told(recipe.memory or available_bytes())} are allowed. "
            f"Say --memory {roomy(least)}, or leave columns out with --drop."
        )
    by_time = _rows_in(seconds, pilot, stream, fewest)
    rows = min(by_time, by_memory)
    if rows >= stream.num_rows:
        return
    recipe.sample.rows, recipe.sample.pieces = rows, _pieces_for(rows, seconds, pilot, stream)
    why = f"{seconds:.0f} s of reading and preparing" if by_time < by_memory else f"{told(memory)} for rows in memory"
    recipe.explain("sample", f"{rows:,} rows", f"{why} allow no more of {stream.num_rows:,}")


def memory_for_rows(recipe: Recipe) -> float:
    """Bytes that rows may take; without --memory four fifths of what is free on this machine."""
    allowed = 0.8 * available_bytes() if recipe.memory is None else recipe.memory - resident_bytes()
    return max(0.0, allowed - MARGIN)


def _is_small(stock: Stock) -> bool:
    """Too little to be worth a pilot."""
    if stock.table is None or stock.stream is None:
        return False
    rows = len(stock.table)
    kinds = [values.ndim > 1 or values.dtype == object for values in stock.table.columns.values()]
    return rows <= LEAST_SAMPLE or (rows * len(kinds) <= FEW_VALUES and (not any(kinds) or rows <= FEW_PICTURES))


def _pilot(stock: Stock, recipe: Recipe) -> Pilot | None:
    """What a row takes, from a small sample and a part of it; None for texts, and where so few rows say nothing."""
    assert stock.stream is not None
    own = copy.deepcopy(recipe)
    is_open = stock.table is not None
    is_costly = is_open and any(values.ndim > 1 or _holds_files(values) for values in stock.table.columns.values())  # type: ignore[union-attr]
    own.sample = SampleRecipe(rows=(PILOT_PICTURES if is_costly else PILOT_ROWS), pieces=PILOT_PIECES)
    begun = time.monotonic()
    table = with_test(sample_of(stock.stream, own), own)
    seconds_a_piece = 0.0 if is_open else (time.monotonic() - begun) / min(PILOT_PIECES, len(stock.stream.sizes))
    seconds, learned = [], None
    for some in (table.take(np.arange(0, len(table), PILOT_PARTS)), table):
        begun = time.monotonic()
        try:
            learned = _front(some, own)
        except UserError:
            return None  # of all rows the same will be said, or it is not true of them
        if learned is None:
            return None
        seconds.append((time.monotonic() - begun, len(some)))
    assert learned is not None
    (first, few), (second, many) = seconds
    # A share of the second time, too: on a busy machine the first may have taken longer.
    slope = max((second - first) / max(1, many - few), 0.3 * second / many)
    return Pilot(slope, seconds_a_piece, _bytes_a_row(table, learned))


def _holds_files(values: np.ndarray) -> bool:
    return values.dtype == object and not isinstance(next((v for v in values if v is not None), ""), str)


def _front(table: Table, recipe: Recipe) -> Learned | None:
    """All that is done with every row before a model."""
    own = copy.deepcopy(recipe)
    own.sample = SampleRecipe()

    def say(label: str, text: str) -> None:
        pass

    prepared = prepare(table, own, say)
    if prepared.task.kind not in ("classify", "regress"):
        return None
    divided = divide(prepared, own, say)
    learned = learn(prepared, own, divided.fitting)
    check(prepared, divided, learned, own, rows=LEAST_ROWS)
    _learn_quickly(learned, prepared.task, divided, own)
    return learned


def _learn_quickly(learned: Learned, task: Task, divided: Divided, recipe: Recipe) -> None:
    """The simplest baseline that learns, in no time: what is left is what it makes of every row, as of a picture."""
    about, (fold, *_) = learned.examples.about, divided.folds
    able = [part for part in every("baselines").values() if part.RANK and part.claims(about, task)]
    given = recipe.baselines
    if able and (given is None or given):
        part = min(able, key=lambda part: part.RANK)
        with threadpool_limits(1):  # of so few rows threads make nothing quicker, and on a busy machine much slower
            fitted = part.fit(learned.examples, learned.targets, fold.train, fold.validate, task, seconds=0.0)
            fitted.predict(learned.examples.take(divided.test))


def _bytes_a_row(table: Table, learned: Learned) -> float:
    found, examples = 0.0, learned.examples
    for name, about in examples.about.items():
        values = examples.inputs[name]
        if isinstance(values, Ragged):
            found += TEXT * len(values.values) / max(1, len(examples))
        elif about["form"] == "pixels":
            found += PICTURE + PIXEL * float(np.prod(values.shape[1:]))
        else:
            found += NUMBER * values.shape[1]
    return found + OTHER * len(table.columns)


def _rows_in(seconds: float, pilot: Pilot, stream: Stream, fewest: int) -> int:
    """The most rows that can be read and prepared in these seconds, and not fewer than that."""
    low, high = fewest, stream.num_rows
    while high - low > 0.01 * low:
        middle = (low + high + 1) // 2
        pieces = _pieces_for(middle, seconds, pilot, stream)
        is_affordable = pieces * pilot.seconds_a_piece + middle * pilot.seconds <= seconds
        low, high = (middle, high) if is_affordable else (low, middle - 1)
    return high if high >= stream.num_rows else low


def _pieces_for(rows: int, seconds: float, pilot: Pilot, stream: Stream) -> int:
    """Enough pieces to hold the rows; more, so that they come from everywhere, where half of the time allows it."""
    pieces = len(stream.sizes)
    needed = -(-rows * pieces // max(1, stream.num_rows))
    affordable = int(0.5 * seconds / pilot.seconds_a_piece) if pilot.seconds_a_piece else pieces
    return min(pieces, max(needed, min(SPREAD, affordable), 1))
