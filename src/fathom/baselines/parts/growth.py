"""Trees in the making: the data as LightGBM reads it, rounds of growth, when to stop, and quick trials.

What a reader would get wrong: nothing here depends on the clock except how many rounds are grown and the learning rate
that a short time needs. The same settings and seed give the same trees, on one thread or on many.
"""

from __future__ import annotations

import os
import time
from typing import Any

import lightgbm
import numpy as np

from fathom.baselines.parts.clock import Clock
from fathom.baselines.parts.table_features import Features, features
from fathom.data import Examples, Task

MOST_TREES = 4000
# At a learning rate r about EFFORT / r trees are needed; where time is short the rate is raised accordingly.
EFFORT = 25.0
USUAL_RATE, HIGHEST_RATE = 0.05, 0.3
# Without improvement over PATIENCE / r trees, the growth ends.
PATIENCE = 4.0
# An improvement smaller than this share of the first loss does not earn more patience.
LEAST_GAIN = 3e-4
# Trials (of the target's logarithm, of the number of leaves) take at most this share of the time left, at this rate.
TRIAL_SHARE, TRIAL_RATE = 0.15, 0.1
# Trials and the last growth read the rows so often; with fewer rounds, fewer rows are better. More rows than FEW_ROWS
# are learned from only where the time allows.
READINGS, ENOUGH_ROUNDS, ROUNDS_TIMED, FEW_ROWS = 6, 100, 3, 10_000
# Below this many rows one thread is quicker than several, which wait for each other.
ONE_THREAD_ROWS = 2000
# Below this many training rows trees are kept smaller and categories are smoothed less.
SMALL = 2000


class Data:
    """Features of the training and validation rows, read once."""

    def __init__(
        self, examples: Examples, targets: np.ndarray, train: np.ndarray, validate: np.ndarray, task: Task
    ) -> None:
        self.task = task
        self.pictures = bool(examples.of_form("pixels"))
        read = features(examples, train)
        self.first_category, self.num_categories = read.numbers.shape[1], read.categories.shape[1]
        self.train, self.validate = as_matrix(read), as_matrix(features(examples, validate))
        self.train_targets, self.validate_targets = targets[train], targets[validate]
        self.threads = threads_for(len(train))


class Growth:
    """Trees being grown, one round at a time: one tree, or one for each of several classes."""

    def __init__(self, data: Data, settings: dict[str, Any], seed: int) -> None:
        self.data, self.log = data, settings["log_target"]
        parameters = _parameters(data, settings, seed)
        categories = list(range(data.first_category, data.first_category + data.num_categories))
        targets = np.log1p(data.train_targets) if self.log else data.train_targets
        train = lightgbm.Dataset(data.train, targets, categorical_feature=categories, params=parameters)
        self.booster = lightgbm.Booster(parameters, train)
        if len(data.validate_targets):
            known = np.log1p(data.validate_targets) if self.log else data.validate_targets
            self.booster.add_valid(train.create_valid(data.validate, known, params=parameters), "validate")

    def add(self) -> bool:
        """One more round; True where no leaf could be split any more."""
        return self.booster.update()

    def loss(self) -> float:
        """LightGBM's own loss of the validation rows: cross-entropy, or squared error."""
        return float(self.booster.eval_valid()[0][2])

    def text(self, trees: int) -> str:
        return self.booster.model_to_string(num_iteration=trees)


def grow(growth: Growth, clock: Clock, patience: int) -> tuple[int, str, float]:
    """How many trees were best, why it ended there, and their validation loss. At least one tree is grown."""
    best, best_loss = 1, float("inf")
    steady, steady_loss, enough = 1, float("inf"), 0.0
    for count in range(1, MOST_TREES + 1):
        if growth.add():
            return best, "no leaf could be split any more", best_loss
        loss = growth.loss()
        if loss < best_loss:
            best, best_loss = count, loss
        if count == 1:
            enough = LEAST_GAIN * loss
        if loss < steady_loss - enough:
            steady, steady_loss = count, loss
        elif count - steady >= patience:
            return best, "validation rows improved no more", best_loss
        if clock.left <= 0:
            return best, "time was up", best_loss
    return best, f"the most that are grown, {MOST_TREES}", best_loss


def best_of(
    variants: list[dict[str, Any]], data: Data, settings: dict[str, Any], seed: int, clock: Clock, margin: float
) -> dict[str, Any]:
    """The variant that quick trials favour, by the loss of validation rows in the target's own unit.

    The first is the usual one: another must be better by `margin`, as a share of the loss.
    """
    losses = []
    trial_clock = clock.part(TRIAL_SHARE)
    for left, variant in zip(range(len(variants), 0, -1), variants, strict=True):
        growth = Growth(data, settings | {"learning_rate": TRIAL_RATE} | variant, seed)
        trees, _, loss = grow(growth, trial_clock.part(1 / left), int(1 / TRIAL_RATE) * 2)
        if data.task.kind == "regress":
            predicted = np.asarray(growth.booster.predict(data.validate, num_iteration=trees))
            loss = float(np.mean(((np.expm1(predicted) if growth.log else predicted) - data.validate_targets) ** 2))
        losses.append(loss)
    best = int(np.argmin(losses))
    return variants[best if losses[best] < (1 - margin) * losses[0] else 0]


