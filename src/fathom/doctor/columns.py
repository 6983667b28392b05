"""D1: values that are not finite, words among numbers, columns that are constant where the model learns.

What a reader would get wrong: a missing value is none of these. `fathom fit` fills it in and tells the model of it, and
it leaves out columns that are constant everywhere; both are said there, and are no findings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from fathom.doctor.finding import Finding
from fathom.doctor.parts.given import Given

LARGEST = float(np.finfo(np.float32).max)
INFINITE = {"inf", "infinity"}
# Fewer different words than this are slips of the pen among numbers; more of them are codes, such as V45.2.
MOST_WORDS = 20
LEAST_NUMBERS = 20
SHOWN = 4
# Marks that everybody uses for a missing value: fit reads them so.
NOTHING = {"", "?", "na", "n/a", "#n/a", "nan", "nat", "null", "<na>", "(null)", "\\n", "none", "nil", "n.a.", "n.a",
           "-", "--", "---", "–", "—", ".", "..", "..."}  # fmt: skip


def find_columns(given: Given, kinds: dict[str, str], level: float) -> Iterator[Finding]:
    """`kinds` says which field each column is read as; `level` bounds chance where only training rows are constant."""
    plain = {n: v for n, v in given.columns.items() if v.ndim == 1 and kinds[n] in ("number", "category")}
    yield from _infinite(given, {n: v for n, v in plain.items() if kinds[n] == "number"})
    yield from _mixed(given, plain)
    yield from _constant(given, plain, level)
    yield from _spelt(given)


def _infinite(given: Given, numbers: dict[str, np.ndarray]) -> Iterator[Finding]:
    rows = {name: np.flatnonzero(_is_infinite(values)) for name, values in numbers.items()}
    rows = {name: found for name, found in rows.items() if len(found)}
    if not rows:
        return
    counts = {name: len(found) for name, found in rows.items()}
    every = np.unique(np.concatenate(list(rows.values())))
    yield Finding(
        "D1",
        seen=f"{sum(counts.values()):,} values are infinite or too large: {_counted(counts)}; "
        f"the first in {given.places[every[0]]}",
        cause="A division by zero or an overflow on the way to this file.",
        remedy="Mend the step that made them. `fathom fit` takes them for missing values.",
        by="exact",
        evidence={"columns": list(rows), "rows": every.tolist(), "places": given.told_places(every)},
    )


def _is_infinite(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.abs(values.astype(np.float64)) > LARGEST
    if values.dtype != object:
        return np.zeros(len(values), bool)
    is_bad = {value: _number(value) is not None and abs(_number(value) or 0) > LARGEST for value in set(values)}
    return np.array([is_bad[value] for value in values], bool)


def _mixed(given: Given, plain: dict[str, np.ndarray]) -> Iterator[Finding]:
    for name, values in plain.items():
        if values.dtype != object:
            continue
        counts = Counter(v for v in values.tolist() if v is not None and str(v).strip().lower() not in NOTHING)
        numbers = {value for value in counts if _number(value) is not None}
        words = {value: count for value, count in counts.items() if value not in numbers}
        few = len(words) <= MOST_WORDS and sum(words.values()) < 0.5 * sum(counts.values())
        if not words or not few or len(numbers) < LEAST_NUMBERS:
            continue
        rows = np.flatnonzero([value in words for value in values])
        told = _counted({str(word): count for word, count in words.items()})
        yield Finding(
            "D1",
            seen=f"'{name}' holds numbers, and in {len(rows):,} rows words: {told}; the first in "
            f"{given.places[rows[0]]}",
            cause="Units, remarks or marks for missing values were written among the numbers.",
            remedy="Write these cells as numbers, or leave them empty where nothing is known.",
            by="exact",
            evidence={"columns": [name], "rows": rows.tolist(), "places": given.told_places(rows)},
        )


def _number(value: object) -> float | None:
    """A cell as a number; None for a word. Signs, units of thousands and decimal commas are allowed for."""
    text = str(value).strip().lower()
    if text.lstrip("+-") in INFINITE:
        return math.inf
    for form in (text, text.replace(",", ""), text.replace(".", "").replace(",", "."), text.strip("$€£% ")):
        try:
            found = float(form)
        except ValueError:
            continue
        return None if math.isnan(found) else found
    return None


def _constant(given: Given, plain: dict[str, np.ndarray], level: float) -> Iterator[Finding]:
    found: dict[str, int] = {}
    for name, values in plain.items():
        codes = np.unique(values.astype(str), return_inverse=True)[1].ravel()
        first = codes[given.train[0]]
        differ = int(np.sum(codes[given.test] != first))
        if differ and np.all(codes[given.train] == first) and _chance(given, differ) < level / len(plain):
            found[name] = differ
    if found:
        yield Finding(
            "D1",
            seen=f"In all {len(given.train):,} training rows there is one value only, in the test there are others: "
            f"{_counted(found)}",
            cause="The training part was filled differently, or selected by this column.",
            remedy="Fill the column in both parts, or leave it out: --drop NAME.",
            by="exact",
            evidence={"columns": list(found)},
        )


def _chance(given: Given, differ: int) -> float:
    """That so many rows which differ all fall into the test, had rows been dealt at random."""
    test, every = len(given.test), len(given.train) + len(given.test)
    return float(np.exp(np.sum(np.log(test - np.arange(differ)) - np.log(every - np.arange(differ)))))


def _spelt(given: Given) -> Iterator[Finding]:
    """Classes that differ by capitals or blanks only."""
    same: dict[str, list[str]] = {}
    for name in given.task.classes:
        same.setdefault(" ".join(name.casefold().split()), []).append(name)
    double = [group for group in same.values() if len(group) > 1]
    if double:
        told = "; ".join(" and ".join(f"'{name}'" for name in group) for group in double[:SHOWN])
        yield Finding(
            "D1",
            seen=f"Classes of '{given.task.target}' differ by capitals or blanks only: {told}",
            cause="One class was written in several ways.",
            remedy="Write each class in one way.",
            by="exact",
            evidence={"columns": [given.task.target], "classes": double},
        )


def _counted(counts: dict[str, int]) -> str:
    """'a' 3 times, 'b' 1 time, …"""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    told = ", ".join(f"'{name}' {n:,} time{'s' * (n != 1)}" for name, n in ordered[:SHOWN])
    return told + (", …" if len(ordered) > SHOWN else "")
