"""Numbers with intervals: every measure of a model's predictions, the confusion matrix, and intervals of predictions.

An interval says how far the number would move with other rows of the same kind. It knows nothing of another seed of
training, and nothing of data that differ from these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fathom import intervals, rooms
from fathom.data import Task

LEVEL = 0.95
# Fewer rows than this are not cut in two for a scaled conformal interval.
LEAST_ROWS_TO_SCALE = 200


def measures_of(task: Task) -> dict[str, ModuleType]:
    """The measures made for such a task, by name."""
    return {name: module for name, module in rooms.every("measures").items() if task.kind == module.TASK}


def evaluate(
    predictions: np.ndarray, targets: np.ndarray, task: Task, seed: int = 0, *, units: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Every measure as {"value": float, "interval": [low, high]} at 95 %. NaN where a measure is undefined.

    `predictions` are what the measures of the task read: probabilities [N, C], numbers [N], texts [N]. `units` [N]
    labels rows that belong together (patients, days), which are then resampled together. Accuracy: Wilson's interval
    (without units). Means of rows, and what is made of sums over rows (BLEU, perplexity): BCa bootstrap. Others:
    bootstrap of the whole measure. A perfect share (area, F1, BLEU) gets Wilson's interval for as many trials as the
    rarest class has rows.
    """
    modules = measures_of(task)
    columns = {name: module.per_row(predictions, targets) for name, module in modules.items()}
    means = {name: column for name, column in columns.items() if column is not None and len(column)}
    resampled = intervals.resample(np.column_stack(list(means.values())), units, seed=seed) if means else None
    found: dict[str, dict[str, Any]] = {}
    for name, module in modules.items():
        value = module.measure(predictions, targets)
        if not len(targets):
            ends = (float("nan"), float("nan"))
        elif name == "accuracy" and units is None:
            ends = intervals.wilson(float(means[name].sum()), len(targets), LEVEL)
        elif _is_all_or_nothing(module, value):
            # Without a mistake (or a hit) no resample has one, and the bootstrap would be sure.
            rows, top = _independent_rows(targets, units), module.RANGE[1]
            low, high = intervals.wilson(value / top * rows, rows, LEVEL)
            ends = (low * top, high * top)
        elif name in means and resampled is not None:
            ends = _mean_interval(module, value, resampled, list(means).index(name))
        else:
            ends = _whole_interval(module, predictions, targets, units, seed)
        found[name] = {"value": value, "interval": _inside(module, ends)}
    return found


def _is_all_or_nothing(module: ModuleType, value: float) -> bool:
    low, high = module.RANGE
    is_share = low == 0 and math.isfinite(high) and module.HIGHER_IS_BETTER
    return is_share and min(abs(value), abs(high - value)) < 1e-9 * high


def _independent_rows(targets: np.ndarray, units: np.ndarray | None) -> int:
    """Rows of the rarest class, which such measures hang on most (all rows of texts); no more than there are units."""
    rarest = len(targets) if targets.dtype == object else int(np.unique(targets, return_counts=True)[1].min())
    return rarest if units is None else min(rarest, len(np.unique(units)))


def _mean_interval(
    module: ModuleType, value: float, resampled: intervals.Resampled, column: int
) -> tuple[float, float]:
    from_mean = from_mean_of(module)
    samples, without = from_mean(resampled.samples[:, column]), from_mean(resampled.without[:, column])
    return intervals.bca(value, samples, without, LEVEL)


def _whole_interval(
    module: ModuleType, predictions: np.ndarray, targets: np.ndarray, units: np.ndarray | None, seed: int
) -> tuple[float, float]:
    value = module.measure(predictions, targets)
    if not math.isfinite(value) or intervals.num_units(len(targets), units) < 2:
        return math.nan, math.nan
    resampled = resampled_measure(module, [predictions], targets, units, seed)
    if resampled is not None:
        return intervals.bca(value, resampled.samples[:, 0], resampled.without[:, 0], LEVEL)

    def one(rows: np.ndarray) -> np.ndarray:
        return np.array([module.measure(predictions[rows], targets[rows])])

    samples = intervals.resampled_values(one, len(targets), units, seed=seed, resamples=100)
    # A hundred values know their spread to 7 %, but not their outermost fortieth.
    half = intervals.NORMAL.inv_cdf((1 + LEVEL) / 2) * float(samples.std(ddof=1))
    return value - half, value + half


