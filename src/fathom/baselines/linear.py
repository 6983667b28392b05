"""Linear models: logistic regression for classes, ridge regression for numbers; on features for pictures.

What a reader would get wrong: the model is linear in features, not always in the numbers. Where validation rows gain by
it, each number is bent at quantiles of the training rows (a piecewise linear function of each column, their sum the
prediction); `bends` says at how many, 0 for straight lines.

Source: bends, Hastie & Tibshirani 1990, "Generalized Additive Models", with the basis of Gorishniy et al. 2022,
arXiv:2203.05556, section 3.2; fitted by scikit-learn, predicted in NumPy.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from fathom.baselines.parts.kept import reading
from fathom.baselines.parts.linear_design import Design, Matrix
from fathom.baselines.parts.table_features import features, what_is_read
from fathom.data import Examples, Task
from fathom.errors import UserError

RANK = 1  # one weight for each column
USE = "tables and pictures"
SOURCE = "scikit-learn; Hastie & Tibshirani 1990 for the bends"
RANGES = {"penalty": (">", 0), "bends": (">=", 0), "iterations": (">=", 1), "rows": (">=", 1)}
MOST = {"bends": 1000}
PENALTIES = (1000.0, 100.0, 10.0, 1.0, 0.1)
BENDS = 12
# The penalty is searched on so many rows at most, and rescaled: it stands against a sum over rows.
SEARCH_ROWS = 6000
SEARCH_ITERATIONS = 60
# The solver runs so many iterations at a time; between them the clock is looked at.
ITERATIONS_AT_A_TIME = 25
MOST_ITERATIONS, USUAL_ITERATIONS = 400, 75
PREDICT_ROWS = 20_000


def claims(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    """What of these inputs the model would read, or None."""
    return what_is_read(about) if task.kind in ("classify", "regress") else None


def fit(
    examples: Examples,
    targets: np.ndarray,
    train: np.ndarray,
    validate: np.ndarray,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
    penalty: float | None = None,
    bends: int | None = None,
    iterations: int | None = None,
    rows: int | None = None,
) -> Fitted:
    """Fit on the training rows; None lets validation rows and seconds decide, and `settings` tells what they did.

    `penalty` stands against the sum over training rows of the loss; `iterations` fixes how long the solver of the
    logistic regression runs, whatever the clock says; `rows` is how many training rows the last fit
    uses at most, drawn by `seed`, fewer than all only where a few iterations on all would take longer than there is
    time. Raises UserError where there is nothing such a model can read.
    """
    end = float("inf") if seconds is None else time.monotonic() + seconds
    if claims(examples.about, task) is None:
        forms = ", ".join(sorted({a["form"] for a in examples.about.values()})) or "nothing"
        raise UserError(f"Linear models read numbers, categories or pictures; found {forms}. Leave this baseline out.")
    read = features(examples, train)
    designs = {n: Design.fit(read, bends=n) for n in _bends_to_try(examples, len(train), bends)}
    if penalty is None or len(designs) > 1:
        if len(validate) == 0:
            raise UserError("There are no validation rows to choose the penalty by. Pass penalty=1 and bends=0, say.")
        searched = np.sort(np.random.default_rng(seed).permutation(len(train))[:SEARCH_ROWS])
        held = np.sort(np.random.default_rng(seed).permutation(validate)[:SEARCH_ROWS])
        some = read.take(searched), targets[train[searched]], features(examples, held), targets[held]
        share = len(searched) / len(train)
        begun = time.monotonic()
        penalty, bends, steps = _search(designs, some, task, share, penalty, begun + (end - begun) / 3)
        rows = rows or _affordable_rows(len(train), end, (time.monotonic() - begun) / max(1, steps * len(searched)))
    bends = bends if bends is not None else next(iter(designs))
    rows = min(rows or len(train), len(train))
    used = np.sort(np.random.default_rng(seed).permutation(len(train))[:rows])
    matrix, scaled = designs[bends].matrix(read.take(used)), penalty * rows / len(train)
    weights, bias, done = _solve(matrix, targets[train[used]], task, scaled, iterations, end)
    settings = {"penalty": penalty, "bends": bends, "iterations": done or None, "rows": rows}
    return Fitted(designs[bends], weights, bias, task, settings)


def _bends_to_try(examples: Examples, num_rows: int, bends: int | None) -> tuple[int, ...]:
    if bends is not None:
        return (bends,)
    if not examples.of_form("numbers") or examples.of_form("pixels"):
        return (0,)
    # What is likelier comes first, in case that time is short.
    return (BENDS, 0) if num_rows >= 2000 else (0, BENDS)


def _affordable_rows(num_rows: int, end: float, seconds_a_row: float) -> int:
    """Rows for which so many iterations as a fit of pictures or tables usually needs end in time."""
    if end == float("inf"):
        return num_rows
    affordable = (end - time.monotonic()) / max(1e-12, seconds_a_row * USUAL_ITERATIONS)
    return int(np.clip(affordable, min(num_rows, SEARCH_ROWS), num_rows))


def _search(
    designs: dict[int, Design], some: tuple, task: Task, share: float, penalty: float | None, end: float
) -> tuple[float, int, int]:
    """The penalty and the bends with the least validation loss, and the solver's iterations in all.

    At least one pair is tried, even when time is up.
    """
    steps = 0
    train, train_targets, held, held_targets = some
    best: tuple[float, float, int] | None = None
    for bends, design in designs.items():
        train_matrix, held_matrix = design.matrix(train), design.matrix(held)
        worse = 0
        for candidate in PENALTIES if penalty is None else (penalty,):
            solved = _solve(train_matrix, train_targets, task, candidate * share, None, end, most=SEARCH_ITERATIONS)
            steps += solved[2]
            loss = _loss(_outputs(held_matrix, solved[0], solved[1]), held_targets, task)
            worse = worse + 1 if best and loss > best[0] else 0
            if best is None or loss < best[0]:
                best = loss, candidate, bends
            if worse == 2 or time.monotonic() > end:
                break
        if time.monotonic() > end:
            break
    assert best is not None
    return best[1], best[2], steps


def _solve(
    matrix: Matrix,
    targets: np.ndarray,
    task: Task,
    penalty: float,
    iterations: int | None,
    end: float,
    *,
    most: int = MOST_ITERATIONS,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Weights [features, outputs], biases [outputs], and the iterations allowed to the solver; 0 if it has none."""
    if task.kind == "regress":
        mean = float(targets.mean())
        solver = "sparse_cg" if sparse.issparse(matrix) else "cholesky"
        with warnings.catch_warnings():
            # Columns that say the same make the matrix nearly singular under a small penalty. Such a penalty is only
            # tried: validation rows choose among them.
            warnings.simplefilter("ignore", LinAlgWarning)
            ridge = Ridge(alpha=penalty, solver=solver, fit_intercept=True).fit(matrix, targets - mean)
        return ridge.coef_.reshape(-1, 1).astype(np.float64), np.array([ridge.intercept_ + mean], np.float64), 0
    if len(np.unique(targets)) == 1:
        nothing, classes = np.zeros((1, matrix.shape[1])), np.unique(targets)
        weights, bias = _spread(nothing, np.zeros(1), classes, task.num_outputs, len(targets))
        return weights, bias, 0
    model = LogisticRegression(C=1 / penalty, max_iter=ITERATIONS_AT_A_TIME, warm_start=True)
    done = 0
    while done < (most if iterations is None else iterations):
        with warnings.catch_warnings():
            # It is for us to say when it has run long enough.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(matrix, targets)
        done += ITERATIONS_AT_A_TIME
        if iterations is None and (model.n_iter_[0] < ITERATIONS_AT_A_TIME or time.monotonic() > end):
            break
    weights, bias = _spread(model.coef_, model.intercept_, model.classes_, task.num_outputs, len(targets))
    return weights, bias, done


