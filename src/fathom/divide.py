"""Which rows train, which judge and which only test: the split and its folds, told in one line.

With few rows each candidate is cross-validated over everything outside the test, so that the advice rests on all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom import intervals
from fathom import split as splitting
from fathom.candidates import Fold
from fathom.data import LeftOut
from fathom.errors import UserError
from fathom.fields import datetime, number
from fathom.pairs import groups_of
from fathom.partition import connected, labels
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
    groups: np.ndarray | None  # label of each row of the table where rows are not independent: of a group, of a picture
    left_out: tuple[LeftOut, ...]
    copies: np.ndarray | None = None  # cluster of rows that are equal in all columns, where that was looked at
    times: np.ndarray | None = None  # of each row, where the split is by a column of times

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
    groups = None if wanted.group is None else labels(_column(prepared, wanted.group))
    times = None if wanted.time is None else times_of(_column(prepared, wanted.time), wanted.time)
    duplicates = pictures = None
    if table.continues:
        # Pieces of one text: what comes later is the test.
        times = np.arange(len(table))
    elif prepared.task.kind == "pair":
        pictures = groups_of(prepared)
        groups, times = _with_whole_pictures(groups, times, pictures)
    else:
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
    folds = _folds(cut, prepared, recipe, {"targets": strata, "kind": kind, **kept_apart})
    how = f"{len(folds)}-fold cross-validation over {len(cut.train) + len(cut.validate):,} · {len(cut.test):,} test"
    why = recipe.why("folds").partition(": ")[2]
    plain = f"{len(cut.train):,} train · {len(cut.validate):,} validate · {len(cut.test):,} test"
    say("Splitting", "; ".join([how if len(folds) > 1 else plain, *([why] if why else []), *cut.notes]))
    if table.continues:
        groups = intervals.blocks(len(table), min(len(cut.validate), len(cut.test)))
    groups = pictures if groups is None else groups
    left_out = tuple(LeftOut(table.places[row], why) for row, why in cut.left_out.items())
    return Divided(folds, cut.test, groups, left_out, duplicates, None if wanted.time is None else times)


def _with_whole_pictures(
    groups: np.ndarray | None, times: np.ndarray | None, pictures: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Groups or times by which all captions of one picture stay together: they get the time of the latest."""
    if pictures is None:
        return groups, times
    if times is None:
        return pictures if groups is None else connected(groups, pictures), None
    picture = labels(pictures)
    latest = times[np.unique(picture, return_index=True)[1]]
    np.fmax.at(latest, picture, times)
    return groups, latest[picture]


def _folds(cut: splitting.Split, prepared: Prepared, recipe: Recipe, by: dict[str, Any]) -> tuple[Fold, ...]:
    """As many folds as were asked for, or as suit the data."""
    wanted, pool = recipe.split, len(cut.train) + len(cut.validate)
    if wanted.folds is None:
        folds, why = _num_folds(pool, prepared, recipe)
        if folds > 1 and (most := splitting.most_folds(cut, **by)) < folds:
            folds, why = max(1, most), f"the {pool:,} rows outside the test form only {most} groups"
        wanted.folds = folds
        recipe.explain("folds", folds, why)
    elif wanted.folds > 1:
        _refuse_folds(wanted.folds, cut, prepared, by)
    if wanted.folds == 1:
        return (Fold(cut.train, cut.validate),)
    return tuple(Fold(*pair) for pair in splitting.folds(cut, wanted.folds, **by, seed=recipe.seed))


def _refuse_folds(folds: int, cut: splitting.Split, prepared: Prepared, by: dict[str, Any]) -> None:
    """Raise UserError where models cannot be averaged, or where too few groups or times are there."""
    if prepared.task.kind not in ("classify", "regress"):
        raise UserError(
            f"split.folds={folds} was asked for, and the models of several folds are averaged, which only classes and "
            f"numbers can be; the task is {prepared.task.kind}. Say split.folds=1."
        )
    most = splitting.most_folds(cut, **by)
    if folds > most:
        raise UserError(
            f"split.folds={folds} was asked for; the {len(cut.train) + len(cut.validate):,} rows outside the test "
            f"allow {most}, as rows of one {'group' if by['times'] is None else 'time'} stay together. "
            f"Say split.folds={max(1, most)}."
        )


def _num_folds(pool: int, prepared: Prepared, recipe: Recipe) -> tuple[int, str]:
    if prepared.task.kind not in ("classify", "regress"):
        return 1, ""
    if recipe.split.time is not None:
        return 1, "the split is by time: the validation rows lie between training and test"
    # Without an official test set the official validation rows become the test set.
    if prepared.table.parts is not None and {"validate", "test"} <= set(prepared.table.parts):
        return 1, "the data comes with its own validation rows"
    if recipe.sample.rows is not None:
        return 1, "a sample of more rows: one validation set"
    is_costly = any(kind in ("image", "text") for kind in prepared.kinds.values())
    for most, folds in FOLDS_COSTLY if is_costly else FOLDS:
        if pool <= most:
            return folds, f"only {pool:,} rows outside the test: each is held out once"
    return 1, f"{pool:,} rows outside the test are enough for one validation set"


def _column(prepared: Prepared, name: str) -> np.ndarray:
    found = prepared.every_column.get(name)
    if found is None:
        raise UserError(f"There is no column '{name}' to split by. {nearest(name, prepared.every_column)}")
    if found.ndim > 1:
        raise UserError(
            f"'{name}' holds pictures; rows are split by a column of names, numbers or dates. Name another."
        )
    return found


def times_of(values: np.ndarray, name: str) -> np.ndarray:
    """A time column as numbers or datetime64, which can be ordered; NaN or NaT where it says nothing."""
    times = number.read(values)
    if np.isnan(times).any() and values.dtype.kind not in "iuf":
        moments = datetime.timestamps(values, datetime.fit(values, name=name))
        times = moments if np.isnat(moments).sum() < np.isnan(times).sum() else times
    if np.isnan(times).all():  # NaT too
        raise UserError(
            f"Column '{name}' cannot order the rows by time: none of its {len(values):,} values is a date or a number. "
            "Pass another --time column, or none."
        )
    return times
