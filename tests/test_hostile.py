"""Run folders made to do harm: each is refused with a message and exit code 2, and nothing in it runs.

A folder may come from anybody. What it holds is data: weights, settings and names, never code.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fathom
from fathom.cli import main

from .conftest import people, write_csv
from .hostile import TRACE, change, claiming, laughs, npz_of, pickled, pickled_arrays, reseal, safetensors_of, tensor

ROW = '{"age": 40, "hours": 30, "job": "cook"}'
TREES = "baseline/boosted_trees/0/trees.txt"
PREDICT, REPORT, RESUME = "predict", "report", "resume"
CANDIDATE = {"network": "mlp", "trees": "boosted_trees", "linear": "linear", "constant": "constant"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, patient: None) -> Path:
    """A finished run with every kind of file that a table leaves."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_csv(folder / "people.csv", people(90), without=("wealth",))
    options = {"train__epochs": 2, "split__folds": 1, "model": "mlp", "model__width": 8, "explain_rows": 0}
    baselines = {"constant": {}, "linear": {"bends": 0, "penalty": 1.0}, "boosted_trees": {"trees": 20}}
    return fathom.fit(
        data, target="rich", out=folder / "whole", quiet=True, threads=1, baselines=baselines, **options
    ).path


@pytest.fixture
def copy(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(TRACE, str(tmp_path / "trace"))
    return Path(shutil.copytree(whole, tmp_path / "run"))


def put(name: str, content: bytes | str) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return made


def set_to(name: str, key: str, value: object) -> Callable[[Path], None]:
    return lambda folder: change(folder / f"{name}.json", key, value)


def tree(old: str, new: str) -> Callable[[Path], None]:
    """Change the text of the trees by a pattern, and what it says of its own sizes with it."""

    def made(folder: Path) -> None:
        text = (folder / TREES).read_text()
        changed, count = re.subn(old, new, text, count=1, flags=re.MULTILINE)
        assert count, f"{old} is not in the text of the trees"
        begun = changed.index("tree_sizes=")
        first = changed.index("\n\nTree=0\n") + 2
        pieces = re.split(r"(?=^Tree=\d)", changed[first : changed.index("end of trees")], flags=re.MULTILINE)
        sizes = " ".join(str(len(piece)) for piece in pieces if piece)
        line_end = changed.index("\n", begun)
        kept = changed if "tree_sizes" in old else changed[:begun] + f"tree_sizes={sizes}" + changed[line_end:]
        (folder / TREES).write_text(kept)

    return made


def weights(content: bytes) -> Callable[[Path], None]:
    return put("model.safetensors", content)


def one_tensor(shape: list[int], ends: list[int], body: bytes = b"", kind: str = "F32") -> Callable[[Path], None]:
    return weights(safetensors_of(tensor(shape, ends, kind), body))


def arrays(content: bytes) -> Callable[[Path], None]:
    return put("baseline/linear/0/linear.npz", content)


def recipe(content: bytes | str) -> Callable[[Path], None]:
    return put("recipe.yaml", content)


def config(key: str, value: object) -> Callable[[Path], None]:
    return set_to("config", key, value)


def spec(key: str, value: object) -> Callable[[Path], None]:
    return set_to("spec", key, value)


def metrics(key: str, value: object) -> Callable[[Path], None]:
    return set_to("metrics", key, value)


def rewritten(change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    """spec.json with its text changed."""

    def made(folder: Path) -> None:
        changed = change((folder / "spec.json").read_text())
        put("spec.json", changed)(folder)

    return made


def offset(digits: str) -> Callable[[Path], None]:
    """A number of spec.json written otherwise."""
    return rewritten(lambda text: text.replace('"offset": 0.0', f'"offset": {digits}', 1))


def link(name: str, to: str) -> Callable[[Path], None]:
    """Put a link in the place of a file or a folder."""

    def made(folder: Path) -> None:
        target = folder / name
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        target.symlink_to(to)

    return made


def picture(content: bytes) -> Callable[[Path], None]:
    entry = {"place": "a", "truth": "no", "predicted": "yes", "sure": 0.5, "row": {}}
    return put("mistakes.json", json.dumps([entry | {"picture": base64.b64encode(content).decode()}]))


def unfinished(then: Callable[[Path], None]) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        (folder / "metrics.json").unlink()
        then(folder)

    return made


def drawn(width: int, height: int, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.new("L", (width, height)).save(sink, kind)
    return sink.getvalue()


def locked() -> bytes:
    content = bytearray(npz_of(claiming("(2,)"), body=bytes(16)))
    content[content.find(b"PK\x03\x04") + 6] |= 1
    content[content.find(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


# A name for each, how the folder is changed, and a piece of the message; under the command that is to refuse it, for
# predict with the candidate that reads the file.
Harm = Callable[[Path], None]
CASES: dict[str, dict[str, tuple[Harm, str]]] = {
    "predict network": {
        "pickle as weights": (weights(pickled()), "model.safetensors is damaged"),
        "pickle as config": (put("config.json", pickled()), "config.json is damaged"),
        "weights: header of exabytes": (weights(safetensors_of({}, length=1 << 62)), "damaged"),
        "weights: shape of terabytes": (one_tensor([10**12], [0, 4 * 10**12]), "damaged"),
        "weights: shape that overflows": (one_tensor([1 << 40, 1 << 40], [0, 8], bytes(8)), "damaged"),
        "weights: bytes before the file": (one_tensor([2], [-8, 0]), "damaged"),
        "weights: type of no numbers": (one_tensor([1], [0, 8], bytes(8), "OBJ"), "damaged"),
        "weights: header nested deeply": (weights(safetensors_of(b'{"a":' + b"[" * 9000)), "damaged"),
        "weights: of another network": (one_tensor([2], [0, 8], bytes(8)), "does not fit config.json"),
        "weights: none at all": (weights(safetensors_of({})), "it has no network 0"),
        "a network outside of its room": (config("name", "../../os"), "There is no '../../os' in models/"),
        "a network named by a module": (config("name", "os.system"), "There is no 'os.system' in models/"),
        "a network with a dunder name": (config("name", "__init__"), "There is no '__init__' in models/"),
        "a network that is a part": (config("name", "parts.checks"), "There is no 'parts.checks' in models/"),
        "a network that is no name": (config("name", ["os"]), "name is .*; expected a text"),
        "an objective outside": (config("objective", "../errors"), "There is no '../errors' in objectives/"),
        "an option that is none": (config("options.__class__", "os"), "has no option '__class__'"),
        "weights that are a link out": (link("model.safetensors", "../people.csv"), "leads out"),
        "JSON with Infinity": (config("about.numbers.mean.0", float("inf")), "about.numbers.mean.0 is inf"),
        "a network as wide as the world": (config("options.width", 10**12), "width"),
        "a network that fills the memory": (config("options.width", 999_999), "too large"),
        "a network without end": (config("options.depth", 10**9), "depth"),
        "a trillion networks": (config("members", 10**12), "it has no network 1"),
        "no network": (config("members", 0), "members is 0"),
        "a trillion answers": (config("outputs", 10**12), "outputs=1000000000000: expected at most"),
    },
    "predict linear": {
        "pickle as arrays": (arrays(pickled()), "linear models? in .* cannot be read"),
        "arrays of objects": (arrays(pickled_arrays()), "cannot be read"),
        "arrays: terabytes": (arrays(npz_of(claiming("(1000000000000,)"))), "cannot be read"),
        "arrays: more than counts": (arrays(npz_of(claiming(f"({10**30},)"))), "cannot be read"),
        "arrays: a header of code": (arrays(npz_of("__import__('os').getcwd()\n")), "cannot be read"),
        "arrays: locked": (arrays(locked()), "cannot be read"),
        "arrays: cut off": (arrays(npz_of(claiming("(9,)"))), "cannot be read"),
        "arrays: of another model": (arrays(npz_of(claiming("(1,)"), body=bytes(8))), "cannot be read|damaged"),
    },
    "predict trees": {
        "pickle as trees": (put(TREES, pickled(0)), "boosted trees in .* cannot be read"),
        "trees: a child that is no node": (tree(r"^left_child=\S+", "left_child=30000"), "left_child names no node"),
        "trees: a walk in circles": (tree(r"^right_child=\S+", "right_child=0"), "right_child names no node"),
        "trees: a leaf that is none": (tree(r"^left_child=\S+", "left_child=-30000"), "left_child names no node"),
        "trees: a column that is none": (
            tree(r"^split_feature=\S+", "split_feature=99999"),
            "split_feature names a column",
        ),
        "trees: fewer leaves than nodes": (tree(r"^num_leaves=\d+", "num_leaves=2"), "has .* values; expected"),
        "trees: billions of leaves": (tree(r"^num_leaves=\d+", "num_leaves=2000000000"), "num_leaves is 2000000000"),
        "trees: a leaf that is no number": (tree(r"^leaf_value=\S+", "leaf_value=nan"), "leaf_value is not finite"),
        "trees: sets of categories that are not there": (
            tree(r"^num_cat=0\n((?:.*\n){3})decision_type=\d+", r"num_cat=0\n\1decision_type=1"),
            "names none of its sets",
        ),
        "trees: leaves that are models": (tree(r"^is_linear=0", "is_linear=1"), "linear models"),
        "trees: a billion classes": (tree(r"^num_class=1$", "num_class=1000000000"), "num_class is"),
        "trees: no tree an iteration": (
            tree(r"^num_tree_per_iteration=1$", "num_tree_per_iteration=0"),
            "num_tree_per_iteration is",
        ),
        "trees: another objective": (
            tree(r"^objective=.*$", "objective=multiclass num_class:99999999"),
            "objective is",
        ),
        "trees: sizes beyond the text": (tree(r"^tree_sizes=\d+", "tree_sizes=999999999"), "does not begin"),
        "trees: more columns than data": (
            tree(r"^max_feature_idx=\d+", "max_feature_idx=9"),
            "feature_names has 3 values; expected 10",
        ),
    },
    "predict constant": {
        "pickle as a constant": (put("baseline/constant/0/constant.json", pickled()), "cannot be read"),
    },
    "predict": {
        "pickle as spec": (put("spec.json", pickled()), "spec.json is damaged"),
        "pickle as metrics": (put("metrics.json", pickled(0)), "metrics.json is damaged"),
        "pickle as format": (put("format.json", pickled()), "format.json is damaged"),
        "a candidate outside": (metrics("advised", "../../etc/passwd"), "advised is '../../etc/passwd'"),
        "a field outside": (spec("fields.age.kind", "subprocess"), "There is no 'subprocess' in fields/"),
        "a field with a dunder name": (
            spec("fields.age.kind", "__builtins__"),
            "There is no '__builtins__' in fields/",
        ),
        "a task that is none": (spec("task.kind", "shell"), "task.kind is 'shell'; expected classify"),
        "a baseline that is a link out": (link("baseline/constant/0", "/tmp"), "leads out"),
        "JSON with NaN": (spec("fields.age.mean", float("nan")), "fields.age.mean is nan; expected a finite number"),
        "JSON beyond what floats hold": (offset("1e999"), "is inf"),
        "JSON nested deeply": (put("spec.json", "[" * 100_000 + "]" * 100_000), "spec.json is damaged"),
        "JSON with endless digits": (offset("9" * 5000), "damaged"),
        "JSON cut off": (rewritten(lambda text: text[:500]), "spec.json is damaged"),
        "JSON in UTF-16": (rewritten(lambda text: text.encode("utf-16")), "damaged"),
        "nothing in a file": (put("metrics.json", ""), "metrics.json is damaged"),
        "a list for an object": (put("spec.json", "[]"), r"spec.json is damaged: it is \[\]; expected an object"),
        "an object for a list": (spec("task.classes", {"no": 0}), "task.classes is .*; expected a list"),
        "a number for a text": (spec("task.target", 7), "task.target is 7; expected a text"),
        "a key that is missing": (spec("fields.job.classes", ...), "spec.json is damaged"),
        "fields that are missing": (spec("fields", ...), "it has no 'fields'"),
        "one class fewer": (spec("task.classes", ["no"]), "answers of the shape"),
        "a format to come": (set_to("format", "format", 99), "reads up to 2"),
        "a format that is true": (set_to("format", "format", True), "format is True; expected a whole number"),
    },
    "report": {
        "pickle as recipe": (recipe(pickled(0)), "recipe.yaml.* is not valid YAML|recipe"),
        "pickle as a table": (put("predictions.parquet", pickled()), "predictions.parquet is damaged"),
        "pickle as rows": (put("left_out.csv", pickled()), "left_out.csv is damaged"),
        "pickle as mistakes": (put("mistakes.json", pickled()), "mistakes.json is damaged"),
        "a measure outside": (metrics("metric", "os"), "metric is 'os', of which test"),
        "a log that is a link out": (link("log.txt", "/etc/passwd"), "link that leads out of the run folder"),
        "YAML that calls": (
            recipe(f'!!python/object/apply:os.system ["echo > ${TRACE}"]'),
            "recipe.yaml:1 is not valid YAML",
        ),
        "YAML that names a class": (recipe("data: !!python/name:os.system"), "recipe.yaml:1 is not valid YAML"),
        "YAML that makes an object": (recipe("data: !!python/object/new:os.popen [ls]"), "not valid YAML"),
        "YAML that laughs": (recipe(laughs()), "its aliases stand for"),
        "YAML in itself": (recipe("options: &a\n  b: *a\n"), "itself a part of"),
        "YAML nested deeply": (recipe("data: " + "[" * 5000), "nested too deeply|not valid YAML"),
        "YAML with a date that is none": (recipe("data: 2020-13-45"), "not valid YAML: month"),
        "YAML with endless digits": (recipe(f"seed: {'9' * 5000}"), "not valid YAML"),
        "YAML that is no text": (recipe(b"data: \xff\xfe\xff"), "recipe .* cannot be read"),
        "YAML with a dunder key": (recipe("__class__: os"), "Unknown recipe key '__class__'"),
        "YAML of no run": (recipe("- a\n- b\n"), "holds no recipe"),
        "a picture that is a program": (
            picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            "mistakes.json is damaged",
        ),
        "a picture of another format": (picture(drawn(8, 8, "GIF")), "mistakes.json is damaged"),
        "a picture that fills the memory": (picture(drawn(20_000, 20)), "320 are the most"),
        "a picture that is none": (
            set_to("mistakes", "0.picture", "<svg onload=alert(1)>"),
            "mistakes.json is damaged",
        ),
        "a mistake with other keys": (set_to("mistakes", "0.__class__", "x"), "mistakes.json is damaged"),
        "classes that are not in the predictions": (metrics("confusion", [[1]]), "damaged"),
    },
    "resume": {
        "a folder that is a link out": (unfinished(link("last", "/tmp")), "leads out"),
    },
}


@pytest.mark.parametrize(
    ("command", "harm", "told"),
    [pytest.param(command, *case, id=name) for command, cases in CASES.items() for name, case in cases.items()],
)
def test_a_hostile_run_folder_is_refused(
    command: str, harm: Callable[[Path], None], told: str, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    harm(copy)
    reseal(copy)
    name, _, candidate = command.partition(" ")
    words = [name, str(copy), *([ROW] if name == PREDICT else [])]
    code = main([*words, *(["--candidate", CANDIDATE[candidate]] if candidate else [])])
    said = capfd.readouterr()
    assert code == 2, said.out
    assert said.err.startswith("fathom: ")
    assert re.search(told, said.err.replace("\n", " ")), said.err
    assert "Traceback" not in said.err
    assert not Path(os.environ[TRACE]).exists(), "what stands in a file was run"


STATES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle as a position": (lambda at: at.write_bytes(pickled()), "is damaged"),
    "pickle as tensors": (lambda at: next(at.parent.glob("*.safetensors")).write_bytes(pickled()), "is damaged"),
    "a step that is a path": (lambda at: change(at, "step", "../../../x"), "step is .*; expected a whole number"),
    "a checksum that is a path": (
        lambda at: change(at, "tensors.crc32", "../../../x"),
        "is damaged and cannot be read",
    ),
    "a position with other keys": (lambda at: change(at, "__dict__", {}), "last is damaged"),
    "a position of another step": (lambda at: change(at, "step", 99), "says that it stands at step 99"),
    "JSON nested deeply": (lambda at: at.write_text("[" * 100_000), "is damaged"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_hostile_state_of_a_training_is_passed_over(name: str, copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    harm, told = STATES[name]
    (copy / "metrics.json").unlink()
    harm(next((copy / "last").glob("fold-0-step-*.json")))
    reseal(copy)
    assert main(["resume", str(copy)]) == 0
    said = capfd.readouterr().out
    assert re.search(f"Damaged .*{told}", said), said
    assert "fold 1 from its beginning" in said
    assert not Path(os.environ[TRACE]).exists(), "what stands in a file was run"


def test_there_are_many_of_them_and_the_run_itself_is_whole(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of them is refused for what was changed, not for what the run is."""
    assert sum(map(len, CASES.values())) + len(STATES) >= 90
    for candidate in CANDIDATE.values():
        assert main(["predict", str(whole), ROW, "--candidate", candidate]) == 0
    assert main(["report", str(whole)]) == 0
    assert main(["resume", str(whole)]) == 0


def test_a_link_within_the_folder_is_followed(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "weights")
    (copy / "model.safetensors").symlink_to("weights")
    assert len(fathom.load(copy).predict(json.loads(ROW), candidate="mlp")) == 1


def test_hostile_runs_are_listed_as_not_readable(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "bad", "worse"):
        shutil.copytree(whole, tmp_path / name)
    change(tmp_path / "bad" / "metrics.json", "metric", "../os")
    change(tmp_path / "worse" / "metrics.json", "seconds.total", "\x1b[2J")
    for name in ("bad", "worse"):
        reseal(tmp_path / name)
    assert main(["runs", "--in", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if "not readable" in line] == ["bad", "worse"]
    assert "\x1b" not in shown


def test_a_bomb_of_zeros_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    content = npz_of(claiming("(25000000,)"), name="x.npy", body=bytes(200_000_000), packed=zipfile.ZIP_DEFLATED)
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(fathom.UserError, match="fill the memory"):
        fathom.fit(tmp_path / "x.npz", target=0)
    np.savez_compressed(tmp_path / "y.npz", x=np.random.default_rng(0).normal(size=(30, 2)), y=np.arange(30) % 2)
    with pytest.raises(fathom.UserError, match="no column 'nobody'"):
        fathom.fit(tmp_path / "y.npz", target="nobody")
