"""A fingerprint of data is the same for the same rows, however often and wherever they are read, and no other rows'."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fathom.data import Places, Table
from fathom.fingerprint import ENDS, difference, fingerprint
from fathom.sources.parts.choose import open_any


def table(**columns: Any) -> Table:
    first = next(iter(columns.values()))
    return Table("made", columns, Places.of_rows("row", len(first)), "made")


def words(*values: str | None) -> np.ndarray:
    return np.array(values, object)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (words("ab", "c"), words("a", "bc")),
        (words("a", None), words("a", "")),
        (words("a", "b"), words("b", "a")),
        (words("1", "2"), np.array([1, 2])),
        (np.array([1.0, 2.0]), np.array([1.0, 2.5])),
        (np.array([1, 2], np.int32), np.array([1, 2], np.float32)),
        (np.array([0.0, 0.0]), np.array([0.0, np.nan])),
        (np.array(["2020-01-01", "2020-01-02"], "M8[D]"), np.array(["2020-01-01", "2020-01-03"], "M8[D]")),
        (np.zeros((2, 4, 4), np.uint8), np.zeros((2, 2, 8), np.uint8)),
    ],
)
def test_other_values_have_another_fingerprint(one: np.ndarray, other: np.ndarray) -> None:
    kept = fingerprint(table(a=one))
    assert fingerprint(table(a=one.copy())) == kept and difference(kept, kept) == ""
    assert difference(kept, fingerprint(table(a=other))) == "other values in column 'a'"


def test_a_difference_is_told_in_words() -> None:
    one, two = np.arange(3), np.arange(3.0)
    kept = fingerprint(table(a=one, b=two))
    assert difference(kept, fingerprint(table(a=one[:2], b=two[:2]))) == "2 rows, 3 then"
    assert difference(kept, fingerprint(table(a=one))) == "no column 'b'"
    assert difference(kept, fingerprint(table(a=one, b=two, c=one))) == "column 'c' besides"
    assert difference(kept, fingerprint(table(b=one, a=two))) == "other values in columns 'a', 'b'"
    assert difference(kept, fingerprint(table(b=two, a=one))) == "", "columns are known by name"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of class folders; each picture is larger than what is read of it."""
    random = np.random.default_rng(0)
    for name in ("bees", "ants"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (160, 160, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.bmp")
    return tmp_path / "photos"


def test_pictures_count_by_name_size_and_both_ends(pictures: Path, tmp_path: Path) -> None:
    kept = fingerprint(open_any(str(pictures)))
    moved = Path(shutil.copytree(pictures, tmp_path / "elsewhere"))
    assert fingerprint(open_any(str(moved))) == kept, "where the folder lies does not matter"
    one = moved / "bees" / "3.bmp"
    content, size = bytearray(one.read_bytes()), one.stat().st_size
    assert size > 2 * ENDS
    for place in (60, ENDS - 1, size - ENDS, size - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        one.write_bytes(changed)
        assert "other values" in difference(kept, fingerprint(open_any(str(moved)))), place
    changed = bytearray(content)
    changed[size // 2] ^= 1
    one.write_bytes(changed)
    assert fingerprint(open_any(str(moved))) == kept, "as documented: the middle of a large file is not read"


def test_members_of_an_archive_count_by_their_checksum(pictures: Path, tmp_path: Path) -> None:
    def zipped(name: str, change: int = 0) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(pictures.rglob("*.bmp")):
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= change if path.stem == "3" else 0
                archive.writestr(path.relative_to(pictures).as_posix(), bytes(content))
        return tmp_path / name

    kept = fingerprint(open_any(str(zipped("one.zip"))))
    assert fingerprint(open_any(str(zipped("two.zip")))) == kept
    assert "other values" in difference(kept, fingerprint(open_any(str(zipped("three.zip", 1)))))
