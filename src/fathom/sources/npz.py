"""NumPy archives (.npz): x and y, or x_train, y_train, x_test, y_test. Object arrays (pickles) are refused."""

from __future__ import annotations

import zipfile
import zlib
from typing import Any

import numpy as np

from fathom.data import Table
from fathom.errors import UserError
from fathom.sources.parts.files import as_path, is_file, short_name, suffix
from fathom.sources.parts.named_arrays import role_of, table_of


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
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{path} is a single array (.npy), not an archive. Save it with numpy.savez(x=…, y=…).")
            names = list(archive.files)
            arrays: dict[str, Any] = {n: archive[n] if role_of(n) else None for n in names}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise UserError(f"{path} cannot be read as .npz: {error}. Write it again with numpy.savez.") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(
            f"{path}: {error} Arrays of Python objects are pickles and are not opened. Save numbers or fixed text."
        ) from error
    return table_of(arrays, short_name(path), str(path), target)
