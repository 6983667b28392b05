"""Several tables of the same columns as one: train and official test files, or a test set given by the user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fathom.data import File, Places, Table
from fathom.errors import UserError
from fathom.rooms import nearest
from fathom.sources.parts.columns import objects


def join(main: Table, test: Table) -> Table:
    """`main` with `test` as its official test rows, whatever parts the two had before.

    Columns are matched by name; headerless tables are named by position, so there by position. Raises UserError when
    a column of `main` is missing in `test`. Columns that only `test` has are left out and said.
    """
    notes: list[str] = []
    if main.parts is not None and (main.parts == "test").any():
        count = int((main.parts == "test").sum())
        notes.append(f"its own {count:,} official test rows are left out: another test set was given")
        main = main.take(np.flatnonzero(main.parts != "test"))
    if test.parts is not None and (test.parts == "test").any():
        test = test.take(np.flatnonzero(test.parts == "test"))
        notes.append("of the test set given, its official test rows are used")
    test = replace(test, parts=None)
    _refuse_misfit(main, test)
    added = [n for n in test.columns if n not in main.columns]
    if added:
        notes.append(f"columns only in the test set, not used: {', '.join(added[:10])}")
    main = replace(main, notes=(*main.notes, *notes))
    return _stack(main, {"test": test}, f"test set given: {len(test):,} rows of {_file_of(test)}")


def join_parts(tables: Mapping[str, Table], files: Mapping[str, Path]) -> Table:
    """Tables of the same columns, by part ("train" first), as one table with `parts`."""
    used = [f"{files[p].name} ({p}, {len(t):,} rows)" for p, t in tables.items() if p != "train"]
    others = {p: t for p, t in tables.items() if p != "train"}
    return _stack(tables["train"], others, f"official parts beside: {', '.join(used)}")


def rows_of(tables: Sequence[Table]) -> Table:
    """Pieces of one table as one: their rows in this order, with the notes of the first."""
    first = tables[0]
    if len(tables) == 1:
        return first
    return replace(
        first,
        columns={name: _concatenate(name, [table.columns[name] for table in tables]) for name in first.columns},
        places=Places.join(table.places for table in tables),
        parts=None if first.parts is None else np.concatenate([table.parts for table in tables]),
        left_out=tuple(left for table in tables for left in table.left_out),
    )


def _stack(main: Table, others: Mapping[str, Table], said: str) -> Table:
    tables = [main, *others.values()]
    columns = {name: _concatenate(name, [table.columns[name] for table in tables]) for name in main.columns}
    parts = [np.full(len(main), "train", object) if main.parts is None else main.parts]
    parts += [np.full(len(t), part, object) for part, t in others.items()]
    joined = replace(
        main,
        columns=columns,
        places=Places.join(t.places for t in tables),
        parts=np.concatenate(parts),
        notes=(*main.notes, said),
        left_out=tuple(left for t in tables for left in t.left_out),
    )
    return replace(joined, summary=with_counts(main.summary, joined.parts))


def with_counts(summary: str, parts: np.ndarray | None) -> str:
    """'48,842 rows, 15 columns; 32,561 train, 16,281 test': the summary of what was joined."""
    if parts is None:
        return summary
    counts = [f"{int((parts == p).sum()):,} {p}" for p in ("train", "validate", "test") if (parts == p).any()]
    total = re.sub(r"^[\d,]+", f"{len(parts):,}", summary.split(";")[0])
    return f"{total}; {', '.join(counts)}"


def _file_of(table: Table) -> str:
    return table.places.files[0] if len(table.places.files) == 1 else table.name


def _refuse_misfit(main: Table, test: Table) -> None:
    absent = [n for n in main.columns if n not in test.columns]
    if not absent:
        return
    if _is_headerless(main) != _is_headerless(test) and len(main.columns) == len(test.columns):
        with_names = "main" if _is_headerless(test) else "test"
        raise UserError(
            f"{_file_of(main)} and {_file_of(test)} do not fit: only the {with_names} one has a header. "
            "Give both a header, or read both without one (header=false)."
        )
    hint = nearest(absent[0], test.columns)
    raise UserError(
        f"The test set {_file_of(test)} has no column {', '.join(map(repr, absent[:5]))}"
        f"{' …' if len(absent) > 5 else ''}, which {_file_of(main)} has. {hint} "
        "Expected the same columns, the target included."
    )


def _is_headerless(table: Table) -> bool:
    return all(name == f"column_{i}" for i, name in enumerate(table.columns, 1))


def _concatenate(name: str, pieces: list[np.ndarray]) -> np.ndarray:
    shapes = {p.shape[1:] for p in pieces}
    if len(shapes) > 1:
        sizes = " and ".join("×".join(map(str, s)) or "one value" for s in sorted(shapes))
        raise UserError(f"'{name}' has other sizes in the test set: {sizes}. Expected pictures of one size.")
    kinds = {p.dtype.kind for p in pieces}
    if len(kinds) == 1 or kinds <= set("iuf"):
        return np.concatenate(pieces)
    if any(isinstance(v, File) for p in pieces if p.dtype == object for v in p[:100]):
        raise UserError(f"'{name}' holds pictures in one of the tables and other values in the other.")
    return np.concatenate([p if p.dtype == object else _as_words(p) for p in pieces])


def _as_words(values: np.ndarray) -> np.ndarray:
    """str of each value, None where it is missing."""
    missing = np.isnan(values) if values.dtype.kind == "f" else np.isnat(values) if values.dtype.kind == "M" else None
    words = objects([str(v) for v in values.tolist()])
    if missing is not None:
        words[missing] = None
    return words
