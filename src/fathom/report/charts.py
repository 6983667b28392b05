"""The drawings of the page: intervals, bars, curves, clouds, tables of heat. Values in, SVG in HTML out.

Colours are classes of style.css, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fathom.report.axes import Axis, axis, dot, frame, h_line, log_axis, path, round_marks, v_line
from fathom.report.html import Html, element, join
from fathom.report.numbers import fixed, percent

Interval = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One line of a drawn table: what it is, its mark, and the number in words."""

    name: str
    marks: Html
    value: str
    note: str = ""
    is_chosen: bool = False


def rows(lines: Sequence[Row], x: Axis, *, x_title: str, reference: float | None = None) -> Html:
    """Rows with a common scale under them: a forest plot, bars, words that pull two ways."""
    under = None if reference is None else v_line(x.place(reference), "reference")
    grid = join(v_line(x.place(t), "grid") for t in x.ticks)
    drawn = [_row(line, join([grid, under, line.marks])) for line in lines]
    labels = join(element("span", x.label(t), style=f"left:{x.place(t):.2f}%") for t in x.ticks)
    scale = element("div", element("div", labels, class_="x-labels"), class_="scale")
    return element("div", *drawn, scale, element("div", x_title, class_="x-title"), class_="rows")


def _row(line: Row, marks: Html) -> Html:
    note = element("span", line.note, class_="note") if line.note else None
    # The number is the second word of the row when it is read aloud, so the drawing itself stays silent.
    return element(
        "div",
        element("div", element("span", line.name, class_="what"), note, class_="row-name"),
        element("div", element("svg", marks, aria_hidden="true"), class_="row-area"),
        element("div", line.value, class_="row-value"),
        class_="row chosen" if line.is_chosen else "row",
    )


def interval_mark(value: float, interval: Interval | None, x: Axis, kind: str = "", other: float | None = None) -> Html:
    """A point with its interval; `other` is a second, hollow point (the validation rows)."""
    at = f"{x.place(value):.2f}%"
    parts = []
    if interval is not None:
        low, high = (f"{x.place(bound):.2f}%" for bound in interval)
        parts.append(element("line", x1=low, x2=high, y1="50%", y2="50%", class_=f"whisker {kind}"))
    if other is not None:
        parts.append(element("circle", cx=f"{x.place(other):.2f}%", cy="50%", r=4, class_=f"hollow {kind}"))
    parts.append(element("circle", cx=at, cy="50%", r=4.5, class_=f"point {kind}"))
    return join(parts)


def bar_mark(value: float, interval: Interval | None, x: Axis, kind: str = "bar") -> Html:
    """A bar from zero, with the interval of its end."""
    start, end = sorted((x.place(0.0), x.place(value)))
    parts = [
        element("rect", x=f"{start:.2f}%", y="22%", width=f"{max(end - start, 0.2):.2f}%", height="56%", class_=kind)
    ]
    if interval is not None:
        low, high = (f"{x.place(bound):.2f}%" for bound in interval)
        parts.append(element("line", x1=low, x2=high, y1="50%", y2="50%", class_="bar-whisker"))
    return join(parts)


def pair_mark(value: float, other: float, x: Axis) -> Html:
    """A point and a hollow one; what is not known is left out."""
    both = [("hollow", 4.0, other), ("point chosen", 4.5, value)]
    drawn = [(kind, radius, x.place(size)) for kind, radius, size in both if math.isfinite(size)]
    return join(element("circle", cx=f"{at:.2f}%", cy="50%", r=radius, class_=kind) for kind, radius, at in drawn)


@dataclass(frozen=True)
class Curve:
    """One line of a plot; `kind` is its colour, `best` the point to be marked."""

    points: list[tuple[float, float]]
    kind: str
    best: tuple[float, float] | None = None


def loss_axis(lines: Sequence[Curve]) -> Axis:
    """Losses that fall by more than a factor of thirty are drawn on a logarithmic scale."""
    ups = [up for line in lines for _, up in line.points if math.isfinite(up)]
    return log_axis(ups) if ups and min(ups) > 0 and max(ups) > 30 * min(ups) else axis(ups)


def curves(lines: Sequence[Curve], x: Axis, y: Axis, *, says: str, x_title: str, events: Sequence[float] = ()) -> Html:
    """Lines by step or epoch; `events` are marked across."""
    marks = [v_line(x.place(event), "event") for event in events]
    marks += [path(line.points, x, y, f"curve {line.kind}") for line in lines]
    # A training of one epoch has no line to draw.
    marks += [dot(*line.points[0], x, y, f"point {line.kind}", 3.0) for line in lines if len(line.points) == 1]
    marks += [dot(*line.best, x, y, f"best {line.kind}", 4.5) for line in lines if line.best is not None]
    return frame(join(marks), x, y, says=says, x_title=x_title)


def calibration(bins: Sequence[tuple[float, float, float, float]], *, says: str) -> Html:
    """Reliability: how sure (across) against how often right (up, with an interval); the diagonal is honest."""
    lowest = min(min(said, low) for said, _, low, _ in bins)
    start = max(0.0, math.floor(lowest * 10) / 10)
    step = 0.2 if start < 0.35 else 0.1
    ticks = tuple(t for t in np.arange(1.0, start - 1e-9, -step).round(3).tolist()[::-1])
    scale = Axis(start, 1.0, ticks, lambda value: percent(value, 0))
    marks = [path([(start, start), (1.0, 1.0)], scale, scale, "reference")]
    for said, _, low, high in bins:
        at = f"{scale.place(said):.2f}%"
        ends = [f"{100 - scale.place(bound):.2f}%" for bound in (low, high)]
        marks.append(element("line", x1=at, x2=at, y1=ends[0], y2=ends[1], class_="whisker chosen"))
    marks += [path([(said, right) for said, right, _, _ in bins], scale, scale, "curve validate")]
    marks += [dot(said, right, scale, scale, "point chosen", 4.0) for said, right, _, _ in bins]
    return frame(
        join(marks), scale, scale, says=says, x_title="how sure it was", y_title="how often right", square=True
    )


