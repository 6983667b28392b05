"""Which rows train, which judge and which only test: the split and its folds, told in one line.

With few rows each candidate is cross-validated over everything outside the test, so that the advice rests on all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fathom import split as splitting
from fathom.candidates import Fold
from fathom.data import LeftOut
from fathom.errors import UserError
from fathom.fields import datetime, number
from fathom.pairs import groups_of
from fathom.prepared import Prepared
from fathom.recipe import Recipe
from fathom.rooms import nearest

Say = Callable[[str, str], None]
# Rows outside the test up to which the candidates are cross-validated, and with how many folds.
FOLDS = ((2_000, 5), (12_000, 3))
# Pictures and texts cost more for each row than a row of a table.
FOLDS_COSTLY = ((3_000, 3),)


@dataclass(frozen=True)
class Divided:
    """Row ids into the prepared table."""

    folds: tuple[Fold, ...]
    test: np.ndarray
    groups: np.ndarray | None  # label of each row of the table, where the split is by group or by picture
    left_out: tuple[LeftOut, ...]

    @property
    def judged(self) -> np.ndarray:
        """Validation rows of all folds, in fold order."""
        return np.concatenate([fold.validate for fold in self.folds])

    @property
    def fitting(self) -> np.ndarray:
        """Rows that the fields are fitted on: those that train a member. Never a test row."""
        return np.unique(np.concatenate([fold.train for fold in self.folds]))


def divide(prepared: Prepared, recipe: Recipe, say: Say) -> Divided:
    """Split before anything is fitted. Raises UserError for an unknown column or a test set that cannot be cut."""
    table, wanted = prepared.table, recipe.split
    groups = None if wanted.group is None else _labels(_column(prepared, wanted.group))
    times = None if wanted.time is None else _times(_column(prepared, wanted.time), wanted.time)
    if table.continues:
        # Pieces of one text: what comes later is the test.
        times = np.arange(len(table))
    duplicates = None
    if prepared.task.kind == "pair" and groups is None and times is None:
        groups = groups_of(prepared)
    elif not table.continues:
        duplicates = splitting.duplicate_clusters(table.columns)
    strata, kind = prepared.strata
    kept_apart = {"groups": groups, "times": times, "duplicates": duplicates}
    cut = splitting.split(
        len(table),
        targets=strata,
        kind=kind,
        parts=table.parts,
        **kept_apart,
        seed=recipe.seed,
        test=wanted.test,
        validate=wanted.validate,
    )
    pool = len(cut.train) + len(cut.validate)
    if wanted.folds is None:
        wanted.folds, why = _num_folds(pool, prepared, recipe)
        recipe.explain("folds", wanted.folds, why)
    folds: tuple[Fold, ...] = (Fold(cut.train, cut.validate),)
    if wanted.folds > 1:
        pairs = splitting.folds(cut, wanted.folds, targets=strata, kind=kind, **kept_apart, seed=recipe.seed)
        folds = tuple(Fold(*pair) for pair in pairs)
    how = f"{wanted.folds}-fold cross-validation over {pool:,} · {len(cut.test):,} test"
    why = recipe.why("folds").partition(": ")[2]
    plain = f"{len(cut.train):,} train · {len(cut.validate):,} validate · {len(cut.test):,} test"
    say("Splitting", "; ".join([how if len(folds) > 1 else plain, *([why] if why else []), *cut.notes]))
    return Divided(folds, cut.test, groups, tuple(LeftOut(table.places[row], why) for row, why in cut.left_out.items()))


def _num_folds(pool: int, prepared: Prepared, recipe: Recipe) -> tuple[int, str]:
    if prepared.task.kind not in ("classify", "regress"):
        return 1, ""
    if recipe.split.time is not None:
        return 1, "the split is by time: the validation rows lie between training and test"
    # Without an official test set the official validation rows become the test set.
    if prepared.table.parts is not None and {"validate", "test"} <= set(prepared.table.parts):
        return 1, "the data comes with its own validation rows"
    is_costly = any(kind in ("image", "text") for kind in prepared.kinds.values())
    for most, folds in FOLDS_COSTLY if is_costly else FOLDS:
        if pool <= most:
            return folds, f"only {pool:,} rows outside the test: each is held out once"
    return 1, f"{pool:,} rows outside the test are enough for one validation set"


def _column(prepared: Prepared, name: str) -> np.ndarray:
    found = prepared.every_column.get(name)
    if found is None:
        raise UserError(f"There is no column '{name}' to split by. {nearest(name, prepared.every_column)}")
    return found


def _labels(values: np.ndarray) -> np.ndarray:
    return np.unique([str(value) for value in values], return_inverse=True)[1]


def _times(values: np.ndarray, name: str) -> np.ndarray:
    """A time column as numbers or datetime64, which can be ordered."""
    numbers = number.read(values)
    if np.isfinite(numbers).all():
        return numbers
    moments = datetime.timestamps(values, datetime.fit(values, name=name))
    if np.isnat(moments).any():
        bad = int(np.isnat(moments).sum())
        raise UserError(
            f"Column '{name}' cannot order the rows by time: {bad:,} of its values are no dates or numbers."
        )
    return moments
