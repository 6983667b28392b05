"""Digits that are names: '00501', product code 4711. The trap is the opposite: a class from 1 to 3 is a good number."""

from __future__ import annotations

from fathom.fields.parts.values import Distinct, name_words

_CODE_NAMES = frozenset({"id", "ids", "code", "codes", "zip", "zipcode", "postcode", "postal", "plz", "sku", "isbn"})


def why_codes(name: str, found: Distinct) -> str | None:
    """Why whole numbers are codes rather than quantities, or None."""
    if not found.words or not all(word.isdecimal() for word in found.words):
        return None
    zeros = [word for word in found.words if len(word) > 1 and word[0] == "0"]
    if zeros and len({len(word) for word in found.words}) == 1:
        return f"written with leading zeros ('{zeros[0]}')"
    # An id that hardly repeats teaches nothing as a category; see identifier.py.
    named = name_words(name) & _CODE_NAMES
    if named and found.counts.sum() >= 2 * len(found.words):
        return f"the name says '{min(named)}' and each value comes {found.counts.mean():.0f} times"
    return None
