"""One page that tells a whole run: the verdict first, then what it stands on, then how it was made.

It is written from the plain files of the run folder and needs nothing else: no network, no script, no second file.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from fathom.report.facts import Facts
from fathom.report.html import Html, element
from fathom.report.mistaken import Mistaken
from fathom.report.sections.classes import classes
from fathom.report.sections.comparison import comparison
from fathom.report.sections.doctor import doctor
from fathom.report.sections.examples import mistaken_examples
from fathom.report.sections.importance import importance
from fathom.report.sections.learning import learning
from fathom.report.sections.making import making
from fathom.report.sections.parts import section
from fathom.report.sections.residuals import residuals
from fathom.report.sections.using import costs, environment, using
from fathom.report.sections.verdict import verdict
from fathom.run import RunFolder, reading

# Data in the page cannot run or load anything, even if an escape were forgotten.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write(folder: Path, *, examples: Sequence[Mistaken] | None = None) -> Path:
    """Write report.html into a finished run folder and return its path.

    `examples` are the most mistaken rows, worst first. Raises UserError where the folder is no run, the run did not
    finish, or a file of it is damaged.
    """
    folder = Path(folder)
    run = RunFolder.open(folder)
    facts = Facts.read(folder)
    with reading(folder):
        told = page(facts, examples or ())
    run.write_text("report.html", told)
    return folder / "report.html"


def page(facts: Facts, examples: Sequence[Mistaken]) -> str:
    told = [
        comparison(facts),
        doctor(facts, examples),
        _mistakes(facts, examples),
        importance(facts),
        learning(facts),
        making(facts),
        costs(facts),
        using(facts),
        environment(facts),
    ]
    return "<!doctype html>\n" + element(
        "html", _head(facts), element("body", element("main", verdict(facts), *told), _foot()), lang="en"
    )


def _mistakes(facts: Facts, examples: Sequence[Mistaken]) -> Html | None:
    draw = {"classify": classes, "regress": residuals}.get(facts.kind)
    drawn = draw(facts) if draw else []
    return section("mistakes", "Where it is wrong", *drawn, mistaken_examples(facts, examples))


def _head(facts: Facts) -> Html:
    style = resources.files("fathom.report").joinpath("style.css").read_text("utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{facts.path.resolve().name} · Fathom"),
        element("style", Html(style)),
    )


def _foot() -> Html:
    return element("footer", "Written by Fathom from the plain files beside this page.")
