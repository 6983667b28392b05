"""Where in a picture a model looks: each patch of a grid is taken from another picture, and the answer gets worse.

Swapping keeps patches that look like patches, where a grey square would be something the model has never seen.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fathom.data import Examples, Task

MOST_PATCHES = 10  # along a side
LEAST_PATCHES = 3
LEAST_PIXELS = 2  # along a side of a patch
AVERAGE_SIDE = 64  # pixels of the average picture that is kept


def patches(
    predict: Callable[[Examples], np.ndarray],
    examples: Examples,
    targets: np.ndarray,
    predictions: np.ndarray,
    task: Task,
    name: str,
    noise: np.random.Generator,
    seconds: float,
    seconds_each: float,
) -> dict[str, Any]:
    """{"grid": rows of numbers, "average": the mean picture as a PNG data URI}; {} where there is no time for a grid,
    or no room for one.

    A number is how much the true class's probability falls (or the absolute error grows) when that patch comes from
    another picture, on average over the rows. The grid is as fine as `seconds` allow, a prediction of all rows taking
    `seconds_each`.
    """
    pixels = examples.inputs[name]
    assert isinstance(pixels, np.ndarray)
    if max(pixels.shape[1:3]) < LEAST_PATCHES * LEAST_PIXELS:
        return {}
    rows, sides = len(pixels), _sides(pixels.shape[1], pixels.shape[2], seconds / max(seconds_each, 1e-9))
    if sides is None:
        # A coarse grid on fewer rows, or none.
        rows = int(rows * seconds / (LEAST_PATCHES**2 * seconds_each))
        sides = (LEAST_PATCHES, LEAST_PATCHES)
        if rows < min(50, len(pixels)):
            return {}
    some = examples.take(np.arange(rows))
    before = _badness(predictions[:rows], targets[:rows], task)
    grid = np.zeros(sides)
    deadline = time.monotonic() + 1.5 * seconds
    for (down, across), changed in _swapped(pixels[:rows], sides, noise):
        after = _badness(predict(replace(some, inputs={**some.inputs, name: changed})), targets[:rows], task)
        grid[down, across] = (after - before).mean()
        if time.monotonic() > deadline:
            return {}
    return {"grid": grid.round(6).tolist(), "average": _png(pixels.mean(axis=0))}


def _sides(height: int, width: int, affordable: float) -> tuple[int, int] | None:
    """Patches down and across: nearly square, not too narrow, and no more than can be afforded."""
    for most in range(MOST_PATCHES, LEAST_PATCHES - 1, -1):
        patch = max(height, width) / most
        sides = (max(1, round(height / patch)), max(1, round(width / patch)))
        if patch >= LEAST_PIXELS and sides[0] * sides[1] <= affordable:
            return sides
    return None


def _swapped(pixels: np.ndarray, sides: tuple[int, int], noise: np.random.Generator) -> Any:
    """Each place of the grid with the pictures [N, H, W, C] in which that patch comes from another picture."""
    lines = np.linspace(0, pixels.shape[1], sides[0] + 1).round().astype(int)
    columns = np.linspace(0, pixels.shape[2], sides[1] + 1).round().astype(int)
    for down in range(sides[0]):
        for across in range(sides[1]):
            inside = (slice(None), slice(*lines[down : down + 2]), slice(*columns[across : across + 2]))
            changed = pixels.copy()
            changed[inside] = pixels[noise.permutation(len(pixels))][inside]
            yield (down, across), changed


def _badness(predictions: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:
    """How wrong each row [N] is. Probabilities, not right or wrong: one patch seldom changes the answer."""
    if task.kind == "classify":
        return 1.0 - predictions[np.arange(len(targets)), targets]
    return np.abs(predictions - targets)


def _png(average: np.ndarray) -> str:
    """The average picture [H, W, C], at most 64 pixels wide, as text that JSON can hold."""
    from PIL import Image

    whole = average.round().astype(np.uint8)
    image = Image.fromarray(whole[:, :, 0] if whole.shape[2] == 1 else whole[:, :, :3])
    image.thumbnail((AVERAGE_SIDE, AVERAGE_SIDE))
    sink = io.BytesIO()
    image.save(sink, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
