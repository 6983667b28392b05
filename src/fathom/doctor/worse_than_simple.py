"""A2: a model that a simple baseline beats, and rows of a kind on which a good model fails.

What a reader would get wrong: some classes and some groups are harder, and a healthy model does worse on them and knows
it. A failing group is one in which it is wrong more often than its own probabilities say. These are first made honest
as a whole (by one temperature), so that a model too sure everywhere (A3) fails nowhere in particular.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from fathom.doctor.finding import Finding
from fathom.doctor.parts.sketch import discoveries

LEVEL = 0.001
POINTS = 0.05  # of accuracy that a baseline must be better by
LARGER = 1.1  # or by which its error must be smaller
LEAST_ROWS = 30
SLICE_POINTS = 0.10
SLICE_RATE = 0.001  # of what is reported may be chance
SLICE_SPREAD = 0.5  # of the errors' own spread: a mean error in a group that is worth telling
SHOWN = 20


def find_worse_than_simple(
    model: str, baseline: str, scores: np.ndarray, simple: np.ndarray, *, of_shares: bool, advised: bool
) -> list[Finding]:
    """At most one finding from the scores of the same test rows (or units) by both.

    Of shares a score is 1 for right and 0 for wrong, by McNemar's exact test where rows stand for themselves; otherwise
    it is the size of the error, by Student's t of the paired differences. `advised` is whether the run advises it.
    """
    if len(scores) < LEAST_ROWS:
        return []
    of, to = float(scores.mean()), float(simple.mean())
    if of > to - POINTS if of_shares else of < LARGER * to:
        return []
    p = _paired(scores, simple, of_shares)
    if p > LEVEL:
        return []
    what = f"{of:.1%} of the test rows right, {to:.1%}" if of_shares else f"a mean error of {of:.4g}, {to:.4g}"
    seen = f"'{model}' has {what} by '{baseline}', which is far simpler"
    cause = "What the model could learn beyond that it has not learned: it was trained too short, too long or too fast."
    remedy = (
        f"Use the baseline: --candidate {baseline}."
        if advised
        else f"Nothing is lost: the run advises another model. To have '{model}' learn, see what else is found."
    )
    evidence: dict[str, Any] = {"model": of, "baseline": to, "p": p, "rows_test": len(scores)}
    return [Finding("A2", seen, cause, remedy, by="test", confidence=1 - p, evidence=evidence)]


def _paired(scores: np.ndarray, simple: np.ndarray, of_shares: bool) -> float:
    difference = simple - scores if of_shares else scores - simple
    if of_shares and set(np.unique(difference)) <= {-1.0, 0.0, 1.0}:
        better, worse = int((difference > 0).sum()), int((difference < 0).sum())
        return float(stats.binomtest(better, better + worse, alternative="greater").pvalue) if better else 1.0
    if difference.std() == 0:
        return 0.0 if difference.mean() > 0 else 1.0
    return float(stats.ttest_1samp(difference, 0, alternative="greater").pvalue)


def find_failing_slices(
    expected: np.ndarray,
    targets: np.ndarray,
    classes: Iterable[str],
    slices: Mapping[str, np.ndarray],
    places: list[str],
) -> list[Finding]:
    """At most one finding of classes and groups of rows that fail, from honest probabilities [N, C] of test rows.

    `slices` are groups of rows, bool [N], by what they are called ("job = nurse"). Of a class the share of its rows
    that are found is compared with what the probabilities promise; of a group the share of right rows.
    """
    given, right = expected.argmax(axis=1), expected.argmax(axis=1) == targets
    looked: list[tuple[str, np.ndarray, float, float, float]] = []
    for k, name in enumerate(classes):
        rows = targets == k
        if rows.sum() >= LEAST_ROWS:
            looked.append((f"class '{name}'", rows, *_recall(expected[:, k], rows, given == k)))
    sure = expected[np.arange(len(given)), given]
    for name, rows in slices.items():
        if rows.sum() >= LEAST_ROWS:
            p = p_of_at_least(int((~right[rows]).sum()), 1 - sure[rows])
            looked.append((name, rows, float(right[rows].mean()), float(sure[rows].mean()), p))
    if not looked:
        return []
    told = discoveries(np.array([p for *_, p in looked]), SLICE_RATE)
    failing = [one for one, is_told in zip(looked, told, strict=True) if is_told and one[3] - one[2] >= SLICE_POINTS]
    if not failing:
        return []
    failing.sort(key=lambda one: one[2] - one[3])
    worst, rows, got, hoped, _ = failing[0]
    more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
    seen = f"Of {int(rows.sum())} test rows of {worst} {got:.1%} are right; the model expects {hoped:.1%}{more}"
    wrong = np.flatnonzero(rows & ~right)[:SHOWN]
    evidence = {
        "groups": [{"name": n, "rows": int(r.sum()), "right": g, "expected": h, "p": p} for n, r, g, h, p in failing],
        "rows": wrong.tolist(),
        "places": [places[row] for row in wrong],
    }
    return [Finding("A2", seen, *_WHY, by="test", confidence=1 - failing[0][4], evidence=evidence)]


_WHY = (
    "It fails there without knowing it: such rows are rare in training, labelled otherwise, or differ in a way that "
    "no column tells.",
    "Look at these rows and their labels first; more rows of the kind, or a column that tells them apart, would help.",
)


def _recall(column: np.ndarray, rows: np.ndarray, is_given: np.ndarray) -> tuple[float, float, float]:
    """The share of a class's rows that are found, the share that probabilities promise, and p of as many missed."""
    promised = float((column * is_given).sum() / max(column.sum(), 1e-9))
    missed = int((rows & ~is_given).sum())
    return float(is_given[rows].mean()), promised, p_of_at_least(missed, column[~is_given])


