"""The rows a model was most mistaken about, kept in the run folder with what a person can look at: mistakes.json.

Pictures are kept small and as PNG, texts and table rows as they were read; the raw data may be gone when the page is
written again.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fathom.data import Examples, File, Table, Task
from fathom.rooms import find
from fathom.run import RunFolder

NAME = "mistakes.json"
LONGEST_SIDE = 320  # pixels
LONGEST_TEXT = 2_000  # characters


def most_mistaken(predictions: np.ndarray, targets: np.ndarray, task: Task, count: int = 12) -> np.ndarray:
    """Row ids of the most mistaken, worst first: the wrong class given most surely, or the largest error."""
    badness = _badness(predictions, targets, task)
    worst = np.argsort(-badness, kind="stable")[:count]
    return worst[badness[worst] >= 0]


def _badness(predictions: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:
    """How wrong each prediction is [N], -1 where it is right."""
    if task.kind == "classify":
        given = predictions.argmax(axis=1)
        return np.where(given != targets, predictions[np.arange(len(given)), given], -1.0)
    if task.kind == "language":
        return -predictions / np.maximum(targets[:, 0], 1)
    if task.kind == "pair":
        return np.where((predictions > 1).any(axis=1), np.log(predictions).mean(axis=1), -1.0)
    if task.kind == "translate":
        measure = find("measures", "chrf").measure
        return np.array([100 - measure(predictions[i : i + 1], targets[i : i + 1]) for i in range(len(targets))])
    errors = np.abs(predictions - targets)
    return np.where(errors > 0, errors, -1.0)


def answer(given: Any, truth: Any, task: Task) -> dict[str, Any]:
    """What was said of one row and what is true of it, as JSON. A language has no truth but the text itself: what is
    given is its cost in nats a token; of a pair the ranks of its caption and of its picture."""
    if task.kind == "classify":
        index = int(given.argmax())
        return {"truth": task.classes[truth], "predicted": task.classes[index], "sure": float(given[index])}
    if task.kind == "language":
        return {"truth": None, "predicted": float(-given / max(truth[0], 1)), "sure": None}
    if task.kind == "translate":
        return {"truth": str(truth), "predicted": str(given), "sure": None}
    if task.kind == "pair":
        return {"truth": str(truth), "predicted": f"{given[0]:.0f} and {given[1]:.0f}", "sure": None}
    return {"truth": float(truth), "predicted": float(given), "sure": None}


def record(table: Table, examples: Examples, row: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    """One row as JSON: its place, the answer given ("truth", "predicted", "sure") and its raw values."""
    found: dict[str, Any] = {"place": table.places[row], **answer, "row": {}}
    for name, values in table.columns.items():
        value = values[row]
        if examples.about.get(name, {}).get("form") == "pixels":
            found.setdefault("picture", _png(examples.inputs[name][row]))
        elif name in examples.words and "text" not in found:
            found["text"] = str(value or "")[:LONGEST_TEXT]
        else:
            found["row"][name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.generic | float | int):
        number = value.item() if isinstance(value, np.generic) else value
        return None if isinstance(number, float) and not math.isfinite(number) else _as_json(number)
    return str(value) if isinstance(value, File) else repr(value)


def _as_json(value: Any) -> Any:
    return value if isinstance(value, int | float | bool | str) else str(value)


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()


def read(folder: RunFolder) -> list[dict[str, Any]]:
    """The kept rows, pictures as uint8 arrays; none where the run kept none."""
    if not folder.has(NAME):
        return []
    found: list[dict[str, Any]] = folder.read_json(NAME)
    return [entry | {"picture": _pixels(entry["picture"])} if "picture" in entry else entry for entry in found]


def _pixels(png: str) -> np.ndarray:
    from PIL import Image

    # No other format: Pillow hands some of them to other programs.
    with Image.open(io.BytesIO(base64.b64decode(png)), formats=("PNG",)) as image:
        if max(image.size) > LONGEST_SIDE:
            raise ValueError(f"a picture of {image.size[0]} x {image.size[1]} pixels; {LONGEST_SIDE} are the most")
        return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))
