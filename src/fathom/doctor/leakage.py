"""D4: one column that has the answer: alone as good as all together, and far worse without it.

A test, so it only says "suspect": an honest column may be that good. What a reader would get wrong: two columns that
are each as good as all (length and width of a petal) are honest witnesses; only copies of one another are one suspect.
The exact case, columns that add up to the target, is `target_sum.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fathom.doctor.finding import Finding, drop_options
from fathom.doctor.parts.chance import p_of_mean_above
from fathom.doctor.parts.given import Given, column_of
from fathom.doctor.parts.out_of_fold import BINS, Learner

NEARLY_ALL = 0.80  # of the prior's loss, explained by all columns: a leak is nearly perfect
ALONE = 0.95  # of that, explained by the one column
WITHOUT = 0.80  # of that, explained by the others: more is no leak worth a word
HONEST = 0.02  # of the prior's loss, explained by the others: where they tell nothing, one column must do it all
LIKELY = 0.7  # of the gain, by a quick look: columns that are less are not tried
TRIED = 3
LEAST_ROWS = 100


def find_leakage(given: Given, learner: Learner, predicted: np.ndarray, level: float) -> Iterator[Finding]:
    """`predicted` are the learner's own held-out predictions from all columns."""
    whole = learner.gain(predicted)
    owners = [column_of(name, given.columns) for name in learner.table.names]
    if whole < NEARLY_ALL or len(set(owners)) < 2 or len(learner.rows) < LEAST_ROWS or learner.pictures:
        return
    quick: dict[str, float] = {}
    for at, owner in enumerate(owners):
        quick[owner] = max(quick.get(owner, -1.0), _quick_gain(learner, at))
    likely = sorted((name for name in quick if quick[name] >= LIKELY * whole), key=lambda name: -quick[name])[:TRIED]
    losses = learner.losses(predicted)
    for name in likely:
        own = [at for at, owner in enumerate(owners) if owner == name]
        alone = learner.gain(learner.predict(own))
        copies = [at for at, owner in enumerate(owners) if owner in likely and _says_the_same(learner, own[0], at)]
        rest = [at for at in range(len(owners)) if at not in own + copies]
        if alone < ALONE * whole or not rest:
            continue
        others = learner.predict(rest)
        without, p = learner.gain(others), p_of_mean_above(learner.losses(others) - losses)
        if not HONEST < without < WITHOUT * whole or p > level:
            continue
        columns = sorted({owners[at] for at in own + copies}, key=lambda n: n != name)
        yield _finding(given, columns, (whole, alone, without), p)
        return


def _finding(given: Given, columns: list[str], gains: tuple[float, float, float], p: float) -> Finding:
    whole, alone, without = gains
    told = " and ".join(f"'{name}'" for name in columns)
    one = len(columns) == 1
    return Finding(
        "D4",
        seen=f"{told} {'tells' if one else 'tell'} {alone:.0%} of '{given.task.target}' alone, all columns together "
        f"{whole:.0%}, all others {max(without, 0):.0%}",
        cause=f"Suspect: {'it' if one else 'they'} may have been written down after the target was known, or from it.",
        remedy=f"Ask when {'this value is' if one else 'these values are'} known. If only with the target, leave "
        f"{'it' if one else 'them'} out: {drop_options(columns)}. An honest column can be that good, too.",
        by="test",
        confidence=1 - p,
        evidence={"columns": columns, "alone": alone, "together": whole, "without": without, "p": p},
    )


def _quick_gain(learner: Learner, at: int) -> float:
    """What a column in bins tells, each half of the rows judged by the means of the other: a lower bound, nearly."""
    values = learner.table.matrix[:, at]
    bins = _binned(values, at >= learner.table.matrix.shape[1] - learner.table.codes)
    half = np.arange(len(values)) % 2
    prior = learner.prior()
    predicted = prior.astype(np.float64).reshape(len(values), -1).copy()
    hot = learner.targets[:, None].astype(np.float64) if learner.is_number else np.eye(learner.classes)[learner.targets]
    for side in (0, 1):
        there, here = half != side, half == side
        counts = np.bincount(bins[there], minlength=bins.max() + 1)
        sums = np.stack([np.bincount(bins[there], column[there], bins.max() + 1) for column in hot.T], axis=1)
        means = (sums + 0.5 * predicted[0]) / (counts[:, None] + 0.5)
        predicted[here] = means[bins[here]]
    return learner.gain(predicted[:, 0] if learner.is_number else predicted)


def _binned(values: np.ndarray, is_code: bool) -> np.ndarray:
    if is_code:
        return np.unique(values, return_inverse=True)[1].ravel()
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.zeros(1)
    return np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values))


def _says_the_same(learner: Learner, one: int, other: int) -> bool:
    """Whether two features order (or group) the rows alike."""
    a, b = (np.unique(learner.table.matrix[:, at], return_inverse=True)[1].ravel() for at in (one, other))
    pairs = len(np.unique(a * (b.max() + 1) + b))
    return (pairs <= 1.02 * max(a.max() + 1, b.max() + 1) and pairs <= 0.9 * len(a)) or _ranks_alike(a, b)


def _ranks_alike(a: np.ndarray, b: np.ndarray) -> bool:
    if a.max() < 2 or b.max() < 2:
        return False
    return abs(float(np.corrcoef(a, b)[0, 1])) > 0.999
