"""The doctor's section of the page: each finding once, causes first, its evidence drawn; or where nothing was found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fathom.doctor.finding import CATALOGUE
from fathom.report.page import write
from fathom.report.sections.doctor import WATCHED
from fathom.run import RunFolder
from tests.fake_runs import RUNS
from tests.findings import every
from tests.test_report import CHROMIUM, HOSTILE, Reader, phone_layout


def section_of(folder: RunFolder, examples: Any = ()) -> str:
    found = re.search(
        r'<section id="doctor">.*?</section>', write(folder.path, examples=examples).read_text("utf-8"), re.S
    )
    return found[0] if found else ""


def with_findings(path: Path, findings: list[dict[str, Any]], kind: str = "pictures") -> str:
    folder, examples = RUNS[kind](path)
    folder.write_text("findings.json", json.dumps(findings))
    folder.write_json("metrics.json", folder.read_json("metrics.json") | {"folds": 2})
    return section_of(folder, examples)


@pytest.mark.parametrize("kind", RUNS)
def test_each_finding_is_told_once_with_what_to_do(kind: str, tmp_path: Path) -> None:
    _, examples = RUNS[kind](tmp_path / "examples")
    findings = every(examples)
    read = Reader(with_findings(tmp_path / "run", findings, kind))
    for one in findings:
        for words in (one["seen"], one["meaning"], one["cause"], one["remedy"], one["page"]):
            assert words in read.text
        assert read.text.count(one["seen"]) == 1
    assert "F1 · step 1 · all 2 folds" in read.text and "T1 · step 150 · fold 1" in read.text


def test_two_faults_with_one_cause_are_two_and_folds_are_joined_one_by_one(tmp_path: Path) -> None:
    words = next(one for one in every([]) if one["id"] == "D4")
    columns = [words | {"seen": f"'{name}' holds words"} for name in ("age", "hours")]
    layers = [words | {"id": "T4", "seen": f"dead units in {name}"} for name in ("first", "second")]
    found = [*columns, *(one | {"fold": fold} for fold in (0, 1) for one in layers)]
    read = Reader(with_findings(tmp_path / "run", found))
    for told in ("'age' holds words", "'hours' holds words", "dead units in first", "dead units in second"):
        assert read.text.count(told) == 1
    assert read.text.count("all 2 folds") == 2


def test_causes_come_first_and_symptoms_stand_below_them(tmp_path: Path) -> None:
    read = Reader(with_findings(tmp_path / "run", every([])))
    order = sorted({one["id"] for one in every([])}, key=lambda id_: CATALOGUE[id_].rank)
    places = [read.text.index(f"docs/doctor/{id_}.md") for id_ in order]
    families = [
        read.text.index(title) for title in ("The model and its first steps", "The data", "During training", "After")
    ]
    assert places == sorted(places) and families == sorted(families)
    assert "docs/doctor/F4.md" not in read.text
    assert places[0] > read.text.index("parameters that are never trained (F4, step 6): 2 parameters") > 0


def test_how_sure_it_is_is_said_in_words(tmp_path: Path) -> None:
    words = Reader(with_findings(tmp_path / "run", every([]))).text
    assert "Certain: it follows from what was computed" in words
    assert "By an experiment: copies of the model" in words
    assert "it says so in 1.0 % of cases" in words and "in fewer than 0.1 % of cases" in words


def test_the_evidence_is_drawn(tmp_path: Path) -> None:
    page = with_findings(tmp_path / "run", every([]))
    read = Reader(page)
    for title in ("Loss", "Loss on judged rows", "Two copies of the model", "Learning rates tried", "Sizes by layer"):
        assert f"<h3>{title}</h3>" in page
    assert page.count('class="event"') == 3, "the steps of T1, T2 and T6"
    assert "layers.0.weight" in read.text and "2·10⁻¹⁰" in read.text
    assert "ran away" in read.text and "Columns: casual , registered" in read.text
    assert "Rows of the batch: 3 , 17" in read.text
    assert page.count('class="point chosen"') == 12, "one gradient a layer"
    assert not re.search(r'="[^"]*\bnan', page)


def test_two_copies_are_drawn_with_what_differs_between_them(tmp_path: Path) -> None:
    evidence = {"plain": [2.0, 1.5, 1.2], "anew": [1.1, 0.5, 0.2], "sizes": {"0": 3.0}}
    read = Reader(with_findings(tmp_path / "run", [{"id": "F8", "evidence": evidence}]))
    assert "first weights as they are" in read.text and "made anew" in read.text
    assert "inputs as they are" not in read.text


def test_rows_that_are_meant_are_shown_as_the_page_shows_them(tmp_path: Path) -> None:
    _, examples = RUNS["pictures"](tmp_path / "examples")
    page = with_findings(tmp_path / "run", every(examples))
    assert page.count("<img") == 4 and examples[0].place in page
    read = Reader(page)
    assert "class '8' 87 31.0 % 71.2 %" in read.text
    truth = RunFolder.open(tmp_path / "run").read_table("predictions.parquet")
    answers = [f"{truth['place'][row]} {truth['truth'][row]} {truth['resnet'][row]}" for row in range(6)]
    assert all(words in read.text for words in answers), "where, true, predicted"


def test_where_nothing_is_found_it_says_where_it_looked(tmp_path: Path) -> None:
    folder, _ = RUNS["table"](tmp_path / "run")
    folder.write_json("findings.json", [])
    words = Reader(section_of(folder)).text
    assert "Nothing was found. Looked at: the 2 trainings of the network (F1, F4," in words
    assert "the answers to test rows (A1, A2, A3)." in words and set(WATCHED) <= set(CATALOGUE)
    folder.write_json("metrics.json", folder.read_json("metrics.json") | {"looked_for": ["copies of rows"]})
    assert "Looked at: the rows (copies of rows); the" in Reader(section_of(folder)).text
    for name in ("metrics.csv", "predictions.parquet"):
        folder.inside(name).unlink()
    words = Reader(section_of(folder)).text
    assert "trainings" not in words and "answers to test rows" not in words, "it did not look there"


ODD: list[dict[str, Any]] = [
    {},
    {"id": "Z9", "text": "from a later version"},
    {"id": "T1", "seen": "it broke", "step": None, "evidence": None},
    {
        "id": "T1",
        "evidence": {"losses": 3, "layers": "none", "places": {"a": 1}, "columns": None, "groups": [1], "rows": 7},
    },
    {
        "id": "A2",
        "evidence": {"groups": [1], "factors": [None], "learnt": ["?"], "plain": [1, None], "standardised": {}},
    },
    {"id": "T1", "evidence": {"losses": [[1, None], [2, "x"], 5], "layers": [{}, {"gradient": 0.0, "update": None}]}},
    {"id": "T3", "evidence": {"layers": [{"name": HOSTILE, "gradient": 1e-300, "update": 0.0}], "columns": [HOSTILE]}},
    {"id": "T6", "evidence": {"judged": [[0, None], [20, None]], "forwards": {"a": 1e9, "b": None}}},
]


@pytest.mark.parametrize("odd", ODD)
def test_evidence_of_another_shape_is_left_out(odd: dict[str, Any], tmp_path: Path) -> None:
    """As an older or a later version may have written it, or JSON without numbers that are not finite."""
    read = Reader(with_findings(tmp_path / "run", [odd]))
    assert "What the doctor found" in read.text and not read.open
    assert "img" not in read.tags and not [name for name, _ in read.attributes if name.startswith("on")]
    assert not any("nan" in value for name, value in read.attributes if name in ("cx", "points", "x1"))


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: the page is not looked at in a browser")
def test_a_browser_shows_all_findings_on_a_phone(tmp_path: Path) -> None:
    folder, examples = RUNS["texts"](tmp_path / "run")
    folder.write_json("findings.json", every(examples))
    layout = phone_layout(write(folder.path, examples=examples), tmp_path)
    assert layout["room"] == 360
    assert layout["wide"] <= layout["room"], layout["past"]
