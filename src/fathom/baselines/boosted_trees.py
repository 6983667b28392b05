"""Boosted trees by LightGBM, for tables and, on simple features, for pictures.

What a reader would get wrong: how many trees are grown is not an option that is guessed. Trees are added until the
validation rows stop improving or time is up, and the number reached is kept in `settings`. Given back as options,
those settings grow the very same trees, whatever the machine's speed or number of cores.

Source: Ke et al. 2017, "LightGBM: A Highly Efficient Gradient Boosting Decision Tree".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from fathom.baselines.parts.clock import Clock
from fathom.baselines.parts.growth import (
    PATIENCE,
    SMALL,
    USUAL_RATE,
    Data,
    Growth,
    affordable_rate,
    affordable_rows,
    as_matrix,
    best_of,
    grow,
    objective_of,
    quickest_threads,
    skewed,
    threads_for,
)
from fathom.baselines.parts.kept import reading
from fathom.baselines.parts.table_features import features, what_is_read
from fathom.baselines.parts.trees_text import MOST_LEAVES, check
from fathom.data import Examples, Task
from fathom.errors import UserError

RANK = 2
USE = "tables and pictures"
SOURCE = "LightGBM, Ke et al. 2017"
RANGES = {"trees": (">=", 1), "learning_rate": (">", 0), "leaves": (">=", 2), "rows_in_leaf": (">=", 1),
          "rows": (">=", 2)}  # fmt: skip
MOST = {"leaves": MOST_LEAVES}
# So many pictures are enough for a baseline.
PICTURE_ROWS = 20_000
# From so many training rows on, larger trees are tried.
LARGE = 5000
# How much less loss a trial must show, as a share, before the target's logarithm or larger trees are taken.
LOG_MARGIN, LEAVES_MARGIN = 0.03, 0.005
PREDICT_ROWS = 20_000


def claims(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    """What of these inputs the trees would read, or None."""
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
    trees: int | None = None,
    learning_rate: float | None = None,
    leaves: int | None = None,
    rows_in_leaf: int | None = None,
    log_target: bool | None = None,
    rows: int | None = None,
) -> Fitted:
    """Grow trees on the training rows; None lets the data and the seconds decide, and `settings` tells what they did.

    `trees` fixes their number: then the validation rows and the time are not looked at. `rows_in_leaf` is the least
    number of training rows in a leaf; `log_target` fits log(1 + target); `rows` is how many training rows are used at
    most, drawn by `seed`. Raises UserError where there is nothing that trees can read.
    """
    clock = Clock(seconds)
    if claims(examples.about, task) is None:
        forms = ", ".join(sorted({a["form"] for a in examples.about.values()})) or "nothing"
        raise UserError(f"Boosted trees read numbers, categories or pictures; found {forms}. Leave this baseline out.")
    if trees is None and len(validate) == 0:
        raise UserError("There are no validation rows to tell how many trees are enough. Pass trees=300, say.")
    pictures = bool(examples.of_form("pixels"))
    if rows is None:
        rows = min(len(train), PICTURE_ROWS) if pictures else len(train)
        rows = rows if trees else affordable_rows(examples, targets, train, rows, task, seed, clock)
    if rows < len(train):
        train = np.sort(np.random.default_rng(seed).choice(train, rows, replace=False))
    settings: dict[str, Any] = {
        "trees": trees,
        "learning_rate": learning_rate,
        "leaves": leaves or (15 if pictures or len(train) < SMALL else 31),
        "rows_in_leaf": rows_in_leaf or int(np.clip(len(train) // 50, 2, 20)),
        "log_target": bool(log_target),
        "rows": rows,
    }
    data = Data(examples, targets, train, validate, task)
    if trees is not None:
        return _as_asked(data, settings, seed)
    data.threads = quickest_threads(data, settings, seed)
    if log_target is None and skewed(data):
        settings |= best_of([{"log_target": log} for log in (False, True)], data, settings, seed, clock, LOG_MARGIN)
    if leaves is None and len(train) >= LARGE and not pictures:
        settings |= best_of([{"leaves": count} for count in (31, 63)], data, settings, seed, clock, LEAVES_MARGIN)
    settings["learning_rate"] = learning_rate or affordable_rate(data, settings, seed, clock)
    growth = Growth(data, settings, seed)
    settings["trees"], why, _ = grow(growth, clock, int(PATIENCE / settings["learning_rate"]))
    return Fitted(growth.text(settings["trees"]), task, settings, why)


def _as_asked(data: Data, settings: dict[str, Any], seed: int) -> Fitted:
    settings["learning_rate"] = settings["learning_rate"] or USUAL_RATE
    growth = Growth(data, settings, seed)
    for _ in range(settings["trees"]):
        growth.add()
    return Fitted(growth.text(settings["trees"]), data.task, settings, "as asked")


class Fitted:
    """Grown trees, held as LightGBM's text: what is saved is what predicts, to the last bit."""

    def __init__(self, text: str, task: Task, settings: dict[str, Any], why: str = "") -> None:
        self.text, self.task, self.settings, self.why = text, task, settings, why
        self._booster = lightgbm.Booster(model_str=text)

    def predict(self, examples: Examples) -> np.ndarray:
        """Probabilities float64 [N, C], or numbers [N] in the target's own unit."""
        batches = np.array_split(np.arange(len(examples)), max(1, len(examples) // PREDICT_ROWS))
        threads = threads_for(len(examples))
        raw = np.concatenate(
            [np.asarray(self._booster.predict(as_matrix(features(examples, b)), num_threads=threads)) for b in batches]
        )
        if self.task.kind == "regress":
            return np.expm1(raw) if self.settings["log_target"] else raw
        return np.stack([1 - raw, raw], axis=1) if raw.ndim == 1 else raw

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trees.txt").write_text(self.text, encoding="utf-8")
        about = {"task": self.task.to_json(), "settings": self.settings}
        (folder / "boosted_trees.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    def describe(self) -> str:
        log = " of the logarithm" if self.settings["log_target"] else ""
        trees, leaves = self.settings["trees"], self.settings["leaves"]
        each = " rounds" if self.task.num_outputs > 2 else " trees"
        return f"boosted trees{log}, {trees}{each} of {leaves} leaves"


def load(folder: Path) -> Fitted:
    """Trees saved by `Fitted.save`. Raises UserError where a file of them is missing or damaged."""
    with reading("The boosted trees", folder):
        about = json.loads((folder / "boosted_trees.json").read_text(encoding="utf-8"))
        text, task = (folder / "trees.txt").read_text(encoding="utf-8"), Task.from_json(about["task"])
        check(text, objective_of(task))
        return Fitted(text, task, about["settings"])
