"""A1: too good to be true. A model that does better on rows it never saw than on those it learned from is no wonder
child: the test rows are easier, chosen otherwise, or copies.

What a reader would get wrong: a high score is no sign of anything. Both scores must be taken in evaluation mode; the
loss that training prints, with dropout and augmentation, is often above that of the test rows and says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fathom.doctor.finding import Finding, drop_options

SURE = 4.0  # standard errors
POINTS = 0.02  # of a share: less is not told
SMALLER = 0.9  # of an error: less of a difference is not told
LEAST_UNITS = 30
PERFECT = 1 - 1e-9


def of_units(scores: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """One mean for each unit: rows of one patient are not evidence of their own. The scores themselves without."""
    if units is None:
        return np.asarray(scores, np.float64)
    unit = np.unique(units, return_inverse=True)[1]
    return np.bincount(unit, weights=scores) / np.bincount(unit)


def find_too_good(train: np.ndarray, test: np.ndarray, *, of_shares: bool) -> list[Finding]:
    """At most one finding from the scores of each training and each test row (or unit).

    Of shares a score is 1 where the model is right, else 0; otherwise it is the size of the error. By the difference of
    the means in standard errors, which for shares is the two-proportion test.
    """
    if min(len(train), len(test)) < LEAST_UNITS:
        return []
    seen, unseen = float(train.mean()), float(test.mean())
    better = unseen - seen if of_shares else seen - unseen
    if better < POINTS if of_shares else unseen > SMALLER * seen:
        return []
    z = better / max(_error(train, test, of_shares), 1e-12)
    if z <= SURE:
        return []
    what = (
        f"It is right in {unseen:.1%} of the test rows, and in only {seen:.1%} of the rows it learned from"
        if of_shares
        else f"Its mean error is {unseen:.4g} on the test rows, and {seen:.4g} on the rows it learned from"
    )
    cause = (
        "Chance does not do that. The test rows are easier, were cleaned or chosen in another way, or stand among the "
        "training rows as copies."
    )
    remedy = "Look at how the test rows were chosen; split at random, or by group, from one source."
    evidence = {"train": seen, "test": unseen, "z": z, "rows_train": len(train), "rows_test": len(test)}
    return [Finding("A1", what, cause, remedy, by="test", confidence=1 - _tail(z), evidence=evidence)]


def _error(train: np.ndarray, test: np.ndarray, of_shares: bool) -> float:
    """Standard error of the difference of the means; of shares from both together, as if they were one."""
    if of_shares and set(np.unique(np.append(train, test))) <= {0.0, 1.0}:
        share = float(np.append(train, test).mean())
        return math.sqrt(share * (1 - share) * (1 / len(train) + 1 / len(test)))
    return math.sqrt(train.var(ddof=1) / len(train) + test.var(ddof=1) / len(test))


def _tail(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


def find_perfect_with_leak(
    score: float, findings: Sequence[Mapping[str, Any]], used: Sequence[str], rows: int
) -> list[Finding]:
    """A score without a mistake (1 is perfect) by a model that was given a column known to hold the answer."""
    if score < PERFECT:
        return []
    for one in findings:
        evidence = one.get("evidence") or {}
        columns = [str(name) for name in one.get("columns") or evidence.get("columns") or []]
        held = [name for name in columns if name in used]
        if one.get("id") != "D4" or not held:
            continue
        named = " and ".join(f"'{name}'" for name in held)
        seen = f"It makes no mistake on {rows:,} test rows, and was given {named}"
        cause = f"{named} tells the answer (D4): a model that sees it has nothing to learn."
        remedy = f"Fit again without: {drop_options(held)}."
        return [Finding("A1", seen, cause, remedy, by="exact", evidence={"columns": held, "rows_test": rows})]
    return []
