"""A served run answers what `fathom predict` answers, to the last bit, in any company, and survives what it is sent."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image

import fathom
from fathom.cli import main
from fathom.data import Examples
from fathom.errors import UserError
from fathom.network import Network

from . import test_pairs
from .conftest import people, write_csv

pytest.importorskip("fastapi", reason="serving is an extra: pip install 'fathom-dl[serve]'")
pytest.importorskip("httpx2")
from starlette.testclient import TestClient

from fathom.ship.serving import together
from fathom.ship.serving.app import make_app
from fathom.ship.serving.desk import Desk
from fathom.ship.serving.gauges import Gauges
from fathom.ship.serving.limits import Limits
from fathom.ship.serving.reading import Asked, Opened

pytestmark = pytest.mark.usefixtures("patient")
QUICK: dict[str, Any] = {
    "train__epochs": 1, "train__precision": "fp32", "split__folds": 2, "threads": 1, "explain_rows": 0, "quiet": True,
}  # fmt: skip
MLP = {"model": "mlp", "model__width": 32, "model__depth": 2, "model__members": 2, "model__bins": 4}
TABLE = ("linear", "boosted_trees", "mlp")
ROW = {"age": 39, "hours": 40, "job": "pilot", "since": "2011-03-04"}
LOCAL = "http://127.0.0.1"


def with_dates(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"since": f"20{10 + i % 9}-0{1 + i % 8}-1{i % 10}"} | row for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fathom.api.Run:
    """A table of numbers, a category and a date, with every kind of candidate."""
    folder = tmp_path_factory.mktemp("table")
    data = write_csv(folder / "people.csv", with_dates(people(160)), without=("wealth",))
    return fathom.fit(data, target="rich", out=folder / "people-1", **MLP, **QUICK)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> fathom.api.Run:
    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (random.integers(0, 120, (60, 8, 8)) + 120 * y[:, None, None]).astype(np.uint8)
    return fathom.fit({"x": x, "y": y}, out=tmp_path_factory.mktemp("p") / "run", model="none", **QUICK)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> fathom.api.Run:
    folder = tmp_path_factory.mktemp("t")
    words = ("good fine lovely", "bad poor awful")
    lines = [f"the {words[i % 2]} film number {i} was {words[i % 2]},{('no', 'yes')[i % 2]}" for i in range(60)]
    (folder / "reviews.csv").write_text("\n".join(["review,liked", *lines]) + "\n")
    asked = {"target": "liked", "model": "none", "treat_as": {"review": "text"}}
    return fathom.fit(folder / "reviews.csv", out=folder / "run", **asked, **QUICK)


class Served(TestClient):
    """A run behind its application, in this process."""

    def __init__(self, run: fathom.api.Run, candidate: str | None = None, **limits: Any) -> None:
        self.gauges = Gauges()
        token = limits.pop("token", None)
        self.desk = Desk(run.model, Limits(**limits), candidate=candidate, seen=self.gauges.computed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(together, "ROWS", 16)  # what goes together is tried in full where that is tested
            self.desk.open()
        app = make_app(self.desk, self.gauges, token=token)
        super().__init__(app, base_url=LOCAL, raise_server_exceptions=False)

    def rows(self, value: Any, **more: Any) -> list[dict[str, Any]]:
        answer = self.post("/predict", json=value, **more)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["predictions"]
        return found


@pytest.fixture(scope="module")
def served(run: fathom.api.Run) -> Iterator[Served]:
    client = Served(run, rows=50, megabytes=0.5)
    yield client
    client.desk.close()


def same(answered: list[dict[str, Any]], predicted: Any) -> None:
    """Every number to its last bit."""
    assert [one["prediction"] for one in answered] == predicted.values.tolist()
    if predicted.probabilities is not None:
        assert [list(one["probabilities"].values()) for one in answered] == predicted.probabilities.tolist()
        assert list(answered[0]["probabilities"]) == list(predicted.classes)
    if predicted.low is not None:
        assert [[one["low"], one["high"]] for one in answered] == [
            list(ends) for ends in zip(predicted.low.tolist(), predicted.high.tolist(), strict=True)
        ]


# What is answered


@pytest.mark.parametrize("candidate", TABLE)
def test_answers_are_those_of_predict_to_the_last_bit(run: fathom.api.Run, candidate: str, tmp_path: Path) -> None:
    new = with_dates(people(40, seed=5))
    path = write_csv(tmp_path / "new.csv", new, without=("rich", "wealth"))
    rows = [{**row, "age": float(row["age"]) if row["age"] else None, "hours": int(row["hours"])} for row in new]
    client = Served(run, candidate)
    same(client.rows(rows[0]), run.predict(rows[0], candidate=candidate))
    same(client.rows(rows), run.predict(rows, candidate=candidate))
    uploaded = client.post("/predict", files={"file": ("new.csv", path.read_bytes())})
    raw = client.post("/predict", content=path.read_bytes(), headers={"content-type": "text/csv"})
    for answer in (uploaded, raw):
        same(answer.json()["predictions"], run.predict(path, candidate=candidate))
    assert [one["row"] for one in uploaded.json()["predictions"]][:2] == ["new.csv:2", "new.csv:3"]
    client.desk.close()


def test_a_number_comes_with_its_interval(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "people.csv", people(120), without=("rich",))
    run = fathom.fit(data, target="wealth", out=tmp_path / "run", model="none", **QUICK)
    client = Served(run)
    row = {"age": 39, "hours": 40, "job": "pilot"}
    same(client.rows(row), run.predict(row))
    assert client.post("/predict", json=row).json()["level"] == run.predict(row).level
    client.desk.close()


def test_pictures_are_answered_as_files_are(pictures: fathom.api.Run, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (20, 30), np.uint8)).save(path)
    client = Served(pictures)
    wanted = pictures.predict([str(path) for path in paths])
    several = client.post("/predict", files=[("file", (path.name, path.read_bytes())) for path in paths])
    same(several.json()["predictions"], wanted)
    assert [one["row"] for one in several.json()["predictions"]] == [path.name for path in paths]
    one = client.post("/predict", content=paths[0].read_bytes(), headers={"content-type": "image/png"})
    same(one.json()["predictions"], pictures.predict(str(paths[0])))
    (column,) = pictures.model.spec["fields"]
    same(client.rows([{column: base64.b64encode(path.read_bytes()).decode()} for path in paths]), wanted)
    client.desk.close()


def test_texts_are_answered_alone_and_as_rows(reviews: fathom.api.Run) -> None:
    client = Served(reviews)
    texts = ["a good film", "an awful one, \x1b[31mreally\x1b[0m"]
    same(client.rows(texts[0]), reviews.predict(texts[0]))
    same(client.rows(texts), reviews.predict(texts))
    same(client.rows({"review": texts[1]}), reviews.predict({"review": texts[1]}))
    client.desk.close()


def test_a_run_of_a_language_scores_texts(tmp_path: Path) -> None:
    text = " ".join(f"the {('cat', 'dog', 'bird')[i % 3]} sat on mat {i % 7} and looked around." for i in range(300))
    (tmp_path / "book.txt").write_text(text)
    run = fathom.fit(tmp_path / "book.txt", task="language", model="none", out=tmp_path / "run", threads=1, quiet=True)
    client = Served(run)
    for asked in ("the cat sat on a mat.", ["the dog", "looked around."]):
        rows = [asked] if isinstance(asked, str) else asked
        same(client.rows(asked), run.predict([{"text": one} for one in rows]))
    client.desk.close()


def test_pictures_get_their_captions_and_what_compares_nothing_is_refused(tmp_path: Path) -> None:
    data = test_pairs.write(tmp_path / "data", 40)
    run = test_pairs.fit(data, tmp_path / "run", task="pair", model="none")
    path = data.parent / "pictures" / "0.png"
    client = Served(run, "canonical_correlation")
    wanted = run.predict(str(path), candidate="canonical_correlation")
    for answer in (
        client.post("/predict", files={"file": ("0.png", path.read_bytes())}),
        client.post("/predict", json={"photo": base64.b64encode(path.read_bytes()).decode()}),
    ):
        same(answer.json()["predictions"], wanted)
        assert [one["similarity"] for one in answer.json()["predictions"]] == wanted.similarity.tolist()
    client.desk.close()
    with pytest.raises(UserError, match="'constant' orders by lot and compares nothing"):
        Served(run, "constant")


def test_a_translation_is_served(tmp_path: Path) -> None:
    words = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier"}
    random = np.random.default_rng(0)
    lines = [random.choice(list(words), random.integers(1, 4)).tolist() for _ in range(120)]
    (tmp_path / "train.en").write_text("".join(" ".join(line) + "\n" for line in lines))
    (tmp_path / "train.de").write_text("".join(" ".join(words[word] for word in line) + "\n" for line in lines))
    asked = {"target": "de", "task": "translate", "model": "none", "threads": 1, "quiet": True, "budget": 1000}
    run = fathom.fit(tmp_path, out=tmp_path / "run", **asked)
    client = Served(run)
    assert client.rows("one")[0]["prediction"] == "eins"
    same(client.rows(["two three", "one"]), run.predict(["two three", "one"]))
    client.desk.close()


def test_a_table_with_pictures_is_asked_with_their_bytes(tmp_path: Path) -> None:
    for i in range(40):
        Image.fromarray(np.full((8, 8), 100 + 5 * (i % 2), np.uint8)).save(tmp_path / f"{i}.png")
    lines = [f"{i}.png,{i % 7},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["photo,size,kind", *lines]) + "\n")
    run = fathom.fit(tmp_path / "t.csv", target="kind", out=tmp_path / "run", model="none", **QUICK)
    client = Served(run)
    row = {"photo": base64.b64encode((tmp_path / "3.png").read_bytes()).decode(), "size": 3}
    wanted = run.predict({"photo": str(tmp_path / "3.png"), "size": 3})
    same(client.rows(row), wanted)
    same(client.rows([row, row]), run.predict([{"photo": str(tmp_path / "3.png"), "size": 3}] * 2))
    for bad in ("3.png", "data:image/png;base64,!!!", 3, base64.b64encode(b"words").decode()):
        answer = client.post("/predict", json=row | {"photo": bad})
        assert (answer.status_code, answer.json()["field"]) == (422, "photo")
    assert (
        client.post("/predict", content=b"photo,size\n3.png,3\n", headers={"content-type": "text/csv"}).status_code
        == 415
    )
    client.desk.close()


# Together


@pytest.mark.parametrize("candidate", TABLE)
def test_company_does_not_change_an_answer(run: fathom.api.Run, candidate: str) -> None:
    """Single rows that wait are computed at once; each gets the bits that `predict` gives it alone."""
    new = with_dates(people(45, seed=7))
    rows: list[dict[str, Any]] = [{name: row[name] for name in ROW} for row in new]
    rows[3] = {name: rows[3][name] for name in reversed(ROW)}  # the order of fields says nothing
    for row in rows[::2]:
        row["hours"] = int(row["hours"])  # the same number, given otherwise
    gauges = Gauges()
    desk = Desk(run.model, Limits(), candidate=candidate, seen=gauges.computed)
    waiting = [desk.ask(Asked("json", [("", json.dumps(row).encode())])) for row in rows]
    desk.open()  # all wait already
    found = [one.result() for one in waiting]
    desk.close()
    for row, one in zip(rows, found, strict=True):
        alone = run.predict(row, candidate=candidate)
        assert one.values.tolist() == alone.values.tolist() and str(one.places[0]) == str(alone.places[0])
        assert np.array_equal(one.probabilities, alone.probabilities)
    assert gauges.registry.get_sample_value("fathom_rows_together_count") == 1
    assert gauges.registry.get_sample_value("fathom_rows_together_sum") == len(rows)


class FewAreOther:
    """A candidate whose answers change with how many rows there are, where `changes(count)` says so."""

    def __init__(self, changes: Any) -> None:
        self.changes, self.sizes = changes, []

    def predict(self, examples: Examples) -> np.ndarray:
        self.sizes.append(len(examples))
        values = examples.inputs["numbers"][:, 0].astype(np.float64)
        return values + 1e-16 * self.changes(len(examples)) * (1 + np.arange(len(examples)))


def numbers(count: int) -> Examples:
    values = np.linspace(0.1, 1, count, dtype=np.float32)[:, None]
    return Examples({"numbers": values}, {"numbers": {"form": "numbers"}}, {}, count)


def test_only_sizes_that_change_no_bit_are_used() -> None:
    always, never = FewAreOther(lambda count: count > 1), FewAreOther(lambda count: 0)
    large = FewAreOther(lambda count: count in (2, 4))
    assert together.equal_sizes(always, numbers(128)) == ()
    assert together.equal_sizes(never, numbers(128)) == together.SIZES
    sizes = together.equal_sizes(large, numbers(128))
    assert sizes == (16, 64)
    for candidate, allowed, calls in ((always, (), [1] * 5), (large, sizes, [16])):
        candidate.sizes.clear()
        answered = together.predict(candidate, numbers(5), allowed)
        assert candidate.sizes == calls
        assert answered.tolist() == numbers(5).inputs["numbers"][:, 0].astype(np.float64).tolist()  # type: ignore[union-attr]
    large.sizes.clear()
    assert len(together.predict(large, numbers(150), sizes)) == 150 and large.sizes == [64, 64, 64]


def test_one_bad_request_is_no_harm_to_those_beside_it(run: fathom.api.Run) -> None:
    desk = Desk(run.model, Limits())
    bodies = [json.dumps(body).encode() for body in (ROW, ROW | {"age": "old"}, {"age": 1}, ROW)] + [b"{", b"[]"]
    gone = desk.ask(Asked("json", [("", bodies[0])]))
    waiting = [desk.ask(Asked("json", [("", body)])) for body in bodies]
    assert gone.cancel()
    desk.open()
    desk.close()
    failed = [one.exception() for one in waiting]
    assert [getattr(error, "status", None) for error in failed] == [None, 422, 422, None, 400, 422]
    assert np.array_equal(waiting[3].result().probabilities, run.predict(ROW).probabilities)


def test_what_only_encoding_finds_is_told_to_the_one_who_sent_it(
    run: fathom.api.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, examples = Desk(run.model, Limits()), run.model.examples
    desk.open()

    def picky(table: Any) -> Examples:
        if 13.0 in table.columns["age"].tolist():
            raise UserError("13 brings bad luck.")
        return examples(table)

    monkeypatch.setattr(run.model, "examples", picky)
    hold = threading.Event()
    monkeypatch.setattr(desk, "_opened", lambda jobs, opened=desk._opened: hold.wait() and opened(jobs))
    waiting = [desk.ask(Asked("json", [("", json.dumps(ROW | {"age": age}).encode())])) for age in (20, 13, 30, 13)]
    hold.set()
    desk.close()
    assert [str(one.exception()) for one in waiting] == ["None", "13 brings bad luck."] * 2
    monkeypatch.undo()
    assert np.array_equal(waiting[2].result().probabilities, run.predict(ROW | {"age": 30}).probabilities)


def test_rows_of_numbers_are_not_encoded_with_rows_of_texts() -> None:
    """A number is a number; in a column with texts it would be read as one of them, by the column's decimal mark."""

    def alike(*rows: dict[str, Any]) -> Any:
        return Opened(list(rows), None, ()).alike

    assert alike({"x": 1.5, "y": "a"}) == alike({"x": None, "y": "b"}) != alike({"x": "1,5", "y": "a"})
    assert alike({"x": 1, "y": "a"}) != alike({"x": 1}) and alike({"x": 1}, {"x": 2}) is None
    assert alike({"photo": b"bytes"}) is None


