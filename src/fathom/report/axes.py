"""Axes and the frame of a plot.

The drawing is an SVG that stretches with the page, placed in percent; the labels beside it are HTML, so that letters
keep their size on a phone. Nothing here knows what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fathom.report.html import Html, element, join
from fathom.report.numbers import decimals_for, fixed


@dataclass(frozen=True)
class Axis:
    """A range of values, where each stands in percent of the way, and the marks along it."""

    low: float
    high: float
    ticks: tuple[float, ...]
    label: Callable[[float], str]
    is_log: bool = False

    def place(self, value: float) -> float:
        """0 at the low end, 100 at the high; values outside are moved to the nearer end."""
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        at = math.log(max(value, self.low)) if self.is_log else value
        return min(100.0, max(0.0, 100 * (at - low) / (high - low)))


def axis(
    values: Iterable[float], *, ticks: int = 5, pad: float = 0.04, label: Callable[[float], str] | None = None
) -> Axis:
    """An axis that holds all the values, with about that many marks at round numbers."""
    low, high = _range(values)
    room = pad * (high - low)
    low, high = low - room, high + room
    marks = round_marks(low, high, ticks)
    return Axis(low, high, marks, label or _labeller(marks))


def whole_axis(low: int, high: int, *, ticks: int = 6) -> Axis:
    """An axis of whole numbers, such as epochs."""
    high = max(high, low + 1)
    marks = tuple(m for m in round_marks(low, high, ticks) if m == round(m))
    return Axis(low, high, marks, lambda value: fixed(value, 0))


def log_axis(values: Iterable[float], *, label: Callable[[float], str] | None = None) -> Axis:
    """As `axis`, for positive values that lie powers of ten apart."""
    low, high = _range(v for v in values if v > 0)
    low, high = low / 1.15, high * 1.15
    steps = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [m * 10.0**e for e in steps for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    powers = [e for e in steps if low <= 10.0**e <= high]
    marks = fine if len(fine) <= 7 else [10.0**e for e in powers[:: math.ceil(len(powers) / 7)]]
    return Axis(low, high, tuple(marks), label or (lambda v: fixed(v, decimals_for([v], digits=1))), is_log=True)


def round_marks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten between two values."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(i * step for i in range(first, last + 1))


def _range(values: Iterable[float]) -> tuple[float, float]:
    known = [v for v in values if math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(low) * 0.05 or 0.5
        low, high = low - room, high + room
    return low, high


def _labeller(marks: Sequence[float]) -> Callable[[float], str]:
    """Labels with as many decimals as the steps need; from 10,000 on in thousands or millions, which fit on a phone."""
    largest = max(map(abs, marks), default=0.0)
    size, unit = next(((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= 10 * s), (1.0, ""))
    step = (marks[1] - marks[0] if len(marks) > 1 else 1.0) / size
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1  # steps of 2.5
    return lambda value: fixed(value / size, decimals) + (unit if value else "")


def frame(
    marks: Html,
    x: Axis,
    y: Axis,
    *,
    says: str,
    x_title: str,
    y_title: str = "",
    height: int = 220,
    square: bool = False,
) -> Html:
    """A plot with a grid and labels. `says` is read aloud in place of the drawing."""
    y_labels = [element("span", y.label(t), style=f"bottom:{y.place(t):.2f}%") for t in y.ticks]
    x_labels = [element("span", x.label(t), style=f"left:{x.place(t):.2f}%") for t in x.ticks]
    width = max((len(y.label(t)) for t in y.ticks), default=1)
    area = element("svg", _grid(x, y), marks, class_="area", role="img", aria_label=says)
    return element(
        "div",
        element("div", y_title, class_="y-title") if y_title else None,
        element("div", join(y_labels), class_="y-labels", style=f"width:{width + 0.5}ch"),
        element("div", area, class_="canvas"),
        element("div", join(x_labels), class_="x-labels"),
        element("div", x_title, class_="x-title"),
        class_="plot square" if square else "plot",
        style=None if square else f"--height:{height}px",
    )


def _grid(x: Axis, y: Axis) -> Html:
    across = [h_line(100 - y.place(t), "grid") for t in y.ticks]
    return join([*across, h_line(100.0, "base")])


def h_line(y: float, kind: str) -> Html:
    return element("line", x1="0%", x2="100%", y1=f"{y:.2f}%", y2=f"{y:.2f}%", class_=kind)


def v_line(x: float, kind: str) -> Html:
    return element("line", x1=f"{x:.2f}%", x2=f"{x:.2f}%", y1="0%", y2="100%", class_=kind)


def path(points: Sequence[tuple[float, float]], x: Axis, y: Axis, kind: str) -> Html:
    """A line through (x, y) values; it is broken where a value is not finite, and kept thin however it is stretched."""
    pieces: list[list[str]] = [[]]
    for across, up in points:
        if math.isfinite(across) and math.isfinite(up):
            pieces[-1].append(f"{x.place(across):.2f},{100 - y.place(up):.2f}")
        elif pieces[-1]:
            pieces.append([])
    drawn = [element("polyline", points=" ".join(piece), class_=kind) for piece in pieces if len(piece) > 1]
    return element("svg", join(drawn), viewBox="0 0 100 100", preserveAspectRatio="none", class_="stretch")


def dot(across: float, up: float, x: Axis, y: Axis, kind: str, radius: float = 3.5) -> Html:
    return element("circle", cx=f"{x.place(across):.2f}%", cy=f"{100 - y.place(up):.2f}%", r=radius, class_=kind)