def from_mean_of(module: ModuleType) -> Any:
    """The function that makes the measure out of the mean of its rows: the mean itself, or its root for RMSE."""
    return getattr(module, "FROM_MEAN", lambda mean: mean)


def resampled_measure(
    module: ModuleType, several: Sequence[np.ndarray], targets: np.ndarray, units: np.ndarray | None, seed: int
) -> intervals.Resampled | None:
    """The measure of M sets of predictions for the same rows, resampled together: `samples` are [RESAMPLES, M].

    None for a measure that is made neither of the mean of its rows nor of sums over them. Sums are as right as
    measuring every resample (tests say so) and cost what adding costs, where texts would be cut into words again.
    """
    columns = [module.per_row(predictions, targets) for predictions in several]
    if all(column is not None for column in columns):
        found, finish = intervals.resample(np.column_stack(columns), units, seed=seed), from_mean_of(module)
    elif hasattr(module, "statistics"):
        counts = np.hstack([module.statistics(predictions, targets) for predictions in several])
        found = intervals.resample_sums(counts, units, seed=seed)

        def finish(sums: np.ndarray) -> np.ndarray:
            return module.from_statistics(sums.reshape(*sums.shape[:-1], len(several), -1))

    else:
        return None
    return intervals.Resampled(finish(found.whole), finish(found.samples), finish(found.without))


def _inside(module: ModuleType, ends: tuple[float, float]) -> list[float]:
    """An interval cut to what the measure can be; a linear approximation may step over the border."""
    low, high = module.RANGE
    return [max(low, ends[0]), min(high, ends[1])] if not math.isnan(ends[0]) else [math.nan, math.nan]


def confusion(predictions: np.ndarray, targets: np.ndarray, num_classes: int) -> list[list[int]]:
    """Rows of each true class (first index) by predicted class (second index)."""
    cells = targets.astype(np.int64) * num_classes + np.argmax(predictions, axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).tolist()


# Intervals of single predictions: split conformal, from rows that trained nothing.


