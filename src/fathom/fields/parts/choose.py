"""Which kind a column is: every field of the room is asked, the surest wins and its reason is kept."""

from __future__ import annotations

import numpy as np

from fathom import rooms
from fathom.data import Guess
from fathom.errors import UserError


def guess(name: str, values: np.ndarray) -> tuple[str, Guess]:
    """The kind of a column ("number", "text", …) and why. Raises UserError where no field knows it."""
    guesses = everyone(name, values)
    if not guesses:
        raise UserError(
            f"Column '{name}' ({values.dtype}, shape {list(values.shape)}) is of no known kind: "
            f"{', '.join(rooms.names('fields'))}. Name one of them for it, or leave the column out."
        )
    # Equally sure: the alphabet decides, so that the answer never depends on the order of files.
    kind = min(guesses, key=lambda kind: (-guesses[kind].sure, kind))
    return kind, guesses[kind]


def everyone(name: str, values: np.ndarray) -> dict[str, Guess]:
    """Kind → guess of every field that takes the column for its own."""
    asked = {kind: field.sniff(name, values) for kind, field in rooms.every("fields").items()}
    return {kind: found for kind, found in asked.items() if found is not None}
