"""Reading back what a baseline kept: whatever is wrong with the files is told as one error that names the folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fathom.errors import UserError


@contextmanager
def reading(what: str, folder: Path) -> Iterator[None]:
    """Raises UserError where a file that is read inside is missing or damaged.

    >>> with reading("The oracle", Path("runs/x")):
    ...     {}["settings"]
    Traceback (most recent call last):
    fathom.errors.UserError: The oracle in runs/x cannot be read: 'settings'. Run `fathom fit` again.
    """
    try:
        yield
    except UserError:
        raise
    # A damaged file may be anything: every reader has errors of its own.
    except Exception as error:
        raise UserError(f"{what} in {folder} cannot be read: {error}. Run `fathom fit` again.") from error
