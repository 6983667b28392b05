"""Where a classifier is wrong: confusion, the pairs taken for each other, and whether its sureness can be believed."""

from __future__ import annotations

import math

import numpy as np

from fathom.intervals import wilson
from fathom.report.charts import calibration, heat
from fathom.report.facts import Facts
from fathom.report.html import Html
from fathom.report.numbers import fixed, percent, spoken
from fathom.report.sections.parts import figure, figures, table

FEW_CLASSES = 4
MOST_CLASSES = 30  # a matrix of more is not read by anybody
ROWS_IN_A_BIN = 25

Bin = tuple[float, float, float, float]  # how sure, how often right, and the interval of that


def classes(facts: Facts) -> list[Html | None]:
    counts = facts.confusion
    if counts is None:
        return []
    names = facts.classes
    fits = len(names) <= MOST_CLASSES
    caption = f"Test rows, answered by the {spoken(facts.advised)}. Shades are shares of the row; blue is right."
    matrix = figure("What was taken for what", heat(counts, names), caption) if fits else None
    # Two classes have two pairs, and both stand in the matrix.
    pairs = _pairs(counts, names, 8 if fits else 25) if len(names) > 2 else None
    others = [_calibration(facts), pairs, None if fits else _hardest(counts, names)]
    # A small matrix leaves room beside it.
    return [figures(matrix, *others)] if len(names) <= FEW_CLASSES else [matrix, figures(*others)]


def _pairs(counts: np.ndarray, names: list[str], most: int) -> Html | None:
    wrong = counts - np.diag(np.diag(counts))
    order = [divmod(int(i), len(names)) for i in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    body = [
        (names[i], names[j], fixed(int(wrong[i, j]), 0), percent(wrong[i, j] / counts[i].sum(), 0))
        for i, j in order
        if wrong[i, j]
    ]
    if not body:
        return None
    head = ["true", "taken for", "rows", "of the class"]
    return figure("The most confused pairs", table(head, body, numbers=(2, 3), label="most confused pairs"))


def _hardest(counts: np.ndarray, names: list[str], most: int = 25) -> Html:
    totals = counts.sum(axis=1)
    found = np.divide(np.diag(counts), totals, out=np.full(len(names), np.nan), where=totals > 0)
    order = [int(i) for i in np.argsort(found, kind="stable")[:most] if totals[i]]
    body = [(names[i], fixed(int(totals[i]), 0), percent(float(found[i]), 0)) for i in order]
    return figure(
        "The hardest classes", table(["class", "rows", "right"], body, numbers=(1, 2), label="hardest classes")
    )


def _calibration(facts: Facts) -> Html | None:
    if facts.probabilities is None or facts.truth is None or facts.predicted is None:
        return None
    sure = facts.probabilities.max(axis=1)
    right = facts.predicted.astype(str) == facts.truth.astype(str)
    bins = reliability(sure, right)
    if len(bins) < 2:
        return None
    drawing = calibration(bins, says="how often it is right against how sure it was")
    said, was = float(sure.mean()), float(right.mean())
    caption = (
        f"On average it is {percent(said)} sure and right {percent(was)} of the time: {_judged(said, was, len(right))} "
        f"Each point stands for {len(right) // len(bins):,} test rows, with a 95 % interval."
    )
    return figure("When it says it is sure", drawing, caption)


def _judged(said: float, was: float, num_rows: int) -> str:
    gap = said - was
    # Twice the standard error of the share of right rows: a smaller gap is chance.
    if abs(gap) < max(0.01, 2 * math.sqrt(was * (1 - was) / num_rows)):
        return "its word can be taken."
    return f"{fixed(100 * abs(gap), 1)} points too {'sure' if gap > 0 else 'modest'}."


def reliability(sure: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Rows in up to ten groups of equal number by how sure the answer was, with Wilson's interval (1927)."""
    num_bins = min(10, len(sure) // ROWS_IN_A_BIN)
    order = np.argsort(sure, kind="stable")
    return [
        (float(sure[part].mean()), float(right[part].mean()), *wilson(int(right[part].sum()), len(part)))
        for part in (np.array_split(order, num_bins) if num_bins else [])
    ]
