"""The run folder: plain files, written atomically, checked on reading. No pickle anywhere.

Left of it things are made; right of it (predict, evaluate, report) they are only read.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fathom.errors import UserError
from fathom.shapes import misfit

FORMAT = 1
METRIC_COLUMNS = (
    "model", "fold", "epoch", "step", "train_loss", "validate_loss", "metric", "learning_rate", "seconds", "best",
)  # fmt: skip


class RunFolder:
    """One run's files. `create` makes a new folder and refuses one that exists; `open` reads one."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
        folder.write_json("format.json", {"format": FORMAT})
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        folder = cls(Path(path))
        if not is_folder(folder.path):
            raise UserError(f"There is no run folder {path}. `fathom runs` lists the runs that exist.")
        if not folder.has("format.json"):
            raise UserError(
                f"{path} is not a run folder: it has no format.json. `fathom runs` lists the runs that exist."
            )
        _refuse_links_out(folder.path)
        found = folder.read_json("format.json")["format"]
        if found > FORMAT:
            raise UserError(f"{path} has run format {found}; this Fathom reads up to {FORMAT}. Upgrade fathom-dl.")
        return folder

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def is_finished(self) -> bool:
        return self.has("metrics.json")

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

    def write_text(self, name: str, text: str) -> None:
        # Names of files may hold bytes that are no text; as \udce9 they can be written, and read again from JSON.
        self.write_bytes(name, text.encode("utf-8", "backslashreplace"))

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n")

    def write_tensors(self, name: str, tensors: Mapping[str, Any]) -> None:
        from safetensors.torch import save

        self.write_bytes(name, save({key: value.contiguous() for key, value in tensors.items()}))

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

    # Reading

    def read_json(self, name: str) -> Any:
        """The content of a JSON file. Raises UserError where it is not of the form that shapes.py tells."""
        found = self._checked(name, lambda path: json.loads(path.read_text(encoding="utf-8")))
        if wrong := misfit(name, found):
            raise UserError(f"{self.inside(name)} is damaged: {wrong}.")
        return found

    def read_tensors(self, name: str) -> dict[str, Any]:
        from safetensors.torch import load

        return self._checked(name, lambda path: load(path.read_bytes()))

    def read_table(self, name: str) -> dict[str, np.ndarray]:
        import pyarrow.parquet as pq

        def read(path: Path) -> dict[str, np.ndarray]:
            table = pq.read_table(path)
            return {column: table[column].to_numpy() for column in table.column_names}

        return self._checked(name, read)

    def read_rows(self, name: str) -> list[dict[str, str]]:
        def read(path: Path) -> list[dict[str, str]]:
            with open(path, newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file))

        return self._checked(name, read)

    def _checked(self, name: str, read: Callable[[Path], Any]) -> Any:
        path = self.path / name
        try:
            with reading(path):
                return read(path)
        except FileNotFoundError:
            raise UserError(f"{path} is missing: the run did not finish, or the folder was changed.") from None


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


def _refuse_links_out(folder: Path) -> None:
    """A run folder from elsewhere may hold links: what they lead to would be read into reports, or written over."""
    inside = os.path.realpath(folder)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)
            if os.path.islink(path) and os.path.commonpath([inside, os.path.realpath(path)]) != inside:
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
