"""The evidence of a finding, drawn: curves of losses, sizes by layer, rates that were tried, rows, columns.

What a reader would get wrong: a finding says what it saw under names that all findings share ("losses", "layers",
"places" …), so nothing here asks which finding it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fathom.report.axes import Axis, axis, log_axis, whole_axis
from fathom.report.charts import Curve, Row, bar_mark, curves, loss_axis, pair_mark, rows
from fathom.report.facts import Facts
from fathom.report.html import Html, element, join
from fathom.report.mistaken import Mistaken
from fathom.report.numbers import percent, plain
from fathom.report.sections.examples import card
from fathom.report.sections.parts import figure, figures, legend, paragraph, table

COPIES = {"standardised": ("inputs as they are", "standardised"), "anew": ("first weights as they are", "made anew")}
MOST_LAYERS = 24
MOST_NAMES = 20
MOST_CARDS = 4


class Kept:
    """The evidence of a finding as it was read from a file."""

    def __init__(self, finding: Mapping[str, Any]) -> None:
        given, step = finding.get("evidence"), finding.get("step")
        self.evidence: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        self.events = [] if step is None else [float(step)]

    def listed(self, name: str) -> list[Any]:
        """A list of that name; an empty one where there is none, or something else."""
        given = self.evidence.get(name)
        return given if isinstance(given, list) else []

    def tables(self, name: str) -> list[Mapping[str, Any]]:
        return [one for one in self.listed(name) if isinstance(one, Mapping)]


def drawings(kept: Kept) -> Html | None:
    """Whatever of it can be drawn; None where nothing can."""
    return figures(_losses(kept), _judged(kept), _copies(kept), _rates(kept), _layers(kept), _signals(kept))


def rows_and_names(facts: Facts, kept: Kept, examples: Sequence[Mistaken]) -> Html | None:
    """Groups and rows that are meant, with what the page shows of them anyway; columns, parameters, modules."""
    parts = [_groups(kept), _places(facts, kept, examples), *_names(kept)]
    return element("div", *parts, class_="meant") if any(parts) else None


def _losses(kept: Kept) -> Html | None:
    points = _points(kept.listed("losses"))
    if len(points) < 2:
        return None
    drawing = _curves([Curve(points, "train")], "loss by step", kept.events)
    return figure("Loss", drawing, f"The line marks step {kept.events[0]:,.0f}." if kept.events else None)


def _judged(kept: Kept) -> Html | None:
    points = _points(kept.listed("judged"))
    if len(points) < 2:
        return None
    best = min(points, key=lambda point: point[1])
    drawing = _curves([Curve(points, "validate", best)], "loss on judged rows by step", kept.events)
    return figure("Loss on judged rows", drawing, f"It was lowest at step {best[0]:,.0f}.")


def _copies(kept: Kept) -> Html | None:
    """Losses of two copies: as it is, and with what is asked about changed."""
    name = "anew" if kept.listed("anew") else "standardised"
    as_it_is, changed = COPIES[name]
    both = [_points(list(enumerate(kept.listed(one), 1))) for one in ("plain", name)]
    if min(map(len, both)) < 2:
        return None
    key = legend(("train", as_it_is), ("validate", changed))
    lines = [Curve(points, kind) for points, kind in zip(both, ("train", "validate"), strict=True)]
    return figure("Two copies of the model", join([key, _curves(lines, "loss by step")]))


def _rates(kept: Kept) -> Html | None:
    """How much of its loss a copy lost at each of several rates."""
    tried = list(zip(kept.listed("factors"), kept.listed("learnt"), strict=False))
    if not tried:
        return None
    x = axis([*[100 * _number(learnt) for _, learnt in tried], 0.0])
    lines = [_rate(_number(factor), _number(learnt), x) for factor, learnt in tried]
    title = "part of its loss that a copy learned away, %"
    return figure("Learning rates tried", rows(lines, x, x_title=title, reference=0.0))


def _rate(factor: float, learnt: float, x: Axis) -> Row:
    kind = "bar against" if learnt < 0 else "bar"
    mark = bar_mark(100 * learnt, None, x, kind) if math.isfinite(learnt) else Html("")
    name = "the rate in use" if factor == 1 else f"{plain(factor)} times it"
    return Row(name, mark, percent(learnt, 0) if learnt > -1 else "ran away", is_chosen=factor == 1)


def _layers(kept: Kept) -> Html | None:
    """Gradients and updates beside each other, from the input on; a layer without any stands at the left end."""
    layers = kept.tables("layers")
    sizes = [_number(one.get(what)) for one in layers for what in ("gradient", "update")]
    if not any(size > 0 for size in sizes):
        return None
    shown = _spread(layers)
    x = log_axis(sizes, label=_power)
    lines = [_layer(one, x) for one in shown]
    key = legend(("point", "gradient"), ("hollow", "what the step changed"))
    less = "" if len(shown) == len(layers) else f" {len(shown)} of {len(layers)} layers."
    caption = f"From the input at the top to the output; roots of mean squares.{less}"
    return figure("Sizes by layer", join([key, rows(lines, x, x_title="size")]), caption)


def _layer(one: Mapping[str, Any], x: Axis) -> Row:
    gradient, update = _number(one.get("gradient")), _number(one.get("update"))
    return Row(str(one.get("name")), pair_mark(gradient, update, x), _power(gradient))


def _signals(kept: Kept) -> Html | None:
    """Mean squares on the way forwards and back, given as natural logarithms by layer."""
    ways = [("forwards", "train"), ("backwards", "validate")]
    known = [(kept.evidence.get(way), kind) for way, kind in ways]
    lines = [Curve(_depths(given), kind) for given, kind in known if isinstance(given, Mapping)]
    if not lines or max(len(line.points) for line in lines) < 2:
        return None
    key = legend(("train", "outputs"), ("validate", "gradients"))
    y = log_axis([up for line in lines for _, up in line.points], label=_power)
    x = whole_axis(1, max(len(line.points) for line in lines))
    drawing = curves(lines, x, y, says="sizes of outputs and gradients by layer", x_title="layer, from the input on")
    return figure("Sizes before the first step", join([key, drawing]), "Mean squares by layer.")


def _depths(logarithms: Mapping[str, Any]) -> list[tuple[float, float]]:
    values = [_number(value) for value in logarithms.values()]
    return [(float(at), math.exp(value)) for at, value in enumerate(values, 1) if -600 < value < 600]


def _groups(kept: Kept) -> Html | None:
    groups = kept.tables("groups")
    if not groups:
        return None
    ways: list[tuple[str, str, Callable[[float], str]]] = [
        ("right", "right", percent),
        ("expected", "promised", percent),
        ("mean_error", "mean error", plain),
    ]
    told = [way for way in ways if way[0] in groups[0]]
    head = ["group", "rows", *[title for _, title, _ in told]]
    body = [
        [str(one.get("name")), plain(_number(one.get("rows"))), *[show(_number(one.get(w))) for w, _, show in told]]
        for one in groups[:MOST_NAMES]
    ]
    return table(head, body, numbers=range(1, len(head)), label="groups of rows")


def _places(facts: Facts, kept: Kept, examples: Sequence[Mistaken]) -> Html | None:
    """The rows that are meant; pictures and texts of those that the page shows anyway."""
    places = [str(place) for place in kept.listed("places")][:MOST_NAMES]
    if not places:
        return _listed("Rows of the batch", [str(row) for row in kept.listed("rows")])
    known = [one for one in examples if one.place in set(places) and (one.picture is not None or one.text is not None)]
    cards = element("div", *[card(facts, one) for one in known[:MOST_CARDS]], class_="cards") if known else None
    answers = _answers(facts, places)
    if not answers:
        return join([_listed("Rows", places), cards])
    return join([table(["where", "true", "predicted"], answers, label="the rows that are meant"), cards])


def _answers(facts: Facts, places: Sequence[str]) -> list[tuple[Html, str, str]]:
    """Where, truth and prediction of the rows that are test rows."""
    if facts.truth is None or facts.predicted is None or "place" not in facts.predictions:
        return []
    at = {str(place): row for row, place in enumerate(facts.predictions["place"])}
    return [
        (element("span", place, class_="place"), _cell(facts.truth[at[place]]), _cell(facts.predicted[at[place]]))
        for place in places
        if place in at
    ]


def _names(kept: Kept) -> list[Html | None]:
    titles = {"columns": "Columns", "parameters": "Parameters", "modules": "Modules"}
    return [_listed(title, [str(name) for name in kept.listed(key)]) for key, title in titles.items()]


def _listed(title: str, names: Sequence[str]) -> Html | None:
    if not names:
        return None
    shown = [element("code", name) for name in names[:MOST_NAMES]]
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return paragraph(f"{title}: ", join(shown, ", "), more, kind="names")


def _curves(lines: Sequence[Curve], says: str, events: Sequence[float] = ()) -> Html:
    steps = [*(step for line in lines for step, _ in line.points), *events]
    x = whole_axis(int(min(steps)), int(max(steps)))
    return curves(lines, x, loss_axis(lines), says=says, x_title="step", events=events)


def _points(given: Any) -> list[tuple[float, float]]:
    """(step, loss) pairs; a loss that is not finite breaks the line."""
    pairs = [one for one in given or [] if isinstance(one, list | tuple) and len(one) == 2]
    return [(_number(step), _number(loss)) for step, loss in pairs if math.isfinite(_number(step))]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _spread(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most so many, evenly from the first to the last."""
    if len(layers) <= MOST_LAYERS:
        return list(layers)
    return [layers[round(i * (len(layers) - 1) / (MOST_LAYERS - 1))] for i in range(MOST_LAYERS)]


def _cell(value: Any) -> str:
    return plain(float(value)) if isinstance(value, float) else str(value)


def _power(value: float) -> str:
    """'10⁻⁷', '2·10⁻⁷'; from a hundredth to 100 as it is, with two digits."""
    if not 0 < abs(value) < math.inf:
        return plain(value)
    if 0.01 <= value <= 100:
        return plain(float(f"{value:.2g}"))
    mantissa, exponent = f"{value:.0e}".split("e")
    raised = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return raised if mantissa == "1" else f"{mantissa}·{raised}"
