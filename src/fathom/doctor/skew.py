"""P1, first part: new data that is written otherwise than the data of training: columns, spelling, units, ranges.

What a reader would get wrong: such data is predicted without a word, since a cell that cannot be read is missing, and
an unknown category is an unknown category. A few of both are normal; here shares are compared with those of the rows
that the run was made from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

from fathom.doctor.finding import Finding
from fathom.doctor.parts.sketch import Numbers, Sketch

LEVEL = 0.001  # of all these tests together
POINTS = 0.05  # of the rows: less is not told
LEAST_ROWS = 3  # of a kind: fewer are not told
FAR_SHARE = 0.01  # of the rows, for values far outside
MOVED = 0.5  # Kolmogorov and Smirnov's distance from which a unit is looked for
FITS = 0.15  # and below which it is found
SHOWN = 5
# How numbers in another unit differ: new = factor * old + offset.
UNITS: dict[str, tuple[float, float]] = {
    "100 times as large": (100, 0), "a hundredth as large": (0.01, 0), "1,000 times as large": (1000, 0),
    "a thousandth as large": (0.001, 0), "10 times as large": (10, 0), "a tenth as large": (0.1, 0),
    "a million times as large": (1e6, 0), "a millionth as large": (1e-6, 0), "255 times as large": (255, 0),
    "a 255th as large": (1 / 255, 0), "of the opposite sign": (-1, 0), "60 times as large": (60, 0),
    "a 60th as large": (1 / 60, 0), "Fahrenheit where they were Celsius": (1.8, 32),
    "Celsius where they were Fahrenheit": (1 / 1.8, -32 / 1.8), "centimetres where they were inches": (2.54, 0),
    "inches where they were centimetres": (1 / 2.54, 0), "pounds where they were kilograms": (2.2046, 0),
    "kilograms where they were pounds": (1 / 2.2046, 0),
}  # fmt: skip


class Cells(NamedTuple):
    """What was counted in the cells of one column."""

    rows: int
    empty: int = 0
    unreadable: int = 0  # something that is no number, or no date
    fractions: int = 0  # numbers that are not whole
    unseen: int = 0  # categories that the training rows do not have
    unseen_rows: int = 0  # rows in which these were counted, where it was in others: 0 for the rows that are not empty
    examples: tuple[str, ...] = ()  # of what is unreadable or unseen


class Skew(NamedTuple):
    """One difference of a column."""

    column: str
    what: str
    remedy: str
    share: float
    p: float


@dataclass(frozen=True)
class Sides:
    """One column then and now. `whole` is how many rows with a whole number it had if all were, else 0."""

    then: Cells
    now: Cells
    known: tuple[str, ...] = ()  # categories
    sketch: Sketch | None = None
    values: np.ndarray | None = None  # of the new rows, as the sketch holds them
    is_whole: bool = False


def find_missing_columns(missing: list[str], hint: str) -> Finding:
    """The columns that the model needs and the new data has not."""
    named = ", ".join(f"'{name}'" for name in missing)
    seen = f"{named}: not among the columns of the new data"
    return Finding(
        "P1",
        seen,
        "The model was trained with them and cannot answer without.",
        f"Add what is missing; cells may be empty where a value is not known. {hint}",
        by="exact",
        evidence={"columns": missing},
    )


def find_skews(columns: Mapping[str, Sides], *, scale: float = 1.0) -> list[Finding]:
    """At most one finding of all columns whose cells are written otherwise.

    `scale` is the share of rows that are independent of each other (1, or groups by rows).
    """
    tests = max(1, 6 * len(columns))
    found = [one for name, sides in columns.items() for one in _looked(name, sides, scale) if one.p <= LEVEL / tests]
    if not found:
        return []
    found.sort(key=lambda one: -one.share)
    told = [f"'{one.column}' {one.what}" for one in found]
    seen = "; ".join(told[:SHOWN]) + (f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else "")
    cause = "The new data is written in another way than the data of training, so the model reads it wrongly."
    remedies = " ".join(dict.fromkeys(one.remedy for one in found[:SHOWN]))
    evidence: dict[str, Any] = {
        "columns": list(dict.fromkeys(one.column for one in found)),
        "skews": [one._asdict() for one in found],
    }
    p = max(one.p for one in found)
    return [Finding("P1", seen, cause, remedies, by="test", confidence=1 - p * tests, evidence=evidence)]


def _looked(name: str, sides: Sides, scale: float) -> Iterator[Skew]:
    then, now = sides.then, sides.now
    if now.rows < LEAST_ROWS or then.rows < LEAST_ROWS:
        return
    shown = ", ".join(f"'{word}'" for word in now.examples[:3])
    filled = now.rows - now.empty
    if one := _more(then.empty, then.rows, now.empty, now.rows, scale):
        yield Skew(name, f"is empty in {one[0]:.0%} of the rows, not {one[1]:.0%}", _FILL, one[0], one[2])
    if one := _more(then.unreadable, then.rows - then.empty, now.unreadable, filled, scale):
        yield Skew(name, f"cannot be read in {one[0]:.0%} of the rows (such as {shown})", _WRITE, one[0], one[2])
    if one := _more(then.unseen, then.unseen_rows or then.rows - then.empty, now.unseen, filled, scale):
        remedy = _WRITE if not (same := _same_word(now.examples, sides.known)) else f"Write {same}."
        yield Skew(name, f"has categories that training had not in {one[0]:.0%} of the rows (such as {shown})",
                   remedy, one[0], one[2])  # fmt: skip
    if sides.is_whole and (one := _more(0, then.rows - then.empty, now.fractions, filled, scale)):
        yield Skew(name, f"has fractions in {one[0]:.0%} of the rows and had whole numbers", _UNIT, one[0], one[2])
    if isinstance(sides.sketch, Numbers) and sides.values is not None:
        yield from _numbers(name, sides.sketch, sides.values, scale)


_FILL = "See why the values are no longer there."
_WRITE = "Have it written as it was for training."
_UNIT = "Have it given in the unit of training."


def _more(then: int, of_then: int, now: int, of_now: int, scale: float) -> tuple[float, float, float] | None:
    """Share now, share then and Fisher's one-sided p, where it grew by enough to be told."""
    if now < LEAST_ROWS or of_then <= 0 or now / of_now - then / of_then < POINTS:
        return None
    table = np.round(np.array([[now, of_now - now], [then, of_then - then]]) * scale).astype(int)
    return now / of_now, then / of_then, float(stats.fisher_exact(table, alternative="greater").pvalue)


