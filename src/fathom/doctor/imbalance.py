"""D7: a class so rare that it is passed over, or that nobody can tell how well it is found.

What a reader would get wrong: no ratio is a fault by itself. One row in a thousand may be told apart perfectly. Two
things are: too few rows in the test to measure the class, and a class that is found only once its rarity is allowed
for, because naming the others pays more (Menon et al. 2021, "Long-tail learning via logit adjustment").
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from fathom.doctor.finding import Finding
from fathom.doctor.parts.given import Given
from fathom.doctor.parts.out_of_fold import Learner

RARE, VERY_RARE = 0.2, 0.1  # of the share that all classes would have were they equal
HALF_WIDTH = 0.10  # of the interval of a class's recall
PASSED_OVER, FOUND = 0.25, 0.5  # recall less than so; recall, with the same model, when rarity is allowed for
SHOWN = 5


def find_imbalance(given: Given, learner: Learner, predicted: np.ndarray, level: float) -> Iterator[Finding]:
    if given.task.kind != "classify":
        return
    yield from _unmeasured(given)
    yield from _passed_over(given, learner, predicted, level)


def _unmeasured(given: Given) -> Iterator[Finding]:
    classes = len(given.task.classes)
    counts = np.bincount(given.targets, minlength=classes)
    tested = np.bincount(given.targets[given.test], minlength=classes)
    rare = np.flatnonzero((counts > 0) & (counts / len(given) < VERY_RARE / classes))
    wide = [c for c in rare if recall_half_width(int(tested[c])) > HALF_WIDTH]
    if not wide:
        return
    wide.sort(key=lambda c: int(tested[c]))
    told = ", ".join(f"'{given.task.classes[c]}' {counts[c]:,} (test: {tested[c]:,})" for c in wide[:SHOWN])
    best = recall_half_width(int(tested[wide].max()))
    yield Finding(
        "D7",
        seen=f"{len(wide)} of {classes} classes of '{given.task.target}' have very few rows: {told}"
        + (", …" if len(wide) > SHOWN else ""),
        cause=f"How many of them are found can be told to ± {100 * best:.0f} points at best, and little can be learned "
        "from so few.",
        remedy="Collect more of these rows, join them with a class that is alike, or judge by --metric "
        "balanced_accuracy and read the classes one by one.",
        by="exact",
        evidence={"classes": [given.task.classes[c] for c in wide], "counts": counts[wide].tolist(),
                  "tested": tested[wide].tolist()},
    )  # fmt: skip


def recall_half_width(rows: int) -> float:
    """Half the width of the 95 % interval of a recall of one half, from so many rows of the class."""
    if not rows:
        return 0.5
    found = stats.binomtest(rows // 2, rows).proportion_ci(0.95, method="wilson")
    return float(found.high - found.low) / 2


def _passed_over(given: Given, learner: Learner, predicted: np.ndarray, level: float) -> Iterator[Finding]:
    """Classes that the model tells apart and yet hardly ever names."""
    labels, classes = learner.targets, learner.classes
    counts = np.bincount(labels, minlength=classes)
    prior = np.maximum(counts, 1) / len(labels)
    plain, fair = predicted.argmax(axis=1), (predicted / prior).argmax(axis=1)
    found: dict[str, tuple[float, float]] = {}
    for c in np.flatnonzero((prior < RARE / classes) & (counts >= 20)):
        own = labels == c
        named, then = int(np.sum(plain[own] == c)), int(np.sum(fair[own] == c))
        high = float(stats.binomtest(named, int(own.sum())).proportion_ci(1 - level).high)
        # Named when allowed for, and not by naming it everywhere: its rows more often than the others, by far.
        others = np.mean(fair[~own] == c)
        if high < PASSED_OVER and then / own.sum() > max(FOUND, 2 * others):
            found[given.task.classes[c]] = (named / own.sum(), then / own.sum())
    if not found:
        return
    told = ", ".join(f"'{name}' in {a:.0%} of its rows, {b:.0%} when its rarity is allowed for"
                     for name, (a, b) in list(found.items())[:SHOWN])  # fmt: skip
    yield Finding(
        "D7",
        seen=f"A quick model names {told}",
        cause="Naming the frequent classes pays more, so the rare one is passed over though it can be told apart.",
        remedy="Judge by --metric balanced_accuracy, or train with train.class_weights=balanced.",
        by="test",
        confidence=1 - level,
        evidence={"classes": list(found), "recall": [a for a, _ in found.values()],
                  "recall_allowed_for": [b for _, b in found.values()]},
    )  # fmt: skip
