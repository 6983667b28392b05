"""The README of an exported model: what it is, how to use it, what was compared, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fathom.ship.predict import Model

FILES = {".onnx": "the model, for any ONNX runtime", ".pt2": "the model, a program of torch.export",
         ".json": "the model", ".npz": "its numbers"}  # fmt: skip


def readme(check: Mapping[str, Any], model: Model, files: Sequence[str]) -> str:
    """Markdown. `files` are the names of the model's files."""
    task, fields = model.task, model.spec["fields"]
    what = f"one of {len(task.classes)} classes of '{task.target}'" if task.classes else f"the number '{task.target}'"
    columns = [f"{name} ({spec['kind']})" for name, spec in fields.items()]
    needs = [f"{name} {version}" for name, version in check["needs"].items()]
    lines = [
        f"# {check['run']}: {check['model']}",
        "",
        f"Predicts {what} from {', '.join(columns)}.",
        f"It needs {', '.join(needs)} (the versions that it was compared with) and nothing else.",
        "",
        "    pip install -r requirements.txt",
        f"    python predictor.py {_example_data(fields)}",
        "",
        "```python",
        "from predictor import Predictor  # with this folder on sys.path",
        "",
        f"Predictor().predict({_example_row(fields)})",
        "```",
        "",
        "| file | what it is |",
        "|---|---|",
        "| `predictor.py` | the command and the class, to be read |",
        "| `reading/` | how cells, pictures and texts become numbers: Fathom's own code, as much of it as is needed |",
        "| `preprocessing.json` | what was learned of each column |",
        *(f"| `{name}` | {FILES[name[name.rindex('.') :]]} |" for name in files),
        "| `check.json` | the comparison with the run |",
        "",
        *_compared(check),
    ]
    return "\n".join(lines) + "\n"


def _compared(check: Mapping[str, Any]) -> list[str]:
    found, speed = check["comparison"], check["speed"]
    lines = [
        f"Compared with the run on {found['real_rows']} real rows and {found['edge_rows']} rows with something odd "
        f"(missing values, unseen categories, pictures and texts of every sort): the largest difference is "
        f"{found['worst_difference']:.2g}, where {found['tolerance']:g} is allowed.",
        f"A row takes {1e6 * speed['export_seconds_per_row']:.3g} µs here and "
        f"{1e6 * speed['run_seconds_per_row']:.3g} µs in the run, 256 at a time, on the machine that exported it.",
    ]
    if "weights" in check:
        lines += ["", check["weights"]["told"]]
    return lines


def _example_data(fields: Mapping[str, Mapping[str, Any]]) -> str:
    kinds = [spec["kind"] for spec in fields.values()]
    return {("image",): "picture.jpg", ("text",): '"a text"'}.get(tuple(kinds), "rows.csv")


def _example_row(fields: Mapping[str, Mapping[str, Any]]) -> str:
    return repr({name: _example(spec) for name, spec in fields.items()})


def _example(spec: Mapping[str, Any]) -> Any:
    if spec["kind"] == "number":
        return spec["median"]
    if spec["kind"] == "category":
        return spec["classes"][0] if spec["classes"] else None
    return {"datetime": spec.get("start"), "image": "picture.jpg", "text": "a text"}[spec["kind"]]
