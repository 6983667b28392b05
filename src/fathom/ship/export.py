"""Write a model of a run as a folder that needs neither PyTorch nor Fathom, and prove first that it answers alike.

What a reader would get wrong: the graph holds what a network or a classical model computes; how a cell, a picture or a
text becomes numbers is the run's own code, cut down to what is needed (`carry`), beside a small predictor. Nothing is
left behind where the proof fails.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathom import __version__
from fathom.baselines import boosted_trees, constant, linear, tfidf
from fathom.candidates import Candidate, Ensemble, seconds_per_row
from fathom.data import Examples, Table
from fathom.errors import UserError
from fathom.network import Network
from fathom.rooms import nearest
from fathom.ship.carry import carry
from fathom.ship.command import FORMATS, WEIGHTS
from fathom.ship.predict import Model
from fathom.ship.proof import Proof, prove, refuse_difference
from fathom.ship.readme import readme
from fathom.ship.real_rows import edge_rows, some_rows, table_of_run
from fathom.ship.standalone import predictor as standalone
from fathom.ship.variants import Opened, make_variant

READING = "reading"  # the folder of what turns rows into numbers
TEMPLATE = "fathom.ship.standalone.predictor"
CLASSICAL = (linear.Fitted, boosted_trees.Fitted)
TRACED_ROWS = 8
Say = Callable[[str, str], None]


class Exported(NamedTuple):
    """Where an export was written, and what check.json says of it."""

    path: Path
    check: dict[str, Any]


def export(
    model: Model,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    candidate: str | None = None,
    weights: str = "fp32",
    most_loss: float | None = None,
    rows: Any = None,
    say: Say = lambda label, text: None,
) -> Exported:
    """Write the advised model, or another `candidate`, into the new folder `out`.

    `weights` other than "fp32" ("fp16", "bf16", "int8") are for networks in ONNX and refused beyond `most_loss`, a
    share of the run's metric. `rows` are data to compare on, where the run's own is gone. Raises UserError for what
    cannot be exported, and with the worst row where an answer differs.
    """
    _refuse_unfit(model, format, weights, most_loss)
    name = candidate or model.metrics["advised"]
    path = Path(out) if out is not None else Path("exports") / f"{model.folder.name}-{format}"
    if path.exists():
        raise UserError(f"{path} exists already. Choose another folder with --out, or remove it first.")
    chosen = model.candidate(name)
    assert isinstance(chosen, Candidate | Ensemble), "whatever a run keeps is one of these"
    table, is_test = table_of_run(model, rows)
    with _beside(path) as folder, tempfile.TemporaryDirectory() as scratch:
        real = some_rows(model, table, Path(scratch))
        edges = list(edge_rows(model.spec["fields"], real[0], Path(scratch) / "edges"))
        models = _write_models(folder, model, chosen, table, format)
        _write_reading(folder, model, name, models, format)
        proof = _proven(model, name, folder, real, edges, Path(scratch), format)
        say("Compared", _told(proof))
        check = _check(model, name, format, models, proof)
        if weights != "fp32":
            check["weights"] = make_variant(folder, model, models, table, is_test, weights, most_loss, say)
            told = prove(model, name, folder, real, edges, Path(scratch))
            check["weights"]["largest_difference"] = told.difference
        check["speed"] = _speed(model, chosen, folder, table, say)
        _write_told(folder, check, model)
        _move(folder, path)
    return Exported(path, check)


def _refuse_unfit(model: Model, format: str, weights: str, most_loss: float | None) -> None:
    if format not in FORMATS:
        raise UserError(f"There is no format '{format}'. {nearest(format, FORMATS)}")
    if weights not in WEIGHTS:
        raise UserError(f"There are no weights '{weights}'. {nearest(weights, WEIGHTS)}")
    if model.task.kind not in ("classify", "regress"):
        raise UserError(
            f"{model.folder.path} was fitted to {model.task.kind}, which cannot be exported: its answers are made in "
            "many steps. Runs that tell classes apart or predict numbers, from tables, pictures, texts or all of "
            "them, can be."
        )
    if format == "torch" and weights != "fp32":
        raise UserError(f"weights={weights} is for --format onnx. Leave it out.")
    if most_loss is not None and (weights == "fp32" or not most_loss >= 0):
        raise UserError(
            f"most_loss={most_loss:g} was not understood: it is the share of the metric that smaller weights may cost, "
            "such as --weights fp16 --most-loss 0.01."
        )
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if format == "onnx" and missing:
        raise UserError(f"To export, {', '.join(missing)} must be installed: pip install 'fathom-dl[export]'.")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder next to `path` to write into; gone where something fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise UserError(f"{path} cannot be made: {error.strerror}. Choose another folder with --out.") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, path: Path) -> None:
    folder.chmod(0o755)  # mkdtemp makes it its owner's only
    folder.rename(path)


def _write_models(
    folder: Path, model: Model, chosen: Candidate | Ensemble, table: Table, format: str
) -> list[dict[str, Any]]:
    """A file of each candidate, and what the predictor must know of it."""
    parts = list(zip(chosen.candidates, chosen.weights, strict=True)) if isinstance(chosen, Ensemble) else [(chosen, 1)]
    examples = model.examples(table.take(np.arange(min(TRACED_ROWS, len(table)))))
    found = []
    for part, weight in parts:
        stem = "model" if len(parts) == 1 else f"model-{part.name}"
        found.append({"name": part.name, "weight": weight} | _write_model(folder, stem, model, part, examples, format))
    return found


def _write_model(
    folder: Path, stem: str, model: Model, part: Candidate, examples: Examples, format: str
) -> dict[str, Any]:
    networks = [member for member in part.members if isinstance(member, Network)]
    if networks:
        return _write_network(folder, stem, part.name, networks, examples, format)
    if format == "torch":
        raise UserError(
            f"'{part.name}' is no network, and --format torch is for networks. Use --format onnx, or name a network "
            "of the run with --model NAME."
        )
    if isinstance(part.members[0], CLASSICAL):
        from fathom.ship.classical_graph import build

        shapes = {name: values.shape[1] for name, values in standalone._features(examples).items()}
        graph = build(list(part.members), model.task, shapes["numbers"], shapes["categories"])  # type: ignore[arg-type]
        (folder / f"{stem}.onnx").write_bytes(graph.SerializeToString())
        return {"file": f"{stem}.onnx", "reads": "features"}
    kept: dict[str, Any]
    if isinstance(part.members[0], tfidf.Fitted):
        kept = {"members": [_tfidf(folder, stem, n, one) for n, one in enumerate(part.members)]}  # type: ignore[arg-type]
        kind = "tfidf"
    else:
        assert isinstance(part.members[0], constant.Fitted), f"{part.name} has no way out yet"
        kept = {"value": np.mean([one.value for one in part.members], axis=0).tolist()}  # type: ignore[attr-defined]
        kind = "constant"
    (folder / f"{stem}.json").write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
    return {"file": f"{stem}.json", "kind": kind}


def _write_network(
    folder: Path, stem: str, name: str, networks: list[Network], examples: Examples, format: str
) -> dict[str, Any]:
    from fathom.ship import network_graph

    program, is_whole = network_graph.traced(networks, examples, name)
    file = folder / f"{stem}.{'pt2' if format == 'torch' else 'onnx'}"
    if format == "torch":
        network_graph.save(program, file)
    else:
        file.write_bytes(network_graph.as_onnx(program, examples, name))
    return {"file": file.name, "reads": "whole texts" if is_whole else "inputs"}


def _tfidf(folder: Path, stem: str, number: int, fitted: tfidf.Fitted) -> dict[str, Any]:
    """Vocabularies of one member as JSON; the numbers go into a file beside."""
    one = fitted.linear
    arrays = {"weights": one.weights, "bias": one.bias, "classes": one.classes} | fitted.bags.arrays()
    np.savez(folder / f"{stem}-{number}.npz", **arrays)  # type: ignore[arg-type]
    about = {"kind": one.kind, "num_outputs": one.num_outputs, "arrays": f"{stem}-{number}.npz"}
    return about | fitted.bags.to_json()


def _write_reading(folder: Path, model: Model, name: str, models: list[dict[str, Any]], format: str) -> None:
    """predictor.py, the code that turns rows into numbers, and what it must know."""
    spec = model.spec
    kinds = {field["kind"] for field in spec["fields"].values()}
    wanted = [(f"fathom.fields.{kind}", name) for kind in sorted(kinds) for name in ("encode", "describe")]
    wanted += [(f"fathom.ship.standalone.{one['kind']}", "load") for one in models if "kind" in one]
    if any(one.get("reads") == "features" for one in models):
        wanted.append(("fathom.baselines.parts.table_features", "features"))
    for place, text in carry([(TEMPLATE, "main"), *wanted], root=READING).items():
        path = folder / READING / place
        if place == "ship/standalone/predictor.py":
            path, text = folder / "predictor.py", text + _ENDING
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    options = dict(spec["options"])
    reading = {key: options[key] for key in ("delimiter", "header", "encoding") if key in options}
    about = {
        "version": standalone.VERSION,
        "fathom": __version__,
        "candidate": name,
        "format": format,
        "task": {key: value for key, value in spec["task"].items() if key != "why"},
        "models": models,
        "interval": model.metrics["validation"][name].get("conformal"),
        "reading": reading | {"order": spec["order"], "target": spec["task"]["target"]},
        "options": {"numbers": options.get("numbers", {})},
        "fields": spec["fields"],
    }
    (folder / "preprocessing.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")


_ENDING = """

