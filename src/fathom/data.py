"""The values that pass between rooms: a table of raw columns, and the encoded examples made from it.

A leaf: NumPy and the standard library only. Sources make a `Table`; fields turn its columns into the forms of
`Examples`; baselines and models read only `Examples`.
"""

from __future__ import annotations

import lzma
import math
import os
import re
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import IO, Any, Literal, NamedTuple

import numpy as np

TaskKind = Literal["classify", "regress", "language", "translate", "pair"]
PARTS = ("train", "validate", "test")
MOST_BYTES = 1 << 30  # of one picture or text: more is no such thing, and may be made to fill the memory
# Control characters, turned directions of writing, halves of characters.
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What the readers of archives and of the arrays in them raise on members that are damaged, locked, packed in a way that
# they do not know, or larger than the memory. OSError is not among them: it says that a file itself cannot be read.
UNPACKING = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, ValueError,
             RuntimeError, MemoryError, OverflowError, SyntaxError, tokenize.TokenError)  # fmt: skip


class LeftOut(NamedTuple):
    """One thing that was found and not used."""

    where: str  # "people.csv:212" or "photos/rose/17.jpg"
    why: str  # "9 values where 12 were expected"


class Guess(NamedTuple):
    """What a field says of a column: how sure it is that the column is its own, and why."""

    sure: float  # 0 to 1
    why: str  # "41 distinct words in 48,842 rows"


def printable(name: str) -> str:
    """A file's name as it can be shown and written: bytes in it that are no text become \\udce9 and the like."""
    return name.encode("utf-8", "backslashreplace").decode()


def inert(text: str, keep: str = "") -> str:
    """A text as it can be shown on a terminal: what would steer it stands there as \\x1b and the like.

    Names and texts come from data, and an escape sequence in one could rewrite what was said before it. `keep` are
    control characters that are meant: those of our own layout.
    """
    return STEERING.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), text
    )


@dataclass(frozen=True)
class File:
    """A file somewhere on disk, or a member of a .zip or .tar archive. Read only when somebody looks."""

    path: str
    archive: str = ""  # path of the archive, empty for a plain file

    def read(self) -> bytes:
        """The bytes. Raises OSError, whatever is wrong with the file or with its archive."""
        with self._opened() as file:
            try:
                content = file.read(MOST_BYTES + 1)
            except UNPACKING as error:
                raise OSError(f"it cannot be unpacked: {error}") from error
        if len(content) > MOST_BYTES:
            raise OSError(f"it has more than {MOST_BYTES:,} bytes")
        return content

    def mark(self, ends: int) -> bytes:
        """What tells it from other files, without reading all of a large one: its size and as many bytes of both ends.

        Of a member of an archive: its size, and its checksum (.zip) or date (.tar). Raises OSError as `read` does.
        """
        try:
            if self.archive:
                archive = _open_archive(self.archive)
                if isinstance(archive, zipfile.ZipFile):
                    member = archive.getinfo(self.path)
                    return f"{member.file_size} {member.CRC}".encode()
                about = archive.getmember(self.path)
                return f"{about.size} {about.mtime}".encode()
        except UNPACKING as error:
            raise OSError(f"it cannot be unpacked: {error}") from error
        with self._opened() as file:
            first, size = file.read(ends), file.seek(0, os.SEEK_END)
            file.seek(max(size - ends, len(first)))
            return f"{size} ".encode() + first + file.read(ends)

    def _opened(self) -> IO[bytes]:
        if not self.archive:
            # Asked first: reading a pipe would wait for ever.
            if os.path.exists(self.path) and not os.path.isfile(self.path):
                raise OSError("it is no file")
            return open(self.path, "rb")
        try:
            archive = _open_archive(self.archive)
            found = archive.open(self.path) if isinstance(archive, zipfile.ZipFile) else archive.extractfile(self.path)
        except UNPACKING as error:
            raise OSError(f"it cannot be unpacked: {error}") from error
        if found is None:
            raise FileNotFoundError(f"{self.path} in {self.archive} is not a file.")
        return found

    def __str__(self) -> str:
        return printable(f"{self.archive}/{self.path}" if self.archive else self.path)


@lru_cache(maxsize=4)
def _open_archive(path: str) -> zipfile.ZipFile | tarfile.TarFile:
    return zipfile.ZipFile(path) if zipfile.is_zipfile(path) else tarfile.open(path)


@dataclass(frozen=True)
class Places:
    """Where each row comes from, so that a message can name file and line."""

    files: tuple[str, ...]
    file: np.ndarray  # int32 [N], index into files
    line: np.ndarray  # int64 [N], first line of the row counted from 1; 0 where a row is a whole file

    def __getitem__(self, row: int | np.integer[Any]) -> str:
        name, line = self.files[self.file[row]], int(self.line[row])
        return f"{name}:{line}" if line else name

    def __len__(self) -> int:
        return len(self.file)

    def take(self, rows: np.ndarray) -> Places:
        return Places(self.files, self.file[rows], self.line[rows])

    @classmethod
    def of_rows(cls, name: str, lines: np.ndarray | int) -> Places:
        """Rows of one file; `lines` are their line numbers, or how many rows there are (then row 1, 2, …)."""
        numbers = np.arange(1, lines + 1) if isinstance(lines, int) else np.asarray(lines)
        return cls((printable(name),), np.zeros(len(numbers), np.int32), numbers.astype(np.int64))

    @classmethod
    def of_files(cls, names: Iterable[str]) -> Places:
        """One row for each file."""
        files = tuple(map(printable, names))
        return cls(files, np.arange(len(files), dtype=np.int32), np.zeros(len(files), np.int64))

    @classmethod
    def join(cls, several: Iterable[Places]) -> Places:
        files: list[str] = []
        indices, lines = [], []
        for places in several:
            indices.append(places.file + len(files))
            lines.append(places.line)
            files.extend(places.files)
        return cls(tuple(files), np.concatenate(indices).astype(np.int32), np.concatenate(lines))


