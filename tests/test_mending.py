"""`fathom doctor RUN --fix`: a run with a fault is made again and kept where it is better; the run itself stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fathom
from fathom import api, mending
from fathom.doctor.finding import Finding
from fathom.mending import Edit, edits_for, mend_run
from fathom.recipe import Recipe, from_mapping

from .conftest import people, write_csv

pytestmark = pytest.mark.usefixtures("patient")


def found(of: str, **evidence: Any) -> Finding:
    return Finding(of, seen="", cause="", remedy="ask somebody", by="test", evidence=evidence)


def given(**train: Any) -> Recipe:
    return from_mapping({"target": "rich", "train": {"learning_rate": 0.01, "clip": 1.0, **train}})


def run_at(folder: Path, rate: float, **more: Any) -> fathom.Run:
    data = write_csv(folder / "people.csv", people(), without=("wealth",))
    settings = {"train__epochs": 8, "train__precision": "fp32", "split__folds": 2, "threads": 1, "explain_rows": 0}
    settings |= {"model": "mlp", "baselines": {}, "quiet": True, "train__learning_rate": rate}
    return fathom.fit(data, target="rich", out=folder / "run", **(settings | more))


def files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_a_run_that_ran_away_is_made_again_and_kept(tmp_path: Path) -> None:
    run, said = run_at(tmp_path, 30.0, train__mend=False), list[str]()
    before = files(run.path)
    findings = api.examine(run.path, fix=True, say=lambda label, text: said.append(text))
    assert files(run.path) == before
    mended = fathom.load(tmp_path / "run-mended")
    rate = mended.recipe.train.learning_rate
    assert rate is not None and rate < 0.1 and mended.recipe.train.mend
    assert mended.recipe.seed == run.recipe.seed and mended.recipe.split == run.recipe.split
    name = "mlp"
    scores = [one.metrics["validation"][name]["log_loss"] for one in (run, mended)]
    assert scores[1] < scores[0]
    assert any("mended" in one.evidence for one in findings if one.id == "T1")
    assert any(text.startswith("Better") and "run-mended" in text for text in said)
    told = json.loads((mended.path / "mended.json").read_text())
    assert told["look"]["is_better"] and told["edits"][0]["key"] == "train.learning_rate"


def test_what_is_not_better_is_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, said = run_at(tmp_path, 0.002), list[str]()
    monkeypatch.setattr(mending, "edits_for", lambda *_: [Edit("T6", "train.weight_decay", 0.1000001)])
    assert not any("mended" in one.evidence for one in mend_run(run.path, say=said.append))
    assert [path.name for path in tmp_path.iterdir()] == ["people.csv", "run"] or not (tmp_path / "run-mended").exists()
    assert any(text.startswith("Not better") for text in said)


def test_a_healthy_run_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, said = run_at(tmp_path, 0.002), list[str]()
    monkeypatch.setattr(mending.api, "make", lambda *_, **__: pytest.fail("made again"))
    mend_run(run.path, say=said.append)
    assert said[-1] == "Nothing to mend."


def test_what_each_finding_asks_for() -> None:
    def asked(*findings: Finding, **train: Any) -> dict[str, Any]:
        return {edit.key: edit.value for edit in edits_for(findings, given(**train), usual_rate=0.002)}

    assert asked(found("T1", kind="diverged")) == {"train.learning_rate": 0.002}
    assert asked(found("T1"), learning_rate=0.003, clip=None) == {"train.learning_rate": 0.001, "train.clip": 1.0}
    assert asked(found("F10", suggested=0.5), mend=False) == {"train.learning_rate": 0.5, "train.mend": True}
    assert asked(found("T5"), learning_rate=0.002) == {}, "of a usual rate nothing is known"
    assert asked(found("T6")) == {"train.weight_decay": 0.03}
    assert asked(found("A3", sure=0.9, right=0.8)) == {"train.label_smoothing": 0.1}
    assert asked(found("A3", sure=0.7, right=0.8)) == {}
    assert asked(found("D1", columns=["a"])) == {"drop": ["a"]}
    assert asked(found("D1", columns=["a"], rows=[3])) == {} == asked(found("D1", columns=["rich"]))
    assert asked(found("D7", recall=[0.1], classes=["x"])) == {"train.class_weights": "balanced"}
    assert asked(found("T1"), found("T4")) == {"train.learning_rate": 0.002}, "the first cause decides"
    assert asked(found("D2"), found("D6"), found("P1")) == {}


def test_what_went_back_is_decided_anew() -> None:
    before = from_mapping({"resolved": True, "train": {"mended": [[[50.0, 0.5]]], "corrections": [[[5, 9]]]}})
    after = mending._edited(before, [Edit("F10", "train.learning_rate", 0.1)])
    assert (after.train.mended, after.train.corrections) == ([], [[[5, 9]]])
    assert mending._edited(before, [Edit("F7", "train.batch_size", 32)]).train.corrections == []
    assert before.train.mended == [[[50.0, 0.5]]]


def test_a_rate_that_was_lowered_on_the_way_is_taken_from_the_beginning(tmp_path: Path) -> None:
    run = run_at(tmp_path, 30.0, train__epochs=6)
    assert all(run.recipe.train.mended)
    past = mending._read(run.folder)
    rate = next(e.value for e in edits_for(past.findings, past.recipe, past.usual_rate) if e.key.endswith("rate"))
    assert rate < 10


def test_what_cannot_be_mended_is_said(tmp_path: Path) -> None:
    run, said = run_at(tmp_path, 0.002, train__epochs=2), list[str]()
    run.folder.write_json("findings.json", [found("D2").to_json(), found("D9").to_json()])
    run.folder.seal()
    mend_run(run.path, say=said.append)
    assert [text[:31] for text in said[:2]] == ["D2 cannot be mended from here: ", "D9 cannot be mended from here: "]
