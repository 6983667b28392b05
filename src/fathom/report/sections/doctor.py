"""What the doctor found, causes first: what was seen, what it means, what to do, how sure it is; or where it looked.

What a reader would get wrong: each fold of a run is watched by itself, so one fault comes several times in the file. On
the page it stands once, with the numbers of the first fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fathom.doctor.finding import CATALOGUE
from fathom.report.facts import Facts
from fathom.report.html import Html, element, join
from fathom.report.mistaken import Mistaken
from fathom.report.numbers import fixed, percent
from fathom.report.sections.evidence import Kept, drawings, rows_and_names
from fathom.report.sections.parts import facts as fact_list
from fathom.report.sections.parts import paragraph, section

FAMILIES = {
    "F": "The model and its first steps",
    "D": "The data",
    "T": "During training",
    "A": "After training",
    "P": "In use",
}
OTHERS = "More"
# What is looked for beside every training: F and T but for what needs experiments before the first step, and advice.
WATCHED = ("F1", "F4", "F5", "F6", "T1", "T2", "T3", "T4", "T5", "T6", "T7")
ANSWERS = {"classify": ("A1", "A2", "A3"), "regress": ("A1", "A2")}

Found = Mapping[str, Any]


def doctor(facts: Facts, examples: Sequence[Mistaken] = ()) -> Html | None:
    looked = _looked(facts)
    found = list(_merged(facts.findings))
    if not found:
        told = paragraph(f"Nothing was found. {looked}") if looked else None
        return section("doctor", "What the doctor found", told)
    groups = [
        element("div", element("h3", title), *[_finding(facts, one, examples) for one in group], class_="findings")
        for title, group in _families(found)
    ]
    return section("doctor", "What the doctor found", *groups, paragraph(looked, kind="caption") if looked else None)


def _looked(facts: Facts) -> str:
    """'Looked at: …' by what this run did."""
    at = []
    if told := facts.metrics.get("looked_for"):
        at.append(f"the rows ({', '.join(map(str, told))})")
    if facts.epochs:
        num = len({row.get("fold") for row in facts.epochs})
        at.append(f"{'the training' if num == 1 else f'the {num} trainings'} of the network ({', '.join(WATCHED)})")
    if facts.predictions and facts.kind in ANSWERS:
        at.append(f"the answers to test rows ({', '.join(ANSWERS[facts.kind])})")
    return f"Looked at: {'; '.join(at)}." if at else ""


def _merged(findings: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Each fault once, with the folds that it was seen in. Two of one fold are two, as two columns with words are."""
    seen: dict[tuple[object, ...], dict[str, Any]] = {}
    alike: Counter[tuple[object, ...]] = Counter()
    for one in findings:
        fold, fault = one.get("fold"), (one.get("id"), one.get("cause", one.get("text")))
        alike[*fault, fold] += 1
        first = seen.setdefault((*fault, fold is None, alike[*fault, fold]), {**one, "folds": []})
        if fold is not None:
            first["folds"].append(int(fold) + 1)
    yield from sorted(seen.values(), key=_blame)


def _blame(one: Found) -> tuple[int, int]:
    entry = CATALOGUE.get(str(one.get("id")))
    return (entry.rank if entry else 10**6, one.get("step") or 0)


def _families(found: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Findings by family, the family of the first cause first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        groups.setdefault(FAMILIES.get(str(one.get("id"))[:1], OTHERS), []).append(one)
    yield from groups.items()


def _finding(facts: Facts, one: Found, examples: Sequence[Mistaken]) -> Html:
    kept = Kept(one)
    seen = one.get("seen") or one.get("text") or ""
    why = [
        ("What it means", one.get("meaning")),
        ("Cause", one.get("cause")),
        ("What to do", one.get("remedy")),
        ("How sure", _how_sure(one)),
    ]
    return element(
        "article",
        element("h4", _capital(str(one.get("name") or one.get("id") or "finding"))),
        paragraph(_where(facts, one), kind="note"),
        paragraph(_sentence(str(seen)), kind="seen"),
        element("div", fact_list([(name, words) for name, words in why if words]), drawings(kept), class_="why"),
        rows_and_names(facts, kept, examples),
        _symptoms(one),
        paragraph(f"More: {one['page']}", kind="place") if one.get("page") else None,
        class_="finding advice" if kept.evidence.get("advice") else "finding",
    )


def _where(facts: Facts, one: Found) -> str:
    step, folds = one.get("step"), one.get("folds") or []
    named = str(one.get("id") or "")
    parts = [named, f"step {step:,}" if step is not None else "", _folds(folds, facts.metrics.get("folds", 1))]
    return " · ".join(filter(None, parts))


def _folds(folds: Sequence[int], num: int) -> str:
    if num < 2 or not folds:
        return ""
    if len(set(folds)) == num:
        return f"all {num} folds"
    return f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"


def _how_sure(one: Found) -> str | None:
    by, error = one.get("by"), 1 - float(one.get("confidence") or 0)
    if by == "exact":
        return "Certain: it follows from what was computed, and no chance is in it."
    if by == "experiment":
        return "By an experiment: copies of the model were trained with and without."
    if by == "test":
        often = percent(error) if error >= 0.001 else f"fewer than {percent(0.001)}"
        return f"By a test: where nothing is wrong it says so in {often} of cases."
    return None


def _symptoms(one: Found) -> Html | None:
    found = one.get("symptoms") or []
    if not found:
        return None
    lines = [element("li", element("b", s.get("name")), f" ({_at(s)}): {_sentence(str(s.get('seen')))}") for s in found]
    return element("div", element("p", "Seen too, and explained by it:", class_="note"), element("ul", join(lines)))


def _at(symptom: Found) -> str:
    step = symptom.get("step")
    return str(symptom.get("id")) + ("" if step is None else f", step {fixed(step, 0)}")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."
