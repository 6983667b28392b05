"""D2: the same row more than once, across the official parts or within them, whatever its target is.

What a reader would get wrong: equal rows need not be copies. Where columns have few values, different people are equal
by chance. How many to expect is told by rows that are nearly equal: let a column agree or not, and another, among pairs
of rows that agree in all else. If these two were independent, the pairs that agree in both would be as many as those
that differ in the one times those that differ in the other, by those that differ in both. True copies exceed that.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator

import numpy as np
from scipy import stats

from fathom.data import Examples
from fathom.doctor.finding import Finding
from fathom.doctor.parts.given import Given, features

MOST_COLUMNS = 6  # in pairs of which chance is looked for
COMMON = 0.01  # of all rows: values so frequent are not copies, as for the split
FLOOR, LEAST = 0.001, 3  # rows within a part
TIMES = 3.0  # as many as chance makes are no finding, whatever the test says
NEAR, NEAR_FLOOR = 0.02, 0.05  # of the distance to the second neighbour; share of the rows
NEAR_ROWS = 4_000
MIXING = np.uint64(0x9E3779B97F4A7C15)


def find_twins(given: Given, level: float) -> Iterator[Finding]:
    copies = _apart_from_spelling(given)
    sizes = np.bincount(copies)
    common = sizes > max(10, COMMON * len(given))
    in_columns = given.examples.of_form("numbers") + given.examples.of_form("categories")
    expected = expected_pairs(given.examples) if in_columns else 0.0
    across = list(_across(given, copies, common, expected, level))
    yield from across
    within = list(_within(given, copies, common, expected, level))
    yield from within
    if not within:
        yield from _near(given, level)


def _across(given: Given, copies: np.ndarray, common: np.ndarray, expected: float, level: float) -> Iterator[Finding]:
    """Rows of the official test that stand in the official training part, too."""
    if given.parts is None or not given.official:
        return
    test = np.flatnonzero(given.parts == "test")
    train = np.flatnonzero(given.parts == "train")
    twins = test[np.isin(copies[test], copies[train]) & ~common[copies[test]]]
    by_chance = expected * 2 * len(test) * len(train) / len(given) ** 2
    if not len(twins) or not _beyond_chance(len(twins), by_chance, level):
        return
    share = len(twins) / len(test)
    same = _same_target(given, twins, train, copies)
    exact = int(np.isin(given.copies[twins], given.copies[train]).sum())
    how = "in every column" if exact == len(twins) else f"apart from capitals and stops, {exact:,} to the letter"
    lot = "hardly moves the score" if share < 0.01 else "makes the score better than it is"
    yield Finding(
        "D2",
        seen=f"{len(twins):,} of {len(test):,} rows of the test equal a training row {how} ({share:.2%})"
        + f"; {same:,} of them have its target, too"
        + (f". By chance about {by_chance:.1f} would" if by_chance >= 0.05 else ""),
        cause="The same rows were put into both files.",
        remedy=f"That {lot}. `fathom fit` leaves their twins out of the training; elsewhere do the same.",
        by="exact",
        evidence={"rows": twins.tolist(), "places": given.told_places(twins), "expected": by_chance, "exact": exact,
                  "across": True},
    )  # fmt: skip


def _same_target(given: Given, twins: np.ndarray, train: np.ndarray, copies: np.ndarray) -> int:
    known = set(zip(copies[train].tolist(), given.targets[train].tolist(), strict=True))
    return sum((copy, target) in known for copy, target in zip(copies[twins], given.targets[twins], strict=True))


def _within(given: Given, copies: np.ndarray, common: np.ndarray, expected: float, level: float) -> Iterator[Finding]:
    """Rows that repeat an earlier one of the same part."""
    names = np.full(len(given), "") if given.parts is None else given.parts.astype(str)
    part = np.unique(names, return_inverse=True)[1].ravel()
    unit = np.unique(copies * (part.max() + 1) + part, return_index=True)[1]
    repeats = np.setdiff1d(np.arange(len(given)), unit)
    repeats = repeats[~common[copies[repeats]]]
    if len(repeats) < max(LEAST, FLOOR * len(given)) or not _beyond_chance(len(repeats), expected, level):
        return
    share = len(repeats) / len(given)
    how = "in every column" if copies.max() + 1 == len(np.unique(given.copies)) else "apart from capitals and stops"
    pairs = np.unique(np.stack([copies, np.unique(given.targets, return_inverse=True)[1].ravel()]), axis=1)[0]
    torn = int(np.sum((np.bincount(pairs, minlength=copies.max() + 1) > 1)[np.unique(copies[repeats])]))
    yield Finding(
        "D2",
        seen=f"{len(repeats):,} of {len(given):,} rows repeat an earlier row {how} ({share:.1%}), the first in "
        f"{given.places[repeats[0]]}" + (f"; {torn:,} such rows stand there with different targets" if torn else ""),
        cause="Rows were written twice, or measured twice and rounded.",
        remedy="In a random split copies stand on both sides. `fathom fit` keeps them together; elsewhere split by "
        "distinct rows, or drop the copies.",
        by="exact",
        evidence={"rows": repeats.tolist(), "places": given.told_places(repeats), "expected": expected},
    )


def _beyond_chance(count: int, expected: float, level: float) -> bool:
    return count > TIMES * expected and float(stats.poisson.sf(count - 1, TIMES * expected)) < level


def expected_pairs(examples: Examples) -> float:
    """Pairs of rows that are equal in all columns though they are not copies (see the top of the file)."""
    hashed = _hashes(examples)
    if hashed.shape[1] < 2:
        return math.inf  # rows of a single column are equal whenever their values are
    whole = hashed.sum(axis=1, dtype=np.uint64)
    equal = _pairs(whole)
    # Those that tell most: columns in which pairs of rows agree least often.
    telling = np.argsort([_pairs(column) for column in hashed.T])[:MOST_COLUMNS]
    but = {c: _pairs(whole - hashed[:, c]) - equal for c in telling}
    most, found = 0.0, 0.0
    for one, other in itertools.combinations(telling, 2):
        both = _pairs(whole - hashed[:, one] - hashed[:, other]) - but[one] - but[other] - equal
        if both > most:  # told best by the columns in which most pairs differ
            most, found = both, but[one] * but[other] / both
    return found


def _hashes(examples: Examples) -> np.ndarray:
    """One number for each row and column, uint64 [N, columns]; texts and pictures are columns, too."""
    table = features(examples).matrix + np.float32(0)  # no minus zero
    columns = [np.where(np.isnan(column), np.float32(-1e38), column).view(np.uint32) for column in table.T]
    found = [column.astype(np.uint64) for column in columns]
    found += [np.unique(words.astype(str), return_inverse=True)[1].ravel().astype(np.uint64)
              for words in examples.words.values()]  # fmt: skip
    for number, column in enumerate(found, start=1):
        mixed = (column + np.uint64(number)) * MIXING
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        found[number - 1] = mixed ^ (mixed >> np.uint64(32))
    return np.stack(found, axis=1)


def _pairs(hashed: np.ndarray) -> float:
    counts = np.unique(hashed, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum() / 2)


def _apart_from_spelling(given: Given) -> np.ndarray:
    """Number of each row's cluster [N]; texts alone are equal also where capitals, blanks and stops differ."""
    texts = list(given.examples.words.values())
    if not texts or len(texts) < len(given.columns):
        return np.unique(given.copies, return_inverse=True)[1].ravel()
    joined = ["\n".join(re.sub(r"[\W_]+", " ", text.casefold()).strip() for text in row) for row in zip(*texts)]
    # A text of nothing but signs stays what it is.
    kept = [text.strip() or f"\n{copy}" for text, copy in zip(joined, given.copies.tolist(), strict=True)]
    return np.unique(np.array(kept, object), return_inverse=True)[1].ravel()


