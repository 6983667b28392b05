"""Texts in class folders, in a folder or an archive: pos/1.txt and neg/2.txt, with or without train and test above."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fathom.data import File, LeftOut, Table
from fathom.errors import UserError
from fathom.sources.parts.class_folders import open_classes
from fathom.sources.parts.columns import objects
from fathom.sources.parts.encoding import decode, mended
from fathom.sources.parts.files import PICTURES, TEXTS, as_path, is_file, is_folder
from fathom.sources.parts.join import with_counts
from fathom.sources.parts.tree import first_endings, inner_archive, is_archive, is_damaged


def claims(data: Any) -> str | None:
    path = as_path(data)
    if path is None or not (is_folder(path) or (is_archive(path) and is_file(path))):
        return None
    path = inner_archive(path)
    if is_damaged(path):
        return None
    seen = set(first_endings(path))
    has_texts = any(depth > 1 and ending in TEXTS for depth, ending in seen)
    if not has_texts or any(ending in PICTURES for _, ending in seen):
        return None
    return "an archive of texts" if is_archive(path) else "a folder of texts"


def open(data: Any, *, target: str | int | None = None, encoding: str | None = None) -> Table:
    """Columns "text" and "label" (the class folder), official parts where the folders say them.

    Empty files and files that are no text are left out. Raises UserError when there are no class folders.
    """
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    table = open_classes(inner_archive(path), "text", TEXTS, target)
    texts: list[str] = []
    kept: list[int] = []
    left_out: list[LeftOut] = []
    used: dict[str, int] = {}
    for row, file in enumerate(table.columns["text"]):
        text, why = _read(file, encoding)
        if text is None:
            left_out.append(LeftOut(str(file), why))
            continue
        texts.append(text)
        kept.append(row)
        used[why] = used.get(why, 0) + 1
    if not texts:
        raise UserError(
            f"{path}: none of {len(table):,} text files can be used; {left_out[0].where}: {left_out[0].why}."
        )
    table = table.take(np.array(kept))
    summary = f"{len(texts):,} {table.summary.split(' ', 1)[1]}"
    said = "encoding " + ", ".join(f"{name} ({n:,} files)" for name, n in used.items())
    return replace(
        table,
        columns={"text": objects(texts), "label": table.columns["label"]},
        summary=with_counts(summary, table.parts),
        notes=(*table.notes, said),
        left_out=(*table.left_out, *left_out),
    )


def _read(file: File, encoding: str | None) -> tuple[str | None, str]:
    """(text, encoding), or (None, why it cannot be used)."""
    try:
        raw = file.read()
        text, used = decode(raw, str(file), encoding) if raw.strip() else ("", "")
    except UserError as error:
        return None, str(error)
    except OSError as error:
        return None, f"it cannot be read: {error.strerror or error}"
    text = mended(text).strip()
    return (text, used) if text else (None, "it is empty")
