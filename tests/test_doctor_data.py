"""The doctor before any training: what is wrong with the data is found, and healthy data is left in peace."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fathom
from fathom.cli import main
from fathom.doctor.finding import Finding
from fathom.doctor.twins import expected_pairs

from .conftest import people, write_csv


def found(frame: Any, target: str = "y", **options: Any) -> dict[str, Finding]:
    """The findings by id; the last of each."""
    return {one.id: one for one in fathom.examine(frame, target=target, **options)}


def table(rows: int = 600, seed: int = 0, noise: float = 0.7) -> pd.DataFrame:
    """Two classes, told by three of five numbers and by a category."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 5))
    colour = random.choice(["red", "green", "blue"], size=rows)
    score = x[:, 0] + 0.8 * x[:, 1] - 0.6 * x[:, 2] + 0.8 * (colour == "red") + noise * random.normal(size=rows)
    frame = pd.DataFrame(x, columns=list("abcde"))
    return frame.assign(colour=colour, y=np.where(score > 0, "yes", "no"))


def in_parts(train: pd.DataFrame, test: pd.DataFrame, folder: Path, **options: Any) -> dict[str, Finding]:
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    return found(folder / "train.csv", test=folder / "test.csv", **options)


@pytest.mark.parametrize("seed", range(6))
def test_a_healthy_table_is_left_in_peace(seed: int, tmp_path: Path) -> None:
    assert found(table(seed=seed)) == {}
    assert in_parts(table(seed=seed), table(300, seed=seed + 100), tmp_path) == {}


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_bundled_data_is_left_in_peace(name: str) -> None:
    from sklearn import datasets

    assert found(getattr(datasets, f"load_{name}")(as_frame=True).frame, "target") == {}


def test_infinite_values_and_words_among_numbers_are_named_with_their_place() -> None:
    frame = table()
    frame.loc[[7, 9], "a"] = [np.inf, -np.inf]
    (one,) = fathom.examine(frame, target="y")
    assert one.id == "D1" and one.evidence["rows"] == [7, 9] and "'a' 2 times" in one.seen
    mixed = table().round(3).astype({"b": str})
    mixed.loc[[3, 40, 41], "b"] = ["12 kg", "12 kg", "ask Ann"]
    (one,) = fathom.examine(mixed, target="y")
    assert one.id == "D1" and one.evidence["rows"] == [3, 40, 41] and "'12 kg' 2 times" in one.seen


def test_missing_values_and_codes_of_words_and_numbers_are_no_findings() -> None:
    frame = table()
    random = np.random.default_rng(0)
    frame.loc[random.choice(600, 90, replace=False), "a"] = np.nan
    frame["mark"] = np.where(random.random(600) < 0.2, "?", random.integers(100, 999, 600).astype(str))
    frame["code"] = [f"{'V' if i % 3 else ''}{i % 60}.{i % 7}" for i in random.integers(0, 9999, 600)]
    frame["same"] = 1
    assert found(frame) == {}


def test_a_column_that_is_constant_in_training_only(tmp_path: Path) -> None:
    train, test = table(), table(300, seed=1)
    assert "D1" in in_parts(train.assign(c=0.0), test, tmp_path)
    rare = np.zeros(300)
    rare[5] = 1.0  # one row of 900 may well fall into the test
    assert "D1" not in in_parts(train.assign(c=0.0), test.assign(c=rare), tmp_path)


def test_classes_spelt_in_two_ways() -> None:
    frame = table()
    frame.loc[:40, "y"] = frame.loc[:40, "y"].str.upper()
    assert "'NO' and 'no'" in found(frame)["D1"].seen.replace("'no' and 'NO'", "'NO' and 'no'")


@pytest.mark.parametrize("seed", range(3))
def test_rows_in_both_parts_are_counted(seed: int, tmp_path: Path) -> None:
    train, test = table(seed=seed), table(300, seed=seed + 50)
    test.loc[:11, train.columns] = train.loc[100:111].to_numpy()
    test.loc[0, "y"] = "no" if test.loc[0, "y"] == "yes" else "yes"  # label-blind
    one = in_parts(train, test, tmp_path)["D2"]
    assert len(one.evidence["rows"]) == 12 and "11 of them" in one.seen and "test.csv:" in one.evidence["places"][0]