def conformal(
    validation_predictions: np.ndarray,
    validation_targets: np.ndarray,
    level: float = 0.9,
    *,
    seed: int = 0,
    ends: np.ndarray | None = None,
) -> dict[str, Any]:
    """A spec for `interval`: how far below and above a prediction the truth lies with probability `level`.

    Both sides have their own width, so skewed errors get skewed intervals, with the finite-sample correction of Vovk
    2005 and Lei et al. 2018, arXiv:1604.04173. Where errors grow with the predicted number, and only where that
    makes intervals measurably better, widths follow the prediction (locally weighted, section 5.2 there). "Better" is
    the interval score of Gneiting and Raftery 2007. Rows must resemble future rows: with time or groups the true
    coverage may be lower; compare `coverage` on test rows.

    The spec is a JSON value: {"level", "low", "high", "rows", "scaled", "at", "scale"}. "level" is what that number
    of rows can promise, less than asked for when they are few. Raises ValueError for fewer than two rows.

    Where the model gives intervals of its own, `ends` [N, 2] for the same rows, those are widened or narrowed by one
    margin for all (Romano et al. 2019, arXiv:1905.03222, eq. 6 to 8), and the spec is {"level", "margin", "rows"}.
    """
    predictions, targets = np.asarray(validation_predictions, np.float64), np.asarray(validation_targets, np.float64)
    if len(targets) < 2:
        raise ValueError(f"An interval needs at least 2 validation rows; {len(targets)} were given.")
    if ends is not None:
        return _margin(ends, targets, level)
    if len(targets) >= LEAST_ROWS_TO_SCALE:
        order = np.random.default_rng(seed).permutation(len(targets))
        # The scale is fitted on rows of its own: widths from the rows that set the scale would be too narrow.
        for_scale, rest = order[: len(order) // 3], order[len(order) // 3 :]
        shape = _scale(predictions[for_scale], targets[for_scale])
        if _scaled_is_better(predictions[rest], targets[rest], shape, level):
            return _widths(predictions[rest], targets[rest], level, shape)
    return _widths(predictions, targets, level, {"at": [], "scale": []})


def interval(
    predictions: np.ndarray, spec: Mapping[str, Any], ends: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high end [N] of each prediction's interval, by a spec of `conformal`; `ends` as they were given there."""
    if "margin" in spec:
        assert ends is not None, "these intervals are the model's own"
        # A negative margin may turn a narrow interval inside out; an interval always holds its number.
        low, high = ends[:, 0] - spec["margin"], ends[:, 1] + spec["margin"]
        return np.minimum(low, predictions), np.maximum(high, predictions)
    size = _size(predictions, spec)
    return predictions + spec["low"] * size, predictions + spec["high"] * size


def coverage(low: np.ndarray, high: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Share of targets inside their intervals, with Wilson's interval, and the mean width in the target's unit."""
    inside = int(np.sum((targets >= low) & (targets <= high)))
    share = inside / len(targets) if len(targets) else math.nan
    width = float(np.mean(high - low)) if len(targets) else math.nan
    return {"value": share, "interval": list(intervals.wilson(inside, len(targets), LEVEL)), "width": width}


def _margin(ends: np.ndarray, targets: np.ndarray, level: float) -> dict[str, Any]:
    """How far the truth lies outside of its interval (negative: inside) for all but 1 - level of the rows."""
    outside = np.sort(np.maximum(ends[:, 0] - targets, targets - ends[:, 1]))
    rank = min(len(outside), math.ceil((len(outside) + 1) * level))
    return {
        "level": min(level, len(outside) / (len(outside) + 1)),
        "margin": float(outside[rank - 1]),
        "rows": len(outside),
    }


def _size(predictions: np.ndarray, spec: Mapping[str, Any]) -> np.ndarray:
    if not spec["at"]:
        return np.ones(len(predictions))
    return np.interp(predictions, spec["at"], spec["scale"])


def _scale(predictions: np.ndarray, targets: np.ndarray) -> dict[str, list[float]]:
    """Mean absolute error by the predicted number: at most ten bins of equally many rows, joined by straight lines."""
    bins = np.array_split(np.argsort(predictions, kind="stable"), int(np.clip(len(targets) // 20, 1, 10)))
    at = [float(predictions[rows].mean()) for rows in bins]
    errors = [float(np.abs(targets[rows] - predictions[rows]).mean()) for rows in bins]
    # A bin that happens to be exact must not promise intervals of no width.
    least = 0.1 * float(np.mean(errors)) or 1.0
    return {"at": at, "scale": [max(error, least) for error in errors]}


def _widths(predictions: np.ndarray, targets: np.ndarray, level: float, shape: dict[str, list[float]]) -> dict:
    relative = np.sort((targets - predictions) / _size(predictions, shape))
    num_rows, outside = len(relative), (1 - level) / 2
    # The rank that keeps the promise for one more row; few rows cannot promise more than their own extremes.
    rank = min(num_rows, math.ceil((num_rows + 1) * (1 - outside)))
    reached = level if rank < num_rows or rank >= (num_rows + 1) * (1 - outside) else (num_rows - 1) / (num_rows + 1)
    return {"level": reached, "low": float(relative[num_rows - rank]), "high": float(relative[rank - 1]),
            "rows": num_rows, "scaled": bool(shape["at"])} | shape  # fmt: skip


def _scaled_is_better(
    predictions: np.ndarray, targets: np.ndarray, shape: dict[str, list[float]], level: float
) -> bool:
    """Whether scaled intervals have a clearly lower score: each half's widths are judged on the other half."""
    half = len(targets) // 2
    unscaled: dict[str, list[float]] = {"at": [], "scale": []}
    gains = []
    for own, other in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
        scores = []
        for form in (shape, unscaled):
            ends = interval(predictions[other], _widths(predictions[own], targets[own], level, form))
            scores.append(_interval_score(*ends, targets[other], level))
        gains.append(scores[1] - scores[0])
    gain = np.concatenate(gains)
    return bool(gain.mean() > 1.96 * gain.std(ddof=1) / math.sqrt(len(gain)))


def _interval_score(low: np.ndarray, high: np.ndarray, targets: np.ndarray, level: float) -> np.ndarray:
    missed = np.maximum(low - targets, 0) + np.maximum(targets - high, 0)
    return high - low + 2 / (1 - level) * missed
