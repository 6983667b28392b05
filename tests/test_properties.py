"""Whatever is in a file, opening it gives a result or a message that names it: never a traceback, never a lost row.

The tables, pictures and texts are made by chance from a fixed seed. What was found this way stands below as a case of
its own.
"""

from __future__ import annotations

import io
import json
import re
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from fathom import prepare as preparing
from fathom.data import File, Table
from fathom.encode import encode, fit_fields
from fathom.errors import UserError
from fathom.fields import image, text
from fathom.prepare import prepare
from fathom.recipe import Recipe
from fathom.sources.parts.choose import open_any
from fathom.sources.plain_text import open as open_text

from .made_tables import ODD, check_nothing_is_lost, encoding_of, files, hurt, squeezed

WELL, BADLY, JSON, PICTURES, TEXTS = 400, 500, 100, 150, 100
seen: Counter[str] = Counter()


def chance(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module", autouse=True)
def few_rows_are_enough() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "LEAST_ROWS", 4)
        yield


def opened(path: Path) -> Table | None:
    """The table, or None after a message that names the file, or the folder where it is the folder's."""
    try:
        return open_any(path)
    except UserError as error:
        told = str(error)
    assert path.name in told
    assert ": line " in told or not re.search("rows do not fit|lines cannot be used", told)
    return None


def check_the_way_to_a_model(table: Table) -> None:
    """Prepared and encoded, or refused with a message; every row is used or left out with a reason."""
    try:
        prepared = prepare(table, Recipe(target=next(iter(table.columns))), lambda label, told: None)
        specs = fit_fields(prepared.table, prepared.kinds, prepared.whys, np.arange(0, len(prepared.table), 2))
    except UserError:
        seen["refused"] += 1
        return
    assert len(prepared.table) + len(prepared.left_out) == len(table) + len(table.left_out)
    assert all(one.where and one.why for one in prepared.left_out)
    again = json.loads(json.dumps(specs, allow_nan=False))  # as a run folder keeps it
    examples = encode(prepared.table, again)
    assert len(examples) == len(prepared.table)
    if "numbers" in examples.inputs:
        assert not np.isinf(np.asarray(examples.inputs["numbers"])).any()
    seen["prepared"] += 1


def check_table(tmp_path: Path, name: str, raw: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    table = opened(path)
    path.unlink()
    if table is None:
        seen["not opened"] += 1
    elif not table.continues:  # running text in a .txt file is cut into pieces, not rows
        seen["opened"] += 1
        check_nothing_is_lost(table, raw, path)
        check_the_way_to_a_model(table)


@chance(WELL)
@given(made=files())
def test_tables_as_programs_write_them(made: tuple[str, bytes], tmp_path_factory: Any) -> None:
    check_table(tmp_path_factory.getbasetemp(), *made)


@chance(BADLY)
@given(made=hurt())
def test_tables_that_something_happened_to(made: tuple[str, bytes], tmp_path_factory: Any) -> None:
    check_table(tmp_path_factory.getbasetemp(), *made)


def test_many_tables_went_all_the_way() -> None:
    """The two above are about something: most are opened, a good part is prepared, some are refused."""
    assert WELL + BADLY + JSON >= 1000
    assert seen["opened"] > 500 and seen["prepared"] > 200 and seen["refused"] > 50 and seen["not opened"] > 50, seen


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(ODD) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "", "a.b"]), inner, max_size=3)
    ),
    max_leaves=6,
)
rows = st.dictionaries(st.sampled_from(["a", "b", "c", "", "x.y"]), values, max_size=4)
odd_lines = st.sampled_from(['{"a": 1', "[1]", "1", "{}", "null", '{"a": ' + "9" * 5000 + "}", "{'a': 1}", '{"a": 1}}',
                             '{"a": "\\ud83d"}', '{"a": 1e999}', "\x00", '{"a": "\x1b[31m"}'])  # fmt: skip


@chance(JSON)
@given(lines=st.lists(st.one_of(rows.map(json.dumps), rows.map(json.dumps), odd_lines, st.just("")), max_size=12))
def test_lines_of_json(lines: list[str], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "made.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    table = opened(path)
    if table is not None:
        assert len(table) + len(table.left_out) == sum(bool(line.strip()) for line in lines)
        check_the_way_to_a_model(table)


# Pictures

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16", "LA", "PA"]
SIZES = [(1, 1), (2, 1), (5, 7), (64, 64), (70, 130), (20_000, 1), (1, 20_000), (300, 2)]
KINDS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "JPEG2000"]


def drawn(mode: str, size: tuple[int, int], kind: str, turn: int, frames: int) -> bytes:
    """A picture, of the next best mode where the format has not this one."""
    random = np.random.default_rng(size[0])
    base = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8))
    made = base.convert("L").convert(mode) if mode in ("I", "F", "LA", "PA", "I;16") else base.convert(mode)
    sink = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = turn
    more = {"save_all": True, "append_images": [made] * (frames - 1)} if frames > 1 and kind in ("GIF", "TIFF") else {}
    try:
        made.save(sink, kind, exif=exif.tobytes(), **more)
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        sink = io.BytesIO()
        base.resize((min(200, size[0]), min(200, size[1]))).save(sink, "PNG")
    return sink.getvalue()


