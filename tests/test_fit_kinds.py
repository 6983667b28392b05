"""Pictures, texts, mixed tables, groups and time go the whole way: raw files in, predictions out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fathom

from .conftest import people, write_csv

pytestmark = pytest.mark.usefixtures("patient")

QUICK = {
    "train__epochs": 1, "train__precision": "fp32", "split__folds": 1, "threads": 1, "explain_rows": 20, "quiet": True,
}  # fmt: skip


def picture(path: Path, bright: bool, random: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 90, (20, 16, 3)) + (120 if bright else 0)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def photos(root: Path, rows: int = 60) -> Path:
    random = np.random.default_rng(0)
    for i in range(rows):
        picture(root / ("day" if i % 2 else "night") / f"{i}.png", bool(i % 2), random)
    return root


def texts(rows: int = 80) -> list[dict[str, str]]:
    random = np.random.default_rng(0)
    filler = ["the film", "an actor", "this plot", "some music", "a scene", "that ending"]
    found = []
    for i in range(rows):
        mood = ["wonderful", "great", "lovely"] if i % 2 else ["awful", "boring", "poor"]
        words = [str(random.choice(filler)), "was", str(random.choice(mood)), "and so was", str(random.choice(filler))]
        found.append({"review": " ".join(words) + f" number {i}", "label": "good" if i % 2 else "bad"})
    return found


def test_folder_of_pictures(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    (root / "day" / "broken.png").write_bytes(b"no picture at all")
    run = fathom.fit(root, out=tmp_path / "run", **QUICK)
    left_out = (run.path / "left_out.csv").read_text()
    assert "broken.png" in left_out
    new = picture(tmp_path / "new.png", True, np.random.default_rng(5))
    found = run.predict(new, candidate="linear")
    assert list(found.values) == ["day"]
    assert "new.png" in found.columns["row"][0]
    as_array = run.predict(np.asarray(Image.open(new)), candidate="linear")
    np.testing.assert_allclose(as_array.probabilities, found.probabilities, atol=1e-6)
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(new, flat / "a.png")
    shutil.copy(new, flat / "b.png")
    assert len(run.predict(flat)) == 2
    assert set(run.predict(new, candidate="resnet").values) <= {"day", "night"}
    assert run.evaluate(root, candidate="linear")["measures"]["accuracy"]["value"] > 0.9
    assert "data:image/png;base64," in (run.path / "report.html").read_text()


def test_a_published_size_is_the_one_that_is_trained(tmp_path: Path) -> None:
    options = QUICK | {"model": "resnet", "model__size": 20, "baselines": {}}
    run = fathom.fit(photos(tmp_path / "photos"), out=tmp_path / "run", **options)
    assert run.recipe.model.options == {"size": 20}


def test_an_archive_gives_what_its_folder_gives(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "photos")
    one = fathom.fit(root, out=tmp_path / "one", model="none", **QUICK)
    other = fathom.fit(archive, out=tmp_path / "other", model="none", **QUICK)
    assert one.metrics["rows"] == other.metrics["rows"]
    assert one.metrics["test"]["linear"]["accuracy"] == other.metrics["test"]["linear"]["accuracy"] == 1.0


def test_texts_and_a_text_to_predict(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "reviews.csv", texts())
    run = fathom.fit(data, out=tmp_path / "run", **QUICK)
    assert set(run.metrics["test"]) >= {"constant", "tfidf", "transformer"}
    found = run.predict("this plot was wonderful and so was a scene", candidate="tfidf")
    assert list(found.values) == ["good"]
    assert len(run.predict(["an awful film", "lovely music"], candidate="transformer")) == 2
    assert len(run.predict("lovely music and " * 40, candidate="tfidf")) == 1  # too long for a name of a file
    second = fathom.fit(data, out=tmp_path / "lstm", model="lstm", model__cell="gru", **QUICK)
    assert "lstm" in second.metrics["test"]


def test_folder_of_texts(tmp_path: Path) -> None:
    for i, row in enumerate(texts()):
        path = tmp_path / "reviews" / row["label"] / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row["review"])
    run = fathom.fit(tmp_path / "reviews", out=tmp_path / "run", model="none", **QUICK)
    assert run.metrics["test"]["tfidf"]["accuracy"] > 0.9


def test_numbers_categories_dates_texts_and_pictures_are_one_task(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = []
    for i, row in enumerate(texts(80)):
        path = picture(tmp_path / "pictures" / f"{i}.png", bool(i % 2), random)
        rows.append(
            row
            | {
                "picture": f"pictures/{path.name}",
                "price": f"{random.normal():.3f}",
                "shop": str(random.choice(["north", "south"])),
                "day": f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}",
            }
        )
    data = write_csv(tmp_path / "goods.csv", rows)
    run = fathom.fit(data, target="label", out=tmp_path / "run", **QUICK)
    kinds = {name: spec["kind"] for name, spec in run.model.spec["fields"].items()}
    assert kinds == {"review": "text", "picture": "image", "price": "number", "shop": "category", "day": "datetime"}
    assert "fused" in run.metrics["test"]
    assert len(run.predict(data, candidate="fused")) == 80


def test_rows_of_a_group_stay_on_one_side(tmp_path: Path) -> None:
    rows = [row | {"person": f"p{i // 6}"} for i, row in enumerate(people(240))]
    data = write_csv(tmp_path / "people.csv", rows, without=("wealth",))
    run = fathom.fit(data, target="rich", group="person", out=tmp_path / "run", model="none", **QUICK)
    split = run.folder.read_table("split.parquet")
    sides: dict[int, set[str]] = {}
    for row, part in zip(split["row"], split["part"], strict=True):
        sides.setdefault(row // 6, set()).add(part)
    assert all(len(parts) == 1 for parts in sides.values())
    assert "person" not in run.model.spec["fields"]
    # Twenty copies of a row are no new evidence.
    copies = [row | {"person": f"q{i}"} for i, row in enumerate(people(30, seed=5)) for _ in range(20)]
    grouped = run.evaluate(write_csv(tmp_path / "with.csv", copies))
    alone = run.evaluate(write_csv(tmp_path / "without.csv", copies, without=("person",)))
    assert grouped["group"] == "person" and "group" not in alone
    ends = [found["measures"]["log_loss"]["interval"] for found in (grouped, alone)]
    assert np.diff(ends[0])[0] > 3 * np.diff(ends[1])[0]


def test_the_future_is_the_test(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(200)
    rows = [
        row | {"when": f"2023-{1 + i // 28:02d}-{1 + i % 28:02d}"} for i, row in zip(order, people(200), strict=True)
    ]
    data = write_csv(tmp_path / "people.csv", rows, without=("wealth",))
    run = fathom.fit(data, target="rich", time="when", out=tmp_path / "run", model="none", **QUICK)
    split = run.folder.read_table("split.parquet")
    when = {
        part: [order[row] for row, p in zip(split["row"], split["part"], strict=True) if p == part]
        for part in set(split["part"])
    }
    assert max(when["train"]) < min(when["validate"])
    assert max(when["validate"]) < min(when["test"])
