"""The doctor after a training and beside new data: A1 to A3, P1, P2; each finds its fault and is silent without it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import aftercare, answer_checks
from fathom.aftercare import examine_run
from fathom.cli import main
from fathom.doctor import shift
from fathom.doctor.harmful_shift import compare, find_harmful_shift, lower_bound
from fathom.doctor.miscalibrated import find_miscalibrated
from fathom.doctor.parts.sketch import Numbers, Words, p_of_counts
from fathom.doctor.skew import Cells, Sides, find_skews
from fathom.doctor.too_good import find_perfect_with_leak, find_too_good, of_units
from fathom.doctor.worse_than_simple import find_biased_slices, find_failing_slices, find_worse_than_simple
from fathom.measures import calibration
from fathom.reference import read_reference
from fathom.run import RunFolder

SEEDS = range(20)


def logits(generator: np.random.Generator, rows: int, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, 3] and classes drawn from them; `sharp` above 1 makes the probabilities too sure."""
    z = generator.normal(size=(rows, 3)) * 1.5
    honest = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    classes = (honest.cumsum(axis=1) > generator.random((rows, 1))).argmax(axis=1)
    told = np.exp(sharp * z)
    return told / told.sum(axis=1, keepdims=True), classes


# A1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_test_set_easier_than_training_is_too_good(seed: int) -> None:
    generator = np.random.default_rng(seed)
    train, test = (generator.random(rows) < share for rows, share in ((2000, 0.80), (600, 0.92)))
    (found,) = find_too_good(train.astype(float), test.astype(float), of_shares=True)
    assert found.id == "A1" and found.evidence["z"] > 4


def test_scores_that_are_high_or_equal_are_not_too_good() -> None:
    for seed in range(200):
        generator = np.random.default_rng(seed)
        train, test = (generator.random(rows) < 0.97 for rows in (2000, 300))
        assert not find_too_good(train.astype(float), test.astype(float), of_shares=True)
        errors = generator.exponential(size=2000), generator.exponential(size=300)
        assert not find_too_good(*errors, of_shares=False)
    assert find_too_good(generator.exponential(size=2000), 0.7 * generator.exponential(size=1000), of_shares=False)


def test_rows_of_one_group_are_no_evidence_of_their_own() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 50)
    test = np.repeat((generator.random(40) < 0.95).astype(float), 50)  # a group is right or wrong as a whole
    train = (generator.random(2000) < 0.8).astype(float)
    assert find_too_good(train, test, of_shares=True)
    assert len(of_units(test, groups)) == 40
    assert not find_too_good(train, of_units(test, groups), of_shares=True)


def test_a_perfect_score_is_told_only_beside_a_column_that_holds_the_answer() -> None:
    leak: list[dict[str, Any]] = [{"id": "D4", "columns": ["casual"]}]
    (found,) = find_perfect_with_leak(1.0, leak, ["casual", "hour"], 500)
    assert found.by == "exact" and found.evidence["columns"] == ["casual"]
    leak[0]["columns"] += ["paid on"]
    (found,) = find_perfect_with_leak(1.0, leak, ["casual", "paid on"], 500)
    assert "--drop casual --drop 'paid on'." in found.remedy
    assert not find_perfect_with_leak(1.0, leak, ["hour"], 500), "the column was left out"
    assert not find_perfect_with_leak(1.0, [], ["casual"], 500), "a perfect score alone is no fault"
    assert not find_perfect_with_leak(0.999, leak, ["casual"], 500)


# A2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_beaten_by_a_baseline_is_told(seed: int) -> None:
    generator = np.random.default_rng(seed)
    simple = (generator.random(500) < 0.85).astype(float)
    model = np.where(generator.random(500) < 0.2, 0.0, simple)
    (found,) = find_worse_than_simple("mlp", "linear", model, simple, of_shares=True, advised=True)
    assert found.id == "A2" and "--candidate linear" in found.remedy
    alike = np.where(generator.random(500) < 0.04, 1 - simple, simple)
    assert not find_worse_than_simple("mlp", "linear", alike, simple, of_shares=True, advised=True)


