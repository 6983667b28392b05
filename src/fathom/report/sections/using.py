"""What it cost, how to use the model next, and where it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.console import duration
from fathom.report.facts import Facts
from fathom.report.html import Html, element
from fathom.report.numbers import known, plain, spoken
from fathom.report.sections.parts import facts as fact_list
from fathom.report.sections.parts import folded, section, table


def costs(facts: Facts) -> Html | None:
    """Each candidate with what it is, the time it took to fit, and the time it takes to use."""
    spent: Mapping[str, Any] = facts.metrics.get("seconds", {})
    about: Mapping[str, Any] = facts.metrics.get("about", {})
    candidates = facts.test
    body = [
        (spoken(name), about.get(name, ""), _time(spent.get(name)), _time(scores.get("seconds_per_row"), 1000))
        for name, scores in candidates.items()
    ]
    body += [(spoken(name), "", _time(value), "") for name, value in spent.items() if name not in candidates]
    head = ["", "what it is", "to fit", "1,000 predictions"]
    return section("costs", "What it cost", table(head, body, numbers=[2, 3], label="what each candidate cost"))


def _time(seconds: float | None, factor: int = 1) -> str:
    return "" if seconds is None or known(seconds) is None else duration(factor * seconds)


def using(facts: Facts) -> Html:
    where = facts.path.as_posix()
    quoted = where if _is_plain(where) else "'" + where.replace("'", "'\\''") + "'"
    new = _new_data(facts)
    commands = [
        ("Predict", f"fathom predict {quoted} {new}"),
        ("Check on new rows with known answers", f"fathom evaluate {quoted} {new}"),
        ("Make the same run again", f"fathom fit --recipe {quoted}/recipe.yaml --out {quoted}-again"),
        ("Compare with other runs", "fathom runs"),
    ]
    lines = [
        element("div", element("dt", words), element("dd", element("code", command))) for words, command in commands
    ]
    python = f"import fathom\n\nrun = fathom.load({where!r})\nrun.predict({new!r})"
    return element(
        "section",
        element("h2", "Use it"),
        element("dl", *lines, class_="commands"),
        element("pre", element("code", python)),
        id="use",
    )


def _is_plain(path: str) -> bool:
    return all(c.isalnum() or c in "/._-+" for c in path)


def _new_data(facts: Facts) -> str:
    kinds = {str(spec.get("kind", "")) for spec in facts.spec.get("fields", {}).values()}
    return "new-pictures/" if kinds == {"image"} or facts.kind == "pair" else "new.csv"


def environment(facts: Facts) -> Html | None:
    pairs = [(spoken(name), _shown(value)) for name, value in facts.environment.items()]
    about = folded("Machine and versions", fact_list(pairs)) if pairs else None
    log = folded("The log of the run", element("pre", facts.log.rstrip())) if facts.log.strip() else None
    return section("environment", "Where it was made", about, log)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown(inner) for inner in value)
    if isinstance(value, float):
        return plain(value)
    return str(value)
