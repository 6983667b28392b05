"""The command `fathom serve`: its options, and how it starts and stops.

What a reader would get wrong: a signal to stop closes the door first; what is inside is answered before the end.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
from importlib.util import find_spec

from fathom.errors import UserError

TOKEN = "FATHOM_TOKEN"  # of a variable of the environment
NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def add_options(serve: argparse.ArgumentParser) -> None:
    """The words of the command."""
    serve.add_argument("folder", metavar="RUN", help="a run folder")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen at (127.0.0.1: this machine)")
    serve.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes a free one (8000)")
    serve.add_argument("--token", metavar="TOKEN", help=f"that requests must carry; better put into {TOKEN}")
    serve.add_argument("--candidate", metavar="NAME", help="another model of the run than the advised one")
    serve.add_argument("--max-megabytes", type=float, default=8, metavar="N", help="of a request (8)")
    serve.add_argument("--max-rows", type=int, default=10_000, metavar="N", help="of a request (10000)")
    serve.add_argument("--max-megapixels", type=float, default=40, metavar="N", help="of all its pictures (40)")
    serve.add_argument("--max-waiting", type=int, default=64, metavar="N", help="requests at once (64)")


def run(given: argparse.Namespace, started: float) -> int:
    """Serve until told to stop; the exit code comes back."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"To serve, {', '.join(missing)} must be installed: pip install 'fathom-dl[serve]'.")
    token = _token(given.token)
    import uvicorn

    from fathom.console import Console
    from fathom.run import RunFolder
    from fathom.ship.predict import Model
    from fathom.ship.serving.app import make_app
    from fathom.ship.serving.desk import Desk
    from fathom.ship.serving.gauges import Gauges
    from fathom.ship.serving.limits import Limits

    limits = Limits(given.max_megabytes, given.max_rows, given.max_megapixels, given.max_waiting)
    _refuse_limits(limits.bytes, limits.rows, limits.pixels, limits.waiting)
    model = Model(RunFolder.open_finished(given.folder))
    bound = _bound(given.host, given.port)
    gauges, console = Gauges(), Console()
    desk = Desk(model, limits, candidate=given.candidate, seen=gauges.computed)
    console.stage("Serving", f"{given.folder}: {given.candidate or model.metrics['advised']}, {_task(model)}")
    desk.open()
    console.stage("Batching", _batching(desk.sizes, model.task.kind))
    app = make_app(desk, gauges, token=token, is_local=_is_local(given.host))
    if token is None and not _is_local(given.host):
        console.stage("Access", f"open to all who reach {given.host}: put a token into {TOKEN} to change that")
    bound.listen()  # whoever reads the next line may ask at once
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    console.stage("Listening", f"http://{shown}:{port}  (page: /docs, metrics: /metrics); Ctrl-C ends it")
    config = uvicorn.Config(app, log_level="warning", access_log=False, limit_concurrency=4 * limits.waiting + 64)
    # Uvicorn sends the signal on when it has stopped; by then there is nothing left to interrupt.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)
    uvicorn.Server(config).run(sockets=[bound])
    desk.close()
    console.stage("Stopped", "every request that was inside is answered")
    return 0


def _token(given: str | None) -> str | None:
    token = os.environ.get(TOKEN) if given is None else given
    if token is not None and not (token.strip() == token and token and token.isascii()):
        raise UserError(f"A token is ASCII, not empty, without blanks at its ends. Set {TOKEN} to such a one.")
    return token


def _refuse_limits(*values: int) -> None:
    if min(values) < 1:
        raise UserError("A limit of 0 or less lets nothing in. Pass --max-… with numbers above 0.")


def _bound(host: str, port: int) -> socket.socket:
    """A socket that is bound already, so that port 0 can be told and a taken one refused before the model is loaded."""
    if not 0 <= port <= 65_535:
        raise UserError(f"There is no port {port}. Pass --port with a number up to 65535, or 0 for a free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be listened at: {error.strerror}. Pass another --port or --host."
        ) from None
    return bound


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _task(model: object) -> str:
    task = model.task  # type: ignore[attr-defined]
    what = f"tells {len(task.classes)} classes apart by" if task.kind == "classify" else f"{task.kind}:"
    return f"{what} '{task.target}'"


def _batching(sizes: tuple[int, ...], kind: str) -> str:
    if sizes:
        return f"single rows go together, up to {sizes[-1]} at once: made rows got the very bits that they get alone"
    if kind not in ("classify", "regress"):
        return "each request by itself"
    return "each row by itself: answers in batches differ from those alone in their last bits"