def cloud(truth: np.ndarray, predicted: np.ndarray, scale: Axis, *, says: str, x_title: str, y_title: str) -> Html:
    """Predicted against true numbers; on the diagonal it is right."""
    ends = (scale.low, scale.high)
    marks = [path([(ends[0], ends[0]), (ends[1], ends[1])], scale, scale, "reference")]
    marks += [dot(float(t), float(p), scale, scale, "speck", 2.2) for t, p in zip(truth, predicted, strict=True)]
    return frame(join(marks), scale, scale, says=says, x_title=x_title, y_title=y_title, square=True)


def histogram(values: np.ndarray, x: Axis, *, says: str, x_title: str, bins: int = 31) -> Html:
    """How often each size of a value occurs, with a line at zero."""
    counts, edges = np.histogram(np.clip(values, x.low, x.high), bins=bins, range=(x.low, x.high))
    top = max(int(counts.max(initial=0)), 1)
    y = Axis(0.0, top * 1.05, tuple(t for t in (0.0, float(top))), lambda value: fixed(value, 0))
    bars = []
    for number, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if number:
            start, width = x.place(left), x.place(right) - x.place(left)
            tall = y.place(float(number))
            bars.append(_bar(start + 0.08 * width, 100 - tall, 0.84 * width, tall))
    zero = [v_line(x.place(0.0), "reference")] if x.low < 0 < x.high else []
    return frame(join([*bars, *zero]), x, y, says=says, x_title=x_title, y_title="test rows")


def shares(values: Sequence[float], wanted: float | None, labels: Sequence[str], *, says: str, x_title: str) -> Html:
    """A share for each of several groups, with the share that was promised as a line."""
    low = max(0.0, math.floor((min([*values, wanted or 1.0]) - 0.05) * 10) / 10)
    y = Axis(low, 1.0, round_marks(low, 1.0, 5), lambda value: percent(value, 0))
    num = len(values)
    x = Axis(0.0, num, tuple(i + 0.5 for i in range(num)), lambda value: labels[int(value)])
    bars = [_bar(x.place(i + 0.12), 100 - y.place(v), 76 / num, y.place(v)) for i, v in enumerate(values)]
    line = [] if wanted is None else [h_line(100 - y.place(wanted), "reference")]
    return frame(join([*bars, *line]), x, y, says=says, x_title=x_title)


def _bar(x: float, y: float, width: float, height: float) -> Html:
    sides = {"x": x, "y": y, "width": width, "height": height}
    return element("rect", class_="bar", **{name: f"{side:.2f}%" for name, side in sides.items()})


def heat(counts: np.ndarray, names: Sequence[str]) -> Html:
    """A confusion matrix as a table: rows are true classes, columns predicted ones, shades are shares of the row."""
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    across = [element("th", element("span", name, title=name), scope="col") for name in names]
    corner = element("td", "true ↓", element("br"), "predicted →", class_="corner")
    head = element("tr", corner, *across, element("th", "right", class_="right"))
    body = []
    for i, name in enumerate(names):
        cells = [_heat_cell(int(counts[i, j]), float(share[i, j]), i == j) for j in range(len(names))]
        right = percent(float(share[i, i]) if totals[i, 0] else None, 0)
        head_cell = element("th", element("span", name, title=name), scope="row")
        body.append(element("tr", head_cell, *cells, element("td", right, class_="right")))
    wide = max(len(name) for name in names) > 3 and len(names) > 5
    size = "dense" if len(names) > 12 else "roomy"
    table = element(
        "table",
        element("thead", head),
        element("tbody", *body),
        class_=f"heat {size} turned" if wide else f"heat {size}",
    )
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label="confusion matrix")


def _heat_cell(count: int, share: float, is_right: bool) -> Html:
    if count == 0:
        return element("td", element("span", "·", class_="none"))
    # Mistakes are rare in a good model: the square root keeps them visible.
    strength = share if is_right else math.sqrt(share)
    kind = ("right-cell" if is_right else "wrong-cell") + (" strong" if strength > 0.55 else "")
    return element("td", fixed(count, 0), class_=kind, style=f"--heat:{100 * strength:.0f}%")


def overlay(picture: str | None, grid: np.ndarray, *, says: str) -> Html:
    """A grid of values laid over a picture: the stronger the colour, the more the model needs that patch."""
    top = max(float(grid.max(initial=0.0)), 1e-12)
    down, across = grid.shape
    cells = [
        element(
            "rect",
            element("title", f"row {i + 1}, column {j + 1}: {fixed(100 * grid[i, j], 2)}"),
            x=f"{100 * j / across:.3f}%",
            y=f"{100 * i / down:.3f}%",
            width=f"{100 / across:.3f}%",
            height=f"{100 / down:.3f}%",
            fill_opacity=float(max(grid[i, j], 0.0) / top * 0.7),
            class_="patch",
        )
        for i in range(down)
        for j in range(across)
    ]
    # The picture once by itself: under the colour it can hardly be made out.
    plain = (
        element("div", element("img", src=picture, alt="the average picture"), class_="overlay") if picture else None
    )
    behind = element("img", src=picture, alt="") if picture else None
    covered = element("div", behind, element("svg", *cells, role="img", aria_label=says), class_="overlay")
    return element("div", plain, covered, class_="overlays", style=f"--ratio:{across}/{down}")
