"""HTML as nested function calls; everything that is not `Html` already is escaped.

What a reader would get wrong: `Html("…")` is a promise that the string is markup made by us. Data never goes through
it: column names, texts and file names are passed as plain `str` and come out inert.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

VOID = frozenset({"meta", "img", "br"})
# Control characters have no place in HTML, direction overrides would turn around the text that stands beside, and half
# a surrogate pair cannot be written as UTF-8.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Html(str):
    """Markup that is safe to insert as it is."""

    __slots__ = ()


def text(value: object) -> Html:
    """Any value as inert text. `Html` is passed through."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(UNPRINTABLE.sub("\ufffd", str(value)), quote=True))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """`<tag attributes>children</tag>`; None is left out, both among children and attributes.

    `class_` is written `class`, and `aria_label` is written `aria-label`.
    """
    opened = "".join(_attribute(name, value) for name, value in attributes.items() if value is not None)
    if tag in VOID:
        assert not children, f"<{tag}> has no inside"
        return Html(f"<{tag}{opened}>")
    inside = "".join(text(child) for child in children if child is not None)
    return Html(f"<{tag}{opened}>{inside}</{tag}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    return Html(text(between).join(text(part) for part in parts if part is not None))


def _attribute(name: str, value: object) -> str:
    name = name.rstrip("_").replace("_", "-")
    if isinstance(value, float):
        value = f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {name}="{text(str(value))}"'
