"""The doctor's benchmark: faults and hard negatives can be planted, truths are not the doctor's, scores are exact."""

from __future__ import annotations

import gzip
import importlib
import inspect
import json
import math
import re
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
NAMES = ("worlds", "configurations", "training", "hard", "healthy", "faults", "beside", "case", "signals", "rules",
         "repairs", "scores", "data_cases", "processes", "not_finite", "spread")  # fmt: skip


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return SimpleNamespace(**{name: importlib.import_module(f"bench.doctor.{name}") for name in NAMES})


def test_worlds_have_rows_to_train_to_judge_and_to_test(bench: Any) -> None:
    for name, make in bench.worlds.WORLDS.items():
        one, again, other = make(0), make(0), make(1)
        assert torch.equal(one.train[0], again.train[0]) and not torch.equal(one.train[0], other.train[0]), name
        counts = [len(part[0]) for part in (one.train, one.judge, one.test)]
        assert counts[0] > 2 * min(counts[1:]) and all(len(part[0]) == len(part[1]) for part in (one.train, one.test))
        assert one.form == bench.configurations.form_of(name)
        if one.kind == "classify":
            assert set(one.train[1].tolist()) == set(range(one.outputs))


def test_every_fault_is_planted_in_some_configuration_and_the_training_goes_on(bench: Any) -> None:
    left = set(bench.faults.FAULTS)
    for seed in range(300):
        if not left:
            break
        one = replace(bench.configurations.draw(seed, locked=True), steps=2)
        training = bench.training.assemble(one)
        for name in sorted(name for name in left if bench.faults.FAULTS[name].fits(one, training)):
            training = bench.training.assemble(one)
            bench.faults.FAULTS[name].edit(training, 0.7, np.random.default_rng(0))
            assert len(bench.training.run(training).losses) >= 2, name
            left.discard(name)
    assert not left


def test_every_hard_negative_is_drawn_and_the_training_goes_on(bench: Any) -> None:
    left = set(bench.hard.HARD)
    for seed in range(600):
        if not left:
            break
        drawn = bench.healthy.drawn(seed, locked=True, hard=True)
        if drawn.hard in left:
            short = replace(drawn, one=replace(drawn.one, steps=2))
            assert len(bench.training.run(short.training()).losses) == 2, drawn.hard
            left.discard(drawn.hard)
    assert not left


def test_the_twin_of_a_fault_is_the_same_training(bench: Any) -> None:
    one = replace(bench.configurations.draw(3, locked=True), steps=5)
    first, again = (bench.training.run(bench.training.assemble(one)) for _ in range(2))
    assert first.losses == again.losses and first.score == again.score
    other = bench.training.run(bench.training.assemble(replace(one, again=1)))
    assert other.losses != first.losses


def test_a_doctor_and_a_recorder_change_no_bit_of_a_training(bench: Any) -> None:
    for seed in (14, 31):  # perceptrons with batch norms and dropout
        one = replace(bench.configurations.draw(seed, locked=False), steps=30)
        alone = bench.training.run(bench.training.assemble(one))
        said, beside = bench.beside.watched(bench.training.assemble(one))
        assert beside.losses == alone.losses and beside.score == alone.score and beside.judged == alone.judged
        assert set(said["said"]) == {"fathom", *bench.rules.RULES}


def test_healthy_is_told_by_losses_and_score_alone(bench: Any) -> None:
    world = bench.worlds.WORLDS["blobs"](0)
    nothing, simple = bench.healthy.reference(world)
    assert nothing < 0.5 and simple > 0.9
    well = bench.training.Result([1.0, 0.2], [0.3], simple - 0.01)
    assert bench.healthy.trains_well(world, well)
    assert not bench.healthy.trains_well(world, replace(well, losses=[1.0, math.nan]))
    assert not bench.healthy.trains_well(world, replace(well, score=nothing))
    assert list(inspect.signature(bench.healthy.trains_well).parameters) == ["world", "result"]


def test_development_never_meets_what_is_locked(bench: Any) -> None:
    conf = bench.configurations
    seen = [conf.draw(seed, locked=False) for seed in range(400)]
    assert conf.LOCKED_WORLD not in {one.world for one in seen}
    assert conf.LOCKED_FAMILY not in {one.family for one in seen}
    planned = {name for task in bench.case.plan(1, 200, locked=False) for name in task.faults}
    assert not planned & set(conf.LOCKED_FAULTS)
    locked = {name for task in bench.case.plan(1, 200, locked=True) for name in task.faults}
    assert set(conf.LOCKED_FAULTS) <= locked
    assert conf.draw(1, locked=True) != conf.draw(1, locked=False)


