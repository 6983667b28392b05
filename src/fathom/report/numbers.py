"""Numbers as people read them: percent and points, thousands apart, a true minus, no more digits than are known.

A difference between two percentages is given in points, never in percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fathom.rooms import find, names

NOTHING = "–"
SPACE = "\u00a0"  # a number and its unit stay on one line


def fixed(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """'1,234.5', '−0.30', with `sign` also '+0.30'."""
    if value is None or not math.isfinite(value):
        return NOTHING
    written = f"{value:+,.{decimals}f}" if sign else f"{value:,.{decimals}f}"
    if not any(digit in written for digit in "123456789"):
        written = written.lstrip("+-")  # no sign on nothing
    return written.replace("-", "−")


def plain(value: float | None) -> str:
    """A number whose scale is not known, with about four digits: '1,234', '0.05123', '2.1 × 10⁻⁷'."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == round(value) and abs(value) < 1e15:
        return fixed(value, 0)
    if abs(value) < 1e-4 or abs(value) >= 1e15:
        mantissa, exponent = f"{value:.2e}".split("e")
        raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{mantissa}{SPACE}×{SPACE}10{raised}".replace("-", "−")
    return (
        fixed(value, decimals_for([value], digits=4)).rstrip("0").rstrip(".") if abs(value) < 1000 else fixed(value, 0)
    )


def percent(share: float | None, decimals: int = 1) -> str:
    if share is None or not math.isfinite(share):
        return NOTHING
    return f"{fixed(100 * share, decimals)}{SPACE}%"


def decimals_for(values: Iterable[float], digits: int = 3) -> int:
    """Decimals that show the largest of the values with about that many digits."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return 0 if largest == 0 else min(8, max(0, digits - 1 - math.floor(math.log10(largest))))


def known(value: float | None) -> float | None:
    """The value, or None where it is missing or not finite."""
    return value if value is not None and math.isfinite(value) else None


def bounds(interval: Iterable[float | None] | None, scale: float = 1.0) -> tuple[float, float] | None:
    """Both ends of an interval, or None where there is none or an end is undefined."""
    ends = [known(end) for end in interval or ()]
    return (scale * ends[0], scale * ends[1]) if len(ends) == 2 and None not in ends else None  # type: ignore[operator]


def p_value(p: float | None) -> str:
    if p is None or not math.isfinite(p):
        return NOTHING
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


@dataclass(frozen=True)
class Measured:
    """How one measure is written: its name for people, its unit, and its decimals on this page."""

    name: str
    label: str
    unit: str  # "%" is a share, "target" the unit of the target, "" a bare number
    higher_is_better: bool
    decimals: int

    @property
    def scale(self) -> int:
        """What a value is multiplied by to be drawn: shares are drawn in percent."""
        return 100 if self.unit == "%" else 1

    def show(self, value: float | None) -> str:
        return percent(value, self.decimals) if self.unit == "%" else fixed(value, self.decimals)

    def bare(self, value: float | None) -> str:
        """Without its unit, for axes and intervals."""
        scaled = value if value is None or self.unit != "%" else 100 * value
        return fixed(scaled, self.decimals)

    def interval(self, interval: Iterable[float | None] | None) -> str:
        ends = bounds(interval)
        return NOTHING if ends is None else " to ".join(self.bare(end) for end in ends)

    def difference(self, value: float | None) -> str:
        """'+17.9 points', '−1,204'."""
        if self.unit == "%":
            return NOTHING if value is None else f"{fixed(100 * value, self.decimals, sign=True)}{SPACE}points"
        # Differences are small beside the values: one decimal more, where there are any.
        finer = self.unit == "target" and self.decimals > 0
        return fixed(value, self.decimals + finer, sign=True)


def measured(name: str, values: Iterable[float]) -> Measured:
    """The measure of that name, with decimals that suit the values. A measure this version lacks is shown bare."""
    finite = [v for v in values if known(v) is not None]
    if name in names("measures"):
        part = find("measures", name)
        label, unit, higher = part.LABEL, part.UNIT, part.HIGHER_IS_BETTER
    else:
        label, unit, higher = spoken(name), "", True
    return Measured(name, label, unit, higher, _decimals(unit, finite))


def _decimals(unit: str, values: list[float]) -> int:
    if unit == "%":
        # Near 100 % a tenth of a point is a large part of what is left.
        return 2 if values and max(values) > 0.985 else 1
    if unit == "":
        return 4 if values and max(map(abs, values)) < 10 else decimals_for(values, digits=4)
    return decimals_for(values, digits=3)


def spoken(name: str) -> str:
    """'boosted_trees' → 'boosted trees'."""
    return name.replace("_", " ")