class Seen(torch.nn.Module):
    """A model that tells how many rows it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(inputs))
        return inputs.flatten(1).float().mean(dim=1, keepdim=True).repeat(1, 2)


@pytest.mark.parametrize(("form", "shape", "seen"), [
    ("numbers", (6,), 4), ("pixels", (32, 32, 3), 4), ("pixels", (64, 64, 3), 1)
])  # fmt: skip
def test_a_network_of_small_rows_is_never_shown_fewer_than_four(form: str, shape: tuple[int, ...], seen: int) -> None:
    """With one row kernels change, and with them the last bits. Four larger pictures would take four times as long."""
    model = Seen()
    network = Network(model, "classify", {"classes": ["a", "b"]}, device=torch.device("cpu"))
    values = np.random.default_rng(0).integers(0, 255, (5, *shape)).astype(np.uint8 if form == "pixels" else np.float32)
    examples = Examples({"x": values}, {"x": {"form": form}}, {}, 5)
    answered = [network.predict(examples.take(np.arange(count))) for count in (1, 3, 5)]
    assert model.rows == [seen, max(3, seen), 5]
    assert [len(one) for one in answered] == [1, 3, 5]
    assert np.array_equal(answered[0], answered[2][:1]) and np.array_equal(answered[1], answered[2][:3])


# What is refused

REFUSED: dict[str, tuple[Any, int, str | None]] = {
    "no JSON": (b"{", 400, None),
    "not UTF-8": (b'{"age": "\xff"}', 400, None),
    "NaN": (b'{"age": NaN}', 400, None),
    "too deep": (b"[" * 200_000, 400, None),
    "a number of thousands of digits": (b'{"age": ' + b"9" * 5_000 + b"}", 400, None),
    "empty": (b"", 400, None),
    "no rows": ([], 422, None),
    "a row that is none": ([ROW, 3], 422, None),
    "a field is missing": ({"age": 3, "job": "cook", "since": None}, 422, "hours"),
    "a word for a number": ({**ROW, "age": "old"}, 422, "age"),
    "true for a number": ({**ROW, "age": True}, 422, "age"),
    "endless": (json.dumps(ROW).replace("39", "1e999").encode(), 422, "age"),
    "too large for a float": ({**ROW, "hours": 10**60}, 422, "hours"),
    "an array for a number": ({**ROW, "hours": [1]}, 422, "hours"),
    "an object for a category": ({**ROW, "job": {"is": "pilot"}}, 422, "job"),
    "no date": ({**ROW, "since": "the day before"}, 422, "since"),
    "half a character": (json.dumps({**ROW, "job": "\ud800"}).encode(), 422, "job"),
    "a long number": ({**ROW, "age": " " * 2_000 + "3"}, 413, "age"),
    "a long category": ({**ROW, "job": "x" * 2_000}, 413, "job"),
    "too many rows": ([ROW] * 51, 413, None),
    "too many bytes": ({**ROW, "job": "x" * 600_000}, 413, None),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_with_its_field(served: Served, what: str) -> None:
    body, status, field = REFUSED[what]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = served.post("/predict", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
    assert answer.json()["error"] and len(answer.content) < 1_500
    assert field is None or field in answer.json()["error"]


def test_the_row_to_blame_is_named(served: Served) -> None:
    answer = served.post("/predict", json=[ROW, ROW, ROW | {"hours": "many"}])
    assert answer.json() == {
        "error": "'hours' is 'many'; expected a number, null, or a number as text.", "field": "hours", "row": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("text/csv", b"age,hours\n1,2\n", 422),
        ("text/csv", b"age,hours,job,since\n", 422),
        ("text/csv", b"\x1f\x8b\x08\x00", 415),
        ("text/csv", b"a\n" * 501, 413),
        ("text/csv", b"age,hours,job,since\n" + b"1,2,cook,2011-01-01\n" * 51, 413),
        ("text/csv", b"age,hours,job,since\n1,2,cook,2011-01-01\n1," + b"2" * 2_000 + b",cook,2011-01-01\n", 413),
        ("text/csv", b"," * 60_000, 422),
        ("text/csv", b"\x89PNG\r\n\x1a\n" + bytes(100), 422),
        ("application/x-ndjson", b"{}\n", 422),
        ("application/zip", b"PK", 415),
        ("application/x-www-form-urlencoded", b"age=3", 415),
        ("image/png", b"\x89PNG", 415),
        ("multipart/form-data", b"--x", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
            422,
        ),
    ],
)
def test_bodies_of_other_kinds_are_refused(served: Served, kind: str, content: bytes, status: int) -> None:
    answer = served.post("/predict", content=content, headers={"content-type": kind})
    assert answer.status_code == status and answer.json()["error"], answer.text
    assert "/tmp" not in answer.text


@pytest.mark.parametrize(
    ("content", "told"), [(b"," * 60_000 + b"\n", "more than 50,000 delimiters"), (b"a\n" * 501, "more than 50 rows")]
)
def test_tables_too_wide_or_long_are_refused_unread(
    served: Served, content: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.desk.model, "table", lambda *given, **more: pytest.fail("it was read"))
    assert told in served.post("/predict", files={"file": ("a.csv", content)}).json()["error"]


def test_an_unknown_field_is_not_read_and_told(served: Served) -> None:
    answer = served.post("/predict", json=ROW | {f"more {i}": 1 for i in range(9)} | {"agee": 3}).json()
    assert answer["notes"][0] == "'more 0' is no column of the run and was not read"
    assert len(answer["notes"]) == 6 and answer["predictions"] == served.rows(ROW)


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that says how large it is."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_pictures_that_would_fill_the_memory_are_refused_unopened(
    pictures: fathom.api.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Served(pictures, megapixels=1.0)
    assert client.post("/predict", files={"file": ("a.png", png())}).status_code == 200
    monkeypatch.setattr(Image.Image, "load", lambda *given: pytest.fail("it was decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *given: pytest.fail("it was decoded"))
    for sizes in ([(30_000, 30_000)], [(700, 700)] * 3):
        files = [("file", (f"{i}.png", bomb(*size))) for i, size in enumerate(sizes)]
        answer = client.post("/predict", files=files)
        assert answer.status_code == 413 and answer.json()["field"] == f"{len(sizes) - 1}.png", answer.text
    icon = io.BytesIO(b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x16\0\0\0\x16\0\0\0" + bomb(16, 16))
    assert client.post("/predict", files={"file": ("a.ico", icon)}).status_code == 422
    assert client.post("/predict", files={"file": ("a.png", b"no picture")}).status_code == 422
    client.desk.close()


def test_a_broken_picture_is_refused_by_name(pictures: fathom.api.Run) -> None:
    client = Served(pictures)
    answer = client.post("/predict", files=[("file", ("whole.png", png())), ("file", ("cut.png", png(200)[:500]))])
    assert answer.status_code == 422 and "cut.png" in answer.json()["error"]
    client.desk.close()


def png(side: int = 8) -> bytes:
    sink = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def test_a_text_is_never_a_file_of_this_machine(
    pictures: fathom.api.Run, reviews: fathom.api.Run, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (column,) = pictures.model.spec["fields"]
    client = Served(pictures)
    assert client.post("/predict", json={column: str(tmp_path / "a.png")}).status_code == 422
    table = f"{column}\n{tmp_path / 'a.png'}\n".encode()
    assert client.post("/predict", files={"file": ("a.csv", table)}).status_code == 415
    client.desk.close()
    secret = tmp_path / "secret.txt"
    secret.write_text("lovely good fine lovely good fine\n")
    client = Served(reviews)
    words = client.rows([str(secret).replace("/", " ").replace("secret", "secret")])[0]
    for kind, content in (
        ("text/csv", f"review\n{secret}\n"),
        ("application/jsonl", json.dumps({"review": str(secret)})),
    ):
        answer = client.post("/predict", content=content, headers={"content-type": kind}).json()
        assert answer["predictions"][0]["probabilities"] == client.rows([str(secret)])[0]["probabilities"]
        assert answer["predictions"][0]["probabilities"] != client.rows([secret.read_text()])[0]["probabilities"]
    assert words["prediction"] in ("yes", "no")
    client.desk.close()


def test_names_and_texts_are_inert_in_answers_and_metrics(served: Served) -> None:
    evil = '\x1b[2J<script>"\u202e\n# HELP x'
    answers = [
        served.post("/predict", json=ROW | {evil: 1}),
        served.post("/predict", json=ROW | {"age": evil}),
        served.post("/predict", files={"file": (evil, b"age\n1\n")}),
        served.post("/predict", files={"file": (f"{evil}.csv", b"age,hours,job,since\n1,2,cook,2011-01-01\n")}),
        served.post(f"/{quote(evil)}", json=ROW),
        served.get("/nothing/passwd"),
    ]
    for answer in answers:
        assert (
            answer.headers["content-type"] == "application/json"
            and answer.headers["x-content-type-options"] == "nosniff"
        )
        told = json.dumps(answer.json(), ensure_ascii=False)
        assert "\x1b" not in told and "\\u001b" not in told and "\u202e" not in told, told
    text = served.get("/metrics").text
    assert "<script" not in text and "passwd" not in text and 'path="other",status="404"' in text


# Who may ask, and how many


def test_a_token_is_asked_for_and_compared_in_constant_time(
    run: fathom.api.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Served(run, token="open sesame")
    compared: list[int] = []
    from fathom.ship.serving import gate

    compare = gate.hmac.compare_digest
    monkeypatch.setattr(gate.hmac, "compare_digest", lambda a, b: compared.append(len(a) - len(b)) or compare(a, b))
    for header in (
        {},
        {"authorization": "Bearer open"},
        {"authorization": "open sesame"},
        {"authorization": "Bearer "},
    ):
        for path in ("/predict", "/about", "/metrics", "/docs", "/openapi.json"):
            answer = client.request("POST" if path == "/predict" else "GET", path, headers=header)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", (path, header)
    assert compared and not any(compared), "digests of one length, whatever was sent"
    assert client.get("/health").json() == {"status": "ok"}
    same(client.rows(ROW, headers={"authorization": "Bearer open sesame"}), run.predict(ROW))
    client.desk.close()


def test_a_page_elsewhere_cannot_ask_in_its_own_name(served: Served) -> None:
    assert served.get("/about", headers={"host": "evil.example:8000"}).status_code == 400
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert served.get("/about", headers={"host": host}).status_code == 200


def test_a_crowd_is_shed_and_those_inside_are_answered(run: fathom.api.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Served(run, waiting=3)
    hold, inside = threading.Event(), threading.Event()
    told = client.desk.model.told

    def slow(*given: Any, **more: Any) -> Any:
        inside.set()
        hold.wait()
        return told(*given, **more)

    monkeypatch.setattr(client.desk.model, "told", slow)
    with client, ThreadPoolExecutor(8) as crowd:
        let_in = [crowd.submit(client.post, "/predict", json=ROW)]
        inside.wait()
        let_in += [crowd.submit(client.post, "/predict", json=ROW) for _ in range(2)]
        while client.gauges.registry.get_sample_value("fathom_requests_inside") < 3:  # type: ignore[operator]
            pass
        shed = client.post("/predict", json=ROW)
        assert shed.status_code == 503 and shed.headers["retry-after"] == "1" and shed.json()["error"]
        assert client.get("/health").status_code == 200
        hold.set()
        for one in let_in:
            same(one.result().json()["predictions"], run.predict(ROW))
        same(client.rows(ROW), run.predict(ROW))
    assert client.gauges.registry.get_sample_value("fathom_requests_shed_total") == 1
    client.desk.close()


def test_a_body_that_does_not_come_is_given_up(run: fathom.api.Run) -> None:
    client = Served(run, seconds=0.01)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "http_version": "1.1",
        "scheme": "http", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1),
    }  # fmt: skip
    asyncio.run(client.app(scope, never, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408
    client.desk.close()


def test_a_fault_of_ours_is_a_500_that_tells_nothing(
    run: fathom.api.Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    client = Served(run)
    monkeypatch.setattr(client.desk.model, "told", lambda *given, **more: 1 / 0)
    answer = client.post("/predict", json=ROW)
    assert answer.status_code == 500 and "division" not in answer.text
    assert "ZeroDivisionError" in capfd.readouterr().err
    monkeypatch.undo()
    same(client.rows(ROW), run.predict(ROW))
    client.desk.close()


# What it tells of itself


def test_the_page_names_columns_and_a_row_to_try(served: Served, run: fathom.api.Run) -> None:
    body = served.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    taken = body["application/json"]
    assert set(taken["schema"]["oneOf"][0]["properties"]) == set(ROW)
    same(served.rows(taken["example"]), run.predict(taken["example"]))
    assert "text/csv" in body and "multipart/form-data" in body and "image/*" not in body
    about = served.get("/about").json()
    assert about["target"] == "rich" and about["classes"] == ["no", "yes"] and set(about["columns"]) == set(ROW)
    assert served.get("/docs").status_code == 200
    assert served.get("/nowhere").json()["error"].startswith("Not Found")


def test_rows_and_statuses_are_counted(run: fathom.api.Run) -> None:
    client = Served(run)
    client.rows([ROW] * 3)
    client.rows(ROW)
    client.post("/predict", content=b"{")
    text = client.get("/metrics").text
    for line in ('fathom_requests_total{path="/predict",status="200"} 2.0', "fathom_rows_total 4.0",
                 'fathom_requests_total{path="/predict",status="400"} 1.0'):  # fmt: skip
        assert line in text, line
    client.desk.close()
    assert client.get("/health").status_code == 503


# The command

REFUSALS = {
    "--port 70000": "There is no port 70000",
    "--token ''": "A token is ASCII",
    "--max-rows 0": "A limit of 0 or less",
    "--candidate trees": "Did you mean",
    "--host 203.0.113.7": "cannot be listened at",
}


@pytest.mark.parametrize("words", REFUSALS)
def test_what_cannot_be_served_is_refused(run: fathom.api.Run, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [word.replace("''", "") for word in words.split()]
    assert main(["serve", str(run.path), *asked]) == 2
    assert REFUSALS[words] in capsys.readouterr().err


def test_a_taken_port_and_missing_libraries_are_told(
    run: fathom.api.Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(run.path), "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be listened at: Address already in use. Pass another --port" in capsys.readouterr().err
    monkeypatch.setattr("fathom.ship.serving.command.find_spec", lambda name: None)
    assert main(["serve", str(run.path)]) == 2
    assert "pip install 'fathom-dl[serve]'" in capsys.readouterr().err


def test_a_signal_to_stop_lets_what_is_inside_be_answered(run: fathom.api.Run) -> None:
    """A real process: half a request, the signal, the other half: it is answered, and the process ends with 0."""
    environment = os.environ | {"FATHOM_TOKEN": "sesame", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fathom", "serve", str(run.path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None and process.stderr is not None
        lines = []
        while not lines or not lines[-1].startswith("Listening"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        port = int(lines[-1].split("http://127.0.0.1:")[1].split()[0])
        body = json.dumps(ROW).encode()
        head = (
            f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer sesame\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        with (
            socket.create_connection(("127.0.0.1", port)) as door,
            socket.create_connection(("127.0.0.1", port)) as other,
        ):
            other.sendall(head + body)
            assert b"200 OK" in other.recv(1 << 16)
            door.sendall(head + body[:7])
            other.sendall(head.replace(b"POST /predict", b"GET /metrics").replace(f"{len(body)}".encode(), b"0"))
            while b"fathom_requests_inside 1.0" not in (got := other.recv(1 << 16)):
                assert got
                other.sendall(head.replace(b"POST /predict", b"GET /metrics").replace(f"{len(body)}".encode(), b"0"))
            process.send_signal(signal.SIGTERM)
            while other.recv(1 << 16):  # idle connections are closed
                pass
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
            door.sendall(body[7:])
            answer = b"".join(iter(lambda: door.recv(1 << 16), b""))
        told, error = process.communicate()
        assert process.returncode == 0 and "Stopped" in told, error
        assert b" 200 OK" in answer.split(b"\r\n")[0]
        same(json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"], run.predict(ROW))
        assert "sesame" not in told + "".join(lines)
    finally:
        process.kill()
