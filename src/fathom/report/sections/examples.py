"""The examples the advised model was most mistaken about, as pictures, text or table rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fathom.report.facts import Facts
from fathom.report.html import Html, element
from fathom.report.mistaken import Mistaken, picture_uri
from fathom.report.numbers import decimals_for, fixed, percent, plain
from fathom.report.sections.parts import facts as fact_list
from fathom.report.sections.parts import figure, paragraph, table

LONGEST_TEXT = 420
MOST_FIELDS = 10
FOUR_DIGITS = 10_000  # thousands are set apart from here on: a year stays a year


# What comes first, and what to look for.
LEADS = {
    "classify": ("Wrong answers, the surest first.", "true values that are wrong"),
    "regress": ("The largest errors first.", "true values that are wrong"),
    "language": ("The pieces of text that surprised the model most come first.", "text of another kind"),
    "translate": ("The translations least like their reference come first.", "references that are wrong"),
    "pair": ("The pairs that were farthest from being found come first.", "captions that do not fit"),
}


def mistaken_examples(facts: Facts, examples: Sequence[Mistaken]) -> Html | None:
    if not examples:
        return None
    if all(e.picture is None and e.text is None for e in examples):
        body = _as_table(facts, examples)
    else:
        body = element("div", *[card(facts, e) for e in examples], class_="cards")
    first, look = LEADS.get(facts.kind, LEADS["regress"])
    why = f"{first} Look for {look}, and for what these examples have in common."
    return figure("Most mistaken", Html(paragraph(why, kind="lead") + body), wide=True)


def card(facts: Facts, example: Mistaken) -> Html:
    """One example with what a person can look at, and the answer it got."""
    shown = []
    if example.picture is not None:
        small = max(example.picture.shape[:2]) <= 96
        kind = "pixels" if small else None
        shown.append(element("img", src=picture_uri(example.picture), alt=f"the picture {example.place}", class_=kind))
    if example.text is not None:
        shown.append(element("blockquote", _excerpt(example.text)))
    if example.row:
        shown.append(fact_list([(n, _value(v)) for n, v in _first_fields(facts, example)], "fields"))
    return element(
        "article", *shown, _answer(facts, example), element("p", example.place, class_="place"), class_="card"
    )


def _answer(facts: Facts, example: Mistaken) -> Html:
    if facts.kind == "language":
        return fact_list([("loss", f"{fixed(float(example.predicted), 2)} nats a token")], "answer")
    if facts.kind == "translate":
        wrong = element("span", str(example.predicted), class_="wrong")
        return fact_list([("written", wrong), ("reference", str(example.truth))], "answer")
    if facts.kind == "pair":
        return fact_list([("ranks of its caption, its picture", str(example.predicted))], "answer")
    given = [("predicted", element("span", _value(example.predicted), class_="wrong")), ("true", _value(example.truth))]
    last = ("sure", percent(example.sure, 1)) if facts.is_classify else ("off by", _off(example))
    return fact_list([*given, last], "answer")


def _error(example: Mistaken) -> float:
    assert example.truth is not None, "a number has a truth"
    return float(example.predicted) - float(example.truth)


def _off(example: Mistaken) -> str:
    error = _error(example)
    return fixed(error, decimals_for([error], digits=4), sign=True)


def _excerpt(words: str) -> str:
    words = " ".join(words.split())
    return words if len(words) <= LONGEST_TEXT else words[:LONGEST_TEXT].rsplit(" ", 1)[0] + " …"


def _as_table(facts: Facts, examples: Sequence[Mistaken]) -> Html:
    columns = [name for name, _ in _first_fields(facts, examples[0])]
    last = [percent(e.sure, 1) for e in examples]
    if not facts.is_classify:
        last = _column([_error(e) for e in examples], sign=True)
    answers: list[Sequence[object]] = [
        [element("span", given, class_="wrong") for given in _column([e.predicted for e in examples])],
        _column([e.truth for e in examples]),
        last,
    ]
    fields = [[(e.row or {}).get(name) for e in examples] for name in columns]
    places = [element("span", e.place, class_="place") for e in examples]
    numeric = {i for i, values in enumerate(fields, len(answers)) if all(_is_number(v) for v in values)}
    head = ["predicted", "true", "sure" if facts.is_classify else "off by", *columns, "where"]
    cells: list[Sequence[object]] = [*answers, *[_column(values) for values in fields], places]
    body = list(zip(*cells, strict=True))
    return table(head, body, numbers=numeric | ({2} if facts.is_classify else {0, 1, 2}), label="most mistaken rows")


def _column(values: Sequence[object], *, sign: bool = False) -> list[str]:
    """Values that stand under each other; numbers share their decimals."""
    if not all(_is_number(v) for v in values):
        return [_value(v) for v in values]
    known = [float(v) for v in values]  # type: ignore[arg-type]
    places = 0 if all(v.is_integer() for v in known) else decimals_for(known, digits=4)
    written = [fixed(v, places, sign=sign) for v in known]
    return [w.replace(",", "") for w in written] if max(map(abs, known)) < FOUR_DIGITS else written


def _first_fields(facts: Facts, example: Mistaken) -> list[tuple[str, object]]:
    """The fields that matter most come first, and the long tail is left away."""
    row = dict(example.row or {})
    matters = [str(item["name"]) for item in facts.metrics.get("importance", [])]
    ranked = [name for name in matters if name in row] + [name for name in row if name not in matters]
    return [(name, row[name]) for name in ranked[:MOST_FIELDS]]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _value(value: object) -> str:
    if value is None or (isinstance(value, float | np.floating) and math.isnan(float(value))):
        return "–"
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        written = plain(float(value))
        return written.replace(",", "") if abs(float(value)) < FOUR_DIGITS else written
    words = str(value)
    return words if len(words) <= 60 else words[:59] + "…"
