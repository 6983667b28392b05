"""Bytes to text: which encoding a file is in.

UTF-8 is checked over the whole file, not over a sample: one old byte in the last line is enough to break it.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from fathom.errors import UserError
from fathom.sources.parts.files import looks_binary, wide_encoding

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Bytes that could not be decoded stand in the text as these code points (PEP 383), so that their rows can be found.
BROKEN = re.compile("[\udc80-\udcff]")


def decode(raw: bytes, where: Path | str, encoding: str | None = None) -> tuple[str, str]:
    """The text and the name of its encoding. Raises UserError for binary data or an encoding that does not fit.

    In a file that is UTF-8 but for a few damaged bytes those bytes come as lone surrogates; see `is_broken`.
    """
    if encoding is not None:
        return _decode_as(raw, where, encoding), encoding
    what = looks_binary(raw)
    if what:
        raise UserError(
            f"{where} is not a text file: it looks like {what}. Expected text, one row a line. "
            "Save it as CSV from the program that wrote it, or give it its right ending."
        )
    for mark, name in MARKS:
        if raw.startswith(mark):
            return _decode_as(raw, where, name), name
    wide = wide_encoding(raw)
    return (_decode_as(raw, where, wide), wide) if wide else _narrow(raw)


def mended(text: str) -> str:
    """A file's text with the usual replacement sign for bytes that stand for nothing: one of them does not spoil it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").removeprefix("\ufeff")


def is_broken(text: str) -> bool:
    """Whether a piece of text holds bytes that could not be decoded."""
    return BROKEN.search(text) is not None


def _decode_as(raw: bytes, where: Path | str, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except LookupError as error:
        raise UserError(f"There is no encoding '{encoding}'. Usual ones: utf-8, cp1252, latin-1, utf-16.") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(
            f"{where}:{line} is not {encoding}: {error.reason}. Leave the encoding away to have it found out, "
            "or name another (utf-8, cp1252, latin-1, utf-16)."
        ) from error


def _narrow(raw: bytes) -> tuple[str, str]:
    try:
        return raw.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        text = raw.decode("utf-8", errors="surrogateescape")
    broken = len(BROKEN.findall(text))
    right = len(re.findall("[^\x00-\x7f]", text)) - broken
    # Chance makes few valid UTF-8 sequences out of an older encoding, so many of them mean UTF-8 with damage.
    if right > 10 * broken:
        return text, "utf-8"
    try:
        return raw.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "latin-1"
