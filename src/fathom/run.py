"""The run folder: plain files, written atomically, checked on reading. No pickle anywhere.

Left of it things are made; right of it (predict, evaluate, report) they are only read.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fathom.errors import UserError

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
        except OSError as error:
            raise UserError(
                f"The run folder {path} cannot be made: {error.strerror}. Choose another with --out."
            ) from None
        folder = cls(path)
        folder.write_json("format.json", {"format": FORMAT})
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise UserError(f"There is no run folder {path}. `fathom runs` lists the runs that exist.")
        if not folder.has("format.json"):
            raise UserError(
                f"{path} is not a run folder: it has no format.json. `fathom runs` lists the runs that exist."
            )
        kept = folder.read_json("format.json")
        found = kept.get("format") if isinstance(kept, dict) else None
        if found is None:
            raise UserError(f'{folder.inside("format.json")} is damaged: expected {{"format": {FORMAT}}}.')
        if not isinstance(found, int) or found > FORMAT:
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
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
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
        return self._checked(name, lambda path: json.loads(path.read_text(encoding="utf-8")))

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
            return read(path)
        except FileNotFoundError:
            raise UserError(f"{path} is missing: the run did not finish, or the folder was changed.") from None
        except Exception as error:
            raise UserError(f"{path} is damaged and cannot be read: {error}") from error


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
