"""MNIST-style IDX files: pictures and labels in two files a part, train beside t10k.

The magic number says the type and the number of axes; sizes are big-endian. Any one file of the set stands for all.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import Places, Table
from fathom.errors import UserError
from fathom.sources.parts.columns import find_column
from fathom.sources.parts.files import as_path, is_file, is_folder, read_bytes, short_name
from fathom.sources.parts.join import join_parts
from fathom.sources.parts.pixels import as_pictures

NAME = re.compile(
    r"(?P<set>.*?)(?P<part>train|t10k|test|val|valid|validation)[-_.](?P<role>images|labels)[-_.]idx\d[-_.]ubyte(\.gz)?",
    re.IGNORECASE,
)
PARTS = {"train": "train", "t10k": "test", "test": "test", "val": "validate", "valid": "validate"}
TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def claims(data: Any) -> str | None:
    path = as_path(data)
    if path is None:
        return None
    if is_folder(path):
        return "a folder of IDX files" if _sets(path) else None
    return "an IDX file" if NAME.fullmatch(path.name) and is_file(path) else None


def open(data: Any, *, target: str | int | None = None, beside: bool = True) -> Table:
    """Pictures as "image" (uint8 [N, H, W]) and "label" (int64), with t10k as the official test part.

    data: the folder, or any file of the set. beside: whether the other parts lying there are used too. Raises UserError
    for a wrong magic number, a file that is cut off, or as many pictures as labels not being there.
    """
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    files = _files(path)
    match = NAME.fullmatch(path.name)
    if not beside and match:
        files = {part: f for part, f in files.items() if part == _part(match)}
    has_labels = any("labels" in f for f in files.values())
    tables = {part: _read(f) for part, f in files.items() if "images" in f and ("labels" in f or not has_labels)}
    if not tables:
        raise UserError(f"{path} has labels but no pictures. Expected train-images-idx3-ubyte beside them.")
    skipped = [
        f"{f['images'].name} has no labels beside it: not used"
        for p, f in files.items()
        if p not in tables
        if "images" in f
    ]
    table = _join(tables, files) if len(tables) > 1 else next(iter(tables.values()))
    if len(tables) == 1 and beside and is_folder(path) and "test" in tables:
        skipped.append("there is no train file; the test file is used as ordinary rows")
    own = "label" if has_labels else None
    name = short_name(path if is_folder(path) else path.absolute().parent)
    chosen = find_column(list(table.columns), target, str(path)) or own
    return replace(table, name=name, target=chosen, notes=(*table.notes, *skipped))


def _part(match: re.Match[str]) -> str:
    return PARTS.get(match["part"].lower(), "validate")


def _sets(folder: Path) -> dict[str, dict[str, dict[str, Path]]]:
    """set name → part → "images" and "labels" → file. A plain file wins over its .gz."""
    sets: dict[str, dict[str, dict[str, Path]]] = {}
    for path in sorted(folder.iterdir(), reverse=True):
        match = NAME.fullmatch(path.name)
        if match and path.is_file():
            sets.setdefault(match["set"], {}).setdefault(_part(match), {})[match["role"].lower()] = path
    return dict(sorted(sets.items()))


def _files(path: Path) -> dict[str, dict[str, Path]]:
    match = NAME.fullmatch(path.name)
    if match and is_file(path):
        parts = _sets(path.parent)[match["set"]]
    else:
        sets = _sets(path)
        if len(sets) > 1:
            first = next(iter(next(iter(sets.values())).values()))
            raise UserError(
                f"{path} holds {len(sets)} sets of IDX files: {', '.join(s.strip('-_') or 'mnist' for s in sets)}. "
                f"Name a file of the one you mean: {next(iter(first.values()))}"
            )
        parts = next(iter(sets.values()))
    return {part: parts[part] for part in ("train", "validate", "test") if part in parts}


def _join(tables: dict[str, Table], files: dict[str, dict[str, Path]]) -> Table:
    if "train" not in tables:
        raise UserError(f"There is no train-images file beside {next(iter(files.values()))['images']}.")
    return join_parts(tables, {part: f["images"] for part, f in files.items() if "images" in f})


def _read(files: dict[str, Path]) -> Table:
    array, notes = read_idx(files["images"])
    if array.ndim not in (3, 4):
        raise UserError(
            f"{files['images']} has {array.ndim} axes, {array.shape}. Expected pictures: rows × height × width."
        )
    pictures, said = as_pictures(array, str(files["images"]))
    columns = {"image": pictures}
    if "labels" in files:
        labels, more = read_idx(files["labels"])
        notes += more
        if labels.shape != (len(pictures),):
            raise UserError(
                f"{files['images'].name} has {len(pictures):,} pictures and {files['labels'].name} has labels "
                f"of the shape {labels.shape}. Expected one label a picture."
            )
        columns["label"] = labels.astype(np.int64) if labels.dtype.kind in "iu" else labels
    num_classes = len(np.unique(columns["label"])) if "label" in columns else 0
    summary = f"{len(pictures):,} images of {'×'.join(map(str, pictures.shape[1:]))}"
    summary += f" in {num_classes} classes" if num_classes else ""
    places = Places.of_rows(str(files["images"]), len(pictures))
    return Table("idx", columns, places, summary, notes=(*notes, *said))


def read_idx(path: Path) -> tuple[np.ndarray, list[str]]:
    """The array of an IDX file, plain or .gz. Raises UserError when the file is not one or is cut off."""
    raw, notes = read_bytes(path)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in TYPES or not 1 <= raw[3] <= 8:
        raise UserError(
            f"{path} is not an IDX file: it begins with {raw[:4].hex(' ')}. Expected 00 00, a type (08 for bytes) "
            "and the number of axes (01 for labels, 03 for pictures). Fetch it again."
        )
    num_axes, dtype = raw[3], np.dtype(TYPES[raw[2]])
    start = 4 + 4 * num_axes
    if len(raw) < start:
        raise UserError(f"{path} is cut off: {len(raw)} bytes, not even its sizes. Fetch it again.")
    shape = struct.unpack(f">{num_axes}I", raw[4:start])
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) - start != expected:
        what = "is cut off" if len(raw) - start < expected else "has something at its end"
        raise UserError(
            f"{path} {what}: {len(raw) - start:,} bytes of data where {'×'.join(map(str, shape))} = {expected:,} were "
            "expected. Fetch it again."
        )
    array = np.frombuffer(raw, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("=")) if dtype.itemsize > 1 else array, notes