def test_a_plan_has_the_shares_that_were_fixed_and_a_random_order(bench: Any) -> None:
    tasks = bench.case.plan(3, 400, locked=False)
    faulty = [task for task in tasks if task.faults]
    assert len(faulty) == len(tasks) / 2 == 400
    assert sorted(task.number for task in tasks) == list(range(800)) and tasks[0].number + tasks[1].number > 1
    assert 0.06 < sum(len(task.faults) == 2 for task in faulty) / 400 < 0.14
    assert 0.02 < sum(not bench.faults.FAULTS[task.faults[0]].is_inside for task in faulty) / 400 < 0.09
    assert 0.24 < sum(task.is_hard for task in tasks if not task.faults) / 400 < 0.36
    assert any(not task.faults for task in tasks[:20]) and any(task.faults for task in tasks[:20])


def test_a_case_tells_prediction_and_truth_apart(bench: Any) -> None:
    task = bench.case.Task(1, 29, False, ("softmax_twice",), 0.5)
    said, truth = bench.case.solve(task)
    assert "softmax" not in json.dumps({"case": said["case"], "rules": said["said"]["sagemaker"]})
    assert set(said) == {"case", "said", "preflight_seconds"} and said["said"]["fathom"][0]["ids"] == ["F1"]
    assert truth["faults"] == ("softmax_twice",) and truth["twin"] > 0


def test_faults_of_tables_are_planted_and_scored_like_others(bench: Any) -> None:
    data = bench.data_cases
    planned = data.plan(1, 40)
    assert {task.faults for task in planned if task.faults} == {(name,) for name in data.DATA_FAULTS}
    random = np.random.default_rng(0)
    train, _ = data._frames("wine", random)
    for name, fault in data.DATA_FAULTS.items():
        assert not fault.change(train, 0.5, random).equals(train), name
    said, truth = data.solve(data.DataTask(0, 3, ("mixed_types",), 0.9))
    case = bench.scores.joined(said, truth, None)
    assert bench.scores.names_cause(case, "fathom", 1) and case["structural"] and not case["harmful"]


def test_the_page_says_what_the_record_of_the_locked_test_holds(bench: Any) -> None:
    def plain(text: str) -> str:
        return re.sub(r"\.0(?= |\))", "", text)

    page = plain((ROOT / "docs" / "doctor-benchmark.md").read_text("utf-8"))
    lines = {line.split(" | ")[0]: line.strip(" |").split(" | ") for line in page.splitlines() if line.startswith("| ")}
    with gzip.open(ROOT / "bench" / "records" / "doctor" / "locked-3.jsonl.gz", "rt", encoding="utf-8") as file:
        cases = [json.loads(line) for line in file]
    spread, doctors = bench.spread.Spread(), ["fathom", "sagemaker", "umlaut", "autotrainer", "final_score"]
    for case in cases:
        assert case["error"] or not case["faults"] or case["harmful"] == spread.is_harmful(case)
    told = {row[0].removesuffix(", all"): list(map(plain, row[1:])) for row in bench.scores.table(cases, doctors)}
    for name in ("alarm on healthy", "structural found", "harmful found", "acceptable cause first"):
        ours, *others = told[name]
        assert lines[f"| {name}"][1] == ours
        assert lines[f"| {name}"][3:] == [other.split(" (")[0] for other in others]
    ours, theirs, random = (list(map(plain, row)) for row in bench.scores.repaired(cases, spread))
    assert lines["| harmful, repaired"][1] == ours[1]
    assert theirs[1].startswith(lines["| harmful, repaired"][-1].split(" of")[0]) and theirs[1].endswith("of 119")
    assert ours[4].endswith("0 of 420") and lines["| healthy harmed by a repair"][1].startswith("0 of 420")
    assert random[1].endswith("13 of 55") and random[3].endswith("37 of 55")
    assert "repaired 13 of 55 (23.6 %), the doctor 37 of the same 55" in page


def test_intervals_are_those_of_clopper_and_pearson(bench: Any) -> None:
    assert bench.scores.share(4, 400) == "1.0 % (0.3 to 2.5), 4 of 400"
    assert bench.scores.interval(0, 299)[1] == pytest.approx(1 - 0.025 ** (1 / 299))
    assert bench.scores.share(0, 0) == "none"


def _case(ids: list[str], **more: Any) -> dict[str, Any]:
    told = {"fathom": [{"ids": [one]} for one in ids], "never": []}
    return {"case": 0, "faults": (), "hard": None, "said": told, "magnitude": 0.5, "twin": 1.0, "score": 0.5, **more}


def test_scores_count_silence_and_failures_as_misses_and_neutral_plants_as_neither(bench: Any) -> None:
    scores = bench.scores
    harmful = {"faults": ("rate_high",), "causes": ["F10", "T1"], "inside": True, "harmful": True, "structural": False}
    neutral = harmful | {"harmful": False}
    cases = [_case(["F10"], **harmful), _case([], **harmful), _case(["F8"], **harmful), _case(["F8"], **neutral),
             _case([]), _case(["T2"])]  # fmt: skip
    rows = {row[0]: row[1] for row in scores.table(cases, ["fathom", "never"])}
    assert rows["alarm on healthy, all"].endswith("1 of 2") and rows["harmful found"].endswith("2 of 3")
    assert rows["acceptable cause first"].endswith("1 of 3")
    assert rows["neither harmful nor structural: alarm"].endswith("1 of 1") and rows["structural found"] == "none"
    assert scores.mcnemar(cases[:3], scores.has_alarm, "fathom", "never") == (2, 0, 0.5)
    told = list(scores.missed(cases, "fathom"))
    assert len(told) == 3 and any("false alarm T2" in line for line in told)


