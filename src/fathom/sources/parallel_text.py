"""Translations line by line: train.en and train.de, with val.en, val.de and test.en, test.de beside them; plain or .gz.

Line n of one file is the translation of line n of the other. What a reader would get wrong: files that differ in their
number of lines are refused, because from the missing line on every pair would be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fathom.data import PARTS, Places, Table
from fathom.errors import UserError
from fathom.sources.parts.columns import find_column, objects
from fathom.sources.parts.encoding import decode, mended
from fathom.sources.parts.files import as_path, is_file, is_folder, part_of_word, read_bytes, short_name
from fathom.sources.parts.join import join_parts

# Language codes (ISO 639, with a region where there is one) that end a file's name.
_NAME = re.compile(r"(?P<stem>.+)\.(?P<language>[a-z]{2,3}(?:[-_][A-Za-z]{2,4})?)$")
# Endings of two or three letters that are no languages.
NOT_LANGUAGES = frozenset(("txt", "csv", "tsv", "npz", "jpg", "png", "gif", "zip", "tar", "pdf", "bin", "log", "cfg",
                           "ini", "xml", "psv", "tab", "dat", "npy", "pkl", "pt", "pth", "md", "py", "js"))  # fmt: skip

Files = Mapping[str, Mapping[str, Path]]  # part → language → file


def claims(data: Any) -> str | None:
    path = as_path(data)
    if path is None:
        return None
    if is_folder(path):
        return "a folder of parallel texts" if _files_in(path) else None
    found = _files_of(path) if is_file(path) else {}
    return "a parallel text" if found else None


def open(data: Any, *, target: str | int | None = None, encoding: str | None = None, beside: bool = True) -> Table:
    """A column for each language, official parts where the names say them.

    data: the folder, or one of the files. beside: use the official parts that lie beside a train file. Raises UserError
    where files of one part differ in their number of lines, naming both.
    """
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    files: Files = _files_in(path) if is_folder(path) else _files_of(path, beside=beside)
    first = next(iter(files))
    languages = [name for name in files[first] if all(name in files[part] for part in files)]
    if len(languages) < 2:
        told = "; ".join(f"{part}: {', '.join(found)}" for part, found in files.items())
        raise UserError(f"{path}: the parts do not have two languages in common ({told}).")
    tables = {part: _read({n: files[part][n] for n in languages}, encoding) for part in files}
    table = replace(tables[first], name=short_name(path if is_folder(path) else path.with_suffix("")))
    if len(tables) > 1:
        used = {part: next(iter(files[part].values())) for part in tables}
        table = join_parts({**tables, first: table}, used)
    unused = sorted({name for found in files.values() for name in found} - set(languages))
    notes = [f"languages that not every part has, not used: {', '.join(unused)}"] if unused else []
    others = sorted(p.name for p in _beside(path) if not any(p in found.values() for found in files.values()))
    notes += [f"not used: {', '.join(others)}"] if others else []
    return replace(table, notes=(*table.notes, *notes), target=find_column(list(table.columns), target, str(path)))


def _beside(path: Path) -> list[Path]:
    folder = path if is_folder(path) else path.parent
    return [p for p in folder.iterdir() if is_file(p) and _named(p)]


def _files_in(folder: Path) -> Files:
    """{"train": {"en": …, "de": …}, …}, the train part first; {} where the folder holds no such files."""
    by_stem: dict[str, dict[str, Path]] = {}
    for path in sorted(p for p in folder.iterdir() if is_file(p)):
        named = _named(path)
        if named:
            by_stem.setdefault(named[0], {})[named[1]] = path
    by_stem = {stem: found for stem, found in by_stem.items() if len(found) > 1}
    if len(by_stem) == 1:
        return {"train": next(iter(by_stem.values()))}
    found: dict[str, dict[str, Path]] = {}
    for stem, texts in by_stem.items():
        part = _part(stem)
        if part == "train" and part in found:
            others = ", ".join(sorted(p.name for p in (*found[part].values(), *texts.values())))
            raise UserError(f"{folder} has several texts to train on: {others}. Name one of them: {folder}/NAME.")
        if part:
            found.setdefault(part, texts)
    return {part: found[part] for part in PARTS if part in found} if "train" in found else {}


def _files_of(path: Path, *, beside: bool = True) -> Files:
    """As `_files_in`, for one file: the same stem in other languages, and its official parts."""
    named = _named(path)
    if named is None:
        return {}
    twins = {n[1]: p for p in sorted(path.absolute().parent.iterdir()) if (n := _named(p)) and n[0] == named[0]}
    if len(twins) < 2:
        return {}
    if beside and _part(named[0]) == "train":
        return _files_in(path.absolute().parent) or {"train": twins}
    return {"train": twins}


def _named(path: Path) -> tuple[str, str] | None:
    """('train', 'de') of train.de.gz."""
    match = _NAME.fullmatch(path.name.removesuffix(".gz"))
    return (match["stem"], match["language"]) if match and match["language"] not in NOT_LANGUAGES else None


def _part(stem: str) -> str | None:
    return next((part for word in re.split(r"[-_.]", stem) if (part := part_of_word(word))), None)


def _read(files: Mapping[str, Path], encoding: str | None) -> Table:
    columns = {language: _lines(path, encoding) for language, path in files.items()}
    counts = {files[language].name: len(lines) for language, lines in columns.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count:,}" for name, count in counts.items())
        raise UserError(f"The files do not fit line by line: {told} lines. Each line must be the other's translation.")
    count = next(iter(counts.values()))
    places = Places.of_rows(str(next(iter(files.values()))), count)
    summary = f"{count:,} lines in {len(columns)} languages ({', '.join(columns)})"
    return Table("", {name: objects(lines) for name, lines in columns.items()}, places, summary)


def _lines(path: Path, encoding: str | None) -> list[str | None]:
    """The lines of a file; an empty one is None, a missing text."""
    text, _ = decode(read_bytes(path)[0], path, encoding)
    lines = mended(text).split("\n")  # not splitlines(): it also cuts at U+2028
    return [line.strip() or None for line in (lines[:-1] if not lines[-1] else lines)]
