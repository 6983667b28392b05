"""The run folder: plain files, written atomically, checked on reading. No pickle anywhere.

Left of it things are made; right of it (predict, evaluate, report) they are only read. What a reader would get wrong: a
run is finished when it is sealed, not when its verdict stands: `checksums.json`, written last, says that all is whole.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fathom.checksums import OWN, Sum, checksum, is_whole, mismatch, record
from fathom.errors import UserError
from fathom.shapes import misfit

# 1 had no checksums, and environment.json where 2 has manifest.json; both are read (docs/run-folder.md).
FORMAT = 2
SEAL = "checksums.json"
# Written after the seal, meant to be changed by people, vouching for itself, or of no use once the run is finished.
UNSEALED = {
    SEAL, "format.json", "summary.json", "recipe.yaml", "report.html", "log.txt", "lock", "last", "trackers",
}  # fmt: skip
METRIC_COLUMNS = (
    "model", "fold", "epoch", "step", "train_loss", "validate_loss", "metric", "learning_rate", "seconds", "best",
)  # fmt: skip


class RunFolder:
    """One run's files. `create` makes a new folder and refuses one that exists; `open` reads one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sums: dict[str, Sum] = {}  # of what was written here

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        path = Path(path)
        refuse_existing(path)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            refuse_existing(path)  # another process was quicker
            raise
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"The run folder {path} cannot be made: {why}. Choose another with --out.") from None
        folder = cls(path)
        folder.begin()
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Raises UserError where that is no run folder, or one of a later Fathom, or holds links that lead out."""
        folder = cls(Path(path))
        if not is_folder(folder.path):
            raise UserError(f"There is no run folder {path}. `fathom runs` lists the runs that exist.")
        if not folder.has("format.json"):
            raise UserError(
                f"{path} is not a run folder: it has no format.json. `fathom runs` lists the runs that exist."
            )
        every = (os.path.join(root, n) for root, names, files in os.walk(path) for n in (*names, *files))
        return folder._checked_for(every)

    @classmethod
    def glance(cls, path: Path, names: Iterable[str]) -> RunFolder:
        """As `open` where only these files will be read: a thousand folders are not walked through."""
        return cls(path)._checked_for(os.path.join(path, name) for name in names)

    def _checked_for(self, paths: Iterable[str]) -> RunFolder:
        _refuse_links_out(self.path, paths)
        if (found := self.format) > FORMAT:
            raise UserError(f"{self.path} has run format {found}; this Fathom reads up to {FORMAT}. Upgrade fathom-dl.")
        return self

    @classmethod
    def open_finished(cls, path: str | Path, what: str = "run") -> RunFolder:
        """As `open`, and raises UserError where the run is not finished."""
        folder = cls.open(path)
        if not folder.is_finished:
            raise UserError(f"The {what} {path} is not finished. Continue it with `fathom resume {path}`.")
        return folder

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def format(self) -> int:
        return int(self.read_json("format.json")["format"])

    @property
    def is_finished(self) -> bool:
        return self.has("metrics.json") and (self.has(SEAL) or self.format == 1)

    @property
    def run_id(self) -> str:
        """What tells this run from all others; "" before it has a manifest, and of one of format 1."""
        return str(self.read_record("manifest.json")["run"]) if self.has("manifest.json") else ""

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def inside(self, name: str) -> Path:
        return self.path / name

    # Writing: into a neighbouring file first, then renamed over the old one, so that a file is whole or absent.

    def write_bytes(self, name: str, content: bytes) -> None:
        """Raises UserError where there is no room or no permission; what stood there before still stands there."""
        with writing(self.path / name):
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            put(self.path / name, content)
        if name.split("/")[0] not in UNSEALED:
            self._sums[name] = checksum(content)

    def write_text(self, name: str, text: str) -> None:
        # Names of files may hold bytes that are no text; as \udce9 they can be written, and read again from JSON.
        self.write_bytes(name, text.encode("utf-8", "backslashreplace"))

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n")

    def write_record(self, name: str, value: Mapping[str, Any]) -> None:
        """A JSON object that vouches for itself, and for the files whose checksums it holds."""
        self.write_json(name, record(json.loads(json.dumps(value, default=_plain))))

    def write_tensors(self, name: str, tensors: Mapping[str, Any]) -> None:
        self.write_bytes(name, packed(tensors))

    def write_table(self, name: str, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(pa.table(dict(columns)), sink)
        self.write_bytes(name, sink.getvalue())

    def write_rows(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        self.write_text(name, sink.getvalue())

    # Sealing: the last file of a run holds the checksums of all others.

    def seal(self) -> None:
        """Say that the run is finished, and that its files are as they are now."""
        names = sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        kept = [n for n in names if n.split("/")[0] not in UNSEALED and not n.rpartition("/")[2].startswith(".")]
        sums = {name: self._sums.get(name) or checksum((self.path / name).read_bytes()) for name in kept}
        self.write_record(SEAL, {"files": sums})

    def begin(self) -> None:
        """The run begins or goes on, in the format of today: what it holds may change."""
        with writing(self.path / SEAL):
            (self.path / SEAL).unlink(missing_ok=True)
        self.write_json("format.json", {"format": FORMAT})

    def damaged(self) -> list[str]:
        """What is wrong with the files of a sealed run, one message each."""
        told = []
        try:
            names = list(self._sealed())
        except UserError as error:
            return [seen(error)]
        for name in names:
            try:
                self._content(name)
            except UserError as error:
                told.append(seen(error))
        return told

    def _sealed(self) -> dict[str, Sum]:
        if not self.has(SEAL):
            return {}
        found: dict[str, Sum] = self.read_record(SEAL)["files"]
        return found

    # Reading

    def read_json(self, name: str) -> Any:
        """The content of a JSON file. Raises UserError where it is not of the form that shapes.py tells."""
        found = self._checked(name, lambda content: json.loads(content.decode("utf-8")))
        if wrong := misfit(name, found):
            raise UserError(f"{self.inside(name)} is damaged: {wrong}.")
        return found

    def read_record(self, name: str) -> dict[str, Any]:
        """What `write_record` wrote. Raises DamagedError where anything in it was changed."""
        content = self._content(name)
        with reading(self.path / name):
            try:
                found = json.loads(content)
            except ValueError as error:
                raise self._damage(name, str(error)) from None
            if not isinstance(found, dict) or not is_whole(found):
                raise self._damage(name, f"its {OWN} is not that of what it says")
        if wrong := misfit(name, found):
            raise UserError(f"{self.inside(name)} is damaged: {wrong}.")
        return found

    def read_tensors(self, name: str) -> dict[str, Any]:
        from safetensors.torch import load

        return self._checked(name, load)

    def read_table(self, name: str) -> dict[str, np.ndarray]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        def read(content: bytes) -> dict[str, np.ndarray]:
            # Without Arrow's threads: a command that ends just after they were begun is aborted at its exit.
            table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
            return {column: table[column].to_numpy() for column in table.column_names}

        return self._checked(name, read)

    def read_rows(self, name: str) -> list[dict[str, str]]:
        def read(content: bytes) -> list[dict[str, str]]:
            return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))

        return self._checked(name, read)

    def verify(self, name: str, kept: Mapping[str, Any]) -> bytes:
        """A file's content. Raises DamagedError where it is not the one of that checksum."""
        with reading(self.path / name):
            content = (self.path / name).read_bytes()
        if wrong := mismatch(content, kept):
            raise self._damage(name, wrong)
        return content

    def _checked(self, name: str, read: Callable[[bytes], Any]) -> Any:
        content = self._content(name)
        with reading(self.path / name):
            return read(content)

    def _content(self, name: str) -> bytes:
        """The bytes of a file, as they were when the run was sealed."""
        kept = {} if name.split("/")[0] in UNSEALED else self._sealed()
        try:
            if name in kept:
                return self.verify(name, kept[name])
            with reading(self.path / name):
                return (self.path / name).read_bytes()
        except FileNotFoundError:
            raise UserError(
                f"{self.inside(name)} is missing: the run did not finish, or the folder was changed."
            ) from None

    def _damage(self, name: str, wrong: str) -> DamagedError:
        return DamagedError(
            f"{self.inside(name)} is damaged: {wrong}.",
            f"Put back a copy of it; or `fathom resume {self.path}` makes it again from what is whole, where the data "
            "is still there.",
        )


