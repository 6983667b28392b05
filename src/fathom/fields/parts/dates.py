"""Dates in many spellings as datetime64[us]; no calendar arithmetic beyond reading.

'3/4/2011' is March or April: `choose_order` decides from all values of the column and says how sure that is. Times with
an offset ('+02:00') are moved to UTC; a time alone ('14:30') is of 1970-01-01.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

NAT = np.datetime64("NaT", "us")
_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?\s*(?P<half>[aApP]\.?[mM]\.?)?"
    r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
)
_AFTER = rf"(?:(?:[T ]|,\s*)\s*{_TIME})?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_SEPARATOR = r"(?P<separator>[-/. ])"
_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<year>\d{{4}}){_SEPARATOR}(?P<month>\d{{1,2}})(?P=separator)(?P<day>\d{{1,2}}){_AFTER}",
        rf"(?P<a>\d{{1,2}}){_SEPARATOR}(?P<b>\d{{1,2}})(?P=separator)(?P<c>\d{{4}}|\d{{2}}){_AFTER}",
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\.?[- /]?(?P<word>[a-z]{{3,9}})\.?[- ,/]*"
        rf"(?P<year>\d{{4}}|\d{{2}}){_AFTER}",
        rf"{_WEEKDAY}(?P<word>[a-z]{{3,9}})\.?[- ](?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?[- ]\s*(?P<year>\d{{4}}){_AFTER}",
        rf"{_WEEKDAY}(?P<word>[a-z]{{3,9}})\s+(?P<day>\d{{1,2}})\s+{_TIME}\s+(?P<year>\d{{4}})",
        r"(?P<word>[a-z]{3,9})\.?[- ,/]\s*(?P<year>\d{4})",
        r"(?P<year>\d{4})[-/](?P<month>\d{1,2})",
        r"(?P<year>(?:19|20)\d{2})\s?-?q(?P<quarter>[1-4])",
        rf"{_TIME}",
    )
]
# Eight digits are a date only where a whole column of them is one: 20110131, 20110131T0800, 20110131080000.
_COMPACT = re.compile(
    r"(?P<year>(?:1[6-9]|20|21)\d{2})(?P<month>\d{2})(?P<day>\d{2})(?:T?(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})?Z?)?"
)
_MONTHS = ["january", "february", "march", "april", "may", "june", "july"]
_MONTHS += ["august", "september", "october", "november", "december"]
_ISO = re.compile(r"(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?")
_NUMERIC = re.compile(r"(\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
_WAYS = {"month-first": "mdy", "day-first": "dmy", "year-first": "ymd"}


class Order(NamedTuple):
    """How dates such as 3/4/2011 are to be read, and why."""

    way: str  # "month-first", "day-first" or "year-first"
    why: str  # empty where no value needs it


def looks_like(words: Sequence[str]) -> bool:
    """Whether 95 % of the words (a sample of them) are dates."""
    some = words if len(words) <= 200 else [words[i] for i in np.linspace(0, len(words) - 1, 200).astype(int)]
    order = choose_order(some)
    return bool(some) and float(np.isnat(read(some, order.way)).mean()) <= 0.05


def choose_order(words: Sequence[str]) -> Order:
    """Decide from distinct values, in the order in which they came."""
    matches = [(word, m) for word in words if (m := _NUMERIC.match(word))]
    if not matches:
        return Order("day-first", "")
    short = all(len(m[4]) == 2 for _, m in matches)
    ways = ["month-first", "day-first", *(["year-first"] if short else [])]
    fits = {way: sum(_from_numbers(m[1], m[3], m[4], way) is not None for _, m in matches) for way in ways}
    best = [way for way in ways if fits[way] == max(fits.values())]
    if len(best) == 1:
        other = max((way for way in ways if way != best[0]), key=lambda way: fits[way])
        example = next(w for w, m in matches if _from_numbers(m[1], m[3], m[4], other) is None)
        return Order(best[0], f"{best[0]}, as '{example}' shows")
    texts = [word for word, _ in matches]
    falls = {way: _falls(read(texts, way)) for way in best}
    calmest = min(best, key=lambda way: falls[way])
    if len(texts) >= 5 and falls[calmest] == 0 and sum(fall == 0 for fall in falls.values()) == 1:
        return Order(calmest, f"{calmest}, as only so the rows are in order of time")
    assumed = "day-first" if matches[0][1][2] == "." else "month-first"
    assumed = assumed if assumed in best else best[0]
    return Order(assumed, f"{assumed} was assumed: '{texts[0]}' can be read in more than one way")


def _falls(times: np.ndarray) -> int:
    """How often time goes against its main direction."""
    steps = np.diff(times.astype(np.int64))
    return int(min((steps < 0).sum(), (steps > 0).sum()))


def read(words: Sequence[str], way: str = "day-first") -> np.ndarray:
    """datetime64[us] [len(words)], NaT for what is no date."""
    fast = _read_iso(words)
    if fast is not None:
        return fast
    return np.asarray([_read_one(word, way) for word in words], dtype="datetime64[us]").reshape(len(words))


def _read_iso(words: Sequence[str]) -> np.ndarray | None:
    """The fast way, where all are like 2011-01-31 or 2011-01-31T08:00:00 without a time zone.

    It reads no word that is not read one by one, so that a date does not depend on the rows beside it.
    """
    if not words or not all(map(_ISO.fullmatch, words)):
        return None
    try:
        return np.asarray(list(words), dtype="datetime64[us]")
    except ValueError:  # one of them is something else: read one by one
        return None


def _read_one(word: str, way: str) -> np.datetime64:
    for pattern in _PATTERNS:
        match = pattern.fullmatch(word)
        if match:
            return _moment(match.groupdict(), way)
    match = _COMPACT.fullmatch(word)
    return _moment(match.groupdict(), way) if match else NAT


def _moment(found: dict[str, str | None], way: str) -> np.datetime64:
    day = _day(found, way)
    if day is None:
        return NAT
    hour, minute, second = (int(found.get(unit) or 0) for unit in ("hour", "minute", "second"))
    half = (found.get("half") or "")[:1].lower()
    if half:
        if not 1 <= hour <= 12:
            return NAT
        hour = hour % 12 + (12 if half == "p" else 0)
    if hour > 23 or minute > 59 or second > 60:
        return NAT
    micro = int((found.get("part") or "0").ljust(6, "0")[:6])
    # A leap second (:60) is the first of the next minute.
    return np.datetime64(day + timedelta(hours=hour, minutes=minute, seconds=second), "us") + np.timedelta64(
        micro - _zone_minutes(found.get("zone")) * 60_000_000, "us"
    )


def _zone_minutes(zone: str | None) -> int:
    if not zone or zone[0] not in "+-":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return minutes if zone[0] == "+" else -minutes


def _day(found: dict[str, str | None], way: str) -> datetime | None:
    if found.get("c"):
        return _from_numbers(found["a"] or "", found["b"] or "", found["c"] or "", way)
    if not found.get("year"):
        return datetime(1970, 1, 1)
    if found.get("word"):
        month = _month(found["word"] or "")
    elif found.get("quarter"):
        month = int(found["quarter"] or 1) * 3 - 2
    else:
        month = int(found["month"] or 0)
    return _date(found["year"] or "", month, int(found.get("day") or 1))


def _month(word: str) -> int:
    """'jan', 'Sept' or 'January' as 1, 9 or 1; 0 for any other word."""
    starts = [i for i, name in enumerate(_MONTHS, 1) if name.startswith(word.lower()) or word.lower() == "sept"]
    return 9 if word.lower() == "sept" else starts[0] if starts else 0


def _from_numbers(a: str, b: str, c: str, way: str) -> datetime | None:
    part = dict(zip(_WAYS[way], (a, b, c), strict=True))
    if way == "year-first" and len(c) > 2:
        return None
    return _date(part["y"], int(part["m"]), int(part["d"]))


def _date(year: str, month: int, day: int) -> datetime | None:
    number = int(year)
    if len(year) <= 2:
        number += 2000 if number < 69 else 1900  # the rule of POSIX
    try:
        return datetime(number, month, day)
    except ValueError:  # no such day
        return None
