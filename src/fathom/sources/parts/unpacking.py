"""Compressed data that grows without measure is refused before it fills the memory.

What a reader would get wrong: size alone says nothing, for much data packs well. Refused is what is both large and
hundreds of times as large unpacked as packed, which is hardly ever more than one sign over and over.
"""

from __future__ import annotations

import gzip
import io

from fathom.errors import UserError

LARGE = 1 << 26  # bytes; less never fills the memory
RATIO = 200  # of unpacked to packed bytes; texts have 3 to 20
GZIP_MOST = 1032  # to which gzip can pack at best
_PIECE = 1 << 24


def refuse_bomb(where: object, unpacked: int, packed: int) -> None:
    """Raises UserError where so many bytes out of so few are not believed."""
    if unpacked > LARGE and unpacked > RATIO * packed:
        raise UserError(
            f"{where} has {packed:,} bytes, which unpack to {unpacked:,} or more: they would fill the memory with "
            "hardly anything in it. If it is what it should be, unpack it, and give what is inside."
        )


def gunzipped(raw: bytes, where: object) -> bytes:
    """The content of a gzip file, of several parts too. Raises UserError on a bomb, and what gzip does on damage."""
    if len(raw) * GZIP_MOST <= LARGE:
        return gzip.decompress(raw)
    pieces, size = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
        while piece := packed.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            refuse_bomb(where, size, len(raw))
    return b"".join(pieces)
