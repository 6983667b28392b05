"""Rows that an export is compared on, as plain values that a file can hold: real ones, and ones at the edge.

What a reader would get wrong: pictures and texts become files and strings of their own, so that a process that knows
nothing of the data's archive can read them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fathom import recipe as recipes
from fathom.data import File, Table
from fathom.errors import UserError
from fathom.fields.parts import pictures
from fathom.prepare import read
from fathom.reference import spaced
from fathom.rooms import find
from fathom.ship.predict import Model

Row = dict[str, Any]
MOST = 256  # real rows that are compared


def table_of_run(model: Model, rows: Any = None) -> tuple[Table, bool]:
    """The test rows of the run, and whether they are; of other data that is given, all its rows.

    Raises UserError where the run's data is gone and no other is given.
    """
    if rows is not None:
        return model.table(rows)[0], False
    recipe = recipes.load(model.folder.inside("recipe.yaml"))
    remedy = "Give rows of the same kind to compare the export on: --rows DATA."
    if recipe.data is None:
        raise UserError(f"{model.folder.path} was fitted on data in memory, which is gone. {remedy}")
    try:
        table = read(recipe, recipe.data)
    except UserError as error:
        raise UserError(f"The data of the run cannot be opened any more: {error} {remedy}") from None
    missing = [name for name in model.spec["fields"] if name not in table.columns]
    if missing:
        raise UserError(f"{recipe.data} has no column '{missing[0]}' any more. {remedy}")
    split = model.folder.read_table("split.parquet")
    tested = set(split["place"][split["part"] == "test"].tolist())
    found = [row for row in range(len(table)) if table.places[row] in tested]
    return (table.take(np.array(found)), True) if found else (table, False)


def some_rows(model: Model, table: Table, folder: Path) -> list[Row]:
    """At most MOST rows, spread over the table, with the columns of the run alone; files are written into `folder`."""
    fields = model.spec["fields"]
    table = table.take(spaced(np.arange(len(table)), MOST))
    broken: set[int] = set()
    for name, spec in fields.items():
        broken |= set(find("fields", spec["kind"]).broken(table.columns[name]))
    kept = [row for row in range(len(table)) if row not in broken]
    if not kept:
        raise UserError(f"None of {len(table)} rows of {table.name} can be read, so the export cannot be compared.")
    return [
        {name: _plain(table.columns[name][row], spec["kind"], folder / f"{row}-{place}")
         for place, (name, spec) in enumerate(fields.items())}
        for row in kept
    ]  # fmt: skip


def _plain(value: Any, kind: str, place: Path) -> Any:
    if kind == "image" and not pictures.is_missing(value):
        return _picture(value, place)
    if isinstance(value, File):
        return value.read().decode("utf-8-sig", "replace")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _picture(value: Any, place: Path) -> str:
    """The name of a file with that picture."""
    if isinstance(value, np.ndarray | Image.Image):
        image = Image.fromarray(pictures.check_pixels(value).squeeze()) if isinstance(value, np.ndarray) else value
        image.save(path := place.with_suffix(".png"))
        return str(path)
    file = value if isinstance(value, File) else File(str(value))
    if not file.archive:
        return os.path.abspath(file.path)
    path = place.with_suffix(Path(file.path).suffix)
    path.write_bytes(file.read())
    return str(path)


def edge_rows(fields: Mapping[str, Mapping[str, Any]], real: Row, folder: Path) -> Iterator[tuple[str, Row]]:
    """Rows that differ from a real one in one column, with what is odd about each; the first lacks every value."""
    yield "every value missing", dict.fromkeys(fields)
    for name, spec in fields.items():
        for what, value in _odd(spec, folder):
            yield f"'{name}': {what}", real | {name: value}


def _odd(spec: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    yield "missing", None
    if spec["kind"] == "image":
        yield from _odd_pictures(folder)
        return
    yield "empty", ""
    yield "blanks", "   "
    yield from {"number": _odd_numbers, "category": _odd_words, "datetime": _odd_dates, "text": _odd_texts}[
        spec["kind"]
    ](spec)


def _odd_numbers(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    ends = {"smallest": spec["minimum"], "largest": spec["maximum"]}
    yield from ((what, value) for what, value in ends.items() if value is not None)
    for text in ("0", "-0.0", "1e30", "-1e30", "1e400", "nan", "1,234", "1.234,5", "12 %", "$7", " 3 ", "1_000", "n/a",
                 "a word", "０"):  # fmt: skip
        yield f"'{text}'", text
    yield "as a number", 1.5


def _odd_words(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "an unseen category", "a category that nobody has seen"
    for word in (*spec["classes"][:3], *spec["classes"][-1:], *spec["rare"][:1]):
        yield f"'{word}' with blanks", f"  {word} "
        yield f"'{word}' in capitals", word.upper()
    for text in ("?", "none", "NaN", "True", "1.0", "é\u0301", "\u2603"):
        yield f"'{text}'", text


def _odd_dates(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for text in (spec["start"], spec["end"], "1900-02-30", "2999-12-31", "3/4/2011", "31.12.1999 23:59:60", "14:30",
                 "2020-02-29T08:00:00+02:00", "20110131", "1e9", "a word"):  # fmt: skip
        yield f"'{text}'", text


def _odd_texts(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "one letter", "a"
    yield "a very long text", "the same words again and " * 2_000
    yield "a very long word", "x" * 20_000
    yield "signs of many scripts", "Ünïcödé 日本語 עברית \U0001f600 e\u0301 ﬁ"
    yield "words like special tokens", "[CLS] [PAD] <s> </s> [UNK]"
    yield "lines and tabs", "a\tb\n\n c\r\n\x0b d"
    yield "punctuation", "!!! ??? ... -- ''"
    yield "a word for missing", "N/A"


def _odd_pictures(folder: Path) -> Iterator[tuple[str, str]]:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)

    def kept(what: str, image: Image.Image, ending: str = ".png", **more: Any) -> tuple[str, str]:
        image.save(path := folder / f"{what.replace(' ', '-')}{ending}", **more)
        return what, str(path)

    noise = Image.fromarray(random.integers(0, 256, (40, 56, 3)).astype(np.uint8))
    ramp = Image.fromarray(np.linspace(0, 255, 40 * 56).reshape(40, 56).astype(np.uint8))
    yield kept("black and white", noise.convert("1"))
    yield kept("gray", ramp)
    yield kept("gray with transparency", Image.merge("LA", (ramp, ramp.transpose(Image.Transpose.ROTATE_180))))
    yield kept("transparent", Image.merge("RGBA", (*noise.split(), ramp)))
    yield kept("palette", noise.quantize(16))
    yield kept("palette with transparency", noise.quantize(16), transparency=0)
    yield kept("16 bits", Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257))
    yield kept("for print", noise.convert("CMYK"), ".jpg")
    yield kept("moving", noise, ".gif", save_all=True, append_images=[ramp.convert("RGB")])
    exif = Image.Exif()
    exif[0x0112] = 6
    yield kept("lying on its side", noise, ".jpg", exif=exif)
    for width, height in ((1, 1), (2, 300), (900, 3), (640, 480)):
        yield kept(f"{width} x {height} pixels", noise.resize((width, height)))