def _near(given: Given, level: float) -> Iterator[Finding]:
    """Rows far nearer to one other row than to any third: a copy with a little noise.

    In d dimensions the ratio of the distances to the first and the second neighbour is below r with chance r^d.
    """
    table = features(given.examples)
    rows = given.some(np.unique(given.copies, return_index=True)[1], min(given.rows, NEAR_ROWS))
    values = table.matrix[rows][:, : table.matrix.shape[1] - table.codes].astype(np.float64)
    values = values[:, [len(np.unique(column[~np.isnan(column)])) > 0.2 * len(rows) for column in values.T]]
    if values.shape[1] < 2 or table.codes or len(rows) < 50:
        return
    scale = np.nanstd(values, axis=0)
    values = np.nan_to_num((values - np.nanmean(values, axis=0)) / np.where(scale > 0, scale, 1))
    ratio = _first_by_second(values)
    close = np.flatnonzero(ratio < NEAR)
    p = float(stats.binom.sf(len(close) - 1, len(rows), NEAR))
    if p >= level or len(close) < NEAR_FLOOR * len(rows):
        return
    yield Finding(
        "D2",
        seen=f"{len(close):,} of {len(rows):,} rows that were looked at lie {1 / NEAR:.0f} times nearer to one other "
        f"row than to any third; chance makes {NEAR:.0%} of them so at most",
        cause="Copies with a little noise: augmented, rounded or measured twice.",
        remedy="Make copies after the split, of training rows only; or name the column that tells which rows belong "
        "together: --group NAME.",
        by="test",
        confidence=1 - p,
        evidence={"rows": rows[close].tolist(), "places": given.told_places(rows[close]), "p": p},
    )


def _first_by_second(values: np.ndarray) -> np.ndarray:
    """Distance to the nearest row by that to the second nearest [N]."""
    from scipy.spatial import cKDTree

    if values.shape[1] <= 12:
        near = cKDTree(values).query(values, k=3)[0][:, 1:]
        return _ratio(near)
    squares = (values**2).sum(axis=1)
    found = np.ones(len(values))
    for rows in np.array_split(np.arange(len(values)), max(1, len(values) // 500)):
        away = squares[rows, None] + squares - 2 * values[rows] @ values.T
        away[np.arange(len(rows)), rows] = np.inf
        found[rows] = _ratio(np.sqrt(np.maximum(np.partition(away, 1, axis=1)[:, :2], 0)))
    return found


def _ratio(near: np.ndarray) -> np.ndarray:
    """First by second of distances [N, 2]; 1 where rows are equal in these columns, and differ only in others."""
    return np.where(near[:, 0] > 1e-9, near[:, 0] / np.maximum(near[:, 1], 1e-300), 1.0)
