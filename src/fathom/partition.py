"""The arithmetic of splitting: whole units of rows into parts near the sizes wanted, with like shares of classes.

A unit is what must stay together (a row, a group, a row with its copies); a stratum is what should be spread evenly
(a class, or a range of the number). Both are labels 0, 1, 2, … of each row. Nothing here knows what a part is for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.data import TaskKind
from fathom.errors import UserError

MOST_STRATA = 10  # of a number that is to be predicted
# Units above this share of all rows are placed one by one; smaller ones, which may be a million, all at once.
LARGE = 0.005


def labels(values: np.ndarray) -> np.ndarray:
    """0, 1, 2, … for each distinct value, in order of appearance; a missing value (None, NaN) is alone with itself."""
    if values.dtype == object:
        seen: dict[Any, int] = {}
        alone = object()
        keys = ((alone, i) if v is None or v != v else v for i, v in enumerate(values.tolist()))
        return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)
    first, inverse = np.unique(values, return_index=True, return_inverse=True, equal_nan=False)[1:]
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse.ravel()]


def connected(units: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Join units [N] that share a cluster [N] (-1 for none), directly or over others; the joined units' labels [N]."""
    rows = np.flatnonzero(clusters >= 0)
    unit, cluster = units[rows], labels(clusters[rows])
    label = np.arange(units.max() + 1)
    while True:
        least = np.full(cluster.max() + 1, len(label))
        np.minimum.at(least, cluster, label[unit])
        moved = label.copy()
        np.minimum.at(moved, unit, least[cluster])
        moved = moved[moved]  # follow labels of labels, so that long chains take few rounds
        if np.array_equal(moved, label):
            return labels(label[units])
        label = moved


def strata_of(targets: np.ndarray, kind: TaskKind) -> np.ndarray:
    """The class of each row, or the range that its number lies in (at most ten ranges of equally many rows)."""
    if kind == "classify":
        return labels(targets)
    num_strata = int(np.clip(len(targets) // 20, 1, MOST_STRATA))
    edges = np.unique(np.quantile(targets, np.linspace(0, 1, num_strata + 1)[1:-1]))
    return labels(np.searchsorted(edges, targets, side="right"))


def rare_units(units: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Units holding a class that has one or two rows, or that stands in no other unit: it could not be learned if they
    were tested. None where that would be more than half of the rows, as when classes and groups are the same thing."""
    pairs = np.unique(np.stack([strata, units]), axis=1)
    rare = (np.bincount(pairs[0]) == 1) | (np.bincount(strata) <= 2)
    found = np.unique(pairs[1][rare[pairs[0]]])
    return found if np.isin(units, found).sum() <= 0.5 * len(units) else found[:0]


def shares(counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of each stratum for train, validate and test, [3, strata]: whole numbers in the ratio of `wanted` [3].

    What rounding takes from one stratum the next gets back. A class of three rows or more is tested, one of four or
    more is also validated, one of one or two stays in train.
    """
    exact = np.outer(wanted / max(wanted.sum(), 1), counts)
    validate, test = np.diff(np.round(np.cumsum(exact[1:], axis=1)), axis=1, prepend=0)
    test = np.where(counts >= 3, np.maximum(test, min(1, wanted[2])), 0)
    validate = np.where(counts >= 4, np.maximum(validate, min(1, wanted[1])), np.where(counts == 3, validate, 0))
    test = np.minimum(test, np.maximum(counts - 1, 0))
    validate = np.minimum(validate, np.maximum(counts - 1 - test, 0))
    return np.stack([counts - validate - test, validate, test])


def even_shares(counts: np.ndarray, num_parts: int) -> np.ndarray:
    """Rows of each stratum for each of some equal parts, [parts, strata], whole numbers that add up."""
    running = np.round(np.outer(np.arange(1, num_parts + 1) / num_parts, np.cumsum(counts)))
    return np.diff(np.diff(running, axis=0, prepend=0), axis=1, prepend=0)


def assign(
    units: np.ndarray, strata: np.ndarray, need: np.ndarray, seed: int, kept: np.ndarray | None = None
) -> np.ndarray:
    """Part of each row [N]. `need` [parts, strata] are the rows wanted; units in `kept` go to part 0.

    Raises UserError where there are fewer units than parts that want rows.
    """
    sizes = np.bincount(units)
    wanted = need.sum(axis=1)
    if len(sizes) < np.sum(wanted > 0):
        raise UserError(
            f"The rows form {len(sizes)} groups, to be divided into {int(np.sum(wanted > 0))} parts. "
            f"Pass another --group column, or none."
        )
    need = need.astype(np.float64)
    place = np.full(len(sizes), -1)
    if kept is not None and len(kept):
        place[kept] = 0
        np.subtract.at(need[0], strata[np.isin(units, kept)], 1)
    generator = np.random.default_rng(seed)
    _place_large(place, units, strata, need, wanted, generator)
    _place_small(place, units, strata, need, generator)
    _fill_empty(place, sizes, wanted)
    return place[units]


def _place_large(
    place: np.ndarray,
    units: np.ndarray,
    strata: np.ndarray,
    need: np.ndarray,
    wanted: np.ndarray,
    generator: np.random.Generator,
) -> None:
    """Large units one by one, the largest first, each where it leaves all strata nearest to what is wanted."""
    sizes = np.bincount(units)
    large = generator.permutation(np.flatnonzero((sizes > max(1, LARGE * len(units))) & (place < 0)))
    order = np.argsort(units, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    weight = 1 / np.maximum(wanted, 1)
    for unit in large[np.argsort(-sizes[large], kind="stable")]:
        held = np.bincount(strata[order[starts[unit] : starts[unit + 1]]], minlength=need.shape[1])
        after = need - held
        # What is missing or too much, squared, in each stratum and in the whole part.
        change = (after**2 - need**2).sum(axis=1) + after.sum(axis=1) ** 2 - need.sum(axis=1) ** 2
        part = int(np.argmin(np.where(wanted > 0, change * weight, np.inf)))
        place[unit] = part
        need[part] -= held


def _place_small(
    place: np.ndarray, units: np.ndarray, strata: np.ndarray, need: np.ndarray, generator: np.random.Generator
) -> None:
    """Small units at once: shuffled within their stratum, then cut where each part has what it still needs."""
    small = generator.permutation(np.flatnonzero(place < 0))
    if not len(small):
        return
    first = np.empty(len(place), np.int64)
    first[units[::-1]] = strata[::-1]  # a small unit counts for the stratum of its first row
    small = small[np.argsort(first[small], kind="stable")]
    stratum, size = first[small], np.bincount(units)[small]
    starts = np.concatenate([[0], np.cumsum(np.bincount(stratum, weights=size, minlength=need.shape[1]))])
    middle = np.cumsum(size) - size / 2 - starts[stratum]
    # The last part is served first; part 0 takes what is over.
    borders = np.cumsum(np.maximum(need[:0:-1], 0), axis=0)[:, stratum]
    place[small] = len(need) - 1 - (middle >= borders).sum(axis=0)


def _fill_empty(place: np.ndarray, sizes: np.ndarray, wanted: np.ndarray) -> None:
    """Few large units may leave a part without any: it gets the smallest unit of the part that has most units."""
    for part in np.flatnonzero(wanted > 0):
        if not (place == part).any():
            giver = int(np.argmax(np.bincount(place, minlength=len(wanted))))
            own = np.flatnonzero(place == giver)
            place[own[np.argmin(sizes[own])]] = part
