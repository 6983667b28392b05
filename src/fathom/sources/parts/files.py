"""Bytes and names of files: what every file source needs before it can look inside.

A name is not believed: a .gz that is not compressed is read as it is, and a picture named .csv is refused by its bytes.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fathom.errors import UserError
from fathom.sources.parts.unpacking import gunzipped

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
TEXTS = (".txt",)
PART_WORDS = {
    "train": ("train", "training"),
    "validate": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing"),
}
GZIP = b"\x1f\x8b"
MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"PK\x03\x04": "a zip archive or an Excel workbook (.xlsx)",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x7fELF": "a program",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7-zip archive",
    b"RIFF": "a sound or WebP file",
}


def as_path(data: Any) -> Path | None:
    """The path that was given, or None when it is something else."""
    if isinstance(data, str | os.PathLike) and os.fspath(data):
        return Path(os.fsdecode(data)).expanduser()
    return None


def is_file(path: Path) -> bool:
    """Whether it is a file; a name too long or with a NUL byte is none, not an error."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def suffix(path: str | os.PathLike[str]) -> str:
    """The ending that says what a file is, in lower case: ".csv" for both x.csv and x.CSV.gz."""
    name = os.path.basename(os.fspath(path)).lower()
    return os.path.splitext(name.removesuffix(".gz"))[1]


def part_of_word(word: str) -> str | None:
    """'dev' → 'validate'; None when the word does not name a part."""
    return next((part for part, words in PART_WORDS.items() if word.lower() in words), None)


def short_name(path: Path) -> str:
    """A name fit for a run folder: 'adult' for adult-train.csv.gz, 'sst2' for sst2/train.tsv.gz."""
    stem = re.sub(r"(\.gz|\.bz2|\.xz)$", "", path.name, flags=re.IGNORECASE)
    stem = stem if is_folder(path) else re.sub(r"(?<=.)\.[A-Za-z0-9]{1,8}$", "", stem)
    words = [w for w in re.split(r"[-_. ]+", stem) if part_of_word(w) is None]
    if not any(w.strip("0123456789") for w in words):
        return short_name(path.absolute().parent) if path.absolute().parent != path.absolute() else "data"
    kept = stem if len(words) == len(re.split(r"[-_. ]+", stem)) else "-".join(words)
    return re.sub(r"[^\w.-]+", "-", kept).strip("-.") or "data"


def read_bytes(path: Path) -> tuple[bytes, list[str]]:
    """The content, decompressed, and what is to be said about it. Raises UserError for unreadable and empty files."""
    notes: list[str] = []
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if raw.startswith(GZIP):
        if path.suffix.lower() != ".gz":
            notes.append(f"{path.name} is gzip-compressed although its name does not say so")
        raw = _decompress(raw, path)
    elif path.suffix.lower() == ".gz" and raw:
        notes.append(f"{path.name} is not compressed although its name says so")
    if not raw.strip():
        raise UserError(f"{path} is empty. Expected data in it; give another file.")
    return raw, notes


def _decompress(raw: bytes, path: Path) -> bytes:
    try:
        return gunzipped(raw, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path} is a damaged gzip file ({error}). Fetch it again; `gzip -t {path}` checks it."
        ) from error


def looks_binary(raw: bytes) -> str | None:
    """What the bytes seem to be when they are not text ('a PNG picture'), else None. UTF-16 and UTF-32 are text."""
    what = next((w for start, w in MAGIC.items() if raw.startswith(start)), None)
    if what is not None and (not raw[:4].isascii() or re.search(rb"[\x00-\x08\x0e-\x1a\x7f-\xff]", raw[:4096])):
        return what
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or wide_encoding(raw):
        return None
    sample = np.frombuffer(raw[: 1 << 16], np.uint8)
    # Tab, newline, form feed, carriage return and escape are met in text; other control codes hardly ever.
    control = (sample < 32) & ~np.isin(sample, [9, 10, 11, 12, 13, 27])
    return "binary data" if control.mean() > 0.02 else None


def wide_encoding(raw: bytes) -> str | None:
    """'utf-16-le' or 'utf-16-be' when every other byte is mostly zero, as in UTF-16 without a byte order mark."""
    sample = np.frombuffer(raw[: 1 << 14][: len(raw) // 2 * 2], np.uint8).reshape(-1, 2)
    if len(sample) < 2:
        return None
    first, second = (sample == 0).mean(axis=0)
    if second > 0.5 and first < 0.05:
        return "utf-16-le"
    return "utf-16-be" if first > 0.5 and second < 0.05 else None
