"""Rows in the form that batches are gathered from, written to files one after another and read from there.

What a reader would get wrong: the files are not mapped into memory. A page of a mapped file counts as memory of the
process from the first look at it, and a look at sixty bytes brings a megabyte along; a read brings the bytes alone, and
is as quick where the system has the file in its cache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from fathom.run import reading, writing

TARGETS = "(targets)"  # among the arrays of a store, where the others are inputs


def layout(values: np.ndarray, form: str) -> np.ndarray:
    """An input as batches hold it: pictures [N, H, W, C] as [N, C, H, W], all else as it is."""
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if form == "pixels" else values)


class Writer:
    """Arrays of rows [n, …] by name, appended to a file each. All have the same rows in the same order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_rows = 0
        self._files: dict[str, tuple[Path, np.dtype[Any], tuple[int, ...]]] = {}

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises UserError where the disk is full or closed."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for number, (name, values) in enumerate(arrays.items()):
                kept = self._files.setdefault(name, (self.folder / f"{number}.bin", values.dtype, values.shape[1:]))
                assert kept[1:] == (values.dtype, values.shape[1:]), f"{name} changed its form"
                with kept[0].open("ab") as file:
                    np.ascontiguousarray(values).tofile(file)
        self.num_rows += len(next(iter(arrays.values())))

    def written(self) -> RowFiles:
        """What was written, readable."""
        with writing(self.folder):
            return RowFiles(self._files, self.num_rows)


class RowFiles:
    """Arrays [num_rows, …] by name, one file each, of which some rows at a time are read."""

    def __init__(self, files: Mapping[str, tuple[Path, np.dtype[Any], tuple[int, ...]]], num_rows: int) -> None:
        self.num_rows = num_rows
        self.bytes = sum(path.stat().st_size for path, _, _ in files.values())
        self._files = {
            name: (path.open("rb", buffering=0), dtype, shape) for name, (path, dtype, shape) in files.items()
        }

    def close(self) -> None:
        for file, _, _ in self._files.values():
            file.close()

    def gather(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The rows of one array, in this order; read in that of the file."""
        file, dtype, shape = self._files[name]
        size = dtype.itemsize * int(np.prod(shape))
        order = np.argsort(rows, kind="stable")
        with reading(Path(file.name)):
            read = b"".join([_at(file, row * size, size) for row in rows[order].tolist()])
        found = np.empty((len(rows), *shape), dtype)
        found[order] = np.frombuffer(read, dtype).reshape(len(rows), *shape)
        return found


def _at(file: FileIO, place: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, place)
    file.seek(place)  # Windows
    return file.read(size)


@dataclass
class Store:
    """All rows that the network learns from or is judged by: the sample's under their own ids, then the further."""

    files: RowFiles
    first: int  # id of the first further row

    @property
    def num_rows(self) -> int:
        return self.files.num_rows

    @property
    def further(self) -> np.ndarray:
        """Ids of the further rows."""
        return np.arange(self.first, self.num_rows, dtype=self.id_type)

    @property
    def num_further(self) -> int:
        return self.num_rows - self.first

    @property
    def id_type(self) -> type[np.signedinteger[Any]]:
        """Ids of many rows take memory, too: four bytes each where that is enough."""
        return np.int32 if self.num_rows < 2**31 else np.int64
