"""Every file of sources/ against what a source promises. A new source adds a sample of its data here."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fathom import rooms
from fathom.data import PARTS, Table
from fathom.sources.parts.choose import choose, open_any

ROWS = 6


def write_delimited(folder: Path) -> Path:
    path = folder / "people.csv"
    path.write_text("age,city\n" + "".join(f"{20 + i},{'Oslo' if i % 2 else 'Rome'}\n" for i in range(ROWS)))
    return path


def write_jsonl(folder: Path) -> Path:
    path = folder / "people.jsonl"
    path.write_text("".join(json.dumps({"age": 20 + i, "city": "Oslo"}) + "\n" for i in range(ROWS)))
    return path


def write_parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "people.parquet"
    pq.write_table(pa.table({"age": list(range(ROWS)), "city": ["Oslo"] * ROWS}), path)
    return path


def write_pictures(folder: Path) -> Path:
    for i in range(ROWS):
        target = folder / "photos" / ("rose" if i % 2 else "tulip") / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(target)
    return folder / "photos"


def write_texts(folder: Path) -> Path:
    for i in range(ROWS):
        target = folder / "reviews" / ("pos" if i % 2 else "neg") / f"{i}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"review number {i}")
    return folder / "reviews"


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path) -> Path:
    target = folder / "digits28"
    target.mkdir()
    pictures, labels = np.arange(ROWS * 12).reshape(ROWS, 4, 3), np.arange(ROWS) % 2
    (target / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(pictures)))
    (target / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return target


def write_npz(folder: Path) -> Path:
    np.savez(folder / "flowers.npz", x=np.ones((ROWS, 3)), y=np.arange(ROWS) % 2)
    return folder / "flowers.npz"


def make_frame(_: Path) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"age": range(ROWS), "city": ["Oslo"] * ROWS})


def write_plain_text(folder: Path) -> Path:
    words = ("A", "One", "This", "No", "Every", "Some")
    path = folder / "story.txt"
    # Long enough lines of a short text are pieces of their own.
    path.write_text("".join(f"{word} thing happened on day {i} and on no other.\n" for i, word in enumerate(words)))
    return path


def write_parallel_text(folder: Path) -> Path:
    target = folder / "pairs"
    target.mkdir()
    (target / "train.en").write_text("".join(f"sentence {i}\n" for i in range(ROWS)))
    (target / "train.de").write_text("".join(f"Satz {i}\n" for i in range(ROWS)))
    return target


def write_captioned(folder: Path) -> Path:
    target = folder / "captioned"
    target.mkdir()
    for i in range(ROWS):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(target / f"{i}.png")
        (target / f"{i}.txt").write_text(f"a square of {i} steps of red")
    return target


MAKE: dict[str, Callable[[Path], Any]] = {
    "captioned": write_captioned,
    "delimited": write_delimited,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "folder": write_pictures,
    "text_folder": write_texts,
    "plain_text": write_plain_text,
    "parallel_text": write_parallel_text,
    "idx": write_idx,
    "npz": write_npz,
    "frame": make_frame,
    "arrays": lambda _: (np.ones((ROWS, 3)), np.arange(ROWS) % 2),
    "samples": lambda _: "wine",
}
SOURCES = rooms.names("sources")


def test_every_source_has_a_sample_here() -> None:
    assert set(SOURCES) == set(MAKE)


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    return rooms.find("sources", request.param).open(MAKE[request.param](tmp_path))


@pytest.mark.parametrize("name", SOURCES)
def test_claims_its_own_data_in_words(name: str, tmp_path: Path) -> None:
    what = rooms.find("sources", name).claims(MAKE[name](tmp_path))
    assert isinstance(what, str)
    assert what.startswith(("a ", "an ", "the "))


@pytest.mark.parametrize("name", SOURCES)
def test_claims_nothing_foreign(name: str, tmp_path: Path) -> None:
    source = rooms.find("sources", name)
    for other in SOURCES:
        if other != name:
            folder = tmp_path / other
            folder.mkdir()
            assert source.claims(MAKE[other](folder)) is None, other
    (tmp_path / "empty").mkdir()
    (tmp_path / "song.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    things = [
        tmp_path / "empty",
        tmp_path / "song.wav",
        tmp_path / "absent.csv",
        "",
        "x\0y",
        "a" * 5000,
        3,
        None,
        {},
        [],
    ]
    for thing in things:
        assert source.claims(thing) is None, thing


@pytest.mark.parametrize("name", SOURCES)
def test_is_chosen_for_its_own_data(name: str, tmp_path: Path) -> None:
    assert choose(MAKE[name](tmp_path))[0] == name


@pytest.mark.parametrize("opened", SOURCES, indirect=True)
def test_columns_are_of_equal_length_and_of_known_kinds(opened: Table) -> None:
    assert len(opened) > 0
    assert len(opened.columns) > 0
    for name, values in opened.columns.items():
        assert isinstance(name, str)
        assert name
        assert len(values) == len(opened)
        assert values.dtype == object or values.dtype.kind in "biufM"
        assert values.ndim == 1 or values.dtype == np.uint8


@pytest.mark.parametrize("opened", SOURCES, indirect=True)
def test_places_name_every_row_differently(opened: Table) -> None:
    places = [opened.places[i] for i in range(len(opened))]
    assert len(set(places)) == len(opened)
    assert all(places)


@pytest.mark.parametrize("opened", SOURCES, indirect=True)
def test_what_is_said_is_text(opened: Table) -> None:
    said = {"notes": opened.notes, "left_out": opened.left_out, "name": opened.name, "summary": opened.summary}
    assert json.loads(json.dumps(said))["notes"] == list(opened.notes)
    assert all(isinstance(n, str) for n in opened.notes)
    assert opened.name.strip("./") == opened.name
    assert " " not in opened.name
    assert f"{len(opened):,}" in opened.summary


@pytest.mark.parametrize("opened", SOURCES, indirect=True)
def test_parts_and_target_fit_the_rows(opened: Table) -> None:
    assert opened.target is None or opened.target in opened.columns
    assert opened.parts is None or (len(opened.parts) == len(opened) and set(opened.parts) <= set(PARTS))


@pytest.mark.parametrize("name", SOURCES)
def test_opening_twice_gives_the_same(name: str, tmp_path: Path) -> None:
    data = MAKE[name](tmp_path)
    first, second = open_any(data), open_any(data)
    assert list(first.columns) == list(second.columns)
    assert all(np.array_equal(first.columns[n], second.columns[n]) for n in first.columns)
    assert first.notes == second.notes


@pytest.mark.parametrize("name", SOURCES)
def test_unknown_options_are_refused_with_the_nearest(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no option 'tarjet'.*'target'"):
        open_any(MAKE[name](tmp_path), tarjet="x")


@pytest.mark.parametrize("name", SOURCES)
def test_a_misspelt_target_is_refused_with_the_columns(name: str, tmp_path: Path) -> None:
    if name == "arrays":
        pytest.skip("a pair (X, y) says its target itself")
    with pytest.raises(ValueError, match=r"has no column 'no such thing'.*Columns: "):
        open_any(MAKE[name](tmp_path), target="no such thing")
