"""Split examples into train, validate and test ids, before anything is learned from them.

Rows of one group never cross a border, nor do copies of one row; when there is a time column the future is the test.
Official parts are kept as they are: a copy of an official test row is taken out of training, not out of the test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fathom.data import PARTS, TaskKind
from fathom.duplicates import contradictions, duplicate_clusters
from fathom.errors import UserError
from fathom.partition import assign, connected, even_shares, labels, rare_units, shares, strata_of

__all__ = ["Split", "contradictions", "duplicate_clusters", "folds", "most_folds", "split"]

TEST = VALIDATE = 0.15
# Beyond these, more rows would sharpen no verdict (0.3 points of accuracy) and are worth more in training.
MOST_TEST, MOST_VALIDATE = 20_000, 6_000
# Equal rows that are more than this share of all (and more than ten) have a common value and are not copies.
COMMON = 0.01
UNDECIDED, OUT = -1, -2


@dataclass(frozen=True)
class Split:
    """Sorted row ids, int64. Every row of the table is in one of the three or in `left_out`."""

    train: np.ndarray
    validate: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...]  # what a person should know of the split
    left_out: dict[int, str]  # row id → why it is in no part


def split(
    num_rows: int,
    *,
    targets: np.ndarray,
    kind: TaskKind,
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
    parts: np.ndarray | None = None,
    duplicates: np.ndarray | None = None,
    seed: int = 0,
    test: float | None = None,
    validate: float | None = None,
) -> Split:
    """Train, validate and test ids of `num_rows` rows.

    `targets` are class indices or numbers [N]; `groups` any labels [N]; `times` numbers or datetime64 [N]; `parts` the
    official part's name of each row; `duplicates` a cluster id for each row (`duplicate_clusters`). `test` and
    `validate` are shares of the rows, 0.15 each by default and then capped for large data. With times, copies are
    not kept together: the past is really known when the future is predicted.

    Raises UserError for shares that leave nothing, too few rows or groups, and for groups and times together.
    """
    _check(num_rows, groups, times, test, validate)
    notes: list[str] = []
    left_out: dict[int, str] = {}
    place = np.full(num_rows, UNDECIDED) if parts is None else _official(np.asarray(parts, dtype=object), notes)
    if times is not None:
        _leave_out(place, np.flatnonzero(_is_missing(times)), "it has no time", left_out)
        free = np.flatnonzero(place == UNDECIDED)
        place[free] = _by_time(times[free], _sizes(place, test, validate), notes)
    else:
        units = _units(num_rows, groups, duplicates, notes)
        _clear_borders(place, units, left_out)
        free = np.flatnonzero(place == UNDECIDED)
        place[free] = _by_units(units[free], targets[free], _sizes(place, test, validate), kind, seed)
    return _finish(place, targets, kind, notes, left_out)


def _check(
    num_rows: int, groups: np.ndarray | None, times: np.ndarray | None, test: float | None, validate: float | None
) -> None:
    if groups is not None and times is not None:
        raise UserError("Both --group and --time were given; a split can follow only one of them. Pass one.")
    for name, share in (("test", test), ("validate", validate)):
        if share is not None and not 0 < share < 1:
            raise UserError(f"The {name} share is {share}; it must lie between 0 and 1, such as 0.15.")
    if (test or TEST) + (validate or VALIDATE) >= 1:
        raise UserError(f"Test {test or TEST} and validate {validate or VALIDATE} leave no rows to train on.")
    if num_rows < 10:
        raise UserError(f"There are {num_rows} usable rows; at least 10 are needed to train, choose and test.")


def _official(names: np.ndarray, notes: list[str]) -> np.ndarray:
    """Part of each row as 0, 1, 2 in the order of PARTS; UNDECIDED where it is still to be cut from the others."""
    unknown = set(names.tolist()) - {*PARTS, None, ""}
    if unknown:
        raise UserError(f"A part is called '{min(map(str, unknown))}'; parts are called {', '.join(PARTS)}.")
    place = np.select([names == name for name in PARTS], range(3), default=UNDECIDED)
    validates, tests = bool((place == 1).any()), bool((place == 2).any())
    if not np.any((place == 0) | (place == UNDECIDED)):
        raise UserError("The data has official parts but no rows to train on. Expected a part called 'train'.")
    if validates and not tests:
        place[place == 1] = 2
        notes.append("the official validation rows are the test, as there is no other; validation is cut from train")
    elif tests:
        notes.append("the official test rows are the test" + (", the official validation rows validate" * validates))
    if not (validates and tests):
        place[place == 0] = UNDECIDED
    return place


def _is_missing(times: np.ndarray) -> np.ndarray:
    if times.dtype.kind == "M":
        return np.isnat(times)
    if times.dtype.kind in "iuf":
        return np.isnan(times.astype(np.float64))
    raise UserError("The values of the --time column are neither dates nor numbers, so they have no order.")


def _leave_out(place: np.ndarray, rows: np.ndarray, why: str, left_out: dict[int, str]) -> None:
    place[rows] = OUT
    left_out.update(dict.fromkeys(rows.tolist(), why))


def _sizes(place: np.ndarray, test: float | None, validate: float | None) -> np.ndarray:
    """Rows wanted in train, validate and test, among the rows still to be placed. Official parts want none."""
    free = int(np.sum(place == UNDECIDED))
    num_test = min(round(free * (test or TEST)), free if test else MOST_TEST)
    num_validate = min(round(free * (validate or VALIDATE)), free if validate else MOST_VALIDATE)
    num_test *= not (place == 2).any()
    num_validate *= not (place == 1).any()
    return np.array([free - num_test - num_validate, num_validate, num_test])


def _by_time(times: np.ndarray, wanted: np.ndarray, notes: list[str]) -> np.ndarray:
    """The latest rows are the test, those before them validate. Equal times stay together.

    Integers are the rows' own order, which a text that goes on from row to row has: a column's numbers are floats.
    """
    moments, moment = np.unique(times, return_inverse=True)
    parts = np.flatnonzero(wanted > 0)  # in the order of time
    if len(moments) < len(parts):
        raise UserError(
            f"The --time column has {len(moments)} distinct times; {len(parts)} parts need at least as many."
        )
    ends = np.cumsum(np.bincount(moment, minlength=len(moments)))
    borders: list[int] = []
    for done, rows_before in enumerate(np.cumsum(wanted[parts])[:-1], start=1):
        nearest = int(np.argmin(np.abs(ends - rows_before))) + 1
        # At least one moment for this part, and one left for each part to come.
        low, high = (borders[-1] + 1 if borders else 1), len(moments) - (len(parts) - done)
        borders.append(int(np.clip(nearest, low, high)))
    is_order = times.dtype.kind == "i"
    begins = [f"row {moments[at] + 1:,}" if is_order else str(moments[at]) for at in borders]
    starts = ", ".join(f"{PARTS[part]} from {begin}" for part, begin in zip(parts[1:], begins, strict=True))
    notes.append(f"{'in its order' if is_order else 'by time'}: {starts or 'all official'}")
    return parts[np.searchsorted(borders, moment, side="right")] if len(parts) else np.zeros(len(times), np.int64)


def _units(num_rows: int, groups: np.ndarray | None, duplicates: np.ndarray | None, notes: list[str]) -> np.ndarray:
    """Label of what must stay together for each row: its group, joined with the groups of its copies."""
    own = np.arange(num_rows) if groups is None else labels(groups)
    if duplicates is None:
        return own
    cluster = labels(duplicates)
    sizes = np.bincount(cluster)
    common = sizes > max(10, COMMON * num_rows)
    if common.any():
        rows = int(sizes[common].sum())
        notes.append(
            f"{rows:,} rows share one of {int(common.sum())} common values: not taken for copies of each other"
        )
    copied = (sizes > 1) & ~common
    if not copied.any():
        return own
    joined = connected(own, np.where(copied[cluster], cluster, -1))
    # Chains of copies may tie nearly all groups to one, or leave too few for three parts and their folds.
    tied = np.bincount(joined).max() > max(0.2 * num_rows, 2 * np.bincount(own).max())
    if groups is not None and (tied or joined.max() + 1 < min(5, own.max() + 1)):
        notes.append("equal rows stand in most groups: groups are kept whole, copies are not kept together")
        return own
    notes.append(f"{int(sizes[copied].sum()):,} rows are copies of each other, {int(copied.sum()):,} different ones: "
                 "each on one side")  # fmt: skip
    return joined


def _clear_borders(place: np.ndarray, units: np.ndarray, left_out: dict[int, str]) -> None:
    """A unit with rows in an official test or validation part keeps them; its other rows would give them away."""
    highest = np.full(units.max() + 1, OUT)
    np.maximum.at(highest, units, place)
    official = highest[units]
    crossing = np.flatnonzero((official > 0) & (place < official))
    _leave_out(place, crossing, "its group or a copy of it is in an official test or validation part", left_out)


def _by_units(units: np.ndarray, targets: np.ndarray, wanted: np.ndarray, kind: TaskKind, seed: int) -> np.ndarray:
    if not len(units) or not wanted[1:].any():
        return np.zeros(len(units), np.int64)
    unit, strata = labels(units), strata_of(targets, kind)
    kept = rare_units(unit, strata) if kind == "classify" else None
    return assign(unit, strata, shares(np.bincount(strata), wanted), seed, kept)


def _finish(
    place: np.ndarray, targets: np.ndarray, kind: TaskKind, notes: list[str], left_out: dict[int, str]
) -> Split:
    train, validate, test = (np.flatnonzero(place == part).astype(np.int64) for part in range(3))
    for name, rows in zip(PARTS, (train, validate, test), strict=True):
        if not len(rows):
            raise UserError(f"The split leaves no rows in '{name}'. Give more rows, other shares, or another column.")
    if kind == "classify":
        untaught = np.setdiff1d(targets[np.concatenate([validate, test])], targets[train])
        if len(untaught):
            notes.append(f"classes without a training row, which cannot be predicted: {len(untaught)}")
        untested = np.setdiff1d(targets[train], targets[test])
        if len(untested):
            notes.append(f"classes too rare to be tested, or all in one group; they stay in train: {len(untested)}")
    if left_out:
        reasons = "; ".join(sorted(set(left_out.values())))
        notes.append(f"{len(left_out):,} rows are in no part: {reasons}")
    return Split(train, validate, test, tuple(notes), left_out)


def folds(
    split: Split,
    k: int = 5,
    *,
    targets: np.ndarray,
    kind: TaskKind,
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
    duplicates: np.ndarray | None = None,
    seed: int = 0,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of (train ids, validate ids) over the rows of train and validate together, by the rules of `split`.

    Arrays are those given to `split`, over all rows. Without times every row is validated once, save those of classes
    with one or two rows or in one unit, which always train. With times each fold trains on the past of its validation
    rows, so the earliest rows are never validated, and fewer folds come back where many rows share a time.
    Raises UserError where groups or times are too few for `k`.
    """
    if k < 2:
        raise UserError(f"{k} folds were asked for; at least 2 are needed.")
    pool = _pool(split)
    if times is not None:
        return _forward(pool, times[pool], k)
    unit, strata, chosen = _foldable(pool, targets, kind, groups, duplicates)
    fold = np.full(len(pool), -1)
    stratum = labels(strata[chosen])
    fold[chosen] = assign(labels(unit[chosen]), stratum, even_shares(np.bincount(stratum), k), seed)
    return [(pool[fold != i], pool[fold == i]) for i in range(k)]


