"""NumPy archives (.npz): x and y, or x_train, y_train, x_test, y_test. Object arrays (pickles) are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import UNPACKING, Table
from fathom.errors import UserError
from fathom.sources.parts.files import as_path, is_file, short_name, suffix
from fathom.sources.parts.named_arrays import role_of, table_of
from fathom.sources.parts.unpacking import refuse_bomb


def claims(data: Any) -> str | None:
    path = as_path(data)
    return "a .npz file" if path is not None and suffix(path) == ".npz" and is_file(path) else None


def open(data: Any, *, target: str | int | None = None) -> Table:
    """The table of an archive: "image" for pictures, x0 … for a matrix, and "label".

    target: a column by name or number; "label" where there is one. Raises UserError for damaged files and pickles.
    """
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    try:
        arrays = _arrays(path)
    except UserError:
        raise
    except (*UNPACKING, OSError) as error:
        pickled = " Arrays of Python objects are pickles and are not opened." if "allow_pickle" in str(error) else ""
        raise UserError(
            f"{path} cannot be read as .npz: {str(error)[:300]}.{pickled} Write it again with numpy.savez, of numbers "
            "or fixed text."
        ) from error
    return table_of(arrays, short_name(path), str(path), target)


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays whose names say what they are, None under the other names."""
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"{path} is a single array (.npy), not an archive. Save it with numpy.savez(x=…, y=…).")
        with zipfile.ZipFile(path) as zipped:
            refuse_bomb(path, sum(info.file_size for info in zipped.infolist()), path.stat().st_size)
        return {name: archive[name] if role_of(name) else None for name in archive.files}
