"""The way in: who may ask, how many at once, and what is counted of it.

What a reader would get wrong: a request that is shed or has no token is answered before its body is read. The token is
compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from fathom.ship.serving.gauges import Gauges
from fathom.ship.serving.limits import Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
OPEN = ("/health",)  # asked by what watches servers, and by nobody's token
LOOPBACK = (b"localhost", b"127.0.0.1", b"[::1]")
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Gate:
    """An ASGI application around another. `is_local`: only requests that name this machine as their host."""

    def __init__(self, app: App, limits: Limits, gauges: Gauges, *, token: str | None, is_local: bool) -> None:
        self.app, self.limits, self.gauges, self.is_local = app, limits, gauges, is_local
        self.token = None if token is None else _digest(token.encode())
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def told(message: Scope) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        asks = scope["path"] == "/predict"
        self._count(asks)
        try:
            await (self._refusal(scope) or self.app)(scope, receive, told)
        finally:
            self._count(-asks)
            self.gauges.answered(scope["path"], status, time.perf_counter() - begun)

    def _count(self, more: int) -> None:
        self.inside += more
        self.gauges.inside.set(self.inside)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that is not let in."""
        headers = dict(scope["headers"])
        if self.is_local and _host(headers.get(b"host", b"")) not in LOOPBACK:
            # A page in a browser may lead its own name to this machine; it cannot change what the request is sent as.
            return _refused(400, "This server answers at localhost only. Start it with --host to be asked by name.")
        if scope["path"] in OPEN:
            return None
        if self.token is not None and not self._may(headers.get(b"authorization", b"")):
            return _refused(401, "A token is needed: Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"})
        if scope["path"] == "/predict" and self.inside > self.limits.waiting:
            self.gauges.shed.inc()
            return _refused(503, f"{self.limits.waiting} requests are inside already. Try again.", {"Retry-After": "1"})
        return None

    def _may(self, given: bytes) -> bool:
        kind, _, token = given.partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), self.token or b"")


def _digest(token: bytes) -> bytes:
    # Of one length, so that not even the token's can be measured.
    return hashlib.sha256(token).digest()


def _host(given: bytes) -> bytes:
    """The name in a Host header, without its port."""
    return given[: given.index(b"]") + 1] if given.startswith(b"[") and b"]" in given else given.partition(b":")[0]


def _refused(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)
