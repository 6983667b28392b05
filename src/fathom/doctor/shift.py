"""P1, second part: new rows that differ from those the model was made with: columns, answers, what the model sees.

Each is a test and a size that matters; all together err in one clean data set of a thousand. What a reader would get
wrong: a shift is no harm. Rentals in winter are not rentals in summer, and the model may know both; whether the answers
are worse is told by P2, where the truth is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.spatial import distance

from fathom.doctor.finding import Finding
from fathom.doctor.parts import sketch as sketches
from fathom.doctor.parts.sketch import Numbers, Sketch, p_of_counts, p_of_distance, total_variation

LEVEL = 0.001 / 4  # of each: columns, answers, features, single rows
DISTANCE = 0.10  # Kolmogorov and Smirnov's, or total variation
AREA = 0.60  # under the curve, of telling new rows from old ones
LEAST_ROWS = 20
RESAMPLES = 200
SHOWN = 20
CAUSE = "The new rows are not of the kind that the model was made with."
_LOOK = "See which inputs moved, and let a person look at some of these rows."


class Moved(NamedTuple):
    name: str
    size: float
    p: float


def find_moved_columns(known: Mapping[str, Sketch], values: Mapping[str, np.ndarray], scale: float) -> list[Finding]:
    """At most one finding of columns whose values are distributed otherwise, by Kolmogorov and Smirnov's test or
    chi-square, Holm's correction, and a distance of at least a tenth."""
    looked = []
    for name, sketch in known.items():
        if name in values and len(values[name]) >= LEAST_ROWS and sketch.rows >= LEAST_ROWS:
            looked.append(_of_numbers(name, sketch, values[name], scale) if isinstance(sketch, Numbers)
                          else _of_counts(name, *sketch.beside(values[name]), scale))  # fmt: skip
    if not looked:
        return []
    told = sketches.holm(np.array([one.p for one in looked]), LEVEL)
    moved = [one for one, is_told in zip(looked, told, strict=True) if is_told and one.size >= DISTANCE]
    if not moved:
        return []
    moved.sort(key=lambda one: -one.size)
    named = ", ".join(f"'{one.name}' ({one.size:.2f})" for one in moved[:5])
    more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
    seen = f"{len(moved)} of {len(looked)} columns have other values than in training (distance, 0 to 1): {named}{more}"
    remedy = "See whether the data is from another source, place or time; fit again with such rows if they will stay."
    evidence = {"columns": [one.name for one in moved], "distances": {one.name: one.size for one in moved}}
    return [_shift("columns", seen, remedy, max(one.p for one in moved), evidence)]


def _of_numbers(name: str, sketch: Numbers, values: np.ndarray, scale: float) -> Moved:
    size = sketch.distance(values)
    return Moved(name, size, p_of_distance(size, sketch.rows * scale, np.isfinite(values).sum() * scale))


def _of_counts(name: str, then: np.ndarray, now: np.ndarray, scale: float) -> Moved:
    return Moved(name, total_variation(then, now), p_of_counts(then * scale, now * scale))


def _shift(of: str, seen: str, remedy: str, p: float, evidence: dict[str, Any]) -> Finding:
    return Finding("P1", seen, CAUSE, remedy, by="test", confidence=1 - p, evidence={"shift_of": of, "p": p} | evidence)


def find_moved_answers(then: np.ndarray, now: np.ndarray, scale: float, what: str) -> list[Finding]:
    """At most one finding from one number of each answer: how sure it is, the number predicted, the cost of a text."""
    if min(len(then), len(now)) < LEAST_ROWS:
        return []
    size = float(stats.ks_2samp(then, now).statistic)
    p = p_of_distance(size, len(then) * scale, len(now) * scale)
    if size < DISTANCE or p > LEVEL / 2:
        return []
    what = what[0].upper() + what[1:]
    seen = f"{what} is {np.mean(now):.4g} on average for the new rows, and {np.mean(then):.4g} for the test rows"
    evidence = {"distance": size, "mean_then": float(np.mean(then)), "mean_now": float(np.mean(now))}
    return [_shift("answers", seen, _LOOK, p, evidence)]