def test_texts_that_differ_by_capitals_and_stops_are_copies(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = [f"word{chr(97 + i % 26)}{i}" for i in range(60)]
    texts = [" ".join(random.choice(words, 8)) for _ in range(240)]
    frame = pd.DataFrame({"text": texts, "y": random.choice(["no", "yes"], 240)})
    train, test = frame[:160].reset_index(drop=True), frame[160:].reset_index(drop=True)
    test.loc[:4, "text"] = [f"{text.upper()}!" for text in train.loc[10:14, "text"]]
    test.loc[5, "text"] = train.loc[30, "text"]
    one = in_parts(train, test, tmp_path)["D2"]
    assert one.evidence["rows"] == list(range(160, 166)) and one.evidence["exact"] == 1
    assert "apart from capitals and stops, 1 to the letter" in one.seen


def test_repeated_rows_within_a_file_are_counted_and_chance_is_not() -> None:
    frame = table()
    one = found(pd.concat([frame, frame[:30]], ignore_index=True))["D2"]
    assert one.evidence["rows"] == list(range(600, 630)) and one.evidence["expected"] < 1
    random = np.random.default_rng(0)
    for rows, values in ((600, 3), (2000, 4), (300, 2)):
        few = pd.DataFrame(random.integers(0, values, size=(rows, 6)).astype(str), columns=list("abcdef")) + "x"
        few["y"] = np.where((few["a"] == "0x") ^ (random.random(rows) < 0.2), "yes", "no")
        assert "D2" not in found(few), "rows of few values are equal by chance"


def test_how_many_equal_rows_chance_makes() -> None:
    from fathom.data import Examples

    random = np.random.default_rng(0)
    codes = random.integers(1, 12, size=(3000, 4)).astype(np.int32)
    examples = Examples({"categories": codes}, {"categories": {"form": "categories", "names": list("abcd")}}, {}, 3000)
    true = 3000 * 2999 / 2 / 11**4
    assert expected_pairs(examples) == pytest.approx(true, rel=0.2)


def test_copies_with_a_little_noise() -> None:
    random = np.random.default_rng(0)
    frame = table().drop(columns="colour")
    noisy = frame[:200].copy()
    noisy[list("abcde")] += random.normal(scale=1e-3, size=(200, 5))
    assert "nearer to one other row" in found(pd.concat([frame, noisy], ignore_index=True))["D2"].seen
    assert "D2" not in found(frame)


def test_groups_and_times_on_both_sides(tmp_path: Path) -> None:
    train, test = table(), table(300, seed=1)
    train["who"], test["who"] = np.arange(600) // 6 + 1000, np.arange(300) // 6 + 1090
    one = in_parts(train, test, tmp_path, group="who")["D3"]
    assert one.by == "exact" and one.evidence["groups"] == 10 and len(one.evidence["rows"]) == 60
    test["who"] += 100
    assert "D3" not in in_parts(train, test, tmp_path, group="who")
    train["day"], test["day"] = np.arange(600), np.arange(300) + 590
    one = in_parts(train.drop(columns="who"), test.drop(columns="who"), tmp_path, time="day")["D3"]
    assert len(one.evidence["rows"]) == 10


@pytest.mark.parametrize("seed", range(3))
def test_a_column_by_which_rows_know_each_other_is_suspected(seed: int) -> None:
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(60), 10)
    own = random.normal(size=(60, 4))[patient] + 0.02 * random.normal(size=(600, 4))
    ill = random.random(60)[patient] < 0.5
    frame = pd.DataFrame(own, columns=list("abcd")).assign(patient=[f"p{i:02d}" for i in patient], y=ill)
    shuffled = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    one = found(shuffled)["D3"]
    assert one.evidence["columns"] == ["patient"] and "--group patient" in one.remedy
    assert "D3" not in found(shuffled, group="patient")
    honest = table(seed=seed).assign(town=random.choice([f"t{i}" for i in range(60)], 600))
    assert "D3" not in found(honest)


def test_a_loss_in_few_groups_may_be_chance() -> None:
    town = np.random.default_rng(0).permutation(np.arange(120) % 40)
    assert "D3" not in found(table(120, noise=1.0).assign(town=[f"t{i}" for i in town]))


