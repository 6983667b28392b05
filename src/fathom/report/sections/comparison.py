"""Every candidate beside the others, and the difference that decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.console import duration
from fathom.report.axes import Axis, axis
from fathom.report.charts import Row, interval_mark, rows
from fathom.report.facts import Facts
from fathom.report.html import Html, element
from fathom.report.numbers import NOTHING, Measured, bounds, known, p_value, spoken
from fathom.report.sections.parts import figure, legend, section, table


def comparison(facts: Facts) -> Html | None:
    return section("candidates", "The candidates", _forest(facts), _difference(facts), _looks(facts), _table(facts))


def _order(facts: Facts) -> list[str]:
    """Best on the test rows first."""
    metric = facts.metric
    sign = -1 if metric.higher_is_better else 1

    def badness(name: str) -> float:
        value = facts.test[name].get(metric.name)
        return float("inf") if value is None else sign * value

    return sorted(facts.test, key=badness)


def _forest(facts: Facts) -> Html:
    metric = facts.metric
    x = axis(metric.scale * value for name in facts.test for value in _extent(facts, name))
    lines = [_forest_row(facts, name, x) for name in _order(facts)]
    better = "right" if metric.higher_is_better else "left"
    key = legend(("point", "test rows, with 95 % interval"), ("hollow", "validation rows, which decided"))
    unit = facts.unit("%")
    title = f"{metric.label}{', ' + unit if unit else ''} · better to the {better}"
    return element("figure", key, rows(lines, x, x_title=title), class_="wide")


def _extent(facts: Facts, name: str) -> list[float]:
    scores = facts.test[name]
    values = [scores.get(facts.metric.name), *(bounds(scores.get("interval")) or ()), _validation(facts, name)]
    return [float(v) for v in values if v is not None]


def _validation(facts: Facts, name: str) -> float | None:
    return facts.validation.get(name, {}).get(facts.metric.name)


def _forest_row(facts: Facts, name: str, x: Axis) -> Row:
    metric, scores, chosen = facts.metric, facts.test[name], name == facts.advised
    value = known(scores.get(metric.name))
    marks = Html("")
    if value is not None:
        interval = bounds(scores.get("interval"), metric.scale)
        validation = known(_validation(facts, name))
        other = None if validation is None else metric.scale * validation
        marks = interval_mark(metric.scale * value, interval, x, "chosen" if chosen else "", other)
    return Row(spoken(name), marks, metric.show(value), "advised" if chosen else "", chosen)


def _difference(facts: Facts) -> Html | None:
    """The paired difference of the two models that the verdict names, on the test rows."""
    d = facts.metrics.get("difference") or {}
    if known(d.get("value")) is None:
        return None
    metric = facts.metric
    interval = bounds(d.get("interval"), metric.scale)
    x = axis([metric.scale * d["value"], *(interval or ()), 0.0], pad=0.12)
    note = "" if known(d.get("p")) is None else p_value(d["p"])
    marks = interval_mark(metric.scale * d["value"], interval, x, "chosen")
    of, to = spoken(d["of"]), spoken(d["to"])
    right, left = (of, to) if metric.higher_is_better else (to, of)
    title = ", ".join(filter(None, [f"{metric.label}: {of} minus {to}", facts.unit("points")]))
    drawing = rows([Row("difference", marks, metric.difference(d["value"]), note)], x, x_title=title, reference=0.0)
    sides = element("div", element("span", f"← {left} better"), element("span", f"{right} better →"), class_="sides")
    caption = (
        "On test rows. Both models answered the same rows, so their difference is known better than either value alone."
    )
    return figure("The difference", element("div", sides, drawing), caption, wide=True)


def _looks(facts: Facts) -> Html | None:
    """Every comparison that the referee made on validation rows; a gain is positive where the first is better."""
    decision = facts.metrics.get("decision") or {}
    looks = [look for look in decision.get("looks", []) if known(look.get("gain")) is not None]
    if not looks:
        return None
    metric = facts.measure(decision.get("metric", facts.metric.name))
    ends = [e for k in looks for e in (metric.scale * k["gain"], *(bounds(k.get("interval"), metric.scale) or ()))]
    x = axis([*ends, 0.0], pad=0.08)
    lines = [_look(look, metric, x) for look in looks]
    unit = "points" if metric.unit == "%" else facts.target if metric.unit == "target" else ""
    title = ", ".join(filter(None, [f"gain in {metric.label}", unit]))
    number = decision.get("rows")
    on = f"On {number:,} validation rows" if number else "On validation rows"
    rule = f"{on}, with intervals that hold for all comparisons together. Advised is {decision['rule']}."
    drawing = rows(lines, x, x_title=title, reference=0.0)
    return figure("What decided", drawing, rule if decision.get("rule") else f"{on}.", wide=True)


def _look(look: Mapping[str, Any], metric: Measured, x: Axis) -> Row:
    beats = bool(look.get("beats"))
    by = "wins" if beats else str(look.get("reason") or "not clearly better")
    if beats and look.get("by", metric.name) != metric.name:
        by = f"wins by {spoken(str(look['by']))}"
    marks = interval_mark(
        metric.scale * look["gain"], bounds(look.get("interval"), metric.scale), x, "chosen" if beats else ""
    )
    return Row(f"{spoken(look['of'])} over {spoken(look['to'])}", marks, metric.difference(look["gain"]), by)


def _table(facts: Facts) -> Html:
    metric, measures = facts.metric, facts.measures
    head = [
        "",
        metric.label,
        "95 % interval",
        "on validation",
        *[m.label for m in measures[1:]],
        "per prediction",
    ]
    body = [_table_row(facts, name) for name in _order(facts)]
    return table(head, body, numbers=range(1, len(head)), label="all measures of every candidate")


def _table_row(facts: Facts, name: str) -> list[object]:
    scores, metric = facts.test[name], facts.metric
    cost = known(scores.get("seconds_per_row"))
    shown = element("b", spoken(name)) if name == facts.advised else spoken(name)
    return [
        shown,
        metric.show(scores.get(metric.name)),
        metric.interval(scores.get("interval")),
        metric.show(_validation(facts, name)),
        *[m.show(scores.get(m.name)) for m in facts.measures[1:]],
        NOTHING if cost is None else duration(cost),
    ]
