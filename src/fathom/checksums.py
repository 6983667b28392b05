"""Checksums of what a run folder holds: a damaged file is named where it is read.

What a reader would get wrong: a checksum does not stand beside its file, where a kill between two writes would leave it
untrue. What is written last vouches for what was written before it: the position of a training for its tensors, a
baseline's `done.json` for its files, and `checksums.json`, the last file of a run, for all of them. Files that nobody
vouches for yet are written again. Damage is meant, not forgery: CRC-32 costs a quarter of what SHA-256 does.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

OWN = "checksum"  # of a record: the key that holds the checksum of all others
Sum = dict[str, Any]  # {"bytes": 4096, "crc32": "1a2b3c4d"}


def checksum(content: bytes) -> Sum:
    """The length and the CRC-32 of a file's content.

    >>> checksum(b"weights")
    {'bytes': 7, 'crc32': '1ad27358'}
    """
    return {"bytes": len(content), "crc32": f"{zlib.crc32(content):08x}"}


def mismatch(content: bytes, kept: Mapping[str, Any]) -> str:
    """How a content differs from what was written, "" where it does not."""
    found = checksum(content)
    if found["bytes"] != kept["bytes"]:
        return f"it has {found['bytes']:,} bytes, {kept['bytes']:,} were written"
    if found["crc32"] != kept["crc32"]:
        return f"its checksum is {found['crc32']}, {kept['crc32']} was written"
    return ""


def record(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object that vouches for itself: with the checksum of its other keys, however they are laid out.

    `value` is as JSON gives it back: keys are texts, and there are no tuples.
    """
    return dict(value) | {OWN: _of_value(value)}


def is_whole(found: Mapping[str, Any]) -> bool:
    """Whether a record is as `record` made it."""
    return found.get(OWN) == _of_value({key: value for key, value in found.items() if key != OWN})


def _of_value(value: Mapping[str, Any]) -> str:
    return str(checksum(json.dumps(value, sort_keys=True).encode())["crc32"])
