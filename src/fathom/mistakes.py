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
from fathom.run import RunFolder

NAME = "mistakes.json"
LONGEST_SIDE = 320  # pixels
LONGEST_TEXT = 2_000  # characters


def most_mistaken(predictions: np.ndarray, targets: np.ndarray, task: Task, count: int = 12) -> np.ndarray:
    """Row ids of the most mistaken, worst first: the wrong class given most surely, or the largest error."""
    if task.kind == "classify":
        given = predictions.argmax(axis=1)
        badness = np.where(given != targets, predictions[np.arange(len(given)), given], -1.0)
    else:
        badness = np.abs(predictions - targets)
        badness = np.where(badness > 0, badness, -1.0)
    worst = np.argsort(-badness, kind="stable")[:count]
    return worst[badness[worst] >= 0]


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

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
