"""Open whatever was given: ask every source whether it can, in an order in which the more particular comes first."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from fathom import rooms
from fathom.data import Stream, Table
from fathom.errors import UserError
from fathom.sources.parts.files import as_path, is_folder, suffix
from fathom.sources.parts.tree import is_archive, listing

# IDX before tables and pictures before texts: a folder may hold a README.txt and a labels.csv besides. Sources that are
# not named here come last, in alphabetical order.
ORDER = (
    *("frame", "arrays", "samples", "idx", "npz", "parallel_text", "captioned", "folder", "text_folder", "parquet"),
    *("jsonl", "plain_text", "delimited"),
)
HINTS = {
    ".xlsx": "Save the sheet as CSV.",
    ".xls": "Save the sheet as CSV.",
    ".ods": "Save the sheet as CSV.",
    ".json": "Write one JSON object a line and call it .jsonl.",
    ".arff": "Save it as CSV.",
    ".npy": "Save it with numpy.savez(path, x=…, y=…) as .npz.",
    ".pkl": "Pickles are not opened, for they can run code. Save it as Parquet or CSV.",
    ".pickle": "Pickles are not opened, for they can run code. Save it as Parquet or CSV.",
    ".pt": "Weights are not data. Give the data that a model is to learn from.",
    ".db": "Export the table as CSV.",
    ".sqlite": "Export the table as CSV.",
    ".feather": "Save it as Parquet.",
    ".h5": "Save the arrays with numpy.savez as .npz, or the table as Parquet.",
    ".rar": "Unpack it, and give the folder.",
    ".7z": "Unpack it, and give the folder.",
}
KNOWN = (
    "a table (.csv .tsv .txt .jsonl .parquet, plain or .gz), a folder or .zip/.tar of class folders of pictures or "
    ".txt files, running text (.txt .md), parallel texts (train.en and train.de), pictures with a text beside each, "
    "MNIST-style IDX files, .npz, a data frame, arrays, or one of the samples digits, breast-cancer, wine, diabetes"
)


def choose(data: Any) -> tuple[str, ModuleType, str]:
    """The name of the source that opens it, the source, and what it says this is. Raises UserError when none does."""
    if isinstance(data, str) and not data.strip():
        raise UserError(f"The path is empty. Expected {KNOWN}.")
    sources = rooms.every("sources")
    for name in sorted(sources, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n)):
        what = sources[name].claims(data)
        if what is not None:
            return name, sources[name], what
    raise UserError(_nothing_claims(data))


def open_any(data: Any, *, alone: bool = False, **options: Any) -> Table:
    """The table of whatever was given. Options that the source does not have are refused.

    alone: do not look for official test files beside it, as for a test set or for rows to predict.
    """
    name, source, options = _chosen(data, options, alone)
    table: Table = source.open(data, **options)
    if name != "samples" and isinstance(data, str) and data in rooms.find("sources", "samples").NAMES:
        note = f"{data} is a file or folder here and is used, not the built-in sample of that name"
        table = replace(table, notes=(note, *table.notes))
    return table


def stream_any(data: Any, **options: Any) -> Stream | None:
    """The rows of whatever was given in pieces, where its source can read it so; None where it has to be opened."""
    _, source, options = _chosen(data, options)
    found: Stream | None = source.stream(data, **options) if hasattr(source, "stream") else None
    return found


def _chosen(data: Any, options: dict[str, Any], alone: bool = False) -> tuple[str, ModuleType, dict[str, Any]]:
    """The name of the source, the source, and its options, which are checked."""
    name, source, what = choose(data)
    if name == "plain_text" and "delimiter" in options:
        name, what = "delimited", "a table"
        source = rooms.find("sources", name)
    if alone and "beside" in rooms.options(source.open):
        options = {"beside": False, **options}
    try:
        rooms.check_options(source.open, options, f"The source for {what}")
    except ValueError as error:
        raise UserError(str(error)) from error
    return name, source, options


def _nothing_claims(data: Any) -> str:
    path = as_path(data)
    if path is None:
        return f"Data of the type {type(data).__name__} cannot be opened. Expected {KNOWN}."
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        return f"There is no {data}. {_nearest_path(path)}Expected {KNOWN}."
    if is_folder(path):
        return f"{data} is a folder in which nothing is recognised: {_content(path)}. Expected {KNOWN}."
    if is_archive(path):
        return f"{data} is an archive in which nothing is recognised: {_content(path)}. Expected {KNOWN}."
    ending = suffix(path) or "no ending"
    hint = HINTS.get(suffix(path), "")
    return f"{data} cannot be opened: its ending is {ending}. {hint + ' ' if hint else ''}Expected {KNOWN}."


def _nearest_path(path: Path) -> str:
    """'Did you mean data/titanic.csv? ' where a similar name lies beside, or which part of the path there is."""
    from fathom.sources import samples

    parent = path.parent
    if not is_folder(parent):
        there = next((p for p in parent.parents if is_folder(p)), Path())
        return f"The folder {parent} does not exist either; {there} does. "
    names = {p.name: str(p) for p in parent.iterdir()}
    if str(parent) == ".":
        names.update({n: n for n in samples.NAMES})
    by_stem = [n for n in names if n.split(".")[0].lower() == path.name.split(".")[0].lower()]
    close = by_stem or difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"Did you mean {names[close[0]]}? " if close else ""


def _content(path: Path) -> str:
    """'12 .wav files, 3 folders'."""
    counts = Counter(suffix(m.steps[-1]) or "unnamed" for m in listing(path).members)
    said = [f"{n:,} {ending} file{'s' * (n != 1)}" for ending, n in counts.most_common(5)]
    return ", ".join(said) or "it is empty"
