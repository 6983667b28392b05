"""An exported model answers as its run does, in a process that has neither Fathom nor PyTorch, or is not written."""

from __future__ import annotations

import ast
import csv
import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fathom
from fathom.baselines import boosted_trees, linear, tfidf
from fathom.candidates import Ensemble
from fathom.cli import main
from fathom.data import Examples, Ragged, Task
from fathom.network import Network, build
from fathom.ship import export as exporting
from fathom.ship.carry import carry
from fathom.ship.standalone import predictor as standalone_predictor
from fathom.ship.standalone import tfidf as standalone_tfidf

from .conftest import people, write_csv

pytest.importorskip("onnxscript", reason="ONNX is an extra: pip install 'fathom-dl[export]'")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from fathom.ship import classical_graph, network_graph, variants  # noqa: E402

pytestmark = pytest.mark.usefixtures("patient")

QUICK = {
    "train__epochs": 1, "train__precision": "fp32", "split__folds": 2, "threads": 1, "explain_rows": 0, "quiet": True,
}  # fmt: skip
MLP = {"model": "mlp", "model__width": 32, "model__depth": 2, "model__members": 2, "model__bins": 4}
ASK = """
import sys
for name in ("fathom", "torch", "sklearn", "lightgbm", "scipy", "pandas", "pyarrow", "safetensors"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
"""


