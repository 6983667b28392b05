"""TF-IDF and a linear model: the words (alone and in pairs) and the pieces of words of each text, weighed and added up.

Each text column has its own vocabularies, so that a word in the title is not the same word in the body. Numbers and
categories of the same table stand beside them; pictures do not take part. The strength `C` is chosen by log loss
(squared error for numbers) on the validation rows, not by accuracy, which hardly moves with it.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import load_file, save_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from fathom.baselines.parts.bags import UNITS, Bags
from fathom.baselines.parts.clock import Clock
from fathom.baselines.parts.kept import reading
from fathom.data import Examples, Task
from fathom.errors import UserError

RANK = 1  # one weight for each word
USE = "texts, alone or in a table"
SOURCE = (
    "Salton & Buckley 1988, Information Processing & Management 24(5); words and pairs: Wang & Manning 2012, P12-2018"
)
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
USUAL_STRENGTH = 3  # the search begins there: best on sentences, questions and news alike, to a few hundredths of loss
PROBE_ROWS = 200  # texts that are cut into units once, to foresee how long all of them take
SEARCH_ROWS = 10_000  # C is chosen on at most so many training rows; the last fit sees all
RANGES = {"C": (">", 0), "rows": (">=", 1), "features": (">=", 1), "steps": (">=", 1)}
MOST_STEPS = 200
FEWEST_STEPS = 5
MOST_WEIGHTS = 5_000_000  # the solver keeps some twenty copies: 0.8 GB


def claims(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    texts = [name for name, facts in about.items() if facts["form"] == "tokens"]
    if not texts or task.kind not in ("classify", "regress"):
        return None
    return "a text" if len(texts) == 1 else f"{len(texts)} texts"


def fit(
    examples: Examples,
    targets: np.ndarray,
    train: np.ndarray,
    validate: np.ndarray,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
    C: float | None = None,
    characters: bool | None = None,
    rows: int | None = None,
    features: int | None = None,
    steps: int | None = None,
) -> Fitted:
    """Learn from the `train` rows, choosing `C` on the `validate` rows.

    `C` is the inverse of the penalty on the weights; `characters` adds pieces of 2 to 5 letters; `rows` is how many
    training rows are used; `features` is the most that each vocabulary keeps; `steps` bounds the solver. What is None
    is chosen, within `seconds` (a soft limit), and comes back in `.settings`: these as options make the same again.
    Raises UserError where there is no text, not one word in it, or only one class.
    """
    clock = Clock(seconds)
    _refuse_nothing(examples, targets[train], task)
    features = features or _most_features(len(UNITS) * len(examples.words), task.num_outputs)
    if seconds is not None and (rows is None or characters is None):
        rows, characters = _affordable(examples, train, len(validate), rows, characters, features, seconds)
    kept = np.sort(_thinned(train, targets, rows or len(train), task, seed))
    bags = Bags.fit(examples, kept, ["words"] if characters is False else list(UNITS), features)
    x, y = bags.matrix(examples, kept), targets[kept]
    if steps is None:
        steps = _affordable_steps(x, y, task, clock.left)
    if C is None and clock.left <= 0:
        C = STRENGTHS[USUAL_STRENGTH]
    elif C is None:
        few = _thinned(np.arange(len(y)), y, SEARCH_ROWS, task, seed)
        C = _choose(x[few], y[few], bags.matrix(examples, validate), targets[validate], task, steps, clock.left)
    settings = {"C": C, "characters": characters is not False, "rows": len(kept), "features": features, "steps": steps}
    return Fitted(bags, _solve(x, y, task, C, steps), settings)


def _most_features(num_bags: int, num_outputs: int) -> int:
    return max(1000, min(100_000, MOST_WEIGHTS // (num_bags * num_outputs)))


def _refuse_nothing(examples: Examples, targets: np.ndarray, task: Task) -> None:
    if not examples.words:
        raise UserError("TF-IDF needs a column of text and found none. Leave it out, or pass --treat-as COLUMN=text.")
    if task.kind == "classify" and len(np.unique(targets)) < 2:
        raise UserError(f"All {len(targets):,} training rows are of one class of '{task.target}': two are needed.")


def _affordable(
    examples: Examples,
    train: np.ndarray,
    num_validate: int,
    rows: int | None,
    characters: bool | None,
    features: int,
    seconds: float,
) -> tuple[int, bool]:
    """How many rows, and whether with characters, half of the time allows; foreseen from a few texts."""
    probe = train[np.linspace(0, len(train) - 1, min(PROBE_ROWS, len(train))).astype(int)]
    cost = {}
    for unit in UNITS:
        begun = time.perf_counter()
        Bags.fit(examples, probe, [unit], features).matrix(examples, probe)
        cost[unit] = (time.perf_counter() - begun) / len(probe)
    # Training texts are cut up twice, for the vocabulary and for the matrix; validation texts once.
    least = rows or len(train)
    if characters is None:
        characters = (least + num_validate / 2) * sum(cost.values()) <= seconds / 2
    each = cost["words"] + (cost["characters"] if characters else 0.0)
    return rows or min(len(train), max(len(probe), int(seconds / 2 / each - num_validate / 2))), characters


def _affordable_steps(x: sp.csr_matrix, y: np.ndarray, task: Task, seconds: float) -> int:
    """Solver steps that a third of the time allows, told from a few."""
    if math.isinf(seconds):
        return MOST_STEPS
    begun = time.monotonic()
    _solve(x, y, task, STRENGTHS[USUAL_STRENGTH], FEWEST_STEPS)
    per_step = (time.monotonic() - begun) / FEWEST_STEPS
    return min(MOST_STEPS, max(FEWEST_STEPS, int(seconds / 3 / per_step)))


def _thinned(rows: np.ndarray, targets: np.ndarray, keep: int, task: Task, seed: int) -> np.ndarray:
    """`keep` of the rows at random; of every class at least one."""
    if keep >= len(rows):
        return rows
    mixed = np.random.default_rng(seed).permutation(rows)
    if task.kind == "classify":
        first = np.unique(targets[mixed], return_index=True)[1]
        mixed = np.concatenate([mixed[first], np.delete(mixed, first)])
        keep = max(keep, len(first))
    return mixed[:keep]


def _choose(
    x: sp.csr_matrix,
    y: np.ndarray,
    x_validate: sp.csr_matrix,
    y_validate: np.ndarray,
    task: Task,
    steps: int,
    seconds: float,
) -> float:
    """The strength of least validation loss: from the middle to whichever side is better, until neither is.

    Ends sooner where another fit would leave less than a third of `seconds` for the last one.
    """
    started = time.monotonic()
    losses: dict[int, float] = {}
    index: int | None = USUAL_STRENGTH
    while index is not None:
        begun = time.monotonic()
        losses[index] = _solve(x, y, task, STRENGTHS[index], steps, tolerance=1e-3).loss(x_validate, y_validate)
        now = time.monotonic()
        best = min(losses, key=losses.__getitem__)
        around = [i for i in (best - 1, best + 1) if 0 <= i < len(STRENGTHS) and i not in losses]
        index = around[0] if around and (now - started) + (now - begun) < 2 / 3 * seconds else None
    return STRENGTHS[best]


@dataclass(frozen=True)
class Linear:
    """Weights [K, F] and bias [K] of a linear model: K is 1 for numbers and for two classes."""

    kind: str
    weights: np.ndarray
    bias: np.ndarray
    classes: np.ndarray  # int64, the classes that were seen in training
    num_outputs: int

    def predict(self, x: sp.csr_matrix) -> np.ndarray:
        """Probabilities [N, C] or numbers [N]."""
        scores = np.asarray(x @ self.weights.T) + self.bias
        if self.kind == "regress":
            return scores[:, 0]
        if scores.shape[1] == 1:  # two classes: the score is that of the second against the first
            scores = np.hstack([np.zeros_like(scores), scores])
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities = np.zeros((x.shape[0], self.num_outputs))
        probabilities[:, self.classes] = scores / scores.sum(axis=1, keepdims=True)
        return probabilities

    def loss(self, x: sp.csr_matrix, y: np.ndarray) -> float:
        predicted = self.predict(x)
        if self.kind == "regress":
            return float(np.mean((predicted - y) ** 2))
        return float(-np.mean(np.log(np.maximum(predicted[np.arange(len(y)), y], 1e-12))))


def _solve(
    x: sp.csr_matrix, y: np.ndarray, task: Task, strength: float, steps: int, *, tolerance: float = 1e-4
) -> Linear:
    with warnings.catch_warnings():
        # Being stopped at `steps` is meant: what is gained later is far below the noise of the validation rows.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if task.kind == "regress":
            return _solve_ridge(x, y, strength, steps)
        model = LogisticRegression(C=strength, max_iter=steps, tol=tolerance).fit(x, y)
    return Linear("classify", model.coef_, model.intercept_, model.classes_.astype(np.int64), task.num_outputs)


def _solve_ridge(x: sp.csr_matrix, y: np.ndarray, strength: float, steps: int) -> Linear:
    # Standardised, so that one range of strengths serves prices and ages.
    mean, std = float(np.mean(y)), float(np.std(y)) or 1.0
    model = Ridge(alpha=1 / strength, solver="sparse_cg", max_iter=steps, tol=1e-5).fit(x, (y - mean) / std)
    weights, bias = np.atleast_2d(model.coef_) * std, np.atleast_1d(model.intercept_) * std + mean
    return Linear("regress", weights, bias, np.zeros(0, np.int64), 1)


@dataclass(frozen=True)
class Fitted:
    bags: Bags
    linear: Linear
    settings: dict[str, Any]

    def predict(self, examples: Examples) -> np.ndarray:
        """Probabilities float64 [N, C] or numbers float64 [N] of all rows."""
        return self.linear.predict(self.bags.matrix(examples, np.arange(len(examples))))

    def describe(self) -> str:
        counts = self.bags.counts()
        parts = [f"{counts['words']:,} words and pairs" if "words" in counts else ""]
        parts += [f"{counts['characters']:,} pieces of words" if "characters" in counts else ""]
        parts += [f"{len(about['names'])} {form}" for form, about in self.bags.beside.items()]
        name = "ridge" if self.linear.kind == "regress" else "logistic regression"
        return f"{name} on TF-IDF of {', '.join(part for part in parts if part)}; C {self.settings['C']:g}"

    def save(self, folder: Path) -> None:
        """Vocabularies as JSON, numbers as safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        linear = self.linear
        kept = {"version": 1, "kind": linear.kind, "num_outputs": linear.num_outputs, "settings": self.settings}
        text = json.dumps(kept | self.bags.to_json(), ensure_ascii=False)
        (folder / "tfidf.json").write_text(text, encoding="utf-8")
        arrays = {"weights": linear.weights, "bias": linear.bias, "classes": linear.classes} | self.bags.arrays()
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "tfidf.safetensors")


def load(folder: Path) -> Fitted:
    """A model saved by `Fitted.save`. Raises UserError where a file of it is missing or damaged."""
    with reading("The TF-IDF model", folder):
        kept = json.loads((folder / "tfidf.json").read_text(encoding="utf-8"))
        if kept["version"] != 1:
            raise UserError(f"{folder}/tfidf.json has version {kept['version']}; this Fathom reads 1. Update it.")
        arrays = load_file(folder / "tfidf.safetensors")
        linear = Linear(kept["kind"], arrays["weights"], arrays["bias"], arrays["classes"], kept["num_outputs"])
        return Fitted(Bags.from_json(kept, arrays), linear, kept["settings"])
