"""The constant predictor: the class shares, or the mean, of the training rows. What every other model must beat.

It looks at no input at all; a class without a training row still gets a little probability. Of a language it knows how
often each token comes, and not what stands before it. Pictures and captions it puts into one order for all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fathom.baselines.parts.kept import reading
from fathom.baselines.parts.matching import SameOrder, both_sides
from fathom.data import Examples, Ragged, Task

RANK = 0  # the simplest there is
USE = "what every model must beat"
SOURCE = "class shares and means; one added row spread evenly over the classes, one more of each token"


def claims(about: dict[str, dict], task: Task) -> str | None:
    """Fits any input of a task that has classes or numbers to share out, one stream of tokens, and pairs."""
    if task.kind == "language":
        return "tokens" if len(_streams(about)) == 1 else None
    if task.kind == "pair":
        return both_sides(about, task)
    return "anything" if task.kind in ("classify", "regress") else None


def _streams(about: dict[str, dict]) -> list[str]:
    return [name for name, facts in about.items() if facts["form"] == "stream"]


def fit(
    examples: Examples,
    targets: np.ndarray,
    train: np.ndarray,
    validate: np.ndarray,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
) -> Fitted | SameOrder:
    """Learned from the training rows alone. Neither the seed nor the time limit changes anything."""
    if task.kind == "pair":
        return SameOrder()
    if task.kind == "language":
        (name,) = _streams(examples.about)
        logs = _token_shares(examples.inputs[name], train, examples.about[name]["vocabulary"])
        return Fitted(logs.tolist(), "as often as in the training rows", name)
    known = targets[train]
    if task.kind == "regress":
        return Fitted(float(np.mean(known)), "the mean of the training rows")
    counts = np.bincount(known, minlength=task.num_outputs) + 1 / task.num_outputs
    return Fitted((counts / counts.sum()).tolist(), "the class shares of the training rows")


def _token_shares(stream: np.ndarray | Ragged, train: np.ndarray, vocabulary: int) -> np.ndarray:
    """Log-probability of each token, one more of each than there are: [vocabulary]."""
    assert isinstance(stream, Ragged)
    counts = np.bincount(stream.take(train).values, minlength=vocabulary) + 1
    return np.log(counts / counts.sum())


class Fitted:
    """A number or a list of class probabilities, given for every row, or log-probabilities of a stream's tokens."""

    def __init__(self, value: float | list[float], what: str, stream: str | None = None) -> None:
        self.value, self.what, self.stream = value, what, stream
        self.settings: dict[str, Any] = {}

    def predict(self, examples: Examples) -> np.ndarray:
        """Probabilities float64 [N, C], or numbers float64 [N]: of a language the log-probabilities of the rows."""
        value = np.asarray(self.value, np.float64)
        if self.stream is None:
            return np.repeat(value[None], len(examples), axis=0)
        tokens = examples.inputs[self.stream]
        assert isinstance(tokens, Ragged)
        rows = np.repeat(np.arange(len(examples)), np.diff(tokens.starts))
        return np.bincount(rows, weights=value[tokens.values], minlength=len(examples))

    def describe(self) -> str:
        if isinstance(self.value, float):
            return f"always {self.value:,.6g}, {self.what}"
        if self.stream is not None:
            return f"each of {len(self.value):,} tokens {self.what}"
        return f"always class {int(np.argmax(self.value))}, with {self.what}"

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = {"value": self.value, "what": self.what, "stream": self.stream}
        (folder / "constant.json").write_text(json.dumps(kept, ensure_ascii=False) + "\n", encoding="utf-8")


def load(folder: Path) -> Fitted | SameOrder:
    """The predictor kept in a folder. Raises UserError where its file is missing or damaged."""
    with reading("The constant", folder):
        kept = json.loads((folder / "constant.json").read_text(encoding="utf-8"))
        if "order" in kept:
            return SameOrder()
        return Fitted(kept["value"], kept["what"], kept.get("stream"))