def alone(folder: Path, code: str, *words: str) -> str:
    """What some code prints beside an export, where the libraries that it must not need cannot be imported."""
    command = [sys.executable, "-I", "-c", ASK + code, str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(folder: Path, *words: str) -> list[dict[str, str]]:
    """The answers of `python predictor.py`."""
    printed = alone(folder, "import predictor; predictor.main(sys.argv[2:])", *words)
    return list(csv.DictReader(printed.splitlines()))


def goods(rows: int = 120) -> list[dict[str, str]]:
    """People with dates, and prices with a comma as the decimal mark and blanks between thousands."""
    found = []
    for i, row in enumerate(people(rows)):
        price = f"{1000 + 7 * i + 0.5:,.1f}".replace(",", " ").replace(".", ",")
        found.append(row | {"day": f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}", "price": price})
    return found


def write_semicolons(path: Path, rows: list[dict[str, str]]) -> Path:
    names = list(rows[0])
    path.write_text("\n".join([";".join(names), *(";".join(row[name] for name in names) for row in rows)]) + "\n")
    return path


def write_jsonl(path: Path, row: dict[str, Any]) -> Path:
    path.write_text(json.dumps(row) + "\n")
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> fathom.Run:
    folder = tmp_path_factory.mktemp("table")
    data = write_semicolons(folder / "goods.csv", goods())
    return fathom.fit(data, target="rich", drop=["wealth"], out=folder / "run", **QUICK, **MLP)


@pytest.fixture(scope="module")
def network(table: fathom.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table's network, exported."""
    return table.export(tmp_path_factory.mktemp("network") / "mlp", model="mlp", quiet=True)


def check_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "check.json").read_text())
    return found


def test_a_network_answers_rows_of_a_file_as_its_run_does(table: fathom.Run, network: Path, tmp_path: Path) -> None:
    data = write_semicolons(tmp_path / "new.csv", [row | {"job": "diver", "age": "n/a"} for row in goods(7)])
    found, expected = command(network, str(data)), table.predict(data, candidate="mlp")
    assert [row["prediction"] for row in found] == list(expected.values)
    given = [[float(row[f"probability of {name}"]) for name in ("no", "yes")] for row in found]
    np.testing.assert_allclose(given, expected.probabilities, atol=1e-5)
    assert not list(network.rglob("*torch*"))
    check = check_of(network)
    assert set(check["needs"]) == {"numpy", "onnxruntime", "python"}
    assert check["comparison"]["real_rows"] > 10 and check["comparison"]["edge_rows"] > 50
    assert check["comparison"]["worst_difference"] < 1e-4
    assert "row" not in check["comparison"]["worst_row"], "no row of the data is shipped"
    assert "python predictor.py rows.csv" in (network / "README.md").read_text()
    (example,) = re.findall(r"Predictor\(\)\.predict\((.*)\)", (network / "README.md").read_text())
    assert len(command(network, str(write_jsonl(tmp_path / "one.jsonl", ast.literal_eval(example))))) == 1


def test_the_class_answers_a_row_and_names_what_is_missing(table: fathom.Run, network: Path) -> None:
    row = {"age": 39, "hours": "40", "job": "pilot", "day": "2024-05-05", "price": "1 234,5"}
    code = "import json; from predictor import Predictor; p = Predictor(); row = json.loads(sys.argv[2])\n"
    printed = alone(network, code + "print(json.dumps(p.predict(row)))", json.dumps(row))
    (answer,) = json.loads(printed)
    expected = table.predict(row, candidate="mlp")
    assert answer["prediction"] == expected.values[0]
    np.testing.assert_allclose(list(answer["probabilities"].values()), expected.probabilities[0], atol=1e-5)
    del row["job"]
    code += "try: p.predict(row)\nexcept ValueError as error: print(error)"
    assert "Columns are missing: job" in alone(network, code, json.dumps(row))


def test_the_command_says_which_file_is_not_there(network: Path, tmp_path: Path) -> None:
    data = write_semicolons(tmp_path / "new.csv", goods(3))
    for words, told in (
        ([str(tmp_path / "nwe.csv")], "There is no .*nwe.csv"),
        ([str(data), "--to", str(tmp_path / "nowhere" / "out.csv")], "No such file or directory: .*nowhere"),
    ):
        command = [sys.executable, str(network / "predictor.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert re.fullmatch(rf".*{told}.*\n", done.stderr)


@pytest.mark.parametrize("name", ["linear", "boosted_trees"])
def test_classical_models_of_all_folds(table: fathom.Run, tmp_path: Path, name: str) -> None:
    folder = table.export(tmp_path / "out", model=name, quiet=True)
    data = write_semicolons(tmp_path / "new.csv", goods(5))
    found, expected = command(folder, str(data)), table.predict(data, candidate=name)
    np.testing.assert_allclose([float(r["probability of yes"]) for r in found], expected.probabilities[:, 1], atol=1e-7)


def test_an_ensemble_keeps_its_weights(table: fathom.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fathom.load(table.path).model
    members = [model.candidate(name) for name in ("constant", "linear", "boosted_trees")]
    model._loaded["ensemble"] = Ensemble(members, [0.2, 0.5, 0.3])  # type: ignore[arg-type]
    for part in ("test", "validation"):
        model.metrics[part]["ensemble"] = model.metrics[part]["linear"]
    found = exporting.export(model, tmp_path / "out", candidate="ensemble")
    assert found.check["comparison"]["worst_difference"] < 1e-6
    assert (tmp_path / "out" / "model-boosted_trees.onnx").is_file()
    assert len(command(found.path, str(write_semicolons(tmp_path / "new.csv", goods(3))))) == 3


def test_an_answer_that_differs_is_refused_with_the_row(
    table: fathom.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classical_graph, "CUT", 1.0)
    with pytest.raises(fathom.UserError, match=r"(?s)differs from the run by .*Worst of .*\"age\".*The run answers"):
        table.export(tmp_path / "exports" / "out", model="linear", quiet=True)
    assert list((tmp_path / "exports").iterdir()) == [], "nothing is left behind"


def test_numbers_come_with_their_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "wealth.csv", people(150), without=("rich",))
    run = fathom.fit(data, target="wealth", out=tmp_path / "run", **QUICK | {"model": "none"})
    rows = [{"age": 30, "hours": None, "job": "cook"}, {"age": "", "hours": "61", "job": 3}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("linear", "boosted_trees", "constant"):
        folder = run.export(tmp_path / name, model=name, quiet=True)
        found = command(folder, str(tmp_path / "rows.jsonl"))
        expected = run.predict(rows, candidate=name)
        for column, values in (("prediction", expected.values), ("low", expected.low), ("high", expected.high)):
            np.testing.assert_allclose([float(row[column]) for row in found], values, rtol=1e-6)
    assert main(["export", str(run.path), "--model", "constant", "--out", str(tmp_path / "told")]) == 0
    said = capsys.readouterr().out
    assert "answered in a process without Fathom" in said and "needs numpy" in said
    data.unlink()
    with pytest.raises(fathom.UserError, match=r"cannot be opened any more.*--rows DATA"):
        run.export(tmp_path / "gone", model="linear")
    given = run.export(tmp_path / "given", model="linear", rows=tmp_path / "rows.jsonl", quiet=True)
    assert check_of(given)["comparison"]["real_rows"] == 2
    assert check_of(given)["needs"].keys() == {"numpy", "onnxruntime", "python"}
    assert check_of(tmp_path / "constant")["needs"].keys() == {"numpy", "python"}, "there is no graph"


def test_a_program_of_torch_export(table: fathom.Run, tmp_path: Path) -> None:
    folder = table.export(tmp_path / "out", format="torch", model="mlp", quiet=True)
    assert (folder / "model.pt2").is_file()
    assert check_of(folder)["needs"]["torch"]
    with pytest.raises(fathom.UserError, match="'linear' is no network, and --format torch is for networks"):
        table.export(tmp_path / "other", format="torch", model="linear")


@pytest.mark.parametrize("kind", ["fp16", "bf16", "int8"])
def test_smaller_weights_say_what_they_cost(table: fathom.Run, network: Path, tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(network, tmp_path / "out"))
    models = [{"name": "mlp", "file": "model.onnx", "reads": "inputs"}]
    rows, said = table.model.table(goods(60))[0], []
    given = (folder, table.model, models, rows, False, kind)
    found = variants.make_variant(*given, 1.0, lambda label, text: said.append(text))
    assert found["size_ratio"] > 1.05
    assert 0 <= found["loss_share"] < 0.2 and found["speed_ratio"] > 0
    assert "60 given rows" in said[0] and "times as fast" in said[0]
    assert len(command(folder, str(write_semicolons(tmp_path / "new.csv", goods(3))))) == 3
    kinds = {tensor.data_type for tensor in onnx.load(folder / "model.onnx").graph.initializer}
    called = {"fp16": "FLOAT16", "bf16": "BFLOAT16", "int8": "INT8"}[kind]
    assert getattr(onnx.TensorProto, called) in kinds


def test_weights_that_cost_too_much_are_refused(table: fathom.Run, network: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(network, tmp_path / "out"))
    models = [{"name": "mlp", "file": "model.onnx", "reads": "inputs"}]
    with pytest.raises(fathom.UserError, match=r"not written: fp16 weights: accuracy .* is allowed.*--most-loss"):
        variants.make_variant(folder, table.model, models, table.model.table(goods(60))[0], False, "fp16", -1.0, print)
    with pytest.raises(fathom.UserError, match="is for networks, and linear is none"):
        variants.make_variant(
            folder, table.model, [{"name": "linear", "file": "model.onnx", "reads": "features"}],
            table.model.table(goods(60))[0], False, "int8", None, print,
        )  # fmt: skip


def photos(root: Path, rows: int = 40) -> Path:
    random = np.random.default_rng(0)
    for i in range(rows):
        path = root / ("day" if i % 2 else "night") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 90, (12, 10, 3)) + (120 if i % 2 else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def test_pictures_out_of_an_archive(tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", photos(tmp_path / "photos").parent, "photos")
    options = {"model": "resnet", "model__width": 4, "model__depth": 8, "split__folds": 1, "train__views": 1}
    run = fathom.fit(archive, out=tmp_path / "run", **QUICK | options)
    picture = tmp_path / "photos" / "night" / "2.png"
    for name in ("resnet", "linear"):
        folder = run.export(tmp_path / name, model=name, quiet=True)
        assert check_of(folder)["needs"].keys() == {"numpy", "onnxruntime", "pillow", "python"}
        found, expected = command(folder, str(picture)), run.predict(picture, candidate=name)
        np.testing.assert_allclose(float(found[0]["probability of day"]), expected.probabilities[0, 0], atol=1e-5)
    code = "import numpy, json; from PIL import Image; from predictor import Predictor; p = Predictor()\n"
    code += "image = Image.open(sys.argv[2]); given = [image, numpy.asarray(image), open(sys.argv[2], 'rb').read()]\n"
    answers = json.loads(alone(folder, code + "print(json.dumps(p.predict(given)))", str(picture)))
    for answer in answers:
        assert answer["prediction"] == found[0]["prediction"] == expected.values[0] == "night"
        assert answer["probabilities"]["day"] == pytest.approx(float(found[0]["probability of day"]), abs=1e-6)


def test_texts(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = []
    for i in range(60):
        mood = ["wonderful", "great"] if i % 2 else ["awful", "poor"]
        words = f"The film was {random.choice(mood)} and so was number {i}!"
        rows.append({"review": words, "label": "good" if i % 2 else "bad"})
    options = {"model": "transformer", "model__width": 16, "model__depth": 1, "split__folds": 1}
    run = fathom.fit(write_csv(tmp_path / "reviews.csv", rows), out=tmp_path / "run", **QUICK | options)
    given = ["A wonderful film!", "", "poor " * 3000]
    for name in ("tfidf", "transformer"):
        folder = run.export(tmp_path / name, model=name, quiet=True)
        expected = run.predict(given, candidate=name).probabilities
        found = [[float(row[f"probability of {c}"]) for c in ("bad", "good")] for row in command(folder, *given)]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "tokenizers" in check_of(folder)["needs"]


@pytest.mark.parametrize("longest", [6, 65])
def test_recurrent_networks_read_whole_texts_and_long_ones_are_refused(longest: int) -> None:
    about = {"t": {"form": "tokens", "vocabulary": 20, "length": longest}}
    tokens = Ragged(np.array([1, 2, 3, 1, 4], np.int32), np.array([0, 3, 5]))
    given = Examples({"t": tokens}, about, {}, 2)
    torch.manual_seed(0)
    model = build("lstm", about, 2, {"width": 8, "depth": 1})
    network = Network(model, "classify", {"classes": ["a", "b"]}, device=torch.device("cpu"))
    if longest > network_graph.MOST_UNROLLED:
        with pytest.raises(fathom.UserError, match=r"'lstm' cannot be exported: PyTorch's exporter does not follow it"):
            network_graph.traced([network], given, "lstm")
        return
    program, is_whole = network_graph.traced([network], given, "lstm")
    assert is_whole
    padded = standalone_predictor._tensors(given, whole=True)["tokens_0"]
    assert padded.shape == (2, 6)
    found = program.module()(torch.from_numpy(padded)).detach().numpy()
    np.testing.assert_allclose(found, network.predict(given), atol=1e-6)


def test_what_cannot_be_exported_is_refused(table: fathom.Run, network: Path, tmp_path: Path) -> None:
    book = types.SimpleNamespace(task=Task("language", "text"), folder=types.SimpleNamespace(path="runs/book-1"))
    with pytest.raises(fathom.UserError, match=r"fitted to language, which cannot be exported.*tell classes apart"):
        exporting.export(book)  # type: ignore[arg-type]
    with pytest.raises(fathom.UserError, match="Did you mean 'onnx'"):
        table.export(tmp_path / "out", format="onxn")
    with pytest.raises(fathom.UserError, match="exists already"):
        table.export(network)
    with pytest.raises(fathom.UserError, match=r"weights=int8 is for --format onnx"):
        table.export(tmp_path / "out", format="torch", weights="int8")
    for weights, most_loss in (("fp32", 0.01), ("fp16", -1.0), ("fp16", float("nan"))):
        with pytest.raises(fathom.UserError, match="the share of the metric that smaller weights may cost"):
            table.export(tmp_path / "out", weights=weights, most_loss=most_loss)
    assert not (tmp_path / "out").exists()


def examples(rows: int, *, missing: bool = True) -> Examples:
    """Numbers with missing values and categories, one of them with many codes."""
    random = np.random.default_rng(rows)
    numbers = random.normal(size=(rows, 3)).astype(np.float32)
    numbers[random.random(rows) < 0.2 * missing, 0] = np.nan
    categories = np.stack([random.integers(0, 40, rows), random.integers(0, 3, rows)], axis=1).astype(np.int32)
    about: dict[str, Any] = {
        "numbers": {"form": "numbers", "names": list("abc"), "mean": [0.0] * 3, "std": [1.0] * 3},
        "categories": {"form": "categories", "names": list("de"), "sizes": [41, 4]},
    }
    return Examples({"numbers": numbers, "categories": categories}, about, {}, rows)


def answers(members: Any, task: Task, given: Examples) -> np.ndarray:
    graph = classical_graph.build(members, task, 3, 2)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    feeds = {"numbers": given.inputs["numbers"], "categories": given.inputs["categories"].astype(np.int64)}
    found: np.ndarray = session.run(None, feeds)[0]
    return found


TASKS = [Task("classify", "y", ("a", "b")), Task("classify", "y", ("a", "b", "c")), Task("regress", "y")]


@pytest.mark.parametrize("task", TASKS, ids=["two", "three", "number"])
@pytest.mark.parametrize("missing", [False, True], ids=["whole", "missing"])
def test_graphs_of_classical_models_are_what_they_draw(task: Task, missing: bool) -> None:
    given, new = examples(600, missing=missing), examples(300)
    numbers, categories = np.nan_to_num(given.inputs["numbers"]), given.inputs["categories"]
    score = numbers[:, 0] + 2 * numbers[:, 1] ** 2 + np.isin(categories[:, 0], [1, 5, 7, 30]) * 2
    targets = np.exp(score / 4) if task.kind == "regress" else np.digitize(score, [1.5, 3][: len(task.classes) - 1])
    rows = np.arange(600)
    new.inputs["categories"][:9, 0] = 40  # a code that no training row has
    halves = (rows[:300], rows[300:])
    trees = [boosted_trees.fit(given, targets, train, rows[:0], task, trees=12, log_target=task.kind == "regress")
             for train in halves]  # fmt: skip
    lines = [linear.fit(given, targets, train, rows[:0], task, penalty=1.0, bends=6, iterations=25) for train in halves]
    for members in (trees, lines):
        expected = np.mean([member.predict(new) for member in members], axis=0)
        np.testing.assert_allclose(answers(members, task, new), expected, atol=1e-6 * np.abs(expected).max())
        assert np.abs(expected - expected[0]).max() > 0.1, "answers that are all alike could not tell"


def test_trees_that_split_nothing_are_one_answer() -> None:
    given, task = examples(40), Task("classify", "y", ("a", "b"))
    targets = (np.arange(40) % 4 == 0).astype(np.int64)
    fitted = boosted_trees.fit(given, targets, np.arange(40), np.arange(0), task, trees=2, rows_in_leaf=30)
    np.testing.assert_allclose(answers([fitted], task, given), fitted.predict(given), atol=1e-12)


def test_tfidf_without_scikit_learn_cuts_and_weighs_alike(tmp_path: Path) -> None:
    odd = ["", "a", "ab ab  ab", "It's  GREAT!!\n\tx", "ﬁne Straße İstanbul é", "12 %", "word " * 50, "..."]
    texts = np.array(odd * 6 + ["good fun", "bad end"] * 9, object)
    tokens = Ragged(np.zeros(0, np.int32), np.zeros(len(texts) + 1, np.int64))
    beside = examples(len(texts))
    about = beside.about | {"t": {"form": "tokens", "vocabulary": 9, "length": 9}}
    given = Examples(beside.inputs | {"t": tokens}, about, {"t": texts}, len(texts))
    rows = np.arange(len(texts))
    for task, targets in ((Task("classify", "y", ("a", "b", "c")), rows % 2), (Task("regress", "y"), rows * 1.0)):
        fitted = tfidf.fit(given, targets, rows, rows[:0], task, C=1.0, characters=True, steps=50)
        kept = {"members": [exporting._tfidf(tmp_path, "model", 0, fitted)]}
        (tmp_path / "model.json").write_text(json.dumps(kept))
        found = standalone_tfidf.load(tmp_path / "model.json")(given)
        np.testing.assert_allclose(found, fitted.predict(given), rtol=1e-9, atol=1e-9)


def test_only_what_is_needed_is_carried() -> None:
    files = carry([("fathom.fields.number", "encode")], root="reading")
    assert set(files) == {"fields/number.py", "fields/parts/numerals.py", "fields/parts/values.py"}
    text = files["fields/number.py"]
    assert "def encode" in text and "def read" in text and "def sniff" not in text and "def fit" not in text
    assert "from reading.fields.parts import numerals" in text and "codes" not in text
    assert not [name for name, text in files.items() if "fathom." in text]
