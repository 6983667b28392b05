"""A room's name and a file's name give the part: the file name is the registration.

`find("models", "resnet")` imports `fathom.models.resnet`. Unknown names are refused with the nearest one.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from fathom.errors import UserError


def names(room: str) -> list[str]:
    """The parts of a room, in alphabetical order."""
    return list(_listed(room))


@cache
def _listed(room: str) -> tuple[str, ...]:
    # Looked up once: to list the folder for every column took three quarters of the time of a single row.
    package = importlib.import_module(f"fathom.{room}")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg))


def find(room: str, name: str) -> ModuleType:
    """The part of that name. Raises UserError naming the nearest when there is none."""
    if name not in _listed(room):
        raise UserError(f"There is no '{name}' in {room}/. {nearest(str(name), names(room))}")
    return importlib.import_module(f"fathom.{room}.{name}")


def every(room: str) -> dict[str, ModuleType]:
    return {name: find(room, name) for name in names(room)}


def nearest(name: str, known: Iterable[str]) -> str:
    """'Did you mean 'x'? Known: …', the help that follows an unknown name."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(known) or 'none'}."


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only options of a part and their defaults: the signature is the configuration."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


LARGEST = 10**9  # of options

# What may stand for a type of the signature, and how it is called. YAML reads model.size=18 as a number.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str, int, float), "a word"),
    "None": ((type(None),), "null"),
}


def check_options(function: Callable[..., Any], given: Mapping[str, Any], whose: str) -> None:
    """Refuse options that the signature does not have, and values of another type than it says."""
    known = options(function)
    for name, value in given.items():
        if name not in known:
            raise UserError(f"{whose} has no option '{name}'. {nearest(name, known)}")
        kinds = str(inspect.signature(function).parameters[name].annotation).split(" | ")
        if set(kinds) <= set(KINDS) and not any(_is(value, kind) for kind in kinds):
            wanted = " or ".join(KINDS[kind][1] for kind in kinds)
            raise UserError(f"{whose} was given {name}={value}; expected {wanted}.")
        if isinstance(value, int | float) and not abs(value) <= LARGEST:  # NaN too
            raise UserError(f"{whose} was given a {name} that no number is meant by; expected {LARGEST:,} at most.")


def check_ranges(
    ranges: Mapping[str, tuple[str, float]],
    given: Mapping[str, Any],
    whose: str,
    most: Mapping[str, int] | None = None,
) -> None:
    """Refuse numbers that a part cannot use. `ranges` says which it can: option → (">", 0) or (">=", 1).

    `most` are the largest that can be meant: more would fill the memory.
    """
    for name, limit in (most or {}).items():
        if (given.get(name) or 0) > limit:
            raise UserError(f"{whose}.{name} is {given[name]}; it must be at most {limit:,}.")
    for name, (sign, bound) in ranges.items():
        value = given.get(name)
        if value is None or (value > bound if sign == ">" else value >= bound):
            continue
        raise UserError(f"{whose}.{name} is {value}; it must be {'above' if sign == '>' else 'at least'} {bound:g}.")


def _is(value: object, kind: str) -> bool:
    # True is an int to Python, but no number to a reader.
    return isinstance(value, KINDS[kind][0]) and (kind == "bool" or not isinstance(value, bool))