def _same_word(examples: tuple[str, ...], known: tuple[str, ...]) -> str:
    """Which spelling is right, where an unseen category is a known one in another: "'man' where it is 'Man'"."""
    by_key = {_letters(word): word for word in known}
    pairs = [(by_key[_letters(word)], word) for word in examples if _letters(word) and _letters(word) in by_key]
    return ", ".join(f"'{right}' where it is '{word}'" for right, word in pairs[:3])


def _letters(word: str) -> str:
    return re.sub(r"[\W_]", "", word.casefold())


def _numbers(name: str, sketch: Numbers, values: np.ndarray, scale: float) -> Iterator[Skew]:
    known = values[~np.isnan(values)]
    if len(known) < LEAST_ROWS or sketch.rows < LEAST_ROWS:
        return
    if len(known) >= 10 and len(sketch.values) > 2 and sketch.distance(known) >= MOVED:
        apart = {unit: sketch.distance((known - offset) / factor) for unit, (factor, offset) in UNITS.items()}
        unit = min(apart, key=lambda one: apart[one])
        if apart[unit] <= FITS:
            # What chance would need: all of these tests, and a distance of one half.
            p = len(UNITS) * float(np.exp(-2 * MOVED**2 * len(known) * scale))
            yield Skew(name, f"holds numbers {unit}", _UNIT, 1.0, p)
            return
    low, high = float(sketch.values[0]) - sketch.spread, float(sketch.values[-1]) + sketch.spread
    far = int(((known < low) | (known > high)).sum())
    share = far / len(known)
    if sketch.spread > 0 and far >= LEAST_ROWS and share >= FAR_SHARE:
        kept = max(1, round(far * scale))
        p = _all_outside(kept, round(len(known) * scale), round(sketch.rows * scale))
        between = f"{sketch.values[0]:.4g} to {sketch.values[-1]:.4g}"
        largest = known[np.argmax(np.abs(known - (low + high) / 2))]
        yield Skew(name, f"is far outside of {between} in {share:.0%} of the rows (such as {largest:.4g})",
                   "See whether these are errors or another unit.", share, p)  # fmt: skip


def _all_outside(far: int, now: int, then: int) -> float:
    """The chance that the `far` most extreme of all rows, on either side, are all new ones."""
    rows = now + then
    log = special.gammaln(now + 1) - special.gammaln(now - far + 1)
    log -= special.gammaln(rows + 1) - special.gammaln(rows - far + 1)
    return float(min(1.0, (far + 1) * np.exp(log)))
