"""The application: four addresses around one desk.

    POST /predict   GET /about   GET /health   GET /metrics   (and /docs, the OpenAPI page)

What a reader would get wrong: a handler only reads bytes and waits; all work with the model is the desk's thread's.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fathom import __version__
from fathom.errors import UserError
from fathom.ship.serving import bodies, page
from fathom.ship.serving.answers import as_json
from fathom.ship.serving.desk import Desk
from fathom.ship.serving.gate import App, Gate
from fathom.ship.serving.gauges import Gauges
from fathom.ship.serving.limits import LONGEST_MESSAGE, Refused, shown

ERRORS = {
    400: "Not JSON, or an empty body",
    401: "No token, or a wrong one",
    408: "The body came too slowly",
    413: "Too many bytes, rows or pixels",
    415: "Not a kind that this run is asked about with",
    422: "A field is missing, or holds what it cannot: its name is in 'field'",
    503: "Too many requests are inside: try again after the seconds of Retry-After",
}
DESCRIPTION = "A run of Fathom. `/predict` answers exactly what `fathom predict` answers to the same data."


def make_app(desk: Desk, gauges: Gauges, *, token: str | None = None, is_local: bool = True) -> App:
    """The ASGI application that asks an open desk."""
    model, limits = desk.model, desk.limits
    app = FastAPI(title="fathom serve", version=__version__, description=DESCRIPTION, redoc_url=None)
    told = page.about(model, desk.name, limits, desk.sizes)
    described: dict[int | str, dict[str, Any]] = {status: {"description": text} for status, text in ERRORS.items()}

    @app.post("/predict", responses=described, openapi_extra={"requestBody": page.request_body(model)})
    async def predict(request: Request) -> Response:
        """Predictions for one row (an object), many rows (an array), a table or pictures."""
        found = await asyncio.wrap_future(desk.ask(await bodies.asked(request, limits)))
        return Response(as_json(found), media_type="application/json")

    @app.get("/about")
    async def about() -> Response:
        """The task, the columns, and the limits of this server."""
        return JSONResponse(told)

    @app.get("/health")
    async def health() -> Response:
        """Whether requests are answered."""
        return JSONResponse({"status": "ok"}) if desk.is_open else JSONResponse({"status": "stopped"}, 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(gauges.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(HTTPException)
    async def nothing(request: Request, error: HTTPException) -> Response:
        told = {"error": f"{error.detail}. Ask POST /predict; GET /about says what with."}
        return JSONResponse(told, error.status_code, error.headers)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return JSONResponse(error.to_json(), error.status)

    @app.exception_handler(UserError)
    async def unfit(request: Request, error: UserError) -> Response:
        return JSONResponse({"error": shown(str(error), LONGEST_MESSAGE)}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        traceback.print_exception(error)  # here, not to whoever asked
        return JSONResponse({"error": "The server failed on this request; its log says why."}, 500)

    return Gate(app, limits, gauges, token=token, is_local=is_local)
