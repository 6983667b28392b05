"""Files made to do harm: what they hold would leave a trace if it ever ran."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fathom.checksums import OWN, checksum, record
from fathom.run import SEAL, RunFolder

TRACE = "FATHOM_TEST_TRACE"  # the environment variable that names the file a hostile object would write


class Harm:
    """Unpickled it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'echo harm > "${TRACE}"',)


def pickled(protocol: int = 2) -> bytes:
    return pickle.dumps({"weights": Harm()}, protocol)


def pickled_arrays() -> bytes:
    """An .npz with an array of objects."""
    sink = io.BytesIO()
    np.savez(sink, weights=np.array([Harm()], object), bias=np.zeros(2))
    return sink.getvalue()


def npz_of(header: str, *, name: str = "weights.npy", body: bytes = b"", packed: int = zipfile.ZIP_STORED) -> bytes:
    """An .npz of one array that says of itself whatever is given."""
    sink = io.BytesIO()
    text = header.encode()
    with zipfile.ZipFile(sink, "w", packed) as file:
        file.writestr(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body)
    return sink.getvalue()


def claiming(shape: str, kind: str = "<f8") -> str:
    return f"{{'descr':'{kind}','fortran_order':False,'shape':{shape}}}\n"


def safetensors_of(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file whose header says whatever is given, and whose length of it too."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(shape: list[int], ends: list[int], kind: str = "F32") -> dict[str, Any]:
    return {"0.a": {"dtype": kind, "shape": shape, "data_offsets": ends}}


def laughs(levels: int = 12) -> str:
    """A few lines of YAML that stand for 10^levels words."""
    lines = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "\n".join(["a0: &a0 [ha]", *lines])


def reseal(folder: Path) -> None:
    """Make all checksums of a run right again, as whoever means harm would: what reads the files is asked then."""
    for path in folder.rglob("*.json"):
        with contextlib.suppress(ValueError, RecursionError, OSError):
            value = json.loads(path.read_text())
            if isinstance(value, dict) and OWN in value:
                if path.name == "done.json":
                    others = [one for one in path.parent.iterdir() if one != path]
                    value["files"] = {one.name: checksum(one.read_bytes()) for one in others}
                path.write_text(json.dumps(record({key: one for key, one in value.items() if key != OWN})))
    if (folder / SEAL).exists():
        RunFolder(folder).seal()


def change(path: Path, key: str, value: Any) -> None:
    """Set a dotted key of a JSON file; `...` takes it away."""
    whole = json.loads(path.read_text())
    inner, steps = whole, key.split(".")
    for step in steps[:-1]:
        inner = inner[int(step) if isinstance(inner, list) else step]
    if value is ...:
        del inner[steps[-1]]
    else:
        inner[int(steps[-1]) if isinstance(inner, list) else steps[-1]] = value
    path.write_text(json.dumps(whole))
