"""Networks in stages: how many blocks and channels each stage has, as people type them, and how channels are rounded.

Options of a model are plain values, so a list of counts is a text: "3,4,6,3". What a reader would get wrong: a scaled
number of channels is rounded to a multiple of 8 that is never less than nine tenths of it, so 18 becomes 24, not 16.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fathom.errors import UserError


def counts(text: str | int, option: str, *, example: str) -> list[int]:
    """The whole numbers, at least 1, of a text. Raises UserError naming the option.

    >>> counts("3,4,6,3", "blocks", example="2,2,2,2")
    [3, 4, 6, 3]
    """
    found = [part.strip() for part in str(text).split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in found):
        raise UserError(
            f"model.{option}={text}: expected whole numbers from 1, with commas between; "
            f"for example model.{option}={example}."
        )
    return [int(part) for part in found]


def typed(numbers: Iterable[int]) -> str:
    """What `counts` reads.

    >>> typed([3, 4, 6, 3])
    '3,4,6,3'
    """
    return ",".join(str(number) for number in numbers)


def measures(
    blocks: str | int | None,
    channels: str | int | None,
    published: tuple[Sequence[int], Sequence[int]],
    *,
    before: int = 0,
) -> tuple[list[int], list[int]]:
    """Blocks and channels as they are typed, or as published. The first `before` of the channels are of no stage.

    Raises UserError where these are no counts, or not of as many stages.

    >>> measures("1,1", "8,16", ([3, 3, 9, 3], [96, 192, 384, 768]))
    ([1, 1], [8, 16])
    """
    usual = [typed(numbers) for numbers in published]
    found = (
        counts(blocks or usual[0], "blocks", example=usual[0]),
        counts(channels or usual[1], "channels", example=usual[1]),
    )
    if len(found[0]) != len(found[1]) - before:
        beside = f" after the first {before}" if before else ""
        raise UserError(
            f"model.blocks={typed(found[0])} has {len(found[0])} stages and model.channels={typed(found[1])} has "
            f"{len(found[1]) - before}{beside}. "
            f"Give as many in both, as in model.blocks={usual[0]} model.channels={usual[1]}."
        )
    return found


def refuse(why: str, **given: str | float | None) -> None:
    """Raises UserError for the first option that was given."""
    for name, value in given.items():
        if value is not None:
            raise UserError(f"model.{name}={value} {why}.")


def rounded(channels: float, multiple: int = 8) -> int:
    """To the nearest multiple, at least one of them, and never less than 0.9 of what was asked for.

    >>> [rounded(channels) for channels in (3, 18, 30, 100)]
    [8, 24, 32, 104]
    """
    near = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return near if near >= 0.9 * channels else near + multiple
