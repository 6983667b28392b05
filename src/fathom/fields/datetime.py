"""Dates and times. Encoded as numbers: days since the first training value, and the parts of date and time that vary.

Whether 3/4/2011 is in March or April is decided in `fit` and kept in the spec ("way", "why_way"); `ambiguous` says
that it was only assumed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.data import Guess
from fathom.fields import number
from fathom.fields.parts import dates, numerals
from fathom.fields.parts.values import NOTHING, Distinct, column, distinct, name_words, plural, sample

_EPOCH_NAMES = frozenset({"timestamp", "epoch", "unix", "unixtime", "ts", "posix"})
_DATE_NAMES = frozenset({"date", "day", "time", "datetime", "timestamp", "dt", "when", "created", "updated"})
# Seconds, milliseconds, microseconds or nanoseconds since 1970, for moments from 1980 to 2100.
_EPOCH_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH_RANGE = (315_532_800, 4_102_444_800)
_DAY = np.timedelta64(1, "D") / np.timedelta64(1, "us")  # microseconds


def sniff(name: str, values: np.ndarray) -> Guess | None:
    """Sure where 95 % of the present values are dates. Seconds since 1970 only where the name says so."""
    if values.ndim != 1 or values.dtype.kind == "b":
        return None
    if values.dtype.kind == "M":
        return Guess(1.0, f"{plural(int((~np.isnat(values)).sum()), 'date')}")
    found = distinct(sample(values)).without(NOTHING)
    if not found.words:
        return None
    if all(word.isdecimal() for word in found.words):
        return _sniff_digits(name, found)
    if _epoch_unit(name, found.words):
        return Guess(0.96, f"seconds since 1970, as the name '{name}' says")
    if not dates.looks_like(found.words):
        return None
    order = dates.choose_order(found.words)
    times = dates.read(found.words, order.way)
    share = found.counts[~np.isnat(times)].sum() / found.counts.sum()
    if share < 0.95:
        return None
    return Guess(0.97, f"{share:.0%} are dates such as '{found.words[0]}'" + (f", {order.why}" if order.why else ""))


def _sniff_digits(name: str, found: Distinct) -> Guess | None:
    unit = _epoch_unit(name, found.words)
    if unit:
        return Guess(0.96, f"time since 1970 in {unit}, as the name '{name}' says")
    if {len(word) for word in found.words} - {8, 12, 14} or np.isnat(dates.read(found.words)).any():
        return None
    if len(found.words) < 10 and not name_words(name) & _DATE_NAMES:
        return None
    return Guess(0.95, f"all are dates such as '{found.words[0]}' (year, month, day)")


def _epoch_unit(name: str, words: list[str]) -> str | None:
    """The unit of numbers that count from 1970, or None. The name must say so: other numbers are as large."""
    called = name_words(name)
    if not (called & _EPOCH_NAMES or (called & {"created", "updated", "time"} and called & {"at", "utc", "s", "ms"})):
        return None
    numbers = numerals.read(words)
    if np.isnan(numbers).any() or not len(numbers):
        return None
    middle = float(np.median(numbers))
    return next((u for u, scale in _EPOCH_UNITS.items() if _EPOCH_RANGE[0] <= middle / scale < _EPOCH_RANGE[1]), None)


def broken(values: np.ndarray) -> dict[int, str]:
    """None ever: what is no date is missing."""
    return {}


def fit(values: np.ndarray, *, name: str = "") -> dict[str, Any]:
    """Order of day and month, start, and the parts that vary among the training values."""
    values = column(values)
    found = None if values.dtype.kind == "M" else distinct(values).without(NOTHING)
    epoch = _epoch_unit(name, found.words) if found else None
    order = dates.choose_order(found.words) if found and not epoch else dates.Order("day-first", "")
    reading = {"epoch": epoch, "way": order.way, "why_way": order.why, "ambiguous": "assumed" in order.why}
    times = _read(values, reading)
    known = times[~np.isnat(times)]
    start = known.min() if len(known) else np.datetime64(0, "us")
    parts = _parts(known, start)
    # Days come always: they carry the trend, and `decode` reads them.
    varying = [part for part, of in parts.items() if part == "days" or (len(of) and of.min() < of.max())]
    return {
        "kind": "datetime",
        "name": name,
        **reading,
        "start": str(start),
        "end": str(known.max()) if len(known) else str(start),
        "missing": int(len(times) - len(known)),
        "parts": varying,
        "statistics": [number.statistics(parts[part].astype(np.float32).astype(np.float64)) for part in varying],
    }


def timestamps(values: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """datetime64[us] [N], NaT where missing or no date: for a split by time."""
    return _read(column(values), spec)


def _read(values: np.ndarray, reading: dict[str, Any]) -> np.ndarray:
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]")
    found = distinct(values).without(NOTHING)
    if reading["epoch"]:
        numbers = numerals.read(found.words) / _EPOCH_UNITS[reading["epoch"]] * 1e6
        of_words = np.full(len(numbers), dates.NAT)
        # datetime64 reaches further than any of this; beyond it a cast would wrap around.
        good = np.isfinite(numbers) & (np.abs(numbers) < 2**62)
        of_words[good] = numbers[good].astype(np.int64).astype("datetime64[us]")
    else:
        of_words = dates.read(found.words, reading["way"])
    return found.spread(of_words, dates.NAT)


def encode(values: np.ndarray, spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """ "numbers": float32 [N, number of parts], a row of NaN where missing or no date."""
    times = timestamps(values, spec)
    parts = _parts(times, np.datetime64(spec["start"], "us"))
    numbers = np.stack([parts[part] for part in spec["parts"]], axis=1)
    numbers[np.isnat(times)] = np.nan
    return {"numbers": numbers.astype(np.float32)}


def _parts(times: np.ndarray, start: np.datetime64) -> dict[str, np.ndarray]:
    """Every part of a date and time, float64; anything at all where a time is NaT."""
    times = np.where(np.isnat(times), start, times)
    days = times.astype("datetime64[D]")
    months = times.astype("datetime64[M]")
    month = months.astype(np.int64) % 12
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    hour = (times - days).astype(np.int64) / (_DAY / 24)
    return {
        "days": (times - start).astype(np.int64) / _DAY,
        "year": times.astype("datetime64[Y]").astype(np.int64) + 1970.0,
        "month": month + 1.0,
        "day": (days - months.astype("datetime64[D]")).astype(np.int64) + 1.0,
        "weekday": weekday.astype(np.float64),
        "hour": hour,
        **_circle("month", month / 12),
        **_circle("weekday", weekday / 7),
        **_circle("hour", hour / 24),
    }


def _circle(name: str, turns: np.ndarray) -> dict[str, np.ndarray]:
    """December stands beside January: the angle's sine and cosine. Rounded, so that 1 and cos(2 pi) are equal."""
    angle = 2 * np.pi * turns
    return {f"{name} sin": np.sin(angle).round(6), f"{name} cos": np.cos(angle).round(6)}


def describe(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    prefix = f"{spec['name']}: " if spec["name"] else ""
    about = {key: [one[key] for one in spec["statistics"]] for key in ("mean", "std", "quantiles")}
    return {"numbers": {"names": [prefix + part for part in spec["parts"]], **about}}


def decode(encoded: dict[str, np.ndarray], spec: dict[str, Any]) -> np.ndarray:
    """datetime64[s] [N], NaT where missing; exact to the seconds that float32 days keep (some 40 years: 2 minutes)."""
    days = encoded["numbers"][:, spec["parts"].index("days")].astype(np.float64)
    times = np.full(len(days), dates.NAT)
    known = ~np.isnan(days)
    times[known] = np.datetime64(spec["start"], "us") + np.round(days[known] * _DAY).astype("timedelta64[us]")
    return times.astype("datetime64[s]")
