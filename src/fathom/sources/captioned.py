"""Pictures with their captions beside them, in a folder or an archive: photo1.jpg and photo1.txt.

A row is a pair of a picture and one line of its text, so a picture with five captions has five rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.data import LeftOut, Places, Table
from fathom.errors import UserError
from fathom.sources.parts.captions import captioned, is_captioned, lines_of
from fathom.sources.parts.columns import find_column, objects
from fathom.sources.parts.files import as_path, is_file, is_folder, short_name
from fathom.sources.parts.join import with_counts
from fathom.sources.parts.tree import inner_archive, is_archive

COLUMNS = ("image", "caption")


def claims(data: Any) -> str | None:
    path = as_path(data)
    if path is None or not (is_folder(path) or (is_archive(path) and is_file(path))):
        return None
    path = inner_archive(path)
    if not is_captioned(path):
        return None
    return "an archive of pictures with captions" if is_archive(path) else "a folder of pictures with captions"


def open(data: Any, *, target: str | int | None = None, encoding: str | None = None) -> Table:
    """Columns "image" (File values) and "caption", official parts where folders called train and test say them.

    Pictures without a caption, and texts without a picture, are left out and listed. Raises UserError where no
    picture has a caption that can be read.
    """
    given = as_path(data)
    assert given is not None, "claims() said that this is a path"
    path = inner_archive(given)
    found = captioned(path)
    left_out = list(found.left_out)
    rows: list[int] = []
    lines: list[int] = []
    captions: list[str] = []
    for row, file in enumerate(found.texts):
        told, why = lines_of(file, encoding)
        left_out += [LeftOut(str(file), why)] if why else []
        rows += [row] * len(told)
        lines += [line for line, _ in told]
        captions += [caption for _, caption in told]
    if not captions:
        first = f"; the first: {left_out[0].where}: {left_out[0].why}" if left_out else ""
        raise UserError(f"{path} holds no picture with a caption of the same name beside it{first}.")
    pictures = objects([found.pictures[row] for row in rows])
    parts = None if found.parts is None else objects([found.parts[row] for row in rows])
    num_pictures = len(set(rows))
    return Table(
        name=short_name(path),
        columns={"image": pictures, "caption": objects(captions)},
        places=Places(tuple(map(str, found.texts)), np.array(rows, np.int32), np.array(lines, np.int64)),
        summary=with_counts(f"{len(captions):,} captions of {num_pictures:,} images", parts),
        target=find_column(COLUMNS, target, str(path)) or "caption",
        parts=parts,
        left_out=tuple(left_out),
        task="pair",
    )
