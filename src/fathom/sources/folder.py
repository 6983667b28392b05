"""Pictures in class folders, in a folder or an archive: rose/1.jpg, or train/rose/1.jpg and val/rose/2.jpg.

Pictures are not opened here, only listed; which of them are broken is seen when the field reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fathom.data import Table
from fathom.sources.parts.beside import tables_in
from fathom.sources.parts.captions import is_captioned
from fathom.sources.parts.class_folders import open_classes
from fathom.sources.parts.files import PICTURES, as_path, is_file, is_folder
from fathom.sources.parts.tree import classes_of, first_endings, inner_archive, is_archive, is_damaged, listing

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def claims(data: Any) -> str | None:
    path = as_path(data)
    if path is None or not (is_folder(path) or (is_archive(path) and is_file(path))):
        return None
    given, path = path, inner_archive(path)
    if is_damaged(path):
        return "an archive"
    if not any(ending in PICTURES for _, ending in first_endings(path)):
        return None
    if (is_folder(given) and _belongs_to_table(given, path)) or is_captioned(path):
        return None
    return "an archive of pictures" if is_archive(path) else "a folder of pictures"


def open(data: Any, *, target: str | int | None = None) -> Table:
    """Columns "image" (File values) and "label" (the class folder), official parts where the folders say them.

    Raises UserError when there are pictures but no class folders. Other files are left out and listed.
    """
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    return open_classes(inner_archive(path), "image", PICTURES, target)


def _belongs_to_table(folder: Path, pictures: Path) -> bool:
    """A table beside pictures that stand in fewer than two folders: the table names them and says what they are."""
    return bool(tables_in(folder, TABLES)) and len(set(classes_of(listing(pictures), PICTURES).labels)) < 2
