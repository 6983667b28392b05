"""Columns that together are the target: a sum of one or two of them equals it in every row, test rows too.

Whoever predicts does not know such columns yet (rentals by members and by guests, when all rentals are asked for), so a
model that uses them looks perfect and is useless. An exact identity is its own evidence: there is no error rate.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from fathom.doctor.finding import Finding

# Fewer distinct target values than this make an accidental identity thinkable.
LEAST_DISTINCT = 10
MOST_COLUMNS = 300


def find_sums(columns: Mapping[str, np.ndarray], targets: np.ndarray) -> list[tuple[str, ...]]:
    """Groups of one or two numeric columns that add up to the target in every row where all are known.

    `columns` hold float arrays [N] with NaN where missing, `targets` float [N]. Equality is to 1e-6 relative.
    """
    if len(np.unique(targets)) < LEAST_DISTINCT:
        return []
    scale = np.nanmax(np.abs(targets))
    names = list(columns)[:MOST_COLUMNS]
    found: list[tuple[str, ...]] = [(name,) for name in names if _equal(columns[name], targets, scale)]
    rest = [name for name in names if (name,) not in found]
    # A few rows rule out nearly every pair before all rows are looked at.
    sample = np.linspace(0, len(targets) - 1, num=min(64, len(targets))).astype(int)
    for one, other in itertools.combinations(rest, 2):
        both = columns[one][sample] + columns[other][sample]
        if _equal(both, targets[sample], scale) and _equal(columns[one] + columns[other], targets, scale):
            found.append((one, other))
    return found


def _equal(values: np.ndarray, targets: np.ndarray, scale: float) -> bool:
    known = np.isfinite(values)
    if known.sum() < max(LEAST_DISTINCT, 0.5 * len(values)):
        return False
    return bool(np.all(np.abs(values[known] - targets[known]) <= 1e-6 * scale))


def sum_finding(group: Sequence[str], target: str) -> Finding:
    """D4 for a group that `find_sums` gave; whoever prepares the data leaves these columns out."""
    together = " and ".join(f"'{name}'" for name in group)
    return Finding(
        "D4",
        seen=f"{together} {'add up to' if len(group) > 1 else 'equals'} '{target}' in every row",
        cause="A model that sees them has the answer already.",
        remedy=f"Left out; pass keep=[{','.join(group)}] to use them all the same.",
        by="exact",
        evidence={"columns": list(group)},
    )
