"""Pictures with a text of the same name beside each: what belongs to what, and of which official part.

    1.jpg and 1.txt  ·  train/1.jpg and train/1.txt, test/2.jpg and test/2.txt

What a reader would get wrong: a text of several lines is as many captions of one picture. Texts of numbers are none:
detectors are taught by such files, a box on each line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from fathom.data import File, LeftOut
from fathom.errors import UserError
from fathom.sources.parts.beside import tables_in
from fathom.sources.parts.encoding import decode, mended
from fathom.sources.parts.files import PICTURES, TEXTS, is_folder, part_of_word
from fathom.sources.parts.tree import Member, first_members, is_damaged, listing

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LEAST_SHARE = 0.9  # of the pictures must have a text, otherwise the texts are something else
LOOKED_AT = 5  # texts
LEAST_LETTERS = 0.5  # of the signs of a caption


class Captioned(NamedTuple):
    """Parallel lists of pictures and their texts; `parts` is None without official parts."""

    pictures: list[File]
    texts: list[File]
    parts: list[str] | None
    left_out: list[LeftOut]


def is_captioned(path: Path) -> bool:
    """Whether a folder or an archive holds pictures that nearly all have a caption beside them, and no table."""
    if is_damaged(path) or (is_folder(path) and tables_in(path, TABLES)):
        return False
    pictures, texts = _by_stem(first_members(path))
    both = [texts[stem].file for stem in pictures if stem in texts]
    return len(both) > 0 and len(both) >= LEAST_SHARE * len(pictures) and any(map(_is_words, both[:LOOKED_AT]))


def captioned(path: Path) -> Captioned:
    """All pictures with the text of each. Raises UserError for an archive that is damaged or locked."""
    found = listing(path)
    pictures, texts = _by_stem(found.members)
    left_out = list(found.left_out)
    known = {id(member) for member in (*pictures.values(), *texts.values())}
    left_out += [LeftOut(str(m.file), "it is neither a picture nor its caption") for m in found.members
                 if id(m) not in known]  # fmt: skip
    left_out += [LeftOut(str(m.file), "it has no caption") for stem, m in pictures.items() if stem not in texts]
    left_out += [LeftOut(str(m.file), "it has no picture") for stem, m in texts.items() if stem not in pictures]
    stems = [stem for stem in pictures if stem in texts]
    parts = _parts(stems)
    if parts is not None:
        left_out += [LeftOut(str(pictures[stem].file), "its folder lies beside the official parts")
                     for stem, part in zip(stems, parts, strict=True) if part is None]  # fmt: skip
        stems = [stem for stem, part in zip(stems, parts, strict=True) if part is not None]
    return Captioned(
        [pictures[stem].file for stem in stems],
        [texts[stem].file for stem in stems],
        None if parts is None else [part for part in parts if part is not None],
        left_out,
    )


def lines_of(file: File, encoding: str | None) -> tuple[list[tuple[int, str]], str]:
    """The lines of a text that are not empty, each with its number from 1, and "" or why there are none."""
    try:
        raw = file.read()
        text, _ = decode(raw, str(file), encoding) if raw.strip() else ("", "")
    except UserError as error:
        return [], str(error)
    except OSError as error:
        return [], f"it cannot be read: {error.strerror or error}"
    lines = [(number, line.strip()) for number, line in enumerate(mended(text).split("\n"), 1) if line.strip()]
    return lines, "" if lines else "it is empty"


def _by_stem(members: Iterable[Member]) -> tuple[dict[tuple[str, ...], Member], dict[tuple[str, ...], Member]]:
    """Pictures and texts by their path without the ending; the first of several that differ in it alone."""
    pictures: dict[tuple[str, ...], Member] = {}
    texts: dict[tuple[str, ...], Member] = {}
    for member in members:
        stem, ending = os.path.splitext(member.steps[-1])
        kept = {**dict.fromkeys(PICTURES, pictures), **dict.fromkeys(TEXTS, texts)}.get(ending.lower())
        if kept is not None:
            kept.setdefault((*member.steps[:-1], stem), member)
    return pictures, texts


def _parts(stems: list[tuple[str, ...]]) -> list[str | None] | None:
    """The official part of each; None where the folders name none to train on."""
    wrap = 0
    while stems and len({stem[wrap] for stem in stems}) == 1 and all(len(stem) > wrap + 2 for stem in stems):
        wrap += 1  # a single folder around everything
    parts = [part_of_word(stem[wrap]) if len(stem) > wrap + 1 else None for stem in stems]
    return parts if "train" in parts and len(set(parts) - {None}) > 1 else None


def _is_words(file: File) -> bool:
    lines, _ = lines_of(file, None)
    signs = [sign for _, line in lines for sign in line if not sign.isspace()]
    return len(signs) > 0 and sum(sign.isalpha() for sign in signs) >= LEAST_LETTERS * len(signs)
