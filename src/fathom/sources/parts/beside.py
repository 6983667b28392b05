"""Official parts that lie beside a file: x-test.csv beside x-train.csv, dev.tsv beside train.tsv, or a folder of them.

Only names that are the same but for the word train, test or validation count, so that no unrelated file is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fathom.data import Table
from fathom.errors import UserError
from fathom.sources.parts.files import PART_WORDS, short_name, suffix
from fathom.sources.parts.join import join_parts

TRAIN_WORD = re.compile(rf"(?<![a-z0-9])({'|'.join(PART_WORDS['train'])})(?![a-z0-9])")
# Files that lie beside data in almost every download.
NOT_DATA = re.compile(
    r"(readme|licen[cs]e|citation|requirements|changelog|index|notes?|about|copying)\b", re.IGNORECASE
)


def tables_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Files of a folder with one of these endings, in order of name; free-text endings only where nothing else is."""
    files = [p for p in sorted(folder.iterdir()) if suffix(p) in endings and _may_be_data(p)]
    clear = [p for p in files if suffix(p) not in (".txt", ".data", ".dat", ".label")]
    return clear or files


def _may_be_data(path: Path) -> bool:
    return not path.name.startswith((".", "_")) and not NOT_DATA.match(path.name) and path.is_file()


def official_parts(path: Path) -> dict[str, Path]:
    """{"validate": …, "test": …} of the files that belong to a train file; {} where there are none."""
    lower = {p.name.lower(): p for p in path.absolute().parent.iterdir() if p.is_file()}
    found: dict[str, Path] = {}
    for part in ("validate", "test"):
        names = [n for word in PART_WORDS[part] for n in _sibling_names(path.name.lower(), word)]
        match = next((lower[n] for n in names if n in lower), None)
        if match is not None:
            found[part] = path.parent / match.name
    return found


def _sibling_names(name: str, word: str) -> list[str]:
    plain = name.removesuffix(".gz")
    if TRAIN_WORD.search(plain):
        renamed = TRAIN_WORD.sub(word, plain)
    elif plain.endswith(".data"):  # adult.data and adult.test, as the UCI repository names them
        renamed = plain.removesuffix("data") + word
    else:
        return []
    return [renamed, renamed + ".gz"]


def main_table(folder: Path, endings: Sequence[str]) -> tuple[Path, list[str]]:
    """The file of a folder to open, and what is to be said. Raises UserError when several could be meant."""
    files = tables_in(folder, endings)
    train = [p for p in files if official_parts(p)] or [p for p in files if TRAIN_WORD.search(p.name.lower())]
    chosen = files if len(files) == 1 else train
    if len(chosen) != 1:
        shown = ", ".join(p.name for p in files[:8]) + (" …" if len(files) > 8 else "")
        raise UserError(
            f"{folder} holds {len(files)} tables and none is called train: {shown}. "
            f"Name the one you mean: {folder / files[0].name}"
        )
    others = [p.name for p in files if p != chosen[0] and p not in official_parts(chosen[0]).values()]
    notes = [f"{chosen[0].name} is used, of the folder {folder}"]
    return chosen[0], notes + ([f"not used: {', '.join(others[:8])}"] if others else [])


def with_parts(path: Path, main: Table, read: Callable[[Path, Table], Table], is_wanted: bool = True) -> Table:
    """The table of a train file together with the official parts beside it. `read` opens a sibling like the main file.

    A sibling that does not fit (a test file without the target, say) is not used, and that is said.
    """
    parts = official_parts(path) if is_wanted else {}
    tables, notes = {"train": main}, []
    for part, sibling in parts.items():
        try:
            table = read(sibling, main)
        except UserError as error:
            notes.append(f"{sibling.name} lies beside but is not used: {error}")
            continue
        problem = _misfit(main, table)
        if problem:
            notes.append(f"{sibling.name} lies beside but is not used: {problem}")
        else:
            tables[part] = table
    main = replace(main, name=short_name(path), notes=(*main.notes, *notes))
    return main if len(tables) == 1 else join_parts({**tables, "train": main}, parts)


def _misfit(main: Table, other: Table) -> str | None:
    absent = [n for n in main.columns if n not in other.columns]
    added = [n for n in other.columns if n not in main.columns]
    if absent:
        return f"it has no column {', '.join(map(repr, absent[:5]))}"
    return f"it has other columns: {', '.join(map(repr, added[:5]))}" if added else None