@pytest.mark.parametrize("seed", range(3))
def test_a_column_that_has_the_answer_is_suspected(seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = table(seed=seed, noise=3.0)
    known = (frame["y"] == "yes") * 2.0 + 0.3 * random.normal(size=600)
    one = found(frame.assign(after=known))["D4"]
    assert one.evidence["columns"] == ["after"] and "--drop after" in one.remedy and one.by == "test"
    twice = found(frame.assign(after=known, again=np.exp(known)))["D4"]
    assert set(twice.evidence["columns"]) == {"after", "again"}
    number = pd.DataFrame(random.normal(size=(600, 4)), columns=list("abcd"))
    number["y"] = number["a"] + random.normal(size=600)
    assert found(number.assign(z=number["y"] + 0.01 * random.normal(size=600)))["D4"].evidence["columns"] == ["z"]
    assert "D4" not in found(number)


def test_honest_witnesses_are_not_suspected() -> None:
    random = np.random.default_rng(0)
    y = random.integers(2, size=600)
    frame = pd.DataFrame({"length": 3.0 * y + random.normal(size=600), "width": 3.0 * y + random.normal(size=600)})
    assert found(frame.assign(y=y, other=random.normal(size=600))) == {}


def test_sums_of_columns_are_told_as_a_finding() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"m": random.integers(0, 90, 200), "g": random.integers(0, 9, 200), "o": random.normal(size=200)}
    )
    one = found(frame.assign(y=1.0 * frame["m"] + frame["g"]))["D4"]
    assert one.by == "exact" and one.evidence["columns"] == ["m", "g"]


def test_scaling_by_all_rows_leaves_its_fingerprint(tmp_path: Path) -> None:
    every = table(900)
    numbers = every[list("abcde")] * [1, 2, 3, 4, 5] + 3
    whole, honest = every.copy(), every.copy()
    whole[list("abcde")] = (numbers - numbers.mean()) / numbers.std(ddof=0)
    honest[list("abcde")] = (numbers - numbers[:600].mean()) / numbers[:600].std(ddof=0)
    assert len(in_parts(whole[:600], whole[600:], tmp_path)["D5"].evidence["columns"]) == 5
    assert "D5" not in in_parts(honest[:600], honest[600:], tmp_path)
    assert "D5" not in found(whole), "one file that is standardised tells nothing of a test"
    parts = (
        (numbers[rows] - numbers[rows].mean()) / numbers[rows].std(ddof=0) for rows in (slice(600), slice(600, None))
    )
    own = every.assign(**pd.concat(parts))
    assert "D5" not in in_parts(own[:600], own[600:], tmp_path), "each part by itself: no test row had a say"
    ranged = every.copy()
    ranged[list("abcde")] = (numbers - numbers.min()) / (numbers.max() - numbers.min())
    ranged = ranged.iloc[numbers.rank().max(axis=1).argsort()]  # the greatest values are tested
    assert len(in_parts(ranged[:600], ranged[600:], tmp_path)["D5"].evidence["columns"]) >= 2


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_are_found_and_listed(seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = table(1500, seed=seed, noise=0.2)
    wrong = random.random(1500) < 0.15
    frame["y"] = np.where(wrong, np.where(frame["y"] == "yes", "no", "yes"), frame["y"])
    one = found(frame)["D6"]
    listed = np.array(one.evidence["rows"])
    assert wrong[listed].mean() > 0.8 and wrong[listed].sum() > 0.6 * wrong.sum()
    assert wrong[listed[:50]].mean() >= wrong[listed].mean() - 0.05, "the likeliest first"


@pytest.mark.parametrize("noise", [1.5, 3.0])
def test_hard_data_has_no_wrong_labels(noise: float) -> None:
    for seed in range(3):
        assert "D6" not in found(table(1500, seed=seed, noise=noise))


def test_rare_classes_that_are_passed_over_or_cannot_be_measured() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 4))
    rare = random.random(4000) < 1 / (1 + np.exp(3.9 - 1.2 * x[:, 0] - 1.2 * x[:, 1]))
    frame = pd.DataFrame(x, columns=list("abcd")).assign(y=np.where(rare, "ill", "well"))
    passed_over = found(frame)["D7"]
    assert passed_over.by == "test" and passed_over.evidence["classes"] == ["ill"]
    few = table()
    few.loc[:9, "y"] = "maybe"
    one = found(few)["D7"]
    assert one.by == "exact" and one.evidence["classes"] == ["maybe"] and one.evidence["counts"] == [10]


