"""How the run was made: what was read, how it was split, what was left out, and each choice with its reason."""

from __future__ import annotations

from collections import Counter

from fathom.console import count
from fathom.report.facts import Facts
from fathom.report.html import Html, element, join
from fathom.report.numbers import SPACE, percent, spoken
from fathom.report.sections.parts import facts as fact_list
from fathom.report.sections.parts import folded, paragraph, section, table

STORY = ("Reading", "Task", "Fields", "Splitting")  # labels of the log that tell of the data
LINES_OF_A_STAGE = 6
PLACES_SHOWN = 12


def making(facts: Facts) -> Html | None:
    return section(
        "making",
        "How it was made",
        _split(facts),
        _story(facts),
        _fields(facts),
        _left_out(facts),
        _choices(facts),
    )


def _split(facts: Facts) -> Html | None:
    rows = {name: number for name, number in facts.metrics.get("rows", {}).items() if number}
    total = sum(rows.values())
    if not total:
        return None
    parts = [element("span", class_=f"part {name}", style=f"flex-grow:{number}") for name, number in rows.items()]
    words = [
        element("span", element("i", class_=f"key {name}"), _share(facts, name, number / total))
        for name, number in rows.items()
    ]
    return element(
        "div",
        element("div", *parts, class_="split", role="img", aria_label="how the rows were split"),
        element("div", *words, class_="legend"),
    )


def _share(facts: Facts, part: str, share: float) -> str:
    folds = facts.metrics.get("folds", 1)
    name = f"train and validate by turns, in {folds} folds:" if part == "validate" and folds > 1 else part
    return f"{name} {facts.metrics['rows'][part]:,} ({percent(share, 0)})"


def _story(facts: Facts) -> Html | None:
    """What was said while the data was read; the guesses about columns stand in the table of fields."""
    columns = facts.spec.get("fields", {})
    told = []
    for label in STORY:
        lines = [line for line in facts.stages.get(label, []) if line.split(":")[0] not in columns]
        shown = [element("div", line) for line in lines[:LINES_OF_A_STAGE]]
        if shown:
            told.append((label, join(shown)))
    return fact_list(told) if told else None


def _fields(facts: Facts) -> Html | None:
    columns = facts.spec.get("fields", {})
    if not columns:
        return None
    reasons = _guesses(facts)
    kinds = Counter(str(spec.get("kind", "")) for spec in columns.values())
    counted = ", ".join(f"{kind}{SPACE}{number:,}" for kind, number in kinds.most_common())
    head = ["column", "taken for", *(["because"] if reasons else [])]
    body = [[name, str(spec.get("kind", "")), reasons.get(name, "")][: len(head)] for name, spec in columns.items()]
    listed = table(head, body, label="columns and what they were taken for")
    return folded(f"{count(len(columns), 'column')} and what each was taken for: {counted}", listed)


def _guesses(facts: Facts) -> dict[str, str]:
    """Column → reason, from the spec where it keeps one, else from the log's 'age: number, 73 distinct values'."""
    columns = facts.spec.get("fields", {})
    found = {name: str(spec["why"]) for name, spec in columns.items() if spec.get("why")}
    for line in (line for lines in facts.stages.values() for line in lines):
        for name in columns:
            start = f"{name}: {columns[name].get('kind', '')}, "
            if line.startswith(start):
                found.setdefault(name, line[len(start) :])
    return found


def _left_out(facts: Facts) -> Html | None:
    if not facts.left_out:
        return None
    reasons = Counter(row.get("why", "") for row in facts.left_out)
    summary = table(
        ["rows or files", "why"],
        [(f"{n:,}", why) for why, n in reasons.most_common(8)],
        numbers=[0],
        label="why left out",
    )
    first = [(row.get("where", ""), row.get("why", "")) for row in facts.left_out[:PLACES_SHOWN]]
    title = f"{len(facts.left_out):,} left out"
    more = len(facts.left_out) - len(first)
    rest = paragraph(f"{more:,} more are listed in left_out.csv.", kind="caption") if more else None
    listed = folded(title + ": the first by name", table(["where", "why"], first, label="what was left out"), rest)
    return element("div", element("h3", "Left out"), summary, listed)


def _choices(facts: Facts) -> Html | None:
    reasons = facts.recipe.reasons
    if not reasons:
        return None
    body = [(spoken(r.get("what", "")), element("b", r.get("chosen", "")), r.get("why", "")) for r in reasons]
    listed = table(["what", "chosen", "because"], body, label="choices and their reasons")
    note = paragraph(
        "Chosen for you; each can be set instead with key=value, and all of it stands in recipe.yaml.", kind="caption"
    )
    return element("div", element("h3", "Choices"), listed, note)
