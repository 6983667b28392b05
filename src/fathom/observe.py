"""What can be said of each column of a table in numbers and words, so that two tables can be compared.

A number and a category speak for themselves; of a picture its brightness and the like are taken, of a text its length
and the like. What a reader would get wrong: dates are only checked for being readable. New rows are later than old
ones, and that is no news.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fathom.data import Examples, File, Ragged, Table
from fathom.doctor.parts.sketch import Numbers, Sketch, Words
from fathom.doctor.skew import Cells
from fathom.fields import datetime, number, text
from fathom.fields.parts.values import EMPTY, NOTHING, distinct

MOST_SIZES = 1_000  # pictures whose files are opened for their size
CHUNK = 512


class Observed(NamedTuple):
    """A table, column by column. `values` may have more than one entry of a column ("photo (brightness)")."""

    values: dict[str, np.ndarray]  # float32 [N] with NaN where missing, or object [N] of str with None where missing
    cells: dict[str, Cells]


def observe(table: Table, examples: Examples, specs: Mapping[str, Mapping[str, Any]]) -> Observed:
    """The columns of `table` that have a spec; `examples` are the same rows, encoded."""
    values: dict[str, np.ndarray] = {}
    cells: dict[str, Cells] = {}
    for name, spec in specs.items():
        look = _LOOKS.get(spec["kind"])
        if look is not None and name in table.columns:
            found, cells[name] = look(name, table.columns[name], examples, spec)
            values |= found
    return Observed(values, cells)


def sketch_of(values: np.ndarray, points: int) -> Sketch:
    """What is kept of one entry of `Observed.values`."""
    if values.dtype != object:
        return Numbers.of(values, points)
    words, counts = np.unique(np.array([word for word in values if word is not None], str), return_counts=True)
    top = np.argsort(-counts, kind="stable")[:points]
    kept = {str(words[i]): int(counts[i]) for i in top}
    return Words(kept, int(counts.sum()) - sum(kept.values()), int(sum(word is None for word in values)))


Look = Callable[[str, np.ndarray, Examples, Mapping[str, Any]], tuple[dict[str, np.ndarray], Cells]]


def _number(
    name: str, column: np.ndarray, examples: Examples, spec: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Cells]:
    found = number.read(column, spec["decimal"])
    marks = distinct(column).without(NOTHING) if column.dtype.kind not in "iufb" else None
    empty = np.isnan(found) if marks is None else marks.codes < 0
    bad = np.isnan(found) & ~empty
    examples_of = () if marks is None else tuple(marks.words[i] for i in np.unique(marks.codes[bad])[:20])
    with np.errstate(invalid="ignore"):
        fractions = int((found != np.round(found))[~np.isnan(found)].sum())
    told = Cells(len(column), int(empty.sum()), int(bad.sum()), fractions, examples=examples_of)
    at = examples.about["numbers"]["names"].index(name)
    return {name: np.asarray(examples.inputs["numbers"])[:, at]}, told


def _category(
    name: str, column: np.ndarray, examples: Examples, spec: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Cells]:
    found = distinct(column).without(EMPTY)
    known = {*spec["classes"], *spec["rare"]}
    new = [i for i, word in enumerate(found.words) if word not in known and found.counts[i]]
    unseen = int(np.isin(found.codes, new).sum())
    shown = tuple(found.words[i] for i in sorted(new, key=lambda i: -found.counts[i])[:20])
    words = np.array([*found.words, None], object)[found.codes]
    return {name: words}, Cells(len(column), int((found.codes < 0).sum()), unseen=unseen, examples=shown)


def _date(
    name: str, column: np.ndarray, examples: Examples, spec: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Cells]:
    times = datetime.timestamps(column, dict(spec))
    found = distinct(column).without(NOTHING)
    empty = np.isnat(column) if column.dtype.kind == "M" else found.codes < 0
    bad = np.isnat(times) & ~empty
    shown = tuple(found.words[i] for i in np.unique(found.codes[bad])[:20])
    return {}, Cells(len(column), int(empty.sum()), int(bad.sum()), examples=shown)


def _image(
    name: str, column: np.ndarray, examples: Examples, spec: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Cells]:
    pixels = np.asarray(examples.inputs[name])
    looks = [_of_pixels(pixels[i : i + CHUNK].astype(np.float32)) for i in range(0, len(pixels), CHUNK)]
    found = {f"{name} ({what})": np.concatenate([one[what] for one in looks]) for what in looks[0]} if looks else {}
    sizes = np.array(_sizes(column), np.float32).reshape(-1, 3)
    found |= {f"{name} ({what})": sizes[:, i] for i, what in enumerate(("width", "height", "in colour"))}
    return found, Cells(len(column))


def _of_pixels(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Of pictures [N, height, width, channels] from 0 to 255: four numbers each."""
    gray = pixels.mean(axis=3)
    steps = [np.abs(np.diff(gray, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2) if gray.shape[axis] > 1]
    return {
        "brightness": gray.mean(axis=(1, 2)),
        "contrast": gray.std(axis=(1, 2)),
        "colourfulness": (pixels.max(axis=3) - pixels.min(axis=3)).mean(axis=(1, 2)),
        "sharpness": np.mean(steps, axis=0) if steps else np.zeros(len(gray), np.float32),
    }


def _sizes(column: np.ndarray) -> list[tuple[float, float, float]]:
    """Width, height and whether it has colour of the pictures as they came; of files a thousand at most."""
    if column.ndim > 1:
        return [(column.shape[2], column.shape[1], float(column.ndim > 3 and column.shape[3] > 1))] * len(column)
    rows = np.linspace(0, len(column) - 1, min(len(column), MOST_SIZES)).astype(int)
    return [size for row in rows if (size := _size(column[row])) is not None]


def _size(value: Any) -> tuple[float, float, float] | None:
    from PIL import Image

    if isinstance(value, np.ndarray):
        return value.shape[1], value.shape[0], float(value.ndim > 2 and value.shape[2] > 1)
    opened: Image.Image | None = None
    if isinstance(value, Image.Image):
        opened = value
    elif isinstance(value, File):
        opened = Image.open(io.BytesIO(value.read()))
    elif isinstance(value, bytes):
        opened = Image.open(io.BytesIO(value))
    elif value:  # the name of a file
        opened = Image.open(str(value))
    return None if opened is None else (*opened.size, float(opened.mode not in ("1", "L", "LA", "I", "I;16", "F")))


def _text(
    name: str, column: np.ndarray, examples: Examples, spec: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Cells]:
    words = text.texts(column)
    # Of one long text the pieces are as long as they were cut.
    told = {} if spec.get("continues") else {"characters": [float(len(one)) for one in words]}
    told |= {
        "characters a word": [len(one) / max(len(one.split()), 1) for one in words],
        "share of capitals": [_share(one, str.isupper) for one in words],
        "share of digits": [_share(one, str.isdigit) for one in words],
        "share beyond ASCII": [_share(one, lambda sign: ord(sign) > 127) for one in words],
    }
    inputs = examples.inputs.get(name)
    if isinstance(inputs, Ragged) and spec["kind"] == "text":
        # A text that was cut would seem to need few pieces.
        pieces = np.diff(inputs.starts).astype(np.float32)
        told["pieces a character"] = [
            count / max(len(one), 1) if count < spec["length"] else np.nan
            for one, count in zip(words, pieces, strict=True)
        ]
    empty = words == ""
    found = {f"{name} ({what})": np.where(empty, np.nan, np.array(one, np.float32)) for what, one in told.items()}
    return {what: one.astype(np.float32) for what, one in found.items()}, Cells(len(column), int(empty.sum()))


def _share(word: str, is_such: Callable[[str], bool]) -> float:
    return sum(map(is_such, word)) / max(len(word), 1)


_LOOKS: dict[str, Look] = {
    "number": _number, "category": _category, "datetime": _date, "image": _image, "text": _text, "plain_text": _text,
}  # fmt: skip