@dataclass(frozen=True)
class Table:
    """Raw data as columns of equal length, whatever it was on disk.

    A column is one of: an object array of `str` (None where the cell is empty), a numeric or bool array (NaN where
    missing), a datetime64 array, an object array of `File`, or uint8 pictures [N, height, width(, channels)].
    """

    name: str  # short, fit for a folder name: "adult"
    columns: dict[str, np.ndarray]
    places: Places
    summary: str  # "4,317 images in 5 classes (one folder per class)"
    target: str | None = None  # where the source itself knows it: the class folders
    parts: np.ndarray | None = (
        None  # object [N] of "train", "validate", "test" where the data comes with official parts
    )
    notes: tuple[str, ...] = ()  # what was found out: "delimiter ';', decimal comma, no header"
    left_out: tuple[LeftOut, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)  # with which further data opens the same way
    continues: bool = False  # the rows are pieces of one text, each going on where the one before ended
    first: int = 1  # the number of the first column, where a target is given as a number
    task: TaskKind | None = None  # where the source itself knows it: pictures with their captions

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: np.ndarray) -> Table:
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            places=self.places.take(rows),
            parts=None if self.parts is None else self.parts[rows],
        )


@dataclass(frozen=True)
class Stream:
    """Rows that need not be held all at once: pieces in the order of the file, each of which can be read alone.

    `finish` makes of a sample of rows what opening the file would have made of all (official parts beside it, linked
    pictures, how numbers are written), and `follow` reads further rows as that finished sample was read.
    """

    num_rows: int  # in the file; told from its beginning where only reading all of it would tell
    sizes: tuple[int | None, ...]  # rows of each piece, None where only reading it tells
    read: Callable[[int], Iterator[Table]]  # the rows of one piece, in order
    finish: Callable[[Table], Table]
    follow: Callable[[Table, Table], Table]  # (further rows, the finished sample) → the rows

    @classmethod
    def of(cls, table: Table, rows: int) -> Stream:
        """Of a table that is open already, in pieces of so many rows."""
        starts = range(0, len(table), rows)
        return cls(
            len(table),
            tuple(min(rows, len(table) - start) for start in starts),
            lambda piece: iter([table.take(np.arange(starts[piece], min(starts[piece] + rows, len(table))))]),
            lambda sample: sample,
            lambda further, sample: further,
        )


class Ragged(NamedTuple):
    """Rows of different lengths in one flat array: row i is values[starts[i]:starts[i + 1]]."""

    values: np.ndarray  # [total]
    starts: np.ndarray  # int64 [N + 1]

    def take(self, rows: np.ndarray) -> Ragged:
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Position of every kept value: its row's old start plus its place within the row.
        positions = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[rows], lengths)
        return Ragged(self.values[positions], starts)

    def padded(self, rows: np.ndarray, longest: int, pad: int = 0) -> np.ndarray:
        """The rows as one array [len(rows), width], cut at `longest` and filled up with `pad`."""
        lengths = np.minimum(np.diff(self.starts)[rows], longest)
        width = max(1, int(lengths.max(initial=0)))
        inside = np.arange(width) < lengths[:, None]
        positions = np.where(inside, self.starts[rows][:, None] + np.arange(width), 0)
        return np.where(inside, self.values[positions] if len(self.values) else pad, pad)


@dataclass(frozen=True)
class Examples:
    """Encoded rows, ready for baselines and batches. Every array has one entry per row.

    `inputs` holds "numbers" (float32 [N, F], NaN where missing), "categories" (int32 [N, G], 0 for missing or unseen),
    and under their column's name pictures (uint8 [N, H, W, C]) and texts (`Ragged` token ids).
    `about` describes each input to whoever builds a model on it: {"form": "numbers" | "categories" | "tokens" |
    "pixels", …}; it is a JSON value and is kept in the run folder.
    """

    inputs: dict[str, np.ndarray | Ragged]
    about: dict[str, dict[str, Any]]
    words: dict[str, np.ndarray] = field(default_factory=dict)  # column → object [N] of str, for bag-of-words models
    num_rows: int = 0

    def __len__(self) -> int:
        return self.num_rows

    def take(self, rows: np.ndarray) -> Examples:
        inputs = {n: v.take(rows) if isinstance(v, Ragged) else v[rows] for n, v in self.inputs.items()}
        return replace(self, inputs=inputs, words={n: w[rows] for n, w in self.words.items()}, num_rows=len(rows))

    def of_form(self, form: str) -> list[str]:
        """Names of the inputs of one form, in order."""
        return [name for name, about in self.about.items() if about["form"] == form]


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    Targets are int64 class indices [N] (classify), float64 numbers [N] (regress), the references or captions as object
    [N] of str (translate, pair), or for a language, which is its own target, float64 [N, 2]: tokens and bytes of a row.
    """

    kind: TaskKind
    target: str
    classes: tuple[str, ...] = ()  # for classify, in index order
    why: str = ""

    @property
    def num_outputs(self) -> int:
        return len(self.classes) if self.kind == "classify" else 2 if self.kind == "pair" else 1

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "target": self.target, "classes": list(self.classes), "why": self.why}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        return cls(value["kind"], value["target"], tuple(value["classes"]), value["why"])


def jsonable(value: Any) -> Any:
    """The value as every reader of JSON takes it: plain numbers, null for those that are not finite."""
    if isinstance(value, dict):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