class DamagedError(UserError):
    """A file is not as it was written."""

    def __init__(self, seen: str, remedy: str) -> None:
        super().__init__(f"{seen} {remedy}")
        self.seen = seen


def seen(error: UserError) -> str:
    """What was seen, without the remedy: for whoever is at work on it already."""
    return error.seen if isinstance(error, DamagedError) else str(error)


def packed(tensors: Mapping[str, Any]) -> bytes:
    """Tensors as a file holds them."""
    from safetensors.torch import save

    return save({key: value.contiguous() for key, value in tensors.items()})


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever fails in here fails for what stands in that file or folder: a UserError that names it.

    A file that is not there stays a FileNotFoundError.
    """
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    # A damaged file may be anything: every reader has errors of its own.
    except Exception as error:
        raise UserError(f"{path} is damaged and cannot be read: {str(error)[:500]}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An OSError in here becomes a UserError that says what could not be written and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "Make room on the disk" if full else "See to it that it can be written to"
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}. What was kept before is whole. {remedy}, and type "
            "the command again; a run that had begun goes on with `fathom resume RUN`."
        ) from error


def put(target: Path, content: bytes) -> None:
    """Write a file whole or not at all. Its folder must be there."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it readable by its owner only
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def is_folder(path: Path) -> bool:
    """Whether it is a folder; a name too long or with a NUL byte is none, not an error."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _refuse_links_out(folder: Path, paths: Iterable[str]) -> None:
    """A run folder from elsewhere may hold links: what they lead to would be read into reports, or written over."""
    for path in paths:
        if os.path.islink(path):
            inside = os.path.realpath(folder)
            if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
                raise UserError(f"{path} is a link that leads out of the run folder. Put the file itself there.")


def refuse_existing(path: str | Path) -> None:
    """Raise UserError where a run folder is already there."""
    if Path(path).exists():
        raise UserError(
            f"{path} exists already. Choose another folder with --out, continue it with `fathom resume {path}`, "
            f"or remove it first."
        )


def free_path(name: str, where: str | Path = "runs") -> Path:
    """The first of runs/<name>-1, runs/<name>-2, … that does not exist."""
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    number = 1
    while (Path(where) / f"{name}-{number}").exists():
        number += 1
    return Path(where) / f"{name}-{number}"


def create_free(name: str, where: str | Path = "runs") -> RunFolder:
    """A new runs/<name>-N; where another process takes the number first, the next."""
    while True:
        path = free_path(name, where)
        try:
            return RunFolder.create(path)
        except UserError:
            if not path.exists():
                raise


def every_run(where: str | Path = "runs") -> Iterator[RunFolder]:
    """The run folders inside a folder, by name, whether or not they can be read."""
    root = Path(where)
    if not root.is_dir():
        raise UserError(f"There is no folder {where} here. Runs are kept in runs/ unless --out says otherwise.")
    for path in sorted(root.iterdir()):
        if (path / "format.json").is_file():
            yield RunFolder(path)


def _plain(value: Any) -> Any:
    """NumPy values as JSON can hold them."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON.")
