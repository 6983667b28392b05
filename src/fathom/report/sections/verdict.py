"""The answer in large, and the numbers that it stands on."""

from __future__ import annotations

from fathom.console import duration
from fathom.report.facts import Facts
from fathom.report.html import Html, element
from fathom.report.numbers import bounds, fixed, known, spoken


def verdict(facts: Facts) -> Html:
    sentence = str(facts.metrics["sentence"])
    return element(
        "header",
        element("p", element("b", "Fathom"), " · ", facts.path.resolve().name, class_="run"),
        element("h1", sentence[:1].upper() + sentence[1:]),
        element("p", _question(facts), class_="question"),
        _key_numbers(facts),
    )


def _question(facts: Facts) -> str:
    rows = facts.metrics.get("rows", {}).get("test")
    judged = f" Judged on {rows:,} test rows that chose nothing." if rows else ""
    asked = {
        "regress": f"The number ‘{facts.target}’ is predicted.",
        "language": f"The language of ‘{facts.target}’ is learned: each next token from those before it.",
        "translate": f"Texts are translated into ‘{facts.target}’.",
        "pair": f"Pictures are matched with ‘{facts.target}’, and ‘{facts.target}’ with pictures{_among(facts)}.",
    }
    if facts.kind in asked:
        return asked[facts.kind] + judged
    number = "Two" if len(facts.classes) == 2 else f"{len(facts.classes)}"
    return f"{number} classes are told apart by ‘{facts.target}’.{judged}"


def _among(facts: Facts) -> str:
    """', each among 120 captions and 60 pictures': how hard the question was."""
    found = facts.metrics.get("among")
    return f", each among {found['captions']:,} captions and {found['pictures']:,} pictures" if found else ""


def _key_numbers(facts: Facts) -> Html:
    scores = facts.test[facts.advised]
    metric = facts.metric
    shown = [(metric.label, metric.show(scores.get(metric.name)), _interval(facts))]
    shown += [(other.label, other.show(scores.get(other.name)), "") for other in facts.measures[1:3]]
    if known(scores.get("seconds_per_row")) is not None:
        shown.append(("each prediction", duration(scores["seconds_per_row"]), spoken(facts.advised)))
    total = facts.metrics.get("seconds", {}).get("total")
    if total is not None:
        epochs = sum(1 for row in facts.epochs if row.get("fold", "0") in ("0", ""))
        shown.append(("the whole run", duration(total), f"{fixed(epochs, 0)} epochs" if epochs else ""))
    return element("div", *[_key_number(*one) for one in shown], class_="key-numbers")


def _interval(facts: Facts) -> str:
    interval = facts.test[facts.advised].get("interval")
    return "" if bounds(interval) is None else f"95 % interval {facts.metric.interval(interval)}"


def _key_number(label: str, value: str, note: str) -> Html:
    return element(
        "div",
        element("span", label, class_="label"),
        element("strong", value),
        element("span", note, class_="note") if note else None,
    )
