"""What the model looked at: columns as bars, words as bars two ways, patches over the average picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fathom.report.axes import axis
from fathom.report.charts import Row, bar_mark, overlay, rows
from fathom.report.facts import Facts
from fathom.report.html import Html
from fathom.report.numbers import bounds, decimals_for, fixed, known
from fathom.report.sections.parts import figure, figures, section

MOST_BARS = 20
MOST_WORDS = 12  # on each side


def importance(facts: Facts) -> Html | None:
    found: list[Mapping[str, Any]] = facts.metrics.get("importance") or []
    drawn = [_columns(facts, found), figures(*[_patches(facts, item) for item in found if item.get("grid")])]
    drawn += [_words(facts, item) for item in found if item.get("words")]
    return section("importance", "What it looked at", *drawn)


def _columns(facts: Facts, found: Sequence[Mapping[str, Any]]) -> Html | None:
    columns = sorted((item for item in found if known(item.get("value")) is not None), key=lambda item: -item["value"])
    # That everything hangs on the only input needs no drawing.
    if len(columns) < 2:
        return None
    metric, shown = facts.metric, columns[:MOST_BARS]
    factor = metric.scale
    ends = [end for item in shown for end in (factor * item["value"], *(bounds(item.get("interval"), factor) or ()))]
    x = axis([*ends, 0.0])
    places = decimals_for([factor * item["value"] for item in shown[:1]])
    lines = [_bar(item, factor, x, places) for item in shown]
    unit = facts.unit("points")
    rest = len(columns) - len(shown)
    caption = (
        "How much worse the advised model becomes when the column is shuffled among the rows, with a 95 % interval. "
        "Columns that say the same share their weight." + (f" {rest} more columns matter less." if rest else "")
    )
    title = f"loss of {metric.label}" if metric.higher_is_better else f"rise of {metric.label}"
    return figure(
        "Columns", rows(lines, x, x_title=f"{title}{', ' + unit if unit else ''}", reference=0.0), caption, wide=True
    )


def _bar(item: Mapping[str, Any], factor: int, x: Any, places: int) -> Row:
    value = factor * float(item["value"])
    interval = bounds(item.get("interval"), factor)
    faint = interval is not None and interval[0] <= 0 <= interval[1]
    return Row(
        str(item["name"]),
        bar_mark(value, interval, x, "bar faint" if faint else "bar"),
        fixed(value, places, sign=True),
    )


def _patches(facts: Facts, item: Mapping[str, Any]) -> Html:
    grid = np.asarray(item["grid"], float)
    top = float(grid.max(initial=0.0))
    what = (
        f"{fixed(100 * top, 1)} points of the true class’s probability"
        if facts.is_classify
        else fixed(top, decimals_for([top]))
    )
    caption = (
        "The average picture; the stronger the colour, the more is lost when that patch is taken from another picture. "
        f"The strongest patch costs {what}."
    )
    return figure(
        f"Where in ‘{item['name']}’", overlay(item.get("average"), grid, says="importance of each patch"), caption
    )


def _words(facts: Facts, item: Mapping[str, Any]) -> Html:
    """Two answers: bars to the left and right of zero. More: bars to the right, each with the class it speaks for."""
    ranked = sorted(item["words"], key=lambda word: -word["value"])
    sides = ["lower", "higher"] if not facts.is_classify else facts.classes
    two_ways = len(sides) == 2
    if two_ways:
        left, right = ([w for w in ranked if w["toward"] == side][:MOST_WORDS] for side in sides)
        shown = [*right, *reversed(left)]
    else:
        shown = ranked[: 2 * MOST_WORDS]
    factor = 100 if facts.is_classify else 1
    signed = [factor * (-w["value"] if two_ways and w["toward"] == sides[0] else w["value"]) for w in shown]
    x = axis([*signed, 0.0])
    places = decimals_for([max(signed, key=abs, default=0.0)], digits=2)
    lines = [
        Row(
            w["word"],
            bar_mark(v, None, x, "bar against" if v < 0 else "bar"),
            fixed(v, places, sign=True),
            f"{w['count']}×" if two_ways else f"{w['count']}× · {w['toward']}",
        )
        for w, v in zip(shown, signed, strict=True)
    ]
    title = f"← {sides[0]} · {sides[1]} →" if two_ways else "toward the class named"
    unit = " (points of probability)" if facts.is_classify else ""
    caption = (
        "How much the answer changes when the word is taken out of a text, on average over the texts that have it."
    )
    return figure(f"Words of ‘{item['name']}’", rows(lines, x, x_title=title + unit, reference=0.0), caption, wide=True)
