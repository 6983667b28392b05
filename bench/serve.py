"""Drive `fathom serve` with thousands of requests from another process, a tenth malformed, and check every answer.

    fathom fit adult/ --target column_15 --out runs/adult
    python bench/serve.py runs/adult new-rows.csv --record bench/records/serve.jsonl

Single rows, arrays, uploaded tables and bad bodies come in a shuffled order over several connections. What must come
back is known before: what `run.predict` says of each row alone and of each table, and for some rows what the command
`fathom predict` writes, in processes of their own. Compared are whole float64 numbers, not roundings.

What a reader would get wrong: the plain server is what one writes by hand around an export (FastAPI, ONNX Runtime, one
row a request, no checks, no limits). It is asked the same rows over as many connections on the same machine.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import fathom

JSON = "application/json"
TOKEN = "sesame"
TOO_LARGE = b" " * 8_000_001
TOO_MANY = b"[" + b"{}," * 10_000 + b"{}]"
BY_COMMAND = 5  # rows that are predicted by the command itself, in a process each
LARGE_TABLE = 50  # rows of an uploaded table
PLAIN = """
import sys
from fastapi import FastAPI, Request
import uvicorn, socket
sys.path.insert(0, sys.argv[1])
from predictor import Predictor
model, app = Predictor(), FastAPI()

@app.post("/predict")
async def predict(request: Request):
    return model.predict(await request.json())