def test_a_rare_class_that_is_found_is_left_in_peace() -> None:
    random = np.random.default_rng(0)
    y = random.random(6000) < 0.12
    x = random.normal(size=(6000, 4))
    x[:, 0] += 6 * y
    assert found(pd.DataFrame(x, columns=list("abcd")).assign(y=np.where(y, "ill", "well"))) == {}
    hard = x[:, 1] + 1.5 * random.normal(size=6000) > 1.9  # one row in seven, and seldom the likelier class
    assert found(pd.DataFrame(x[:, 1:], columns=list("bcd")).assign(y=np.where(hard, "ill", "well"))) == {}


@pytest.mark.parametrize("seed", range(3))
def test_parts_that_differ_are_told_with_the_columns(seed: int, tmp_path: Path) -> None:
    train, test = table(seed=seed), table(400, seed=seed + 50)
    test["b"] += 1.0
    one = in_parts(train, test, tmp_path)["D8"]
    assert one.evidence["columns"] == ["b"] and one.evidence["auc"] > 0.65
    more, other = table(3000, seed=seed), table(2000, seed=seed + 50)
    other["b"] += 0.2
    assert "D8" not in in_parts(more, other, tmp_path), "significant is not large"


@pytest.mark.parametrize("seed", range(3))
def test_targets_that_were_mixed_up(seed: int) -> None:
    frame = table(2000, seed=seed)
    random = np.random.default_rng(seed)
    mixed = found(frame.assign(y=random.permutation(frame["y"])))["D9"]
    assert mixed.by == "test" and mixed.evidence["shift"] == 0
    moved = found(frame.assign(y=np.roll(frame["y"], 1)))["D9"]
    assert moved.by == "experiment" and "moved by 1 row up" in moved.seen
    weak = frame.assign(y=np.where(random.random(2000) < 0.3, frame["y"], random.permutation(frame["y"])))
    assert "D9" not in found(weak)


def test_what_trees_do_not_see_and_neighbours_do_is_no_mix_up() -> None:
    random = np.random.default_rng(0)
    sides = random.integers(0, 2, size=(2000, 5))
    frame = pd.DataFrame(2 * sides + 0.3 * random.normal(size=(2000, 5)), columns=list("abcde"))
    assert found(frame.assign(y=np.where(sides.sum(axis=1) % 2, "odd", "even"))) == {}


def test_a_class_that_is_held_out_as_a_whole_ends_no_check() -> None:
    frame = table(60)
    frame.loc[:49, "y"], frame.loc[50:, "y"] = "often", "seldom"
    frame.iloc[50:] = frame.iloc[50].to_numpy()  # copies are held out together: the rest is of one class
    assert "D9" not in found(frame)


def test_few_rows_do_not_show_that_there_is_nothing() -> None:
    random = np.random.default_rng(0)
    assert (
        found(pd.DataFrame(random.normal(size=(150, 3)), columns=list("abc")).assign(y=random.integers(2, size=150)))
        == {}
    )


