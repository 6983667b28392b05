"""What models refuse, in one wording: inputs that they do not take, and options out of range.

A message names the option as people type it, model.NAME=VALUE. What a reader would get wrong: YAML reads model.size=1.1
as a number, so names are compared as texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from fathom.errors import UserError
from fathom.rooms import nearest

MOST_SIZE = 1_000_000  # nobody's width or depth is above it, and a list of as many layers still fits into memory


def refuse_inputs(whose: str, takes: str, inputs: Mapping[str, Mapping[str, Any]]) -> NoReturn:
    """Raises UserError: which inputs the model takes, and which were found."""
    found = ", ".join(f"{name} ({_seen(about)})" for name, about in inputs.items()) or "nothing"
    raise UserError(f"{whose} takes {takes}; found {found}. Choose another with model=…; see: fathom models")


def _seen(about: Mapping[str, Any]) -> str:
    size = f", {about['height']} x {about['width']}" if about["form"] == "pixels" else ""
    return f"{about['form']}{size}"


def check_choice(name: str, found: object, known: Iterable[str]) -> str:
    """The one of the known names that was given. Raises UserError naming the nearest.

    >>> check_choice("size", 1.1, ("1.0", "1.1"))
    '1.1'
    """
    if str(found) not in known:
        raise UserError(f"model.{name}={found} is not known. {nearest(str(found), known)}")
    return str(found)


def check_sizes(**sizes: int) -> None:
    """Refuse widths and depths below 1 and above MOST_SIZE. Raises UserError naming the option."""
    for name, size in sizes.items():
        if size > MOST_SIZE:
            raise UserError(f"model.{name}={size}: expected at most {MOST_SIZE:,}.")
        if size < 1:
            raise UserError(f"model.{name}={size}: expected at least 1, for example model.{name}=2.")


def check_divisor(of: int, whole: str, **sizes: int) -> None:
    """Refuse sizes that do not divide `of`, which `whole` says in words. Raises UserError naming the next smaller."""
    for name, size in sizes.items():
        if of % size:
            raise UserError(
                f"model.{name}={size}: expected a divisor of {whole}. Type model.{name}={largest_divisor(of, size)}."
            )


def largest_divisor(of: int, most: int) -> int:
    """The largest divisor of a number that is not above `most`.

    >>> largest_divisor(256, 48)
    32
    """
    return next(number for number in range(min(most, of), 0, -1) if of % number == 0)


def check_shares(**shares: float) -> None:
    """Refuse shares of dropped values outside 0 ≤ share < 1. Raises UserError naming the option."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise UserError(f"model.{name}={share}: expected a share from 0 to below 1, for example model.{name}=0.3.")


def check_positive(**values: float) -> None:
    """Refuse multipliers and the like that are not above 0. Raises UserError naming the option."""
    for name, value in values.items():
        if value <= 0:
            raise UserError(f"model.{name}={value}: expected more than 0. Leave it out to have the usual value.")