@st.composite
def pictures(draw: st.DrawFn) -> tuple[str, bytes]:
    """A name with an ending, right or wrong, and the bytes of a picture, whole or hurt."""
    kind = draw(st.sampled_from(KINDS))
    mode, size, frames = (draw(st.sampled_from(some)) for some in (MODES, SIZES, [1, 3]))
    raw = drawn(mode, size, kind, draw(st.integers(0, 9)), frames)
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        at = draw(st.integers(0, len(raw)))
        put = draw(st.sampled_from([b"", b"\0", b"\xff" * 4, b"GIF89a", bytes(60)]))
        raw = raw[:at] + put + raw[at + draw(st.integers(0, 40)) :]
    raw = raw[: draw(st.sampled_from([len(raw), len(raw), len(raw) // 2, 20, 0]))]
    return draw(st.sampled_from([".png", ".jpg", ".gif", ".webp", ".tif"])), raw


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@chance(PICTURES)
@given(made=st.lists(pictures(), min_size=1, max_size=4))
def test_pictures(made: list[tuple[str, bytes]], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a").mkdir()
    for number, (ending, raw) in enumerate(made):
        (folder / "a" / f"{number}{ending}").write_bytes(raw)
    table = opened(folder)
    assert table is not None
    column = table.columns["image"]
    assert len(column) + len(table.left_out) == len(made)
    broken = image.broken(column)
    assert all(isinstance(why, str) and why for why in broken.values())
    fine = np.setdiff1d(np.arange(len(column)), list(broken))
    seen["fine pictures"] += len(fine)
    seen["broken pictures"] += len(broken)
    if not len(fine):
        return
    spec = json.loads(json.dumps(image.fit(column[fine]), allow_nan=False))
    pixels = image.encode(column[fine], spec)["pixels"]
    assert pixels.dtype == np.uint8
    assert pixels.shape == (len(fine), spec["height"], spec["width"], spec["channels"])
    image.forget()


def test_some_pictures_were_fine_and_some_were_not() -> None:
    assert seen["fine pictures"] > 100 and seen["broken pictures"] > 50, seen


# Texts

PIECES = [*ODD, "a", "A b c.", "\u202eright to left\u202c", "\u0627\u0644\u0639", "\U0001f9d1\u200d\U0001f680",
          "e\u0301\u0323" * 5, "\x00", "\x07", "word " * 300, "x" * 5_000, "\n\n", "\r", "\t"]  # fmt: skip
written = st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join)


@chance(TEXTS)
@given(made=st.lists(written, min_size=1, max_size=6), halves=st.integers(0, 4), long=st.integers(0, 30))
def test_texts(made: list[str], halves: int, long: int, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("texts")
    raws = [one.encode("utf-8", "surrogatepass") for one in made]
    if halves == 0:
        raws[0] += b"\xed\xa0\x80 half a character, and a broken \xff byte"
    if long == 0:
        raws[0] = ("very long " * 100_000).encode()  # a line of a megabyte
    for number, raw in enumerate(raws):
        (folder / "a").mkdir(exist_ok=True)
        (folder / "a" / f"{number}.txt").write_bytes(raw)
    table = opened(folder)
    if table is not None:
        assert len(table) + len(table.left_out) == len(raws)
        assert all(isinstance(value, str) and value.strip() for value in table.columns["text"])
        spec = text.fit(table.columns["text"], name="text")
        found = text.encode(table.columns["text"], json.loads(json.dumps(spec, allow_nan=False)))
        assert len(found["words"]) == len(table)
        seen["texts"] += len(table)
    path = folder / "all.txt"
    path.write_bytes(b"\n".join(raws))
    try:
        running = open_text(path)
    except UserError as error:
        told = str(error)
        running = None
    if running is None:
        assert "all.txt" in told
        return
    kept = squeezed("".join(running.columns["text"]))
    assert kept == squeezed(path.read_bytes().decode(encoding_of(running), "replace"))


def test_most_texts_can_be_read() -> None:
    assert seen["texts"] > 100, seen


# What was found


def test_a_header_with_a_nul_byte_stays_the_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"na\0me,b\n" + b"0.5,2\n" * 60)
    table = open_any(path)
    assert list(table.columns) == ["na\ufffdme", "b"]
    assert len(table) == 60 and not table.left_out
    assert any("NUL byte, which stands in its names" in note for note in table.notes)


def test_a_first_row_with_a_nul_byte_is_left_out_where_it_is_data(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"0.\x005,2\n" + b"0.5,2\n" * 60)
    table = open_any(path)
    assert list(table.columns) == ["column_1", "column_2"]
    assert len(table) == 60
    assert [tuple(one) for one in table.left_out] == [(f"{path}:1", "it holds a NUL byte")]


def test_rows_of_another_width_without_a_value_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n" + "1,2,3\n" * 9 + ",,,,\n\n   \n1,2,4\n")
    table = open_any(path)
    assert len(table) == 10
    assert [tuple(one) for one in table.left_out] == [(f"{path}:11", "5 values where 3 were expected")]


def test_whole_numbers_beyond_all_floats_are_words(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f'{{"a": {number}}}\n' for number in (1, 10**400, 3)))
    assert open_any(path).columns["a"].tolist() == ["1", str(10**400), "3"]


def test_lines_of_json_with_endless_digits_or_half_characters_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n' * 3 + f'{{"a": {"9" * 5000}}}\n{{"a": "\\ud800"}}\n{{"a": "\\ud83d\\ude00"}}\n')
    table = open_any(path)
    assert table.columns["a"].tolist() == ["1", "1", "1", "\U0001f600"]
    assert [one.where.rsplit(":", 1)[1] for one in table.left_out] == ["4", "5"]


def test_a_pipe_among_pictures_is_not_waited_for(tmp_path: Path) -> None:
    import os

    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(drawn("RGB", (5, 7), "PNG", 1, 1))
    os.mkfifo(tmp_path / "a" / "pipe.png")
    table = open_any(tmp_path)
    assert len(table) == 2
    assert [tuple(one) for one in table.left_out] == [(str(tmp_path / "a" / "pipe.png"), "it is no file")]
    with pytest.raises(OSError, match="it is no file"):
        File(str(tmp_path / "a" / "pipe.png")).read()