def most_folds(
    split: Split,
    *,
    targets: np.ndarray,
    kind: TaskKind,
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
    duplicates: np.ndarray | None = None,
) -> int:
    """The largest `k` that `folds` can make of the same arrays."""
    pool = _pool(split)
    if times is not None:
        return len(np.unique(times[pool])) - 1
    unit, _, chosen = _foldable(pool, targets, kind, groups, duplicates)
    return len(np.unique(unit[chosen]))


def _pool(split: Split) -> np.ndarray:
    return np.sort(np.concatenate([split.train, split.validate]))


def _foldable(
    pool: np.ndarray, targets: np.ndarray, kind: TaskKind, groups: np.ndarray | None, duplicates: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit and stratum of each row of the pool, and the places of those that may be validated."""
    unit = labels(_units(len(targets), groups, duplicates, [])[pool])
    strata = strata_of(targets[pool], kind)
    kept = rare_units(unit, strata) if kind == "classify" else unit[:0]
    return unit, strata, np.flatnonzero(~np.isin(unit, kept))


def _forward(pool: np.ndarray, times: np.ndarray, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    moments, moment = np.unique(times, return_inverse=True)
    if len(moments) < k + 1:
        raise UserError(
            f"There are {len(moments)} distinct times; {k} folds by time need {k + 1}. Ask for fewer folds."
        )
    ends = np.cumsum(np.bincount(moment))
    # Blocks of equally many rows; those that stay empty because one moment fills several are not counted.
    block = labels(np.minimum((ends - 1) * (k + 1) // len(pool), k))[moment]
    if block.max() < 1:
        raise UserError("Nearly all rows have the same time, so no fold has a past. Leave out --time.")
    return [(pool[block < i], pool[block == i]) for i in range(1, int(block.max()) + 1)]
