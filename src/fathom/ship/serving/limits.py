"""How much a request may ask for, and how it is refused.

What a reader would get wrong: every limit is looked at before the work that it bounds: bytes before they are kept, rows
before they are encoded, pixels before they are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fathom.data import inert

LONGEST_MESSAGE = 600
LONGEST_NAME = 100
SHORT = 1_000  # characters of a number, a date or a category: an array of texts is as wide as the longest


@dataclass(frozen=True)
class Limits:
    """What one request may be, and how many are let in at once."""

    megabytes: float = 8.0  # of a body
    rows: int = 10_000  # of a request
    characters: int = 50_000  # of a text; of any other cell SHORT
    megapixels: float = 40.0  # of all pictures of a request together, as their headers say
    waiting: int = 64  # requests inside; the next is told to come back
    seconds: float = 30.0  # until a body must have arrived

    @property
    def bytes(self) -> int:
        return int(self.megabytes * 1_000_000)

    @property
    def pixels(self) -> int:
        return int(self.megapixels * 1_000_000)


class Refused(Exception):  # noqa: N818 (an answer, no failure of ours)
    """A request that is not answered, with the HTTP status and, where one is to blame, the field and the row."""

    def __init__(self, status: int, message: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.row = status, message, field, row

    def to_json(self) -> dict[str, str | int]:
        """What is told to whoever asked: names are shown as they can be, long ones cut."""
        told: dict[str, str | int] = {"error": shown(self.message, LONGEST_MESSAGE)}
        if self.field is not None:
            told["field"] = shown(self.field)
        if self.row is not None:
            told["row"] = self.row
        return told


def refuse_long(value: object, field: Mapping[str, Any], limits: Limits, row: int) -> None:
    """Raise Refused for a cell of more characters than are taken."""
    most = limits.characters if field["kind"] in ("text", "plain_text") else SHORT
    if isinstance(value, str) and len(value) > most:
        name = field["name"]
        raise Refused(413, f"'{shown(name)}' has {len(value):,} characters; {most:,} are taken.", field=name, row=row)


def shown(text: str, longest: int = LONGEST_NAME) -> str:
    """A text that came with a request, fit to be shown: nothing in it steers a terminal, and it ends."""
    return inert(text if len(text) <= longest else f"{text[: longest - 1]}…")
