"""How sure a number is: Wilson and bootstrap intervals, and the tests for pairs of models. NumPy and the library only.

Everything here resamples whole units. A unit is a row where rows are independent, and a group (a patient, a day) where
they are not: rows of one patient are not new evidence, and intervals that take them for such are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
# Above this many rows they are put at random into as many bags, and bags are resampled: the variance of a mean of bags
# is the variance of the mean of their rows, and its estimate is off by only sqrt(2 / 2000) = 3 %.
MOST_UNITS = 2000
CHUNK = 2_000_000  # resampled units held in memory at once
NORMAL = NormalDist()


@dataclass(frozen=True)
class Resampled:
    """Means or sums of K columns over resampled rows. Columns resampled together are paired: each has the same rows."""

    whole: np.ndarray  # [K] over all rows
    samples: np.ndarray  # [RESAMPLES, K]
    without: np.ndarray  # [U, K] over all rows but one unit's, for the jackknife


def resample(rows: np.ndarray, units: np.ndarray | None = None, *, seed: int = 0) -> Resampled:
    """Bootstrap the means of `rows` [N, K] over units [N] (any labels), or over rows where `units` is None.

    Source: Efron 1979, Annals of Statistics 7; for groups Davison and Hinkley 1997, section 3.8.
    """
    sums = resample_sums(np.column_stack([rows, np.ones(len(rows))]), units, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        without = sums.without[:, :-1] / sums.without[:, -1:]
    return Resampled(rows.mean(axis=0), sums.samples[:, :-1] / sums.samples[:, -1:], without)


def resample_sums(rows: np.ndarray, units: np.ndarray | None = None, *, seed: int = 0) -> Resampled:
    """Bootstrap the sums of `rows` [N, K], of which a measure such as BLEU is made; draws as `resample` does."""
    generator = np.random.default_rng(seed)
    unit = _unit_of_row(len(rows), units, generator)
    sums = np.column_stack([np.bincount(unit, weights=column) for column in rows.T])
    num_units = len(sums)
    samples = np.empty((RESAMPLES, rows.shape[1]))
    step = max(1, CHUNK // max(num_units, 1))
    for start in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - start)
        drawn = generator.integers(num_units, size=(count, num_units)) + np.arange(count)[:, None] * num_units
        times = np.bincount(drawn.ravel(), minlength=count * num_units).reshape(count, num_units)
        samples[start : start + count] = times.astype(np.float64) @ sums
    whole = sums.sum(axis=0)
    return Resampled(whole, samples, whole - sums)


def _unit_of_row(num_rows: int, units: np.ndarray | None, generator: np.random.Generator) -> np.ndarray:
    if units is not None:
        return np.unique(units, return_inverse=True)[1]
    if num_rows <= MOST_UNITS:
        return np.arange(num_rows)
    return generator.permutation(num_rows) % MOST_UNITS


def num_units(num_rows: int, units: np.ndarray | None) -> int:
    """How many units these rows are: groups, or as many as there are rows."""
    return num_rows if units is None else len(np.unique(units))


def blocks(num_rows: int, num_judged: int) -> np.ndarray:
    """Units [N] of rows that follow each other and are alike, such as the pieces of one text: blocks of neighbours.

    A block has as many rows as the cube root of those that are judged at once, but a fifth of them at most: Carlstein
    1986, Annals of Statistics 14; Hall, Horowitz and Jing 1995, Biometrika 82. Where neighbours are very much alike,
    intervals are still too narrow.
    """
    return np.arange(num_rows) // max(1, min(math.ceil(num_judged ** (1 / 3)), num_judged // 5))


def bca(value: float, samples: np.ndarray, without: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Bias-corrected and accelerated interval from bootstrap values [B] and jackknife values [U].

    Source: Efron 1987, Journal of the American Statistical Association 82. NaN where the value is not finite or there
    are fewer than two units.
    """
    if not math.isfinite(value) or len(without) < 2:
        return float("nan"), float("nan")
    below = (np.sum(samples < value) + 0.5 * np.sum(samples == value)) / len(samples)
    bias = NORMAL.inv_cdf(float(np.clip(below, 1 / len(samples), 1 - 1 / len(samples))))
    off = without.mean() - without
    size = float((off**2).sum()) ** 1.5
    speed = float((off**3).sum()) / (6 * size) if size > 0 else 0.0
    ends = [NORMAL.inv_cdf((1 - level) / 2), NORMAL.inv_cdf((1 + level) / 2)]
    shares = [NORMAL.cdf(bias + (bias + end) / (1 - speed * (bias + end))) for end in ends]
    low, high = np.quantile(samples, shares)
    return min(float(low), value), max(float(high), value)


def resampled_values(
    measures: Callable[[np.ndarray], np.ndarray],
    num_rows: int,
    units: np.ndarray | None = None,
    *,
    seed: int = 0,
    resamples: int = 200,
    most_rows: int = 2_000,
) -> np.ndarray:
    """Resampled values [resamples, K] of any K measures of row ids, for those that are no means of rows: one call
    for each resample, so it is slow.

    Large data is resampled at `most_rows` rows and the spread shrunk to the full size (m out of n: Politis, Romano and
    Wolf 1999). Values are moved so that their median is the value over all rows, because resampling itself pushes a
    measure such as the calibration error upwards.
    """
    generator = np.random.default_rng(seed)
    size = min(num_rows, most_rows) if units is None else num_rows
    values = np.array([measures(rows) for rows in _draws(num_rows, size, units, resamples, generator)])
    whole, middle = measures(np.arange(num_rows)), np.nanmedian(values, axis=0)
    # A resample in which a measure is undefined (one class only) says nothing: it counts as the middle.
    return whole + (np.where(np.isfinite(values), values, middle) - middle) * math.sqrt(size / num_rows)


def _draws(
    num_rows: int, size: int, units: np.ndarray | None, resamples: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    if units is None:
        yield from (generator.integers(num_rows, size=size) for _ in range(resamples))
        return
    unit = np.unique(units, return_inverse=True)[1]
    members = np.split(np.argsort(unit, kind="stable"), np.cumsum(np.bincount(unit))[:-1])
    for _ in range(resamples):
        yield np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])


def wilson(hits: float, rows: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share, right also near 0 and 1 where the bootstrap has no width. NaN for no rows.

    Source: Wilson 1927, Journal of the American Statistical Association 22.
    """
    if not rows:
        return float("nan"), float("nan")
    z = NORMAL.inv_cdf((1 + level) / 2)
    share = hits / rows
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2)) / (1 + z**2 / rows)
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p of "both are right equally often", from rows right (bool [N]) of two models.

    Only rows where one is right and the other wrong count. Source: McNemar 1947, Psychometrika 12, exact form.
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    fewer, both = min(only_first, only_second), only_first + only_second
    if not both:
        return 1.0
    logs = [math.lgamma(both + 1) - math.lgamma(i + 1) - math.lgamma(both - i + 1) for i in range(fewer + 1)]
    return min(1.0, 2 * sum(math.exp(log - both * math.log(2)) for log in logs))


def share_beyond_zero(samples: np.ndarray) -> float:
    """Two-sided bootstrap p of "there is no difference" from resampled differences [B]; never below 1 / (B + 1)."""
    fewer = min(int(np.sum(samples <= 0)), int(np.sum(samples >= 0)))
    return min(1.0, 2 * (fewer + 1) / (len(samples) + 1))
