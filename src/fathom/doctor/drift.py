"""D8: training and test rows differ: a model that has not seen a row can tell which part it is from.

Asked only where the test was delivered as such; rows that were dealt at random cannot differ but by chance. What a
reader would get wrong: with many rows the slightest difference is significant, so it must also be large (an AUC above
0.60, where 0.5 is guessing). Sources: Lopez-Paz and Oquab 2017 (classifier two-sample tests); columns by Kolmogorov and
Smirnov, or by chi-squared, with Holm's correction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

from fathom.doctor.finding import Finding
from fathom.doctor.parts.given import Features, Given
from fathom.doctor.parts.out_of_fold import Learner

FLOOR = 0.60  # AUC
APART = 0.10  # of a column: distance of the two distributions, from 0 to 1
LEAST_ROWS, MOST_ROWS = 100, 4_000  # of each part
SHOWN = 4


def find_drift(given: Given, level: float) -> Iterator[Finding]:
    if given.parts is None or not given.official or "time" in given.names:
        return
    train, test = np.flatnonzero(given.parts == "train"), np.flatnonzero(given.parts == "test")
    if min(len(train), len(test)) < LEAST_ROWS:
        return
    most = min(MOST_ROWS, given.rows // 2)
    rows = np.sort(np.concatenate([given.some(train, most), given.some(test, most)]))
    is_test = (given.parts[rows] == "test").astype(np.int64)
    learner = Learner(given, rows, is_test)
    auc, p = auc_of(learner.predict()[:, 1], is_test)
    if auc < FLOOR or p > level:
        return
    columns = columns_apart(learner.table, is_test.astype(bool), level)
    labels = _labels_apart(given, rows, is_test.astype(bool), level)
    told = ", ".join(f"'{name}' ({far:.0%} apart)" for name, far in list(columns.items())[:SHOWN])
    yield Finding(
        "D8",
        seen=f"Whether a row is from the training or the test can be told with an AUC of {auc:.2f} (guessing: 0.50)"
        + (f"; most by {told}" if told else "")
        + (f"; the shares of '{given.task.target}' are {labels:.0%} apart" if labels else ""),
        cause="The parts were collected at different times or places, or prepared in different ways.",
        remedy="If predictions are for rows like the test, keep it and collect training rows like them. If the parts "
        "were divided carelessly, join them and let `fathom fit` divide them.",
        by="test",
        confidence=1 - p,
        evidence={
            "auc": auc,
            "p": p,
            "columns": list(columns),
            "apart": list(columns.values()),
            "labels_apart": labels,
        },
    )


def auc_of(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Area under the curve, and the one-sided p that it is 0.5 (Mann and Whitney, normal for many rows)."""
    ones, zeros = int(positive.sum()), int(len(positive) - positive.sum())
    ranks = stats.rankdata(scores)
    auc = (ranks[positive == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros)
    spread = math.sqrt((ones + zeros + 1) / (12 * ones * zeros))
    return float(auc), float(stats.norm.sf((auc - 0.5) / spread))


def columns_apart(table: Features, is_test: np.ndarray, level: float) -> dict[str, float]:
    """Encoded columns that differ beyond chance and by much → how far their distributions are apart, farthest first."""
    first = table.matrix.shape[1] - table.codes
    tested: list[tuple[float, float, str]] = []
    for at, (name, column) in enumerate(zip(table.names, table.matrix.T, strict=True)):
        far, p = _codes_apart(column, is_test) if at >= first else _numbers_apart(column, is_test)
        tested.append((p, far, name))
    found: dict[str, float] = {}
    for number, (p, far, name) in enumerate(sorted(tested)):
        if p > level / (len(tested) - number):  # Holm
            break
        if far >= APART:
            found[name] = far
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _numbers_apart(column: np.ndarray, is_test: np.ndarray) -> tuple[float, float]:
    # What is missing stands left of all numbers.
    values = np.where(np.isnan(column), -np.inf, column)
    found: Any = stats.ks_2samp(values[~is_test], values[is_test], method="asymp")
    return float(found.statistic), float(found.pvalue)


def _codes_apart(codes: np.ndarray, is_test: np.ndarray) -> tuple[float, float]:
    code = np.unique(codes, return_inverse=True)[1].ravel()
    counts = np.stack([np.bincount(code[is_test == side], minlength=code.max() + 1) for side in (False, True)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    rare = counts.sum(axis=0) < 10
    joined = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)]) if rare.any() else counts
    joined = joined[:, joined.sum(axis=0) > 0]
    p = float(stats.chi2_contingency(joined).pvalue) if joined.shape[1] > 1 else 1.0
    return float(np.abs(shares[0] - shares[1]).sum() / 2), p


def _labels_apart(given: Given, rows: np.ndarray, is_test: np.ndarray, level: float) -> float:
    """How far the targets of the parts are apart; 0 where chance or little."""
    apart = _codes_apart if given.task.kind == "classify" else _numbers_apart
    far, p = apart(given.targets[rows], is_test)
    return far if p < level and far >= APART else 0.0
