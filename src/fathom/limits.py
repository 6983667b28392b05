"""What a person allows a run to take, read from text and told again: bytes of memory.

What a reader would get wrong: 1 GB is 10^9 bytes and 1 GiB is 2^30, as on a label of memory and in the standard.
"""

from __future__ import annotations

from fathom.errors import UserError

UNITS = {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
         "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip


def size(text: str | float) -> float:
    """'2GB', '500 MB', '1.5GiB' or plain bytes, in bytes. Raises UserError for anything else and for nothing.

    >>> size("500MB")
    500000000.0
    """
    words = str(text).strip().lower().replace(" ", "")
    number = words.rstrip("bgikmt")
    try:
        found = float(number) * UNITS[words[len(number) :]]
    except (ValueError, KeyError):
        raise UserError(f"The memory '{text}' was not understood. Write 500MB, 2GB or 1.5GiB.") from None
    if not 0 < found < float("inf"):
        raise UserError(f"The memory is {text}; it must be more than 0, such as --memory 2GB.")
    return found


def told(number: float) -> str:
    """Bytes for reading: '820 MB', '1.43 GB'.

    >>> told(1_434_000_000)
    '1.43 GB'
    """
    return f"{number / 1e9:.3g} GB" if number >= 1e9 else f"{number / 1e6:.3g} MB"


def roomy(least: float) -> str:
    """A little more than the least, as it is typed: '850MB', '2.1GB'."""
    return f"{1.05 * least / 1e9:.2g}GB" if least >= 1e9 else f"{1.05 * least / 1e6:.0f}MB"
