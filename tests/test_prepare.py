"""What is understood of raw data: the task, columns that give the answer away, rows that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data import Places, Table
from fathom.doctor.target_sum import find_sums
from fathom.errors import UserError
from fathom.prepare import Prepared, prepare, read
from fathom.recipe import Recipe
from fathom.task import guess_task, target_spec


def prepared(columns: dict[str, list | np.ndarray], **settings: object) -> tuple[Prepared, list[str]]:
    arrays = {n: v if isinstance(v, np.ndarray) else _objects(v) for n, v in columns.items()}
    rows = len(next(iter(arrays.values())))
    table = Table("t", arrays, Places.of_rows("t.csv", rows), "rows", target="y")
    said: list[str] = []
    return prepare(table, Recipe(**settings), lambda label, text: said.append(f"{label} {text}".strip())), said  # type: ignore[arg-type]


def _objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def words(*texts: str, times: int = 10) -> list[str]:
    return list(texts) * times


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (words("yes", "no", "no"), "classify", ("no", "yes")),
        (words("1", "2", "3"), "classify", ("1", "2", "3")),
        (words("10", "9", "2"), "classify", ("2", "9", "10")),
        (words("0", "1"), "classify", ("0", "1")),
        ([str(i * 1.5) for i in range(60)], "regress", ()),
        ([str(i) for i in range(300)], "regress", ()),
        (words("1.5", "2.5"), "classify", ("1.5", "2.5")),
    ],
)
def test_task_is_guessed_from_the_target(values: list[str], kind: str, classes: tuple[str, ...]) -> None:
    task, why = guess_task("y", _objects(values))
    assert (task.kind, task.classes) == (kind, classes)
    assert why


def test_task_can_be_overridden() -> None:
    values = _objects(words("1", "2", "3"))
    assert guess_task("y", values, "regress")[0].kind == "regress"
    with pytest.raises(UserError, match="are words"):
        guess_task("y", _objects(words("a", "b")), "regress")


def test_skewed_positive_target_is_learned_on_its_logarithm() -> None:
    random = np.random.default_rng(0)
    task, _ = guess_task("y", np.exp(random.normal(3, 1.2, 500)))
    assert target_spec(task, np.exp(random.normal(3, 1.2, 500)))["log"]
    assert not target_spec(task, random.normal(3, 1.2, 500))["log"]


def test_columns_that_add_up_to_the_target_are_found_and_told() -> None:
    random = np.random.default_rng(0)
    members, guests = random.integers(0, 90, 200).astype(float), random.integers(0, 9, 200).astype(float)
    other = random.normal(size=200)
    columns = {"members": members, "guests": guests, "other": other}
    assert find_sums(columns, members + guests) == [("members", "guests")]
    assert find_sums(columns, 1.0 * other) == [("other",)]
    assert find_sums(columns, members + guests + (np.arange(200) == 7)) == []
    found, said = prepared({**columns, "y": members + guests})
    assert list(found.kinds) == ["other"]
    assert any("'members' and 'guests' add up to 'y' in every row" in line for line in said)
    assert found.findings[0].id == "D4"
    kept, _ = prepared({**columns, "y": members + guests}, keep=["members", "guests"])
    assert set(kept.kinds) == {"members", "guests", "other"}


def test_rows_without_target_are_left_out_and_named() -> None:
    labels = [*words("a", "b", times=20), None, "?"]
    found, said = prepared({"x": [str(i % 7) for i in range(42)], "y": labels})
    assert len(found.table) == len(found.targets) == 40
    assert [entry.where for entry in found.left_out] == ["t.csv:41", "t.csv:42"]
    assert any("2 left out" in line for line in said)


def test_useless_columns_are_left_out_with_the_reason() -> None:
    columns = {
        "id": [str(i + 1) for i in range(60)],
        "same": ["x"] * 60,
        "nothing": [None] * 60,
        "x": [str((7 * i) % 11) for i in range(60)],
        "y": words("a", "b", times=30),
    }
    found, said = prepared(columns)
    assert list(found.kinds) == ["x"]
    assert sum("is left out" in line for line in said) == 3
    assert "same" in prepared(columns, keep=["same"])[0].kinds


def test_kind_can_be_overridden_and_is_checked() -> None:
    columns = {"x": [str(i % 7) for i in range(60)], "y": words("a", "b", times=30)}
    assert prepared(columns, treat_as={"x": "category"})[0].kinds == {"x": "category"}
    with pytest.raises(UserError, match="Did you mean 'category'"):
        prepared(columns, treat_as={"x": "categroy"})
    with pytest.raises(UserError, match="There is no column 'z'"):
        prepared(columns, drop=["z"])
    with pytest.raises(UserError, match="All 2 columns are dropped"):
        prepared(columns, drop=["x", "y"])


def test_too_little_left_is_refused() -> None:
    with pytest.raises(UserError, match="Only 10 usable rows"):
        prepared({"x": [str(i) for i in range(10)], "y": words("a", "b", times=5)})


def test_a_path_may_name_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text("a,y\n" + "1,2\n" * 30)
    monkeypatch.setenv("HERE", str(tmp_path))
    assert len(read(Recipe(), "$HERE/t.csv")) == 30


def test_official_test_labels_with_a_full_stop(tmp_path: Path) -> None:
    rows = [f"{i % 9},{'<=5' if i % 3 else '>5'}" for i in range(60)]
    (tmp_path / "t-train.csv").write_text("a,y\n" + "\n".join(rows) + "\n")
    for part in ("test", "valid"):
        (tmp_path / f"t-{part}.csv").write_text("a,y\n" + "\n".join(f"{row}." for row in rows[:30]) + "\n")
    table = read(Recipe(), str(tmp_path / "t-train.csv"))
    assert table.parts is not None
    assert [(table.parts == part).sum() for part in ("validate", "test")] == [30, 30]
    said: list[str] = []
    found = prepare(table, Recipe(target="y"), lambda label, text: said.append(text))
    assert found.task.classes == ("<=5", ">5")
    assert len(found.targets) == 120
    assert "60 labels spelt differently were read as those of training: '<=5.' as '<=5', '>5.' as '>5'" in said