def find_moved_classes(
    then: np.ndarray, truth: np.ndarray, now: np.ndarray, classes: Sequence[str], scale: float
) -> list[Finding]:
    """At most one finding from probabilities of the test rows [N, C], their classes [N], and of the new rows [M, C].

    Where the classes that are given changed, the classes' new shares are told by what the model mixes up (black box
    shift estimation: Lipton, Wang and Smola 2018, arXiv:1802.03916), if these shares alone explain how sure it is.
    """
    if min(len(then), len(now)) < LEAST_ROWS:
        return []
    num = len(classes)
    before, after = (np.bincount(side.argmax(axis=1), minlength=num).astype(float) for side in (then, now))
    size, p = total_variation(before, after), p_of_counts(before * scale, after * scale)
    if size < DISTANCE or p > LEVEL / 2:
        return []
    shares = after / after.sum()
    top = np.argsort(-np.abs(shares - before / before.sum()), kind="stable")[:3]
    said = ", ".join(f"'{classes[k]}' {shares[k]:.1%} (was {before[k] / before.sum():.1%})" for k in top)
    seen = f"Other classes are given than to the test rows: {said}"
    evidence: dict[str, Any] = {"distance": size, "classes": dict(zip(classes, shares.tolist(), strict=True))}
    weights = label_weights(then, truth, now)
    if weights is None or _unexplained(then, truth, now, weights) >= DISTANCE:
        return [_shift("answers", seen, _LOOK, p, evidence)]
    priors = _priors(weights, truth)
    low, high = _interval_of_priors(then, truth, now)
    told = ", ".join(f"'{classes[k]}' {priors[k]:.1%}, {low[k]:.0%} to {high[k]:.0%}" for k in top)
    cause = f"The classes seem to occur in other shares than in training ({told}), and to look as they did."
    remedy = (
        "If so, multiply each class's probability by its factor in the evidence (new share by old share) and make "
        "them sum to one; fit again if the shares will stay."
    )
    evidence |= {
        "priors": dict(zip(classes, priors.tolist(), strict=True)),
        "intervals": {name: [float(low[k]), float(high[k])] for k, name in enumerate(classes)},
        "factors": dict(zip(classes, weights.tolist(), strict=True)),
    }
    return [replace(_shift("classes", seen, remedy, p, evidence), cause=cause)]


def label_weights(then: np.ndarray, truth: np.ndarray, now: np.ndarray) -> np.ndarray | None:
    """New share of each class by its old one [C], none below zero; None where the model tells classes apart too badly.

    From C w = m: C the mean probabilities of test rows by their true class, times its share; m those of the new rows.
    Probabilities say more than the classes they lead to, so they need fewer rows.
    """
    num = then.shape[1]
    mixed = np.stack([then[truth == k].sum(axis=0) for k in range(num)], axis=1) / len(truth)
    shares = np.bincount(truth, minlength=num) / len(truth)
    if (shares == 0).any():
        return None
    # Of the matrix of probabilities, so that rare classes do not make a good model look singular.
    if np.linalg.svd(mixed / shares, compute_uv=False)[-1] < 0.1:
        return None
    weights = np.clip(np.linalg.solve(mixed, now.mean(axis=0)), 0, None)
    return weights / (weights * shares).sum()