def test_the_same_data_gives_the_same_findings_and_no_random_state_moves() -> None:
    frame = pd.concat([table(), table()[:30]], ignore_index=True)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = fathom.examine(frame, target="y"), fathom.examine(frame, target="y")
    assert first == again and first
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_the_command_tells_each_finding_and_what_it_looked_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = people(300)
    write_csv(Path("well.csv"), rows, without=("wealth",))
    assert main(["doctor", "well.csv", "--target", "rich", "--strict"]) == 0
    assert "Nothing found in 300 rows and 3 columns. Looked for: " in capsys.readouterr().out.splitlines()[-1]
    Path("book.txt").write_text("It was a fine day.\nNobody knew, of course, that it rained.\n\n" * 300)
    assert main(["doctor", "book.txt", "--task", "language", "--strict"]) == 0
    assert "nothing more is looked for" in capsys.readouterr().out.splitlines()[-1], "and not: Nothing found"
    write_csv(Path("ill.csv"), [row | {"after": row["rich"] + "!"} for row in rows], without=("wealth",))
    assert main(["doctor", "ill.csv", "--target", "rich", "--json", "found.json"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "1 finding" and any(
        line.startswith("D4         target leakage: 'after' tells") for line in shown
    )
    assert [line.split()[0] for line in shown[-5:-1]] == ["A", "cause:", "to", "more:"]
    (kept,) = json.loads(Path("found.json").read_text())
    assert kept["id"] == "D4" and kept["evidence"]["columns"] == ["after"]
    assert main(["doctor", "ill.csv", "--target", "rich", "--strict"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.txt", "found.json", "ill.csv", "well.csv"], (
        "nothing is written"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["doctor"], "--help"),
        (["doctor", "none.csv"], "There is no none.csv"),
        (["doctor", "people.csv", "--target", "ritch"], "Did you mean 'rich'?"),
        (["doctor", "people.csv", "--target", "rich", "--fix"], "are for finished runs"),
        (["doctor", "people.csv", "--target", "rich", "--on", "new.csv"], "are for finished runs"),
        (["doctor", "people.csv", "--target", "rich", "--json", "no/such/folder.json"], "cannot be written"),
        (["doctor", "people.csv", "--target", "rich", "seed=3"], "was not understood"),
    ],
)
def test_wrong_use_ends_with_one_message(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("people.csv"), people(60))
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("fathom: ") and said in shown and "Traceback" not in shown


def test_a_fit_tells_and_keeps_what_is_wrong_with_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.concat([table(300), table(300)[:30]], ignore_index=True)
    run = fathom.fit(frame, target="y", model="none", out=tmp_path / "run", recipe={"baselines": {"constant": {}}})
    (kept,) = json.loads((run.path / "findings.json").read_text())
    assert kept["id"] == "D2"
    assert f"Doctor     {kept['text']}" in capsys.readouterr().out


def test_adult_has_23_test_rows_that_also_train(real_data: Path) -> None:
    adult = real_data / "adult"
    one = found(adult / "adult-train.csv.gz", 15, test=adult / "adult-test.csv.gz")  # type: ignore[arg-type]
    # 26 are equal label-blind; 3 of these stand there with the other income.
    assert "26 of 16,281 rows of the test" in one["D2"].seen and "23 of them have its target" in one["D2"].seen
    assert set(one) == {"D2"}


@pytest.mark.parametrize(("colour", "copies"), [("red", 240), ("white", 937)])
def test_wine_quality_repeats_rows(real_data: Path, colour: str, copies: int) -> None:
    one = found(real_data / "wine_quality" / f"winequality-{colour}.csv", 12)["D2"]  # type: ignore[arg-type]
    assert len(one.evidence["rows"]) == copies


def test_bike_sharing_counts_its_parts(real_data: Path) -> None:
    one = found(real_data / "bike_sharing" / "bike_sharing_hourly.csv.gz", "count")["D4"]
    assert one.evidence["columns"] == ["casual", "registered"]


def test_trec_shares_ten_questions(real_data: Path, tmp_path: Path) -> None:
    for name, part in (("train_5500", "train"), ("TREC_10", "test")):
        with (tmp_path / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["kind", "question"])
            for line in (real_data / "trec" / f"{name}.label").read_text(encoding="latin-1").splitlines():
                kind, _, question = line.partition(" ")
                writer.writerow([kind.partition(":")[0], question])
    across = [
        one
        for one in fathom.examine(tmp_path / "train.csv", "kind", test=tmp_path / "test.csv")
        if one.evidence.get("across")
    ]
    assert len(across) == 1 and across[0].evidence["exact"] == 10
    assert len(across[0].evidence["rows"]) == 11, "one apart from its capitals"


def test_flipped_labels_of_sst2_are_listed(real_data: Path, tmp_path: Path) -> None:
    lines: list[list[str]] = []
    for part in ("train", "dev", "test"):
        with gzip.open(real_data / "sst2" / f"{part}.tsv.gz", "rt", encoding="utf-8") as file:
            lines += [line.rstrip("\n").split("\t") for line in file]
    flipped = np.random.default_rng(0).random(len(lines)) < 0.2
    with (tmp_path / "sst2.tsv").open("w") as file:
        file.write("sentence\tlabel\n")
        for (text, label), is_wrong in zip(lines, flipped, strict=True):
            file.write(f"{text}\t{1 - int(label) if is_wrong else label}\n")
    one = found(tmp_path / "sst2.tsv", "label")["D6"]
    listed = np.array(one.evidence["rows"])
    assert flipped[listed].mean() >= 0.6 and flipped[listed].sum() >= 0.6 * flipped.sum()
