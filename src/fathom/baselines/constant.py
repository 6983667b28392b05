"""The constant predictor: the class shares, or the mean, of the training rows. What every other model must beat.

It looks at no input at all; a class without a training row still gets a little probability.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import Examples, Task
from fathom.errors import UserError

RANK = 0  # the simplest there is
USE = "what every model must beat"
SOURCE = "class shares and means; one added row spread evenly over the classes"


def claims(about: dict[str, dict], task: Task) -> str | None:
    """Fits any input and either task."""
    return "anything"


def fit(
    examples: Examples,
    targets: np.ndarray,
    train: np.ndarray,
    validate: np.ndarray,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
) -> Fitted:
    """Learned from the training rows alone. Neither the seed nor the time limit changes anything."""
    known = targets[train]
    if task.kind == "regress":
        return Fitted(float(np.mean(known)), "the mean of the training rows")
    counts = np.bincount(known, minlength=task.num_outputs) + 1 / task.num_outputs
    return Fitted((counts / counts.sum()).tolist(), "the class shares of the training rows")


class Fitted:
    """A number, or a list of class probabilities, that is given for every row."""

    def __init__(self, value: float | list[float], what: str) -> None:
        self.value, self.what = value, what
        self.settings: dict[str, Any] = {}

    def predict(self, examples: Examples) -> np.ndarray:
        """Probabilities float64 [N, C], or numbers float64 [N]."""
        return np.repeat(np.asarray(self.value, np.float64)[None], len(examples), axis=0)

    def describe(self) -> str:
        if isinstance(self.value, float):
            return f"always {self.value:,.6g}, {self.what}"
        return f"always class {int(np.argmax(self.value))}, with {self.what}"

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "constant.json").write_text(json.dumps({"value": self.value, "what": self.what}) + "\n")


def load(folder: Path) -> Fitted:
    """The predictor kept in a folder. Raises UserError where its file is missing or damaged."""
    path = folder / "constant.json"
    try:
        kept = json.loads(path.read_text())
        return Fitted(kept["value"], kept["what"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}): the run folder was changed or is not complete.") from error
