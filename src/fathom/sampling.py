"""Rows drawn from data that is too large to be held or to be learned from whole: a sample, and the further rows.

Everything but the network learns from the sample, and all are judged by rows of it. What a reader would get wrong:
which rows are drawn follows from the seed, the number of rows and the number of pieces alone, so that whoever reads the
data again with the same recipe gets the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fathom.data import File, LeftOut, Stream, Table
from fathom.recipe import Recipe
from fathom.sources.parts.choose import open_any, stream_any
from fathom.sources.parts.join import rows_of

# A table that is open already is taken in pieces of so many rows; pictures and texts, which grow when they are read, in
# smaller ones.
ROWS, COSTLY_ROWS = 65_536, 4_096
ORDER = 1  # not 0: see batches.MIXING


def sampled(recipe: Recipe, data: Any) -> Table:
    """The sample that the recipe says, of whatever its source opens."""
    stream = stream_any(data, **recipe.options)
    if stream is not None:
        return sample_of(stream, recipe)
    table = open_any(data, **recipe.options)
    return beginning_of(table, recipe) if table.continues else sample_of(pieces_of(table), recipe)


def beginning_of(table: Table, recipe: Recipe) -> Table:
    """Of a text that goes on from piece to piece, the first pieces."""
    wanted = recipe.sample.rows
    if wanted is None or wanted >= len(table):
        return table
    told = f"the first {wanted:,} of {len(table):,} pieces are used"
    return replace(table.take(np.arange(wanted)), notes=(*table.notes, told))


def pieces_of(table: Table) -> Stream:
    """Of a table that is open."""
    is_costly = any(_is_costly(values) for values in table.columns.values())
    return Stream.of(table, COSTLY_ROWS if is_costly else ROWS)


def _is_costly(values: np.ndarray) -> bool:
    return values.ndim > 1 or (values.dtype == object and any(isinstance(value, File) for value in values[:1]))


def sample_of(stream: Stream, recipe: Recipe) -> Table:
    """About `recipe.sample.rows` rows, in the order of the file: as many from each of the pieces that are read."""
    kept: list[Table] = []
    left_out: list[LeftOut] = []
    for piece in _pieces(stream, recipe):
        for table, rows in _drawn(stream, piece, recipe):
            left_out += table.left_out
            if len(rows):
                kept.append(table.take(rows))
    sample = stream.finish(replace(rows_of(kept), left_out=tuple(left_out)))
    told = f"{len(sample):,} rows of {'about ' * (None in stream.sizes)}{stream.num_rows:,} are the sample"
    return replace(sample, notes=(*sample.notes, told))


def further_rows(stream: Stream, recipe: Recipe, sample: Table) -> Iterator[Table]:
    """All other rows, piece by piece in an order that follows from the seed, read as the sample was."""
    drawn = set(_pieces(stream, recipe).tolist())
    for piece in np.random.default_rng([recipe.seed, ORDER]).permutation(len(stream.sizes)).tolist():
        if piece not in drawn:
            yield from (stream.follow(table, sample) for table in stream.read(piece))
            continue
        for table, rows in _drawn(stream, piece, recipe):
            others = np.delete(np.arange(len(table)), rows)
            if len(others):
                yield stream.follow(replace(table.take(others), left_out=()), sample)


def _pieces(stream: Stream, recipe: Recipe) -> np.ndarray:
    """The pieces that the sample is drawn from, spread evenly over the file."""
    number = min(recipe.sample.pieces or len(stream.sizes), len(stream.sizes))
    return np.unique(np.linspace(0, len(stream.sizes) - 1, number).round().astype(np.int64))


def _drawn(stream: Stream, piece: int, recipe: Recipe) -> Iterator[tuple[Table, np.ndarray]]:
    """The tables of a piece, each with the places of its rows that belong to the sample."""
    assert recipe.sample.rows is not None
    pieces = _pieces(stream, recipe)
    known = [stream.sizes[one] for one in pieces]
    size, tables = stream.sizes[piece], stream.read(piece)
    # Where nobody knows how many rows a piece has, pieces are of one length in bytes.
    share = recipe.sample.rows / len(pieces)
    if size is not None and None not in known:
        share = recipe.sample.rows * size / sum(filter(None, known))
    if size is None:
        read = list(tables)
        size, tables = sum(map(len, read)), iter(read)
    # A share of 312.5 rows is 312 rows of every other piece.
    wanted = int(share) + int(np.random.default_rng([recipe.seed, piece, 0]).random() < share % 1)
    rows = np.sort(np.random.default_rng([recipe.seed, piece, 1]).choice(size, min(size, wanted), replace=False))
    begin = 0
    for table in tables:
        inside = rows[np.searchsorted(rows, begin) : np.searchsorted(rows, begin + len(table))]
        yield table, inside - begin
        begin += len(table)