def p_of_at_least(count: int, chances: np.ndarray) -> float:
    """The chance that at least `count` of independent events with these chances happen; exact, where few are expected
    too, for which the normal law is too sure (Poisson-binomial law, by its recursion).

    >>> round(p_of_at_least(2, np.array([0.5, 0.5, 0.5])), 3)
    0.5
    """
    fewer = np.zeros(max(count, 1))  # chance of 0, 1, … events so far
    fewer[0] = 1.0
    for chance in np.clip(chances, 0, 1):
        fewer[1:] += chance * (fewer[:-1] - fewer[1:])
        fewer[0] *= 1 - chance
    return float(np.clip(1 - fewer.sum(), 0, 1)) if count else 1.0


def find_biased_slices(errors: np.ndarray, slices: Mapping[str, np.ndarray], places: list[str]) -> list[Finding]:
    """At most one finding of groups whose numbers are predicted too high or too low, from prediction - truth [N]."""
    looked = [(name, rows) for name, rows in slices.items() if rows.sum() >= LEAST_ROWS and errors[rows].std() > 0]
    if not looked:
        return []
    p = np.array([stats.ttest_1samp(errors[rows], 0).pvalue for _, rows in looked])
    told, spread = discoveries(p, SLICE_RATE), float(errors.std())
    means = [float(errors[rows].mean()) for _, rows in looked]
    failing = [i for i in np.flatnonzero(told) if abs(means[i]) >= SLICE_SPREAD * spread]
    if not failing:
        return []
    failing.sort(key=lambda i: -abs(means[i]))
    worst, rows = looked[failing[0]]
    how = "high" if means[failing[0]] > 0 else "low"
    more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
    seen = (
        f"{int(rows.sum())} test rows of {worst} are predicted {abs(means[failing[0]]):.4g} too {how} on average{more}"
    )
    shown = np.flatnonzero(rows)[np.argsort(-np.abs(errors[rows]), kind="stable")][:SHOWN]
    groups = [{"name": looked[i][0], "rows": int(looked[i][1].sum()), "mean_error": means[i]} for i in failing]
    evidence = {"groups": groups, "rows": shown.tolist(), "places": [places[row] for row in shown], "spread": spread}
    return [Finding("A2", seen, *_WHY, by="test", confidence=1 - float(p[failing[0]]), evidence=evidence)]