def _spread(
    weights: np.ndarray, bias: np.ndarray, classes: np.ndarray, num_classes: int, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's coefficients as one column for each class of the task."""
    if len(classes) == 2:  # one row of coefficients, for the second class
        weights, bias = np.concatenate([0 * weights, weights]), np.concatenate([0 * bias, bias])
    all_weights = np.zeros((weights.shape[1], num_classes))
    # A class that no training row has is given the chance of half a row.
    all_bias = np.full(num_classes, float(np.max(bias)) - np.log(2 * rows))
    all_weights[:, classes], all_bias[classes] = weights.T, bias
    return all_weights, all_bias


def _outputs(matrix: Matrix, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Logits [n, C], or [n, 1] numbers."""
    return np.asarray(matrix @ weights) + bias


def _probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _loss(outputs: np.ndarray, targets: np.ndarray, task: Task) -> float:
    """Mean cross-entropy in nats, or mean squared error."""
    if task.kind == "regress":
        return float(np.mean((outputs[:, 0] - targets) ** 2))
    chosen = _probabilities(outputs)[np.arange(len(targets)), targets]
    return float(-np.mean(np.log(np.maximum(chosen, 1e-15))))


class Fitted:
    """Weights and biases, with what turns features into a matrix."""

    def __init__(
        self, design: Design, weights: np.ndarray, bias: np.ndarray, task: Task, settings: dict[str, Any]
    ) -> None:
        self.design, self.weights, self.bias, self.task, self.settings = design, weights, bias, task, settings

    def predict(self, examples: Examples) -> np.ndarray:
        """Probabilities float64 [N, C], or numbers [N] in the target's own unit."""
        batches = np.array_split(np.arange(len(examples)), max(1, len(examples) // PREDICT_ROWS))
        outputs = np.concatenate([self._outputs(examples, batch) for batch in batches])
        return outputs[:, 0] if self.task.kind == "regress" else _probabilities(outputs)

    def _outputs(self, examples: Examples, rows: np.ndarray) -> np.ndarray:
        return _outputs(self.design.matrix(features(examples, rows)), self.weights, self.bias)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"weights": self.weights, "bias": self.bias} | self.design.to_arrays()
        np.savez(folder / "linear.npz", **arrays)
        about = {"task": self.task.to_json(), "settings": self.settings}
        (folder / "linear.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    def describe(self) -> str:
        kind = "ridge" if self.task.kind == "regress" else "logistic"
        bends = self.settings["bends"]
        bent = f", numbers bent at {bends - 1} quantiles" if bends else ""
        return f"{kind} regression on {len(self.weights):,} columns{bent}, penalty {self.settings['penalty']:g}"


def load(folder: Path) -> Fitted:
    """A model saved by `Fitted.save`. Raises UserError where a file of it is missing or damaged."""
    with reading("The linear model", folder):
        about = json.loads((folder / "linear.json").read_text(encoding="utf-8"))
        with np.load(folder / "linear.npz", allow_pickle=False) as file:
            arrays = dict(file)
        design = Design.from_arrays(arrays)
        return Fitted(design, arrays["weights"], arrays["bias"], Task.from_json(about["task"]), about["settings"])