def _priors(weights: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The classes' shares [C] now."""
    return weights * np.bincount(truth, minlength=len(weights)) / len(truth)


def _interval_of_priors(then: np.ndarray, truth: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Low and high end [2, C] of each class's share: 95 % of bootstrap samples of both sides."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        rows, others = generator.integers(len(then), size=len(then)), generator.integers(len(now), size=len(now))
        weights = label_weights(then[rows], truth[rows], now[others])
        if weights is not None:
            found.append(_priors(weights, truth[rows]))
    return np.quantile(found, [0.025, 0.975], axis=0) if found else np.tile([[0.0], [1.0]], then.shape[1])


def _unexplained(then: np.ndarray, truth: np.ndarray, now: np.ndarray, weights: np.ndarray) -> float:
    """The distance of how sure the model is that is left when the test rows count as their classes do now."""
    sure, weight = then.max(axis=1), weights[truth]
    order = np.argsort(sure, kind="stable")
    cumulated = np.append(0, np.cumsum(weight[order])) / weight.sum()
    at = np.sort(now.max(axis=1))
    there = cumulated[np.searchsorted(sure[order], at, side="right")]
    return float(np.abs(there - np.searchsorted(at, at, side="right") / len(at)).max())


def find_moved_features(then: np.ndarray, now: np.ndarray, scale: float, seed: int = 0) -> list[Finding]:
    """At most one finding from what the network sees of each row, [N, D] and [M, D].

    A linear classifier on the values and their squares learns on half of the rows to tell new from old; on the other
    half the area under its curve is tested (Lopez-Paz and Oquab 2017, arXiv:1610.06545), and must be above .60.
    """
    if min(len(then), len(now)) < 2 * LEAST_ROWS:
        return []
    rows = np.concatenate([then, now]).astype(np.float64)
    is_new = np.arange(len(rows)) >= len(then)
    learns = np.zeros(len(rows), bool)
    generator = np.random.default_rng(seed)
    for own in (np.flatnonzero(~is_new), np.flatnonzero(is_new)):
        learns[generator.permutation(own)[: len(own) // 2]] = True
    mean, spread = rows[learns].mean(axis=0), rows[learns].std(axis=0)
    rows = np.clip((rows - mean) / np.where(spread > 0, spread, 1), -5, 5)
    rows = np.column_stack([rows, rows**2, np.ones(len(rows))])
    given, wanted = rows[learns], np.where(is_new[learns], 1 / is_new[learns].mean(), -1 / (1 - is_new[learns].mean()))
    weights = np.linalg.solve(given.T @ given + 0.1 * len(given) * np.eye(rows.shape[1]), given.T @ wanted)
    scores, side = rows[~learns] @ weights, is_new[~learns]
    found = stats.mannwhitneyu(scores[side], scores[~side], alternative="greater", method="asymptotic")
    area = float(found.statistic) / (side.sum() * (~side).sum())
    p = float(stats.norm.sf(stats.norm.isf(max(found.pvalue, 1e-300)) * np.sqrt(scale)))
    if area < AREA or p > LEVEL:
        return []
    seen = f"By what the network sees, new rows are told from test rows (area under the curve {area:.2f}, chance .50)"
    remedy = "Look at rows of both beside each other; fit again with the new kind if it will stay."
    return [_shift("features", seen, remedy, p, {"area": area})]


def distance_to(bank: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The mean distance [M] of rows [M, D] to their five nearest of a bank [N, D], dimensions by their spread there."""
    bank, rows = bank.astype(np.float64), rows.astype(np.float64)
    spread = bank.std(axis=0)
    spread[spread == 0] = 1
    apart = distance.cdist(rows / spread, bank / spread)
    return np.sort(apart, axis=1)[:, : min(5, len(bank))].mean(axis=1)


def find_strange_rows(then: np.ndarray, now: np.ndarray, places: Sequence[str], scale: float) -> list[Finding]:
    """At most one finding from how strange each row is: of test rows [N] and new rows [M], which are alike if clean.

    The p of a row is its rank among the test rows (conformal: exact for any distribution); rows are told apart by
    Benjamini and Hochberg (Bates et al. 2023, Annals of Statistics 51), and an alarm needs more rows beyond nearly
    all test rows than chance puts there.
    """
    if min(len(then), len(now)) < LEAST_ROWS:
        return []
    ordered = np.sort(then)
    p_rows = (1 + len(then) - np.searchsorted(ordered, now, side="left")) / (len(then) + 1)
    beyond = max(1, len(then) // 100)  # so many test rows are stranger than the border
    border = ordered[-beyond]
    many = int((now > border).sum())
    # Rows beyond the border of a sample: beta-binomial, since the border is itself a matter of chance.
    law = stats.betabinom(round(len(now) * scale), max(beyond * scale, 1), max((len(then) + 1 - beyond) * scale, 1))
    p = float(law.sf(round(many * scale) - 1))
    told = sketches.discoveries(p_rows, 0.05)
    share = many / len(now)
    if p > LEVEL or share < 5 * beyond / len(then) or many < 3:
        return []
    rows = np.flatnonzero(told) if told.any() else np.flatnonzero(now > border)
    rows = rows[np.argsort(-now[rows], kind="stable")]
    seen = (
        f"{share:.1%} of the new rows are stranger than {1 - beyond / len(then):.1%} of the test rows, such as "
        f"{', '.join(places[row] for row in rows[:3])}"
    )
    remedy = "Do not take the answers for these rows at their word; let a person decide."
    evidence = {
        "share": share, "flagged": int(told.sum()), "rows": rows[:SHOWN].tolist(),
        "places": [places[row] for row in rows[:SHOWN]],
    }  # fmt: skip
    return [_shift("rows", seen, remedy, p, evidence)]


def joined(skews: list[Finding], shifts: list[Finding]) -> list[Finding]:
    """Causes, with what follows from them attached to the first: what the model makes of such rows, strange rows.

    Order of causes: cells written otherwise, classes in other shares, columns. Columns that moved while classes came in
    other shares follow from these. `shifts` are of columns that are no skew.
    """
    order = {"classes": 0, "columns": 1, "features": 2, "answers": 3, "rows": 4}
    shifts = sorted(shifts, key=lambda one: order[one.evidence["shift_of"]])
    causes = [*skews, *(one for one in shifts if one.evidence["shift_of"] in ("classes", "columns"))]
    if len(causes) > 1 and causes[-2].evidence.get("shift_of") == "classes":
        causes.pop()
    if not causes:
        causes = shifts[:1]
    rest = tuple(one for one in shifts if one not in causes)
    return [replace(one, symptoms=rest if place == 0 else ()) for place, one in enumerate(causes)]