if __name__ == "__main__":
    main()
"""


def _proven(
    model: Model, name: str, folder: Path, real: list[Any], edges: list[Any], scratch: Path, format: str
) -> Proof:
    proof = prove(model, name, folder, real, edges, scratch, allowed=("torch",) if format == "torch" else ())
    refuse_difference(proof)
    return proof


def _told(proof: Proof) -> str:
    return (
        f"{proof.rows} real rows and {proof.edges} at the edge answered in a process without Fathom: the largest "
        f"difference is {proof.difference:.2g} ({proof.worst['what']})"
    )


def _check(model: Model, name: str, format: str, models: Sequence[Mapping[str, Any]], proof: Proof) -> dict[str, Any]:
    """What check.json says."""
    kinds = {field["kind"] for field in model.spec["fields"].values()}
    endings = {Path(one["file"]).suffix for one in models}
    needed = ["numpy", *["onnxruntime"] * (".onnx" in endings), *["torch"] * (".pt2" in endings)]
    needed += ["pillow"] * ("image" in kinds) + ["tokenizers"] * ("text" in kinds)
    versions = {name: metadata.version(name) for name in needed if _is_installed(name)}
    return {
        "run": model.folder.name,
        "model": name,
        "format": format,
        "comparison": proof.to_json(),
        "needs": versions | {"python": platform.python_version()},
    }


def _is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _speed(model: Model, chosen: Candidate | Ensemble, folder: Path, table: Table, say: Say) -> dict[str, float]:
    """Seconds that a row takes in the run and in the export, encoded already, 256 at a time."""
    examples = model.examples(table.take(np.arange(min(256, len(table)))))
    run, here = seconds_per_row(chosen, examples), seconds_per_row(Opened(folder), examples)
    say("Speed", f"{1e6 * here:.3g} µs a row, in the run {1e6 * run:.3g}: {run / here:.2f} times as fast")
    return {"run_seconds_per_row": run, "export_seconds_per_row": here, "ratio": run / here}


def _write_told(folder: Path, check: Mapping[str, Any], model: Model) -> None:
    (folder / "check.json").write_text(json.dumps(check, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    files = sorted(path.name for path in folder.iterdir() if path.name.startswith("model"))
    (folder / "README.md").write_text(readme(check, model, files), encoding="utf-8")
    lines = [f"{name}=={version}" for name, version in check["needs"].items() if name != "python"]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
