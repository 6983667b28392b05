"""A data set before any training: which families look at it, in which order, and what error each may make.

What a reader would get wrong: an exact scan has no error rate; the tests share one budget, so that a healthy data set
is alarmed about in one case of a hundred at most, however many of them look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from fathom.doctor.columns import find_columns
from fathom.doctor.drift import find_drift
from fathom.doctor.finding import Finding
from fathom.doctor.groups import find_candidates, find_declared
from fathom.doctor.imbalance import find_imbalance
from fathom.doctor.label_noise import find_label_noise
from fathom.doctor.leakage import find_leakage
from fathom.doctor.misaligned import find_misaligned
from fathom.doctor.parts.chance import ErrorBudget
from fathom.doctor.parts.given import Given
from fathom.doctor.parts.out_of_fold import Learner
from fathom.doctor.provenance import find_scaled
from fathom.doctor.twins import find_twins

BUDGET = ErrorBudget(0.005, detectors=8)


def look(given: Given, kinds: dict[str, str]) -> tuple[list[Finding], tuple[str, ...]]:
    """All findings, and what was looked for. The same rows and seed give the same findings."""
    findings: list[Finding] = []
    looked: list[str] = []
    for what, found in _families(given, kinds):
        findings += found
        looked.append(what)
    return findings, tuple(looked)


def _families(given: Given, kinds: dict[str, str]) -> Iterator[tuple[str, Iterable[Finding]]]:
    """What each family looks for, and its findings; those that share predictions come last."""
    level = BUDGET.level(1)
    yield "odd values", find_columns(given, kinds, level)
    yield "copies of rows", find_twins(given, level)
    yield "groups on both sides", find_declared(given)
    yield "scaling with test rows", find_scaled(given)
    learner = Learner(given, given.some(np.sort(np.concatenate([given.train, given.test]))))
    if not learner.table.names and learner.bag is None:
        return
    yield "differences of the parts", find_drift(given, level)
    predicted = learner.predict()
    if misaligned := list(find_misaligned(given, learner, predicted, level)):
        yield "targets mixed up", misaligned
        return  # what else would be said of a model that knows nothing?
    yield "targets mixed up", ()
    yield "leaks of the target", find_leakage(given, learner, predicted, level)
    yield "columns that group the rows", find_candidates(given, learner, kinds, level)
    yield "wrong labels", find_label_noise(given, learner, predicted, level)
    yield "rare classes", find_imbalance(given, learner, predicted, level)