def skewed(data: Data) -> bool:
    """Whether the logarithm of the target is worth a try: nothing below zero, and a long tail to the right."""
    if data.task.kind != "regress" or data.train_targets.min() < 0 or data.train_targets.std() == 0:
        return False
    standard = (data.train_targets - data.train_targets.mean()) / data.train_targets.std()
    return bool(np.mean(standard**3) > 0.5)


def affordable_rate(data: Data, settings: dict[str, Any], seed: int, clock: Clock) -> float:
    """The usual learning rate, or as much higher as the time left needs: measured on five rounds thrown away."""
    if clock.left == float("inf"):
        return USUAL_RATE
    growth = Growth(data, settings | {"learning_rate": USUAL_RATE}, seed)
    affordable = clock.left / max(1e-6, _seconds_a_round(growth))
    return round(float(np.clip(EFFORT / max(1.0, affordable), USUAL_RATE, HIGHEST_RATE)), 3)


def affordable_rows(
    examples: Examples, targets: np.ndarray, train: np.ndarray, rows: int, task: Task, seed: int, clock: Clock
) -> int:
    """As many of `rows` training rows as can be read for all trials and grown on for enough rounds in the time left.

    Measured on a few. The trees of a part of the rows are better than the first few trees of all.
    """
    if clock.left == float("inf") or rows <= FEW_ROWS:
        return rows
    some = np.sort(np.random.default_rng(seed).choice(train, FEW_ROWS, replace=False))
    begun = time.monotonic()
    data = Data(examples, targets, some, some[:0], task)
    usual = {"learning_rate": USUAL_RATE, "leaves": 31, "rows_in_leaf": 20, "log_target": False}
    growth = Growth(data, usual, seed)
    growth.add()  # the first round reads the rows
    reading = time.monotonic() - begun
    begun = time.monotonic()
    for _ in range(ROUNDS_TIMED):
        growth.add()
    a_round = (time.monotonic() - begun) / ROUNDS_TIMED
    a_row = (READINGS * reading + ENOUGH_ROUNDS * a_round) / FEW_ROWS
    return int(np.clip(clock.left / a_row, FEW_ROWS, rows))


def quickest_threads(data: Data, settings: dict[str, Any], seed: int) -> int:
    """All threads or one, by trial: on a machine that is busy otherwise, threads wait for each other most of the time.

    The trees are the same either way.
    """
    if data.threads == 1:
        return 1
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 2 * data.threads:
        return 1  # plainly busy: a trial with all threads could take as long as everything else
    most, seconds = data.threads, {}
    for data.threads in (1, most):
        growth = Growth(data, settings | {"learning_rate": USUAL_RATE, "log_target": False}, seed)
        seconds[data.threads] = _seconds_a_round(growth)
    return min(seconds, key=seconds.__getitem__)


def _seconds_a_round(growth: Growth) -> float:
    """The quickest of a few: whatever else runs on the machine only ever adds."""
    times: list[float] = []
    while len(times) < 5 and sum(times) < 1:
        start = time.monotonic()
        growth.add()
        growth.loss()
        times.append(time.monotonic() - start)
    return min(times)


def _parameters(data: Data, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    objective, _, classes = objective_of(data.task).partition(" num_class:")
    # By columns is 1.7 times as quick for 588 features of pictures, by rows for ordinary tables; LightGBM's own choice
    # is made by timing, and would make runs differ.
    few = min(1.0, len(data.train) / SMALL)
    wide = data.train.shape[1] > 200
    return {
        "objective": objective,
        "num_class": int(classes or 1),
        "metric": "",  # the objective's own
        "learning_rate": settings["learning_rate"],
        "num_leaves": settings["leaves"],
        "min_data_in_leaf": settings["rows_in_leaf"],
        "feature_fraction": 0.1 if data.pictures else 0.6,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        # Smoother than LightGBM's defaults for many rows; its 100 rows a group of categories are too many for few.
        "cat_smooth": 20.0 * few,
        "cat_l2": 20.0 * few,
        "min_data_per_group": max(2, round(100 * few)),
        "max_bin": 63 if data.pictures else 255,
        # The same trees on one thread and on many.
        "deterministic": True,
        "force_col_wise": wide,
        "force_row_wise": not wide,
        "seed": seed,
        "num_threads": data.threads,
        "verbosity": -1,
    }


def objective_of(task: Task) -> str:
    """As LightGBM writes it into its texts: "regression", "binary" or "multiclass num_class:5"."""
    if task.kind == "regress":
        return "regression"
    return "binary" if task.num_outputs == 2 else f"multiclass num_class:{task.num_outputs}"


def threads_for(rows: int) -> int:
    """Cores this process may use, fewer where OMP_NUM_THREADS says so, one where rows are few."""
    if rows < ONE_THREAD_ROWS:
        return 1
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores


def as_matrix(read: Features) -> np.ndarray:
    """Numbers, then categories, as one float32 matrix; codes stay whole numbers below 2^24."""
    return np.concatenate([read.numbers, read.categories.astype(np.float32)], axis=1)
