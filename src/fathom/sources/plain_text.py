"""Running text to learn a language from: a file, or a folder of .txt files that stand in no class folders.

What a reader would get wrong: nothing is trimmed. Every blank and line end belongs to the text; only the two ways of
ending a line are made one. A long text is cut into pieces at line ends, so that a place can be named, and
`Table.continues` says that each piece goes on where the one before ended.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import LeftOut, Places, Table
from fathom.errors import UserError
from fathom.sources.parts.beside import NOT_DATA
from fathom.sources.parts.columns import find_column, objects
from fathom.sources.parts.encoding import decode, mended
from fathom.sources.parts.files import as_path, is_file, is_folder, read_bytes, short_name, suffix
from fathom.sources.parts.prose import is_prose

ENDINGS = (".txt", ".text", ".md")
COLUMN = "text"
PIECE = 1000  # characters from which a piece may end, at the next end of a line; fewer in a text of few pieces
LEAST_PIECE, LEAST_PIECES = 40, 200
LONGER = 4  # a line longer than so many pieces is cut
# As many files are documents of their own, split as wholes; fewer are read as one text.
LEAST_DOCUMENTS = 20
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def claims(data: Any) -> str | None:
    """A file of prose, or a folder with nothing but text files; tables in .txt files are left to the others."""
    path = as_path(data)
    if path is None:
        return None
    if is_folder(path):
        return "a folder of plain texts" if _texts_in(path, only=True) else None
    return "a plain text" if suffix(path) in ENDINGS and is_file(path) and is_prose(path) else None


def open(data: Any, *, target: str | int | None = None, encoding: str | None = None) -> Table:
    """One column "text". Raises UserError for a folder without texts and for files that are none."""
    path = as_path(data)
    if path is None:
        raise UserError(f"A language is learned from text files; found {type(data).__name__}. Give a path.")
    files = _texts_in(path) if is_folder(path) else [path]
    if not files:
        raise UserError(f"{path} holds no text files ({', '.join(ENDINGS)}). Give a folder that does, or a file.")
    texts, notes, left_out = _read_all(files, encoding)
    if not texts:
        raise UserError(f"{path}: none of {len(files):,} text files can be used; the first: {left_out[0].why}.")
    continues = len(texts) < LEAST_DOCUMENTS
    size = sum(len(text) for _, text in texts)
    least = min(PIECE, max(LEAST_PIECE, size // LEAST_PIECES))
    pieces = [(f, line, piece) for f, text in texts for line, piece in (cut(text, least) if continues else [(0, text)])]
    names = [str(file) for file, _ in texts]
    place = {name: number for number, name in enumerate(names)}
    several = "s" if len(names) > 1 else ""
    what = f"{len(pieces):,} pieces of {len(names)} file{several}" if continues else f"{len(texts):,} documents"
    return Table(
        short_name(path),
        {COLUMN: objects([piece for _, _, piece in pieces])},
        Places(
            tuple(names),
            np.array([place[str(file)] for file, _, _ in pieces], np.int32),
            np.array([line for _, line, _ in pieces], np.int64),
        ),
        f"{size:,} characters in {what}",
        notes=tuple(notes),
        left_out=tuple(left_out),
        target=find_column([COLUMN], target, str(path)),
        continues=continues,
    )


def cut(text: str, least: int = PIECE) -> list[tuple[int, str]]:
    """Pieces of at least so many characters that end with a line, each with the number of its first line from 1."""
    pieces: list[tuple[int, str]] = []
    held, first = "", 1
    for number, line in enumerate(_LINE.findall(text), 1):
        held += line
        while len(held) > LONGER * least:
            pieces.append((first, held[:least]))
            held, first = held[least:], number
        if len(held) >= least:
            pieces.append((first, held))
            held, first = "", number + 1
    return [*pieces, (first, held)] if held else pieces


def takes(data: Any) -> bool:
    """Whether it can be read as running text where that is asked for, be it a table or not."""
    path = as_path(data)
    if path is None:
        return False
    return bool(_texts_in(path)) if is_folder(path) else suffix(path) in ENDINGS and is_file(path)


def _texts_in(folder: Path, *, only: bool = False) -> list[Path]:
    """Text files of a folder, in order of name, those about it (README) aside; with `only` none beside other files."""
    seen = [p for p in sorted(folder.iterdir()) if not p.name.startswith((".", "_")) and not NOT_DATA.match(p.name)]
    found = [p for p in seen if suffix(p) in ENDINGS and is_file(p)]
    return [] if only and (len(found) < len(seen) or not all(is_prose(p) for p in found[:3])) else found


def _read_all(files: list[Path], encoding: str | None) -> tuple[list[tuple[Path, str]], list[str], list[LeftOut]]:
    texts: list[tuple[Path, str]] = []
    notes: list[str] = []
    left_out: list[LeftOut] = []
    encodings: Counter[str] = Counter()
    for file in files:
        try:
            raw, said = read_bytes(file)
            text, used = decode(raw, file, encoding)
        except UserError as error:
            if len(files) == 1:
                raise
            left_out.append(LeftOut(str(file), str(error)))
            continue
        notes += said
        encodings[used] += 1
        texts.append((file, mended(text).replace("\r\n", "\n").replace("\r", "\n")))
    if encodings:
        notes.append("encoding " + ", ".join(f"{name} ({n:,} files)" for name, n in encodings.items()))
    return texts, notes, left_out