def _never_ends(task: Any) -> None:
    while True:
        task = not task


def test_a_case_that_takes_too_long_is_cut_off(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.processes, "BUDGET", 0.01)
    before = signal.signal(signal.SIGPROF, bench.processes._cut_off)
    try:
        with pytest.raises(bench.processes.CutOffError):
            bench.processes._limited(_never_ends, None)
        assert bench.processes._limited(lambda task: task, 7) == 7
    finally:
        signal.signal(signal.SIGPROF, before)


def _signals(bench: Any, **more: Any) -> Any:
    gradients = [{"mean_abs": 0.01, "norm": 1.0, "zeros": 0.0, "span": 0.1}] * 3
    looks = [
        bench.signals.Look(
            10 * i, 1e-3, gradients, True, 1e-3, 1e-3, [0.0], [], [1.0], *(2 * 0.7**i, 1 - 0.5 * 0.7**i) * 2
        )
        for i in range(15)
    ]
    given = {"looks": looks, "losses": [2 * 0.99**i for i in range(150)], "least_input": -1.0, "greatest_input": 1.0}
    return bench.signals.Signals(**(given | {"is_floating": True, "dropout": 0.0} | more))


def test_rules_are_silent_where_all_is_within_their_thresholds_and_tell_what_is_not(bench: Any) -> None:
    def told(rule: str, signals: Any) -> list[str]:
        return [name for name, _ in bench.rules.RULES[rule](signals)]

    well = _signals(bench)
    assert told("sagemaker", well) == [] and told("autotrainer", well) == [] and told("final_score", well) == []
    assert told("umlaut", well) == ["OverconfidentValAccuracy"]  # more than 95 % right
    assert told("umlaut", _signals(bench, greatest_input=3.0))[0] == "InputNotNormalized"
    assert "LossNotDecreasing" in told("sagemaker", _signals(bench, losses=[1.0] * 150))
    still = [replace(look, score=0.1, judged_score=0.1, loss=2.3, judged_loss=2.3) for look in well.looks]
    assert told("autotrainer", _signals(bench, looks=still)) == ["not converge"]
    broken = [*well.looks[:5], *(replace(look, is_finite=False, loss=math.nan) for look in well.looks[5:])]
    assert told("autotrainer", _signals(bench, looks=broken)) == ["explode"]
    assert "ExplodingTensor" in told("sagemaker", _signals(bench, looks=broken))


def test_repairs_begin_from_the_faulty_training_and_are_scored_on_test_rows(bench: Any) -> None:
    one = bench.configurations.Configuration(
        "blobs", "perceptron", 1, 1, 32, "relu", "none", "adam", 1e-6, 32, "constant", 0.0, 60
    )
    ill = bench.training.run(bench.training.assemble(one)).score
    found = bench.repairs.autotrainer(lambda: bench.training.assemble(one), [{"rule": "not converge"}])
    assert found["trials"] == bench.repairs.TRIALS and found["score"] > ill + 0.2
    mended = bench.repairs.ours(lambda: bench.training.assemble(one))
    assert mended["score"] > ill + 0.2 and [done["id"] for done in mended["remedies"]] == ["F10"]


def test_planted_numbers_that_are_not_finite_are_found_where_they_are(bench: Any) -> None:
    found = [bench.not_finite._one(number) for number in range(3)]
    assert [one["way"] for one in found] == list(bench.not_finite.WAYS)
    assert bench.not_finite.told(found).count("3 of 3") == 5


def test_the_deviations_cover_every_pair_of_world_and_family(bench: Any) -> None:
    spread = bench.spread.Spread()
    assert set(spread.variances) == {"/".join(pair) for pair in bench.spread.pairs()}
    case = {"configuration": {"world": "wine", "family": "mlp"}, "kind": "classify", "test_rows": 36}
    assert 1 / 36 <= spread.of(case) < 0.2
    assert spread.is_harmful(case | {"twin": 1.0, "score": 0.3}) and not spread.is_harmful(
        case | {"twin": 1, "score": 1}
    )


def test_the_command_writes_predictions_before_truths(
    bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    main = importlib.import_module("bench.doctor.__main__")
    main.main(["--seed", "147", "--cases", "1", "--workers", "1", "--no-repairs", "--out", str(tmp_path)])
    said = (tmp_path / "predictions.jsonl").read_text()
    assert "faults" not in said and len(said.splitlines()) == 2
    cases = [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines()]
    assert sum(bool(case["faults"]) for case in cases) == 1 and all(not case["error"] for case in cases)
    told = capsys.readouterr().out
    assert "sha256" in told and "alarm on healthy, all" in told