bound = socket.create_server(("127.0.0.1", 0))
print(f"Listening http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[bound])
"""


class Request:
    """What is sent, and what must come back: the status, and with 200 the predictions."""

    def __init__(self, kind: str, content: bytes, type_: str, status: int, wanted: Any) -> None:
        self.kind, self.content, self.type, self.status, self.wanted = kind, content, type_, status, wanted


def answers(found: Any) -> list[Any]:
    """Predictions as the server tells them, without the names of the rows."""
    rows = []
    for i, value in enumerate(found.values.tolist()):
        row = [value]
        if found.probabilities is not None:
            row.append(dict(zip(found.classes, found.probabilities[i].tolist(), strict=True)))
        if found.low is not None:
            row += [float(found.low[i]), float(found.high[i])]
        rows.append(row)
    return rows


def told(answer: dict[str, Any]) -> list[Any]:
    return [[value for name, value in row.items() if name != "row"] for row in answer["predictions"]]


def malformed(row: dict[str, Any], random_: random.Random) -> Request:
    """One of many ways to be wrong, with the status that it must get."""
    name = random_.choice(list(row))
    text = json.dumps(row)
    kinds: list[tuple[bytes, str, int]] = [
        (text[: random_.randrange(1, len(text))].encode(), JSON, 400),
        (b"", JSON, 400),
        (b"\xff\xfe" + text.encode(), JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (text.replace("{", '{"x": NaN, ', 1).encode(), JSON, 400),
        (b"[]", JSON, 422),
        (b"[1, 2]", JSON, 422),
        (json.dumps({key: value for key, value in row.items() if key != name}).encode(), JSON, 422),
        (json.dumps(row | {name: [1, 2]}).encode(), JSON, 422),
        (json.dumps(row | {name: {"$gt": ""}}).encode(), JSON, 422),
        (json.dumps(row | {name: "\ud800"}).encode(), JSON, 422),
        (text.encode(), "application/x-www-form-urlencoded", 415),
        (b"\x1f\x8b" + os.urandom(30), "text/csv", 415),
        (b"\x89PNG\r\n\x1a\n" + os.urandom(100), "image/png", 415),
        (TOO_MANY, JSON, 413),
        (TOO_LARGE, JSON, 413),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x", 400),
    ]
    content, type_, status = random_.choice(kinds)
    return Request("malformed", content, type_, status, None)


def table(run: Any, opened: Any, rows: Sequence[int]) -> bytes:
    """Some rows as the file that the run was fitted on was written: with a header or without."""
    cells = [["" if values[row] is None else f'"{values[row]}"' for values in opened.columns.values()] for row in rows]
    names = [list(opened.columns)] if run.model.spec["options"].get("header", True) else []
    return "".join(",".join(line) + "\n" for line in [*names, *cells]).encode()


def requests(run: Any, name: str, opened: Any, rows: list[dict[str, Any]], count: int, seed: int) -> list[Request]:
    """Nine in ten good: mostly single rows, some arrays and tables."""
    random_ = random.Random(seed)
    alone: dict[int, list[Any]] = {}
    found = []
    for _ in range(count):
        at, drawn = random_.randrange(len(rows)), random_.random()
        if drawn < 0.1:
            found.append(malformed(rows[at], random_))
        elif drawn < 0.9:
            if at not in alone:
                alone[at] = answers(run.predict(rows[at], candidate=name))
            found.append(Request("row", json.dumps(rows[at]).encode(), JSON, 200, alone[at]))
        elif drawn < 0.96:
            some = random_.choices(rows, k=random_.randrange(2, 21))
            found.append(
                Request("array", json.dumps(some).encode(), JSON, 200, answers(run.predict(some, candidate=name)))
            )
        else:
            content = table(run, opened, random_.choices(range(len(rows)), k=LARGE_TABLE))
            with tempfile.NamedTemporaryFile(suffix=".csv") as file:
                file.write(content)
                file.flush()
                wanted = answers(run.predict(file.name, candidate=name))
            found.append(Request("table", content, "text/csv", 200, wanted))
    return found


def by_command(run: Any, name: str, rows: list[dict[str, Any]]) -> int:
    """How many of some rows the command writes as `run.predict` says them, and as the server will be asked for."""
    equal = 0
    for row in rows[:BY_COMMAND]:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "fathom", "predict", str(run.path), json.dumps(row), "--candidate", name]
            subprocess.run([*command, "--to", f"{folder}/a.csv"], check=True, capture_output=True)
            with open(f"{folder}/a.csv", encoding="utf-8") as file:
                (wrote,) = csv.DictReader(file)
        ((value, *more),) = answers(run.predict(row, candidate=name))
        numbers = list(more[0].values()) if more and isinstance(more[0], dict) else more
        cells = [cell for name, cell in wrote.items() if name not in ("row", "prediction")]
        equal += str(wrote["prediction"]) == str(value) and [float(cell) for cell in cells] == numbers
    return equal


class Driver:
    """Several connections that take requests from one list, in threads of this process."""

    def __init__(self, port: int, listed: Sequence[Request], clients: int) -> None:
        self.port, self.listed, self.next = port, iter(listed), threading.Lock()
        self.seconds: list[float] = []
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        threads = [threading.Thread(target=self.drive) for _ in range(clients)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.elapsed = time.perf_counter() - begun

    def drive(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        while True:
            with self.next:
                request = next(self.listed, None)
            if request is None:
                return
            headers = {"Content-Type": request.type, "Authorization": f"Bearer {TOKEN}"}
            begun = time.perf_counter()
            try:
                connection.request("POST", "/predict", request.content, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                # A body that is refused before its end closes the connection under it; ask once more to hear why.
                connection.close()
                self.counts["closed"] += 1
                if request.status == 200:
                    self.wrong.append(f"{request.kind}: the connection was closed")
                continue
            seconds = time.perf_counter() - begun
            self.counts[f"{request.kind} {answer.status}"] += 1
            if request.kind == "row":
                self.seconds.append(seconds)
            if answer.status != request.status and not (request.status == 200 and answer.status == 503):
                self.wrong.append(f"{request.kind}: {answer.status} for {request.status}: {content[:200]!r}")
            elif request.wanted is not None and answer.status == 200 and told(json.loads(content)) != request.wanted:
                self.wrong.append(f"{request.kind}: {content[:200]!r}")

    def summary(self) -> dict[str, Any]:
        took = np.array(self.seconds) * 1e3
        return {
            "requests_per_second": round(sum(self.counts.values()) / self.elapsed, 1),
            "p50_ms": round(float(np.percentile(took, 50)), 2),
            "p99_ms": round(float(np.percentile(took, 99)), 2),
            "answers": dict(sorted(self.counts.items())),
            "wrong": len(self.wrong),
        }


@contextmanager
def server(*command: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    environment = os.environ | {"FATHOM_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = ""
        while "Listening" not in line:
            line = process.stdout.readline()
            assert line, "the server did not start"
            print(line, end="")
        yield int(line.split("127.0.0.1:")[1].split()[0])
    finally:
        process.terminate()
        process.wait()


def driven(port: int, listed: Sequence[Request], clients: int, what: str) -> dict[str, Any]:
    """One drive, told as it ends."""
    found = Driver(port, listed, clients)
    for text in found.wrong[:5]:
        print("WRONG", text)
    summary = {"clients": clients} | found.summary()
    print(what, json.dumps(summary), flush=True)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data", help="new rows, without the target")
    parser.add_argument("--candidate", help="another model of the run than the advised one")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rows", type=int, default=2_000, help="different rows that are asked about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", help="a .jsonl file to add the result to")
    given = parser.parse_args()
    run = fathom.load(given.run)
    name = given.candidate or run.advised
    opened = run.model.table(given.data)[0]
    names = list(run.model.spec["fields"])
    take = min(len(opened), given.rows)
    rows = [{name: _plain(opened.columns[name][i]) for name in names} for i in range(take)]
    listed = requests(run, name, opened, rows, given.requests, given.seed)
    single = [request for request in listed if request.kind == "row"][:3000]
    result: dict[str, Any] = {"run": run.path.name, "model": name, "command_equal": by_command(run, name, rows)}
    print(f"the command: {result['command_equal']} of {BY_COMMAND} equal", flush=True)
    with server("-m", "fathom", "serve", given.run, "--port", "0", "--candidate", name) as port:
        result["mixed"] = driven(port, listed, given.clients, "mixed")
        for clients in (1, given.clients):
            result[f"rows_{clients}"] = driven(port, single, clients, f"fathom serve, {clients}")
        result["crowd"] = driven(port, single, 150, "fathom serve, 150")
    with tempfile.TemporaryDirectory() as folder:
        exported = run.export(Path(folder) / "export", model=name, quiet=True)
        script = Path(folder) / "plain.py"
        script.write_text(PLAIN)
        bare = [Request("row", one.content, JSON, 200, None) for one in single]
        with server(str(script), str(exported)) as port:
            for clients in (1, given.clients):
                result[f"plain_{clients}"] = driven(port, bare, clients, f"plain, {clients}")
    libraries = ("torch", "numpy", "fastapi", "uvicorn", "httptools", "onnxruntime")
    result["conditions"] = {
        "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "machine": platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"), "date": time.strftime("%Y-%m-%d"), "seed": given.seed,
        "load": os.getloadavg(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }  # fmt: skip
    if given.record:
        with open(given.record, "a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
    sys.exit(1 if any(result[key]["wrong"] for key in ("mixed", "rows_1", "crowd")) else 0)


def _plain(value: Any) -> Any:
    """A cell as a program would send it: digits as a number."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() and str(int(value)) == value else value
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    main()
