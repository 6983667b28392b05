"""Facts about the split: nothing crosses a border, nothing is lost, the future never trains the past."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.data import File, LeftOut, Places, Table, Task
from fathom.divide import Divided, divide
from fathom.errors import UserError
from fathom.partition import labels
from fathom.prepared import Prepared
from fathom.recipe import Recipe, SplitRecipe
from fathom.split import Split, contradictions, duplicate_clusters, folds, split

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=40, deadline=None)


def parts_of(found: Split) -> list[np.ndarray]:
    return [found.train, found.validate, found.test]


def check_whole(found: Split, num_rows: int) -> None:
    placed = np.concatenate([*parts_of(found), np.array(sorted(found.left_out), dtype=np.int64)])
    assert np.array_equal(np.sort(placed), np.arange(num_rows))
    assert all(len(part) for part in parts_of(found))


def crossing(labels: np.ndarray, parts: list[np.ndarray]) -> set:
    held = [set(labels[part].tolist()) for part in parts]
    return (held[0] & held[1]) | (held[0] & held[2]) | (held[1] & held[2])


@quick
@given(seeds, st.integers(30, 400), st.integers(2, 8), st.booleans())
def test_every_row_is_placed_once_and_classes_have_like_shares(
    seed: int, num_rows: int, num_classes: int, regress: bool
) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.normal(size=num_rows) if regress else generator.integers(num_classes, size=num_rows)
    found = split(num_rows, targets=targets, kind="regress" if regress else "classify", seed=seed)
    check_whole(found, num_rows)
    assert abs(len(found.test) - 0.15 * num_rows) <= num_classes + 1
    if not regress:
        for one in range(num_classes):
            rows = int(np.sum(targets == one))
            tested, trained = int(np.sum(targets[found.test] == one)), int(np.sum(targets[found.train] == one))
            assert abs(tested - 0.15 * rows) <= 2
            assert trained >= 1 or rows == 0
            assert tested == 0 if rows <= 2 else tested >= 1


@quick
@given(seeds, st.integers(60, 400), st.integers(4, 60))
def test_groups_never_cross_a_border(seed: int, num_rows: int, num_groups: int) -> None:
    generator = np.random.default_rng(seed)
    groups = np.array([f"patient {g}" for g in generator.integers(num_groups, size=num_rows)], dtype=object)
    targets = generator.integers(2, size=num_rows)
    duplicates = generator.integers(num_rows * 20, size=num_rows)
    found = split(num_rows, targets=targets, kind="classify", groups=groups, duplicates=duplicates, seed=seed)
    check_whole(found, num_rows)
    assert not crossing(groups, parts_of(found))
    for train, validate in folds(found, 2, targets=targets, kind="classify", groups=groups, seed=seed):
        assert not set(groups[train]) & set(groups[validate])
        assert not set(train.tolist()) & set(found.test.tolist())


@quick
@given(seeds, st.integers(60, 400))
def test_copies_stay_on_one_side(seed: int, num_rows: int) -> None:
    generator = np.random.default_rng(seed)
    duplicates = generator.integers(num_rows // 2, size=num_rows)
    targets = generator.integers(3, size=num_rows)
    found = split(num_rows, targets=targets, kind="classify", duplicates=duplicates, seed=seed)
    check_whole(found, num_rows)
    assert not crossing(duplicates, parts_of(found))
    for train, validate in folds(found, 3, targets=targets, kind="classify", duplicates=duplicates, seed=seed):
        assert not set(duplicates[train]) & set(duplicates[validate])


@quick
@given(seeds, st.integers(30, 400), st.integers(6, 500))
def test_future_never_trains_the_past(seed: int, num_rows: int, num_moments: int) -> None:
    generator = np.random.default_rng(seed)
    moments = np.concatenate([np.arange(6), generator.integers(num_moments, size=num_rows - 6)])
    times = np.datetime64("2020-01-01") + moments.astype("timedelta64[D]")
    targets = generator.normal(size=num_rows)
    found = split(num_rows, targets=targets, kind="regress", times=times, seed=seed)
    check_whole(found, num_rows)
    assert times[found.train].max() < times[found.validate].min()
    assert times[found.validate].max() < times[found.test].min()
    if len(np.unique(times[np.concatenate([found.train, found.validate])])) >= 4:
        for train, validate in folds(found, 3, targets=targets, kind="regress", times=times):
            assert times[train].max() < times[validate].min()


def test_few_moments_still_give_three_parts() -> None:
    times = np.array([1] * 90 + [2] * 5 + [3] * 5)
    found = split(100, targets=np.zeros(100), kind="regress", times=times)
    assert [len(part) for part in parts_of(found)] == [90, 5, 5]
    with pytest.raises(UserError, match="2 distinct times"):
        split(100, targets=np.zeros(100), kind="regress", times=np.minimum(times, 2))


def test_rows_without_a_time_are_listed() -> None:
    times = np.arange(100.0)
    times[7] = np.nan
    found = split(100, targets=np.zeros(100), kind="regress", times=times)
    assert found.left_out == {7: "it has no time"}
    check_whole(found, 100)


@quick
@given(seeds, st.integers(60, 300), st.integers(2, 5))
def test_folds_validate_every_row_once(seed: int, num_rows: int, k: int) -> None:
    targets = np.random.default_rng(seed).integers(2, size=num_rows)
    found = split(num_rows, targets=targets, kind="classify", seed=seed)
    pairs = folds(found, k, targets=targets, kind="classify", seed=seed)
    pool = np.sort(np.concatenate([found.train, found.validate]))
    assert len(pairs) == k
    assert np.array_equal(np.sort(np.concatenate([validate for _, validate in pairs])), pool)
    sizes = [len(validate) for _, validate in pairs]
    assert max(sizes) - min(sizes) <= 2
    for train, validate in pairs:
        assert np.array_equal(np.sort(np.concatenate([train, validate])), pool)
        assert abs(np.sum(targets[validate]) - targets[pool].sum() / k) <= 2


def test_a_class_of_two_rows_stays_in_train_and_it_is_said() -> None:
    targets = np.array([0] * 60 + [1] * 60 + [2] * 2 + [3])
    found = split(len(targets), targets=targets, kind="classify")
    assert {120, 121, 122} <= set(found.train.tolist())
    assert any("too rare" in note for note in found.notes)
    for train, _ in folds(found, 4, targets=targets, kind="classify"):
        assert {120, 121, 122} <= set(train.tolist())


def test_official_parts_are_kept_and_validation_is_cut_from_train() -> None:
    parts = np.array(["train"] * 80 + ["test"] * 20, dtype=object)
    found = split(100, targets=np.arange(100) % 2, kind="classify", parts=parts)
    assert np.array_equal(found.test, np.arange(80, 100))
    assert len(found.validate) == 12
    parts[:10] = "validate"
    found = split(100, targets=np.arange(100) % 2, kind="classify", parts=parts)
    assert np.array_equal(found.validate, np.arange(10))
    assert np.array_equal(found.train, np.arange(10, 80))


def test_an_official_validation_part_alone_becomes_the_test_and_it_is_said() -> None:
    parts = np.array(["train"] * 60 + ["validate"] * 40, dtype=object)
    found = split(100, targets=np.arange(100) % 2, kind="classify", parts=parts)
    assert np.array_equal(found.test, np.arange(60, 100))
    assert len(found.validate) == 9
    assert "official validation rows are the test" in found.notes[0]


def test_copies_of_official_test_rows_leave_training_and_are_listed() -> None:
    parts = np.array(["train"] * 80 + ["test"] * 20, dtype=object)
    duplicates = np.arange(100)
    duplicates[5] = duplicates[90]
    found = split(100, targets=np.arange(100) % 2, kind="classify", parts=parts, duplicates=duplicates)
    assert list(found.left_out) == [5]
    assert 90 in found.test
    check_whole(found, 100)


def test_common_values_are_not_copies() -> None:
    """Three yes-or-no columns have eight distinct rows; tying those together would leave nothing to split by."""
    generator = np.random.default_rng(0)
    clusters = generator.integers(8, size=1000)
    found = split(1000, targets=generator.integers(2, size=1000), kind="classify", duplicates=clusters)
    assert abs(len(found.test) - 150) <= 1
    assert len(crossing(clusters, parts_of(found))) == 8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"test": 1.2}, "between 0 and 1"),
        ({"test": 0.6, "validate": 0.5}, "leave no rows"),
        ({"groups": np.arange(100) % 2}, "2 groups"),
        ({"groups": np.arange(100), "times": np.arange(100)}, "only one"),
        ({"times": np.array(["a"] * 100, dtype=object)}, "neither dates nor numbers"),
        ({"parts": np.array(["test"] * 100, dtype=object)}, "no rows to train on"),
        ({"parts": np.array(["dev"] * 100, dtype=object)}, "called 'dev'"),
    ],
)
def test_wrong_use_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(100, targets=np.arange(100) % 2, kind="classify", **wrong)
    with pytest.raises(UserError, match="at least 10"):
        split(4, targets=np.arange(4) % 2, kind="classify")


def test_the_seed_decides_and_large_data_is_capped() -> None:
    targets = np.random.default_rng(0).integers(10, size=300_000)
    one, two, other = (split(len(targets), targets=targets, kind="classify", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test, two.test)
    assert not np.array_equal(one.test, other.test)
    assert (len(one.test), len(one.validate)) == (20_000, 6_000)
    assert len(split(len(targets), targets=targets, kind="classify", test=0.2).test) == 60_000


def test_equal_rows_share_a_cluster(tmp_path) -> None:
    columns = {
        "name": np.array(["a ", "a", "b", None, None, "-1"], dtype=object),
        "number": np.array([0.0, -0.0, 1.0, np.nan, np.nan, 2.0]),
        "picture": np.array([[[1]], [[1]], [[1]], [[2]], [[2]], [[2]]], dtype=np.uint8),
    }
    assert duplicate_clusters(columns).tolist() == [0, 0, 1, 2, 2, 3]
    assert duplicate_clusters({"n": np.array([-1, -2, -1], dtype=object)}).tolist() == [0, 1, 0]
    for name, content in (("1", b"xy"), ("2", b"xy"), ("3", b"xz"), ("4", b"long")):
        (tmp_path / name).write_bytes(content)
    files = np.array([File(str(tmp_path / name)) for name in "1234"], dtype=object)
    assert duplicate_clusters({"file": files}).tolist() == [0, 0, 1, 2]


def test_clusters_among_a_million_rows() -> None:
    numbers = np.random.default_rng(0).normal(size=1_000_000)
    numbers[1] = numbers[0]
    words = np.array(["some words"] * 1_000_000, dtype=object)
    found = duplicate_clusters({"number": numbers, "words": words})
    assert found[0] == found[1] == 0
    assert found.max() == 999_998


def test_contradictions_are_equal_rows_with_different_targets() -> None:
    assert contradictions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])).tolist() == [0, 1]


# What a run makes of it


def objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def divided(aside: dict, num_rows: int = 100, task: str = "classify", **wanted: object) -> tuple[Divided, str]:
    """Rows with a number of their own, divided by columns that stand aside."""
    columns = {"a": np.arange(float(num_rows))}
    targets = np.arange(num_rows) % 2
    return divided_of(columns, aside, targets, Task(task, "y", ("n", "y")), **wanted)


def divided_of(columns: dict, aside: dict, targets: np.ndarray, task: Task, **wanted: object) -> tuple[Divided, str]:
    table = Table("t", columns, Places.of_rows("t.csv", len(targets)), "rows")
    kinds = {"picture": "image", "caption": "text"} if task.kind == "pair" else dict.fromkeys(columns, "number")
    prepared = Prepared(table, task, targets, kinds, {}, columns | aside, [], [])
    said: list[str] = []
    found = divide(prepared, Recipe(split=SplitRecipe(**wanted)), lambda _, text: said.append(text))
    return found, said[-1]


def sides(found: Divided) -> list[np.ndarray]:
    return [found.fitting, found.test] if len(found.folds) > 1 else [found.folds[0].train, found.judged, found.test]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_row_without_a_group_is_alone(missing: object) -> None:
    given = [i // 5 if i < 30 else missing for i in range(100)]
    for groups in (objects(given), np.array(given, float)):
        assert len(np.unique(labels(groups))) == 6 + 70
        found, _ = divided({"who": groups}, group="who", folds=1)
        alone = np.arange(30, 100)
        assert all(len(np.intersect1d(alone, side)) for side in sides(found))
        assert not crossing(np.arange(100) // 5, [np.setdiff1d(side, alone) for side in sides(found)])


@pytest.mark.parametrize(
    "times",
    [
        objects([f"2020-01-{i % 28 + 1:02}" for i in range(98)] + [None, "soon"]),
        np.append(np.arange(98.0), [np.nan, np.nan]),
        np.append(np.arange(98).astype("datetime64[D]"), [np.datetime64("NaT")] * 2),
        objects([str(2000 + i) for i in range(98)] + [None, "?"]),
    ],
    ids=["dates", "numbers", "moments", "years"],
)
def test_rows_without_a_time_are_left_out_and_listed(times: np.ndarray) -> None:
    found, said = divided({"when": times}, time="when")
    assert found.left_out == (LeftOut("t.csv:99", "it has no time"), LeftOut("t.csv:100", "it has no time"))
    assert not set(np.concatenate(sides(found))) & {98, 99}
    assert "2 rows are in no part: it has no time" in said


def test_pictures_are_no_groups() -> None:
    with pytest.raises(UserError, match="'photo' holds pictures"):
        divided({"photo": np.zeros((100, 4, 4), np.uint8)}, group="photo")


@pytest.mark.parametrize("times", [objects(["soon"] * 100), np.full(100, np.nan)], ids=["words", "nothing"])
def test_a_time_column_without_a_time_is_refused(times: np.ndarray) -> None:
    with pytest.raises(UserError, match="Column 'when' cannot order the rows by time: none of its 100 values"):
        divided({"when": times}, time="when")


@pytest.mark.parametrize("kind", ["language", "translate", "pair"])
def test_folds_are_refused_where_models_cannot_be_averaged(kind: str) -> None:
    if kind == "pair":
        columns = {"picture": np.arange(100, dtype=np.uint8)[:, None, None], "caption": objects(["a", "b"] * 50)}
        task, targets = Task("pair", "caption"), columns["caption"]
    else:
        columns, task = {"text": objects([f"text {i}" for i in range(100)])}, Task(kind, "text")  # type: ignore[arg-type]
        targets = columns["text"] if kind == "translate" else np.arange(100.0)
    assert len(divided_of(columns, {}, targets, task)[0].folds) == 1
    with pytest.raises(UserError, match="split.folds=2 was asked for.*Say split.folds=1"):
        divided_of(columns, {}, targets, task, folds=2)


@pytest.mark.parametrize(("num_groups", "folds"), [(3, 2), (4, 3), (5, 4), (20, 5)])
def test_there_are_no_more_folds_than_groups(num_groups: int, folds: int) -> None:
    groups = objects([f"patient {i * num_groups // 100}" for i in range(100)])
    found, said = divided({"who": groups}, group="who")
    assert len(found.folds) == folds
    assert ("form only" in said) == (num_groups < 20)
    for fold in found.folds:
        assert not crossing(groups, [fold.train, fold.validate, found.test])


def test_more_folds_than_groups_or_times_are_refused_by_their_key() -> None:
    aside = {"who": np.arange(100) // 25, "when": np.arange(100) // 25}
    with pytest.raises(UserError, match=r"split.folds=4 was asked for.*rows of one group.*Say split.folds=3\."):
        divided(aside, group="who", folds=4)
    with pytest.raises(UserError, match=r"split.folds=4 was asked for.*rows of one time.*Say split.folds=2\."):
        divided(aside, time="when", folds=4)


def test_captions_of_one_picture_stay_together_by_group_and_by_time() -> None:
    pictures = np.repeat(np.arange(60), 3).astype(np.uint8)[:, None, None]
    columns = {"picture": pictures, "caption": objects([f"caption {i}" for i in range(180)])}
    groups = objects([f"author {i % 40}" for i in range(180)])
    of, task = np.repeat(np.arange(60), 3), Task("pair", "caption")
    groups[:90] = [f"alone {i}" for i in range(90)]
    for aside in ({"group": "by"}, {"time": "when"}):
        times = np.arange(180.0)[::-1].copy()
        times[7] = np.nan  # the picture has a time all the same
        found, _ = divided_of(columns, {"by": groups, "when": times}, columns["caption"], task, **aside)
        assert not crossing(of, sides(found))
        assert sum(map(len, sides(found))) == 180
        assert found.groups is not None
        assert all(len(set(found.groups[of == one])) == 1 for one in range(60))
