"""The body of a request over the wire: what kind it is, read no further than the limits allow.

What a reader would get wrong: the length that a header promises is not believed; bytes are counted as they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import PurePosixPath

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from fathom.ship.serving.limits import Limits, Refused, shown
from fathom.ship.serving.reading import TABLE_ENDINGS, TABLES, Asked

JSON = "application/json"
FORM = "multipart/form-data"
TAKEN = f"{JSON}, {', '.join(TABLES)}, image/… or {FORM}"


async def asked(request: Request, limits: Limits) -> Asked:
    """What was sent. Raises Refused for what is too large, too slow, or of no kind that is read here."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "The body is compressed. Send it as it is.")
    body = await _body(request, limits)
    if not body:
        raise Refused(400, f"The body is empty. Send {TAKEN}.")
    if kind == FORM:
        return await _form(request, body, limits)
    if kind in TABLES:
        return Asked(TABLES[kind], [(f"upload{TABLES[kind]}", body)])
    if kind.startswith("image/"):
        return Asked("pictures", [("picture", body)])
    if kind in (JSON, ""):
        return Asked("json", [("", body)])
    raise Refused(415, f"The body is {shown(kind)}; expected Content-Type: {TAKEN}.")


async def _body(request: Request, limits: Limits) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for piece in request.stream():
                size += len(piece)
                if size > limits.bytes:
                    raise Refused(413, f"The body has more than {limits.bytes:,} bytes. Send less at once.")
                pieces.append(piece)
    except TimeoutError:
        raise Refused(408, f"The body did not arrive within {limits.seconds:g} s.") from None
    return b"".join(pieces)


async def _form(request: Request, body: bytes, limits: Limits) -> Asked:
    """Files of a form: one table, or any number of pictures."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    try:
        form = await MultiPartParser(request.headers, stream(), max_files=limits.rows, max_fields=10).parse()
    except (MultiPartException, KeyError, ValueError, AssertionError) as error:
        raise Refused(400, f"The form cannot be read: {shown(str(error))}.") from None
    try:
        files = [(value.filename or key, await value.read()) for key, value in form.multi_items()
                 if isinstance(value, UploadFile)]  # fmt: skip
    finally:
        await form.close()
    if not files:
        raise Refused(422, "The form holds no file. Send one as 'file'.", field="file")
    ending = TABLE_ENDINGS.get(PurePosixPath(files[0][0]).suffix.lower())
    if ending is None:
        return Asked("pictures", files)
    if len(files) > 1:
        raise Refused(422, "The form holds several files. Send one table at a time.", field="file")
    return Asked(ending, files)