def test_a_baseline_ahead_on_few_rows_is_chance() -> None:
    model, simple = np.repeat([0.0, 1.0], [12, 28]), np.repeat([0.0, 1.0], [6, 34])
    assert not find_worse_than_simple("mlp", "linear", model, simple, of_shares=True, advised=False)
    errors = np.random.default_rng(0).exponential(size=400)
    assert find_worse_than_simple("mlp", "linear", 1.5 * errors, errors, of_shares=False, advised=False)
    assert not find_worse_than_simple("mlp", "linear", 1.05 * errors, errors, of_shares=False, advised=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_in_which_labels_are_others_fails(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities, classes = logits(generator, 2000)
    is_nurse = np.arange(2000) % 10 == 0
    classes[is_nurse] = (classes[is_nurse] + (generator.random(200) < 0.5)) % 3
    groups, places = {"job = nurse": is_nurse, "job = clerk": ~is_nurse}, [f"x.csv:{i}" for i in range(2000)]
    (found,) = find_failing_slices(probabilities, classes, "abc", groups, places)
    assert [one["name"] for one in found.evidence["groups"]] == ["job = nurse"]
    assert is_nurse[found.evidence["rows"]].all()


def test_hard_and_rare_groups_that_a_model_knows_of_do_not_fail() -> None:
    """A rare class of which a fifth is found, and a group that is right half as often: both as promised."""
    for seed in range(30):
        generator = np.random.default_rng(seed)
        z = generator.normal(size=(2000, 3)) * np.where(np.arange(2000)[:, None] % 4 == 0, 0.3, 3.0) + [2.0, 0.0, -1.0]
        probabilities = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        classes = (probabilities.cumsum(axis=1) > generator.random((2000, 1))).argmax(axis=1)
        groups = {f"quarter = {k}": np.arange(2000) % 4 == k for k in range(4)}
        assert not find_failing_slices(probabilities, classes, "abc", groups, [""] * 2000)


@pytest.mark.parametrize(("bleu", "p", "is_told"), [(10.0, 1e-6, True), (19.0, 1e-6, False), (10.0, 0.01, False)])
def test_a_translator_far_behind_its_baseline_is_told(bleu: float, p: float, is_told: bool) -> None:
    metrics = {
        "difference": {"measure": "bleu", "of": "t5", "to": "word_by_word", "value": bleu - 20.0, "p": p},
        "test": {"t5": {"bleu": bleu}, "word_by_word": {"bleu": 20.0}},
    }
    assert [one.id for one in answer_checks._of_texts(metrics)] == ["A2"] * is_told


def test_a_group_predicted_too_high_is_told_and_noise_is_not() -> None:
    generator = np.random.default_rng(0)
    errors, group = generator.normal(size=1000), np.arange(1000) < 100
    assert not find_biased_slices(errors, {"a": group}, [""] * 1000)
    (found,) = find_biased_slices(errors + 2.0 * group, {"a": group, "b": ~group}, [""] * 1000)
    assert found.evidence["groups"][0]["name"] == "a" and "too high" in found.seen


# A3


@pytest.mark.parametrize("seed", SEEDS[:6])
def test_probabilities_too_sure_are_told_with_a_temperature(seed: int) -> None:
    generator = np.random.default_rng(seed)
    told, classes = logits(generator, 1000, sharp=2.5)
    soft = told ** (1 / 2.5)
    soft /= soft.sum(axis=1, keepdims=True)
    (found,) = find_miscalibrated(told, classes, calibration.measure, softened=soft, temperature=2.5)
    assert "too sure" in found.cause and "2.50" in found.remedy
    assert found.evidence["softened"] < 0.5 * found.evidence["error"]


def test_honest_probabilities_are_not_told_however_few_rows() -> None:
    for seed in range(8):
        for rows in (100, 300):
            assert not find_miscalibrated(*logits(np.random.default_rng(seed), rows), calibration.measure)


def test_a_temperature_that_makes_it_worse_is_not_advised() -> None:
    told, classes = logits(np.random.default_rng(0), 1000, sharp=2.5)
    sharper = told**2 / (told**2).sum(axis=1, keepdims=True)
    (found,) = find_miscalibrated(told, classes, calibration.measure, softened=sharper, temperature=0.5)
    assert "Divide" not in found.remedy


# P1: cells


def sides(then: Cells, now: Cells, **more: Any) -> dict[str, Sides]:
    return {"age": Sides(then, now, **more)}


def test_cells_written_otherwise_are_told_and_a_few_are_not() -> None:
    then = Cells(500, empty=10, unreadable=1, unseen=2)
    assert not find_skews(sides(then, Cells(400, empty=12, unreadable=2, unseen=4)))
    (found,) = find_skews(sides(then, Cells(400, unseen=200, examples=("PRIVATE",)), known=("private",)))
    assert found.id == "P1" and "Write 'private' where it is 'PRIVATE'" in found.remedy
    assert "cannot be read" in find_skews(sides(then, Cells(400, unreadable=390, examples=("3,5",))))[0].seen
    assert "is empty in 50%" in find_skews(sides(then, Cells(400, empty=200)))[0].seen
    assert "fractions" in find_skews(sides(Cells(500), Cells(400, fractions=300), is_whole=True))[0].seen


@pytest.mark.parametrize(("factor", "unit"), [(1000, "1,000 times"), (0.01, "a hundredth"), (-1, "opposite sign")])
def test_another_unit_is_recognised(factor: float, unit: str) -> None:
    generator = np.random.default_rng(0)
    sketch = Numbers.of(generator.lognormal(3, 0.5, 800).astype(np.float32), 129)
    new = generator.lognormal(3, 0.5, 200).astype(np.float32)
    (found,) = find_skews(sides(Cells(800), Cells(200), sketch=sketch, values=new * np.float32(factor)))
    assert unit in found.seen
    assert not find_skews(sides(Cells(800), Cells(200), sketch=sketch, values=new))


def test_values_far_outside_are_told_and_a_heavy_tail_is_not() -> None:
    for seed in range(200):
        generator = np.random.default_rng(seed)
        rows = generator.standard_cauchy(size=900).astype(np.float32)
        sketch = Numbers.of(rows[:600], 129)
        assert not find_skews(sides(Cells(600), Cells(300), sketch=sketch, values=rows[600:]))
    sketch = Numbers.of(generator.normal(size=600).astype(np.float32), 129)
    new = np.append(generator.normal(size=280), np.full(20, 99.0)).astype(np.float32)
    (found,) = find_skews(sides(Cells(600), Cells(300), sketch=sketch, values=new))
    assert "far outside" in found.seen and "99" in found.seen


# P1: distributions


def test_a_staircase_is_exact_for_few_values_and_never_too_far() -> None:
    from scipy.stats import ks_2samp

    generator = np.random.default_rng(0)
    few, others = generator.integers(0, 9, 500).astype(np.float32), generator.integers(1, 9, 300).astype(np.float32)
    assert Numbers.of(few, 17).distance(others) == pytest.approx(ks_2samp(few, others).statistic)
    many, moved = generator.normal(size=5000).astype(np.float32), generator.normal(0.3, 1, 900).astype(np.float32)
    exact = ks_2samp(many, moved).statistic
    assert 0.9 * exact < Numbers.of(many, 65).distance(moved) <= exact + 1e-9
    words = Words({"a": 50, "b": 40}, 10, 0)
    then, now = words.beside(np.array(["a", "a", None, "new"], object))
    assert then.tolist() == [50, 40, 10] and now.tolist() == [2, 0, 1]


def test_the_same_columns_have_not_moved_and_others_have() -> None:
    alarms = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        known = {f"x{i}": Numbers.of(generator.normal(size=400).astype(np.float32), 65) for i in range(10)}
        new = {name: generator.normal(size=150).astype(np.float32) for name in known}
        alarms += len(shift.find_moved_columns(known, new, 1.0))
    assert alarms <= 2
    (found,) = shift.find_moved_columns(known, new | {"x3": new["x3"] + 1}, 1.0)
    assert found.evidence["columns"] == ["x3"]


def test_rows_that_hang_together_need_more_of_them() -> None:
    generator = np.random.default_rng(0)
    known = {"x": Numbers.of(generator.normal(size=400).astype(np.float32), 65)}
    new = {"x": generator.normal(0.5, 1, 200).astype(np.float32)}
    assert shift.find_moved_columns(known, new, 1.0) and not shift.find_moved_columns(known, new, 0.05)


def test_counts_of_rare_kinds_are_pooled() -> None:
    assert p_of_counts(np.ones(200), np.append(np.ones(100), np.zeros(100))) == 1.0
    assert p_of_counts(np.array([90.0, 10.0]), np.array([50.0, 50.0])) < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_the_shares_of_classes_are_found_from_what_a_model_mixes_up(seed: int) -> None:
    generator = np.random.default_rng(seed)
    then, truth = logits(generator, 4000)
    some, classes = logits(generator, 6000)
    new = some[(classes != 0) | (generator.random(6000) < 0.25)]
    (found,) = shift.find_moved_classes(then, truth, new, "abc", 1.0)
    assert found.evidence["shift_of"] == "classes"
    assert found.evidence["priors"]["a"] == pytest.approx(1 / 9, abs=0.06)
    assert not shift.find_moved_classes(then, truth, some[:1000], "abc", 1.0)


def test_inputs_that_moved_are_not_taken_for_other_shares() -> None:
    generator = np.random.default_rng(0)
    then, truth = logits(generator, 4000)
    moved = np.tile([0.4, 0.3, 0.3], (800, 1))  # never seen so unsure
    (found,) = shift.find_moved_classes(then, truth, moved, "abc", 1.0)
    assert found.evidence["shift_of"] == "answers" and "priors" not in found.evidence


def test_features_tell_new_rows_only_where_they_are_others() -> None:
    alarms = 0
    for seed in range(50):
        generator = np.random.default_rng(seed)
        then, now = generator.normal(size=(300, 16)), generator.normal(size=(200, 16))
        alarms += len(shift.find_moved_features(then, now, 1.0))
    assert alarms == 0
    assert shift.find_moved_features(then, now + 0.5, 1.0) and shift.find_moved_features(then, 2 * now, 1.0)


def test_strange_rows_are_named_and_usual_ones_are_not() -> None:
    for seed in range(300):
        generator = np.random.default_rng(seed)
        then, now = generator.exponential(size=200), generator.exponential(size=300)
        assert not shift.find_strange_rows(then, now, [""] * 300, 1.0)
    now[[7, 8, *range(40, 70)]] = 50 + np.arange(32)
    (found,) = shift.find_strange_rows(then, now, [f"new.csv:{i}" for i in range(300)], 1.0)
    assert found.evidence["flagged"] >= 32 and "new.csv:69" in found.evidence["places"]


# P2


def test_the_lower_bound_is_below_the_mean_at_all_times() -> None:
    above = sum(lower_bound(np.random.default_rng(seed).random(400) < 0.2, 0.05) > 0.2 for seed in range(300))
    assert above <= 0.05 * 300 + 3
    tight = lower_bound(np.random.default_rng(0).random(5000) < 0.2, 0.001)
    assert 0.17 < tight < 0.2


def test_harm_needs_more_than_two_points_and_chance() -> None:
    for seed in range(40):
        generator = np.random.default_rng(seed)
        for rows, risk in ((500, 0.1), (20_000, 0.115)):
            source, same = (generator.random(rows) < 0.1).astype(float), (generator.random(rows) < risk).astype(float)
            harm = compare(source, same)
            assert harm is not None and not harm.is_harmful
    source = source[:500]
    worse = compare(source, (generator.random(500) < 0.3).astype(float))
    assert worse is not None and find_harmful_shift(worse, "the wrong class")[0].id == "P2"
    assert compare(source, np.ones(3)) is None


def test_a_sorted_file_is_no_harm() -> None:
    """The hard class comes first: of all rows together no more are wrong than before."""
    source = (np.random.default_rng(0).random(1000) < 0.1).astype(float)
    harm = compare(source, np.sort(source)[::-1])
    assert harm is not None and not harm.is_harmful and "still answers as well" in harm.text


# A run and new data


def people(rows: int, seed: int) -> dict[str, list[Any]]:
    generator = np.random.default_rng(seed)
    age, hours = generator.integers(18, 80, rows), generator.normal(40, 8, rows).round(1)
    job = generator.choice(["nurse", "clerk", "cook", "pilot"], rows)
    rich = np.where(age / 20 + (job == "pilot") * 2 + generator.normal(size=rows) > 3, "yes", "no")
    return {"age": age.tolist(), "hours": hours.tolist(), "job": job.tolist(), "rich": rich.tolist()}


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


QUICK: dict[str, Any] = {
    "model": "none", "baselines": {"constant": {}, "linear": {"penalty": 1.0, "bends": 0}},
    "split__folds": 1, "threads": 1, "explain_rows": 0, "quiet": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("after")
    data = write(folder / "people.csv", people(1500, 0))
    return fathom.fit(data, target="rich", out=folder / "run", **QUICK).path


def new(tmp_path: Path, **changed: Any) -> Path:
    columns = people(600, 1)
    for name, change in changed.items():
        columns[name] = [change(value) for value in columns[name]]
    return write(tmp_path / "new.csv", columns)


def test_a_healthy_run_has_no_finding_and_keeps_little(run: Path) -> None:
    assert examine_run(run) == [] and json.loads((run / "findings.json").read_text()) == []
    files = list((run / "reference").iterdir())
    assert sum(path.stat().st_size for path in files) < 200_000
    reference = read_reference(RunFolder.open(run))
    assert reference is not None and set(reference.sketches) == {"age", "hours", "job"}
    assert set(reference.slices) == {"job"} and len(reference.train) > 500


def test_a_test_set_that_was_cleaned_is_too_good_and_an_easier_future_is_not(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    x, flipped = generator.normal(size=1400), generator.random(1400) < 0.3 * (np.arange(1400) < 1100)
    rich = np.where((x > 0) ^ flipped, "yes", "no")
    columns = {"x": x.tolist(), "day": list(range(1400)), "rich": rich.tolist()}
    train, test = (
        write(tmp_path / f"{name}.csv", {column: values[rows] for column, values in columns.items()})
        for name, rows in (("train", slice(1100)), ("test", slice(1100, None)))
    )
    cleaned = fathom.fit(train, target="rich", test=test, out=tmp_path / "cleaned", drop=["day"], **QUICK)
    (found,) = (one for one in examine_run(cleaned.path) if one.id == "A1")
    assert found.evidence["test"] > found.evidence["train"] + 0.1
    assert "A1" in {one["id"] for one in json.loads((cleaned.path / "findings.json").read_text())}
    every = write(tmp_path / "every.csv", columns)
    later = fathom.fit(every, target="rich", time="day", out=tmp_path / "later", **QUICK)
    assert "A1" not in {one.id for one in examine_run(later.path)}


def test_clean_new_rows_raise_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = new(tmp_path)
    assert examine_run(run, on=clean) == []
    assert main(["doctor", str(run), "--on", str(clean), "--strict"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Nothing found in {run}, nor in {clean} beside it."


def test_a_unit_a_spelling_and_a_missing_column_are_told(run: Path, tmp_path: Path) -> None:
    (found,) = (f for f in examine_run(run, on=new(tmp_path, age=lambda age: age * 1000)) if f.id == "P1")
    assert "1,000 times as large" in found.seen and "worse too" in found.cause
    (found,) = (f for f in examine_run(run, on=new(tmp_path, job=str.upper)) if f.id == "P1")
    assert found.evidence["columns"][0] == "job" and "'pilot' where it is 'PILOT'" in found.remedy
    both = new(tmp_path, job=str.upper, hours=lambda hours: hours + 8)
    skew, moved = (f for f in examine_run(run, on=both) if f.id == "P1")
    assert skew.evidence["columns"] == ["job"] and moved.evidence["columns"] == ["hours"], "two causes"
    columns = people(100, 1)
    del columns["job"]
    (found,) = examine_run(run, on=write(tmp_path / "less.csv", columns))
    assert found.remedy.startswith("Add what is missing;") and "Known: age" in found.remedy
    assert found.by == "exact" and found.evidence["columns"] == ["job"]


def test_a_rule_that_changed_is_harm_and_no_shift(run: Path, tmp_path: Path) -> None:
    turned = new(tmp_path, rich=lambda rich: "yes" if rich == "no" else "no")
    (found,) = examine_run(run, on=turned)
    assert found.id == "P2" and found.evidence["risk_new_at_least"] > 0.5


def test_of_many_rows_some_are_looked_at(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aftercare, "MOST_ROWS", 150)
    said: list[str] = []
    (found,) = examine_run(run, on=new(tmp_path, hours=lambda hours: hours + 8), say=said.append)
    assert found.evidence["rows_new"] == 150 and "150 of 600 rows are looked at, spread evenly." in said


def test_inputs_that_moved_without_harm_are_told_as_such(run: Path, tmp_path: Path) -> None:
    (found,) = examine_run(run, on=new(tmp_path, hours=lambda hours: hours + 8))
    assert found.evidence["columns"] == ["hours"] and "still answers as well" in found.cause
    columns = people(600, 1) | {"hours": [hours + 8 for hours in people(600, 1)["hours"]], "shoe": [42] * 600}
    del columns["rich"]
    said: list[str] = []
    (found,) = examine_run(run, on=write(tmp_path / "bare.csv", columns), say=said.append)
    assert found.evidence["severity"] == "unknown" and any("no 'rich'" in text for text in said)
    assert "Columns that training had not, and that are not used: shoe." in said


def test_what_a_column_that_moved_does_to_answers_and_rows_stands_below_it(run: Path, tmp_path: Path) -> None:
    (found,) = (one for one in examine_run(run, on=new(tmp_path, age=lambda age: age + 25)) if one.id == "P1")
    told = " ".join(one.seen for one in found.symptoms)
    for words in ("The probability of the given class is", "Other classes are given", "stranger than"):
        assert words in told


def test_what_follows_from_a_cause_is_attached_to_it(run: Path, tmp_path: Path) -> None:
    columns = people(3000, 2)
    kept = [i for i, rich in enumerate(columns["rich"]) if rich == "no" or i % 6 == 0]
    rarer = write(tmp_path / "rarer.csv", {name: [values[i] for i in kept] for name, values in columns.items()})
    (found,) = (f for f in examine_run(run, on=rarer) if f.id == "P1")
    assert found.evidence["shift_of"] == "classes" and "multiply" in found.remedy
    assert {"columns"} <= {one.evidence["shift_of"] for one in found.symptoms}
    share = [columns["rich"][i] for i in kept].count("yes") / len(kept)
    assert found.evidence["priors"]["yes"] == pytest.approx(share, abs=0.12)  # of 225 test rows
    assert share < found.evidence["intervals"]["yes"][1] + 0.03 < 0.25


def test_a_run_of_before_and_a_damaged_one_say_so(run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old)
    (old / "reference" / "test.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(fathom.UserError, match="damaged"):
        examine_run(old)
    shutil.rmtree(old / "reference")
    assert examine_run(old) == []
    with pytest.raises(fathom.UserError, match="Fit it again"):
        examine_run(old, on=new(tmp_path))


def test_a_run_whose_labels_turned_in_one_job_is_told_at_the_end_of_the_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network cannot know: in the test rows alone the cooks' labels are turned."""
    train, test = people(1200, 3), people(800, 4)
    turned = {"yes": "no", "no": "yes"}
    test["rich"] = [turned[r] if j == "cook" else r for r, j in zip(test["rich"], test["job"], strict=True)]
    options: dict[str, Any] = {"model": "none", "baselines": {"linear": {"penalty": 1.0}}, "split__folds": 1}
    made = fathom.fit(
        write(tmp_path / "a.csv", train), target="rich", test=write(tmp_path / "b.csv", test), out=tmp_path / "run",
        threads=1, explain_rows=0, **options,
    )  # fmt: skip
    assert "Doctor     A2" in capsys.readouterr().out
    kept = json.loads((made.path / "findings.json").read_text())
    assert "A2" in [one["id"] for one in kept]
    assert [f.id for f in answer_checks.examine(made.folder, made.metrics)] == [one["id"] for one in kept]
    (slice_,) = next(one for one in kept if one["id"] == "A2")["evidence"]["groups"]
    assert slice_["name"] == "job = cook"


def test_what_a_network_sees_is_compared(tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": "mlp", "baselines": {}, "train__epochs": 1, "split__folds": 1, "threads": 1}
    options |= {"model__depth": 1, "model__width": 16, "model__members": 2}
    data = write(tmp_path / "people.csv", people(1200, 0))
    made = fathom.fit(data, target="rich", out=tmp_path / "run", quiet=True, explain_rows=0, **options).path
    reference = read_reference(RunFolder.open(made))
    assert reference is not None and reference.features is not None
    assert reference.features.dtype == np.float16 and reference.features.shape[0] == len(reference.at)
    assert [f for f in examine_run(made, on=new(tmp_path)) if f.id == "P1"] == []
    (found,) = (f for f in examine_run(made, on=new(tmp_path, age=lambda age: age + 30)) if f.id == "P1")
    assert found.evidence["shift_of"] == "columns"
    assert "features" in [one.evidence["shift_of"] for one in found.symptoms]


def test_brighter_pictures_are_told_and_others_of_the_kind_are_not(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 200, (700, 8, 8), np.uint8)
    labels = (np.arange(700) % 2).astype(np.int64)
    pictures[labels == 1, :4] //= 2
    options: dict[str, Any] = {"model": "none", "baselines": {"linear": {"penalty": 1.0}}, "split__folds": 1}
    old = pictures[:500], labels[:500]
    made = fathom.fit(old, task="classify", out=tmp_path / "run", quiet=True, threads=1, explain_rows=0, **options)
    assert examine_run(made.path, on=(pictures[500:], labels[500:])) == []
    (found,) = examine_run(made.path, on=pictures[500:] + np.uint8(40))
    assert "image (brightness)" in found.evidence["columns"] and "image (width)" not in found.evidence["columns"]
    (found,) = examine_run(made.path, on=np.tile(pictures[500:], (1, 2, 2)))
    assert {"image (width)", "image (height)"} <= set(found.evidence["columns"])


def test_what_is_not_looked_at_of_a_language_is_said(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    words = ["the", "cat", "dog", "sleeps", "sings", "here", "there", "now"]
    text = "".join(" ".join(generator.choice(words, 5)) + ".\n" for _ in range(3000))
    (tmp_path / "old.txt").write_text(text[:60_000])
    (tmp_path / "new.txt").write_text(text[60_000:])
    (tmp_path / "other.txt").write_text(text[60_000:].upper())
    made = fathom.fit(tmp_path / "old.txt", task="language", out=tmp_path / "run", quiet=True, model="none", threads=1)
    said: list[str] = []
    assert examine_run(made.path, on=tmp_path / "new.txt", say=said.append) == []
    assert any("not looked at" in one for one in said)
    found = examine_run(made.path, on=tmp_path / "other.txt")
    assert "text (share of capitals)" in found[0].evidence["columns"]
    examine_run(made.path, on=text[60_000:].splitlines(), say=said.append)
    assert not any("belong together" in one for one in said), "lines of their own stand for themselves"
    with pytest.raises(fathom.UserError, match="There is no .*nwe.txt"):
        examine_run(made.path, on=str(tmp_path / "nwe.txt"))


def test_a_repair_and_new_rows_are_not_asked_for_at_once(run: Path) -> None:
    with pytest.raises(fathom.UserError, match="leave --on out"):
        examine_run(run, on=run, fix=True)


def test_rows_of_a_person_count_once(tmp_path: Path) -> None:
    """Each of 60 people has 25 rows that are all alike: 1,500 rows, and little to know."""
    once = people(60, 5) | {"person": list(range(60))}
    columns = {name: [value for value in values for _ in range(25)] for name, values in once.items()}
    linear: dict[str, Any] = {"penalty": 1.0, "bends": 0}
    made = fathom.fit(
        write(tmp_path / "people.csv", columns), target="rich", group="person", out=tmp_path / "run", quiet=True,
        model="none", baselines={"linear": linear}, split__folds=1, threads=1, explain_rows=0,
    ).path  # fmt: skip
    reference = read_reference(RunFolder.open(made))
    assert reference is not None and reference.scale == pytest.approx(1 / 25)
    others = people(8, 6) | {"person": list(range(100, 108))}
    new_rows = {name: [value for value in values for _ in range(25)] for name, values in others.items()}
    assert examine_run(made, on=write(tmp_path / "new.csv", new_rows)) == []
    del new_rows["person"]
    said: list[str] = []
    examine_run(made, on=write(tmp_path / "bare.csv", new_rows), say=said.append)
    assert any("which rows belong together" in text for text in said)
