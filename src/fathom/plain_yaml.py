"""YAML as plain values: no tags of any language, nothing that grows when it is read.

What a reader would get wrong: an alias (*name) costs nothing while it is shared, and everything when it is copied. A
few lines of aliases to aliases make billions of values ("billion laughs"), so what they stand for is counted first.
"""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = 1_000_000
MOST_CHARACTERS = 50_000_000


class PlainYamlError(ValueError):
    """Why a text is none, and the line from 1; 0 where none is to blame."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(why)
        self.line = line


def parse(text: str) -> Any:
    """The value of a YAML text. Raises PlainYamlError.

    >>> parse("a: [1, 2]")
    {'a': [1, 2]}
    >>> parse("!!python/object/apply:os.system [ls]")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fathom.plain_yaml.PlainYamlError: could not determine a constructor for the tag ...
    """
    if len(text) > MOST_CHARACTERS:
        raise PlainYamlError(f"it has {len(text):,} characters; {MOST_CHARACTERS:,} are the most")
    try:
        value = yaml.safe_load(text)
        count = _count(value, {}, set())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise PlainYamlError(problem, mark.line + 1 if mark else 0) from None
    except RecursionError:
        raise PlainYamlError("it is nested too deeply") from None
    # What the reader raises on a date or a number that is none: 2020-13-45, !!int x, 5,000 digits.
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, IndexError) as error:
        raise PlainYamlError(str(error)) from None
    if count > MOST_VALUES:
        raise PlainYamlError(f"its aliases stand for {count:,} values; {MOST_VALUES:,} are the most")
    return value


def _count(value: Any, known: dict[int, int], above: set[int]) -> int:
    """Values that a copy of it would have."""
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) in above:
        raise ValueError("an alias stands for what it is itself a part of")
    if id(value) not in known:
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(one, known, above | {id(value)}) for one in inner)
    return known[id(value)]
