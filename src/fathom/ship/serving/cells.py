"""Rows of JSON, checked cell by cell against what the run knows of its columns.

What a reader would get wrong: `fathom predict` takes a cell that it cannot read for a missing one, as files are. A
program that sends rows can be told instead, so here such a cell is refused, by row and field; what is let through is
answered as `fathom predict` answers it. A picture is its bytes in base64: a text is never taken for a file's name.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from fathom.fields import datetime, number
from fathom.fields.parts import pictures
from fathom.fields.parts.numerals import LARGEST
from fathom.fields.parts.values import NOTHING, text_of
from fathom.ship.serving.limits import Limits, Refused, refuse_long, shown
from fathom.sources.parts.decimals import AS_WRITTEN, respell
from fathom.sources.parts.records import is_halved

Row = dict[str, Any]
# Not ICO, which holds other pictures that its header knows nothing of.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
EXPECTED = {
    "number": "a number, null, or a number as text",
    "datetime": "a date as text, such as 2024-05-31, or null",
    "category": "a text, a number, true, false or null",
    "text": "a text or null",
    "plain_text": "a text or null",
    "image": "the bytes of a picture in base64, or null",
}


def rows_of(body: bytes, spec: Mapping[str, Any], limits: Limits) -> tuple[list[Row], tuple[str, ...]]:
    """The rows of a JSON body under the columns of the run, and notes on what was not read.

    An object is one row, an array is many. A run of one column takes its values alone as well: "a text".
    """
    fields = spec["fields"]
    found = loaded(body)
    listed = found if isinstance(found, list) else [found]
    if not listed:
        raise Refused(422, "The array holds no rows. Send at least one.")
    refuse_many_rows(len(listed), limits)
    rows = [_row(given, number, fields) for number, given in enumerate(listed, 1)]
    _refuse_missing(rows, spec)
    known = {*fields, *spec["order"]}
    unknown = list(dict.fromkeys(name for row in rows for name in row if name not in known))
    pixels = PixelCount(limits)
    checked = [
        {
            name: _cell(value, fields.get(name, {"name": name, "kind": "category"}), spec, place, pixels)
            for name, value in row.items()
            if name in known
        }
        for place, row in enumerate(rows, 1)
    ]
    return checked, _unread(unknown)


def loaded(body: bytes) -> Any:
    """The value of a JSON text. Raises Refused for what is none, NaN and Infinity among it."""
    try:
        found = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Refused(400, "The body is not UTF-8, as JSON must be.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refused(400, f'The body is not JSON: {error.msg} at {where}. Expected {{"column": value, …}}.') from None
    except RecursionError:
        raise Refused(400, "The body is nested too deeply.") from None
    except ValueError as error:
        raise Refused(400, f"The body is not JSON: {str(error)[:100]}.") from None
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no value of JSON; write null where a value is not known")


def refuse_many_rows(count: int, limits: Limits) -> None:
    if count > limits.rows:
        raise Refused(413, f"{count:,} rows were sent; this server takes {limits.rows:,} at once. Send fewer.")


def _row(given: Any, number: int, fields: Mapping[str, Any]) -> Row:
    if isinstance(given, dict):
        return given
    if len(fields) == 1 and (given is None or isinstance(given, str)):
        return {next(iter(fields)): given}
    names = ", ".join(f'"{shown(name)}": …' for name in list(fields)[:3])
    raise Refused(422, f"Row {number} is {_called(given)}; expected an object {{{names}}}.", row=number)


def _refuse_missing(rows: list[Row], spec: Mapping[str, Any]) -> None:
    """A field that no row has is refused as `fathom predict` refuses it; where some rows have it, it is unknown."""
    present = {name for row in rows for name in row}
    missing = [name for name in spec["fields"] if name not in present]
    if missing:
        raise Refused(
            422,
            f"The field '{shown(missing[0])}' is missing, and the model was trained with it"
            f"{f' ({len(missing)} fields are missing)' if len(missing) > 1 else ''}. "
            "Send null where its value is not known.",
            field=missing[0],
        )


def _unread(names: list[str]) -> tuple[str, ...]:
    return tuple(f"'{shown(name)}' is no column of the run and was not read" for name in names[:5]) + (
        (f"and {len(names) - 5:,} more",) if len(names) > 5 else ()
    )


class PixelCount:
    """Pixels of a request so far."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.count = limits, 0

    def add(self, content: bytes, *, field: str, row: int | None) -> bytes:
        """The bytes of a picture that may be decoded. Raises Refused by what its header says."""
        name = shown(field)
        most = f"this server takes {self.limits.pixels:,} in all pictures of a request together. Send smaller ones"
        try:
            width, height = pictures.size_of(content, FORMATS)
        except Image.DecompressionBombError:
            raise Refused(413, f"'{name}' has too many pixels; {most}.", field=field, row=row) from None
        except pictures.UNREADABLE:
            known = ", ".join(FORMATS)
            raise Refused(422, f"'{name}' is no picture that can be read ({known}).", field=field, row=row) from None
        self.count += width * height
        if self.count > self.limits.pixels:
            raise Refused(413, f"'{name}' has {width:,} x {height:,} pixels; {most}.", field=field, row=row)
        return content


def _cell(value: Any, field: Mapping[str, Any], spec: Mapping[str, Any], row: int, pixels: PixelCount) -> Any:
    """The value as `fathom predict` takes it. Raises Refused where it cannot be what the column holds."""
    if value is None:
        return None
    name, kind = field["name"], field["kind"]
    if isinstance(value, dict | list):
        raise _unfit(value, name, kind, row)
    if isinstance(value, str) and is_halved(value):
        raise Refused(422, f"'{shown(name)}' holds half a character (a lone surrogate).", field=name, row=row)
    if kind == "image":
        return _picture(value, name, row, pixels)
    refuse_long(value, field, pixels.limits, row)
    if kind == "number" and not _is_number(value, field, spec):
        raise _unfit(value, name, kind, row)
    if kind == "datetime" and (isinstance(value, bool) or not _is_date(value, field)):
        raise _unfit(value, name, kind, row)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise _unfit(value, name, kind, row)
    return value


def _is_number(value: Any, field: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return abs(value) <= LARGEST
    spelled = respell(value, spec["options"].get("numbers", {}).get(field["name"], AS_WRITTEN))
    if text_of(spelled) is None or text_of(spelled) in NOTHING:
        return True
    return bool(np.isfinite(number.read(np.array([spelled], object), field["decimal"])[0]))


def _is_date(value: Any, field: Mapping[str, Any]) -> bool:
    text = text_of(value)
    if text is None or text in NOTHING:
        return True
    return not bool(np.isnat(datetime.timestamps(np.array([text], object), dict(field))[0]))


def _picture(value: Any, name: str, row: int, pixels: PixelCount) -> bytes | None:
    if not isinstance(value, str):
        raise _unfit(value, name, "image", row)
    if not value.strip():
        return None
    try:
        content = base64.b64decode(value.rpartition(",")[2] if value.startswith("data:") else value, validate=True)
    except (binascii.Error, ValueError):
        raise _unfit(value, name, "image", row) from None
    return pixels.add(content, field=name, row=row)


def _unfit(value: Any, name: str, kind: str, row: int) -> Refused:
    return Refused(422, f"'{shown(name)}' is {_called(value)}; expected {EXPECTED[kind]}.", field=name, row=row)


def _called(value: Any) -> str:
    """A value in few words, whatever it is."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, str):
        return f"'{shown(value, 40)}'"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return "a number of many digits"
    return json.dumps(value)
