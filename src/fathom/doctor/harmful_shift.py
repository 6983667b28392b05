"""P2: the answers have become worse, by more than chance and more than two points; this decides how much P1 matters.

A lower bound of the new rows' risk is held against an upper bound of the test rows'. What a reader would get wrong: it
speaks of the rows whose truth is there. It says nothing of those whose truth comes late, and where the truth is told
of some kinds of rows first, it is misled.

Source: Podkopaev and Ramdas 2022, arXiv:2110.06177 (lower bound of the new risk above upper bound of the old one and a
tolerance); the bounds are by betting, Waudby-Smith and Ramdas 2024, JRSS B 86, arXiv:2010.09686.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from fathom.doctor.finding import Finding

LEVEL = 0.004  # half for each bound; that both fail, and by two points, is far rarer
TOLERANCE = 0.02
LEAST_ROWS = 10
MOST_BET = 0.75  # of the capital
STEPS = 14  # of a bisection: a bound to 1 / 2 ** 14


def lower_bound(risks: np.ndarray, level: float) -> float:
    """A bound below the mean of numbers between 0 and 1, in order of arrival, that holds at all times with 1 - level.

    For each possible mean a gambler bets that the numbers are larger; who has won 1 / level times his stake has
    refuted it. The highest that was refuted at any time is the bound.

    >>> lower_bound(np.ones(100), 0.01) > 0.9, lower_bound(np.zeros(100), 0.01)
    (True, 0.0)
    """
    risks = np.asarray(risks, np.float64)
    assert ((risks >= 0) & (risks <= 1)).all(), "risks lie between 0 and 1"
    if not len(risks) or _capital(risks, 2.0**-STEPS) < -math.log(level):
        return 0.0
    low, high = 2.0**-STEPS, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        refuted = _capital(risks, middle) >= -math.log(level)
        low, high = (middle, high) if refuted else (low, middle)
    return low


def upper_bound(risks: np.ndarray, level: float) -> float:
    """As `lower_bound`, from above; at one look, and then exact for zeros and ones (Clopper and Pearson 1934)."""
    if set(np.unique(risks)) <= {0.0, 1.0}:
        wrong = int(np.sum(risks))
        return float(stats.beta.ppf(1 - level, wrong + 1, len(risks) - wrong)) if wrong < len(risks) else 1.0
    return 1.0 - lower_bound(1.0 - np.asarray(risks, np.float64), level)


def _capital(risks: np.ndarray, mean: float) -> float:
    """Logarithm of the largest capital that bets on "more than `mean`" ever reached.

    A bet is what would have been best for the numbers so far (their mean and spread, and one number of 1/2 with a
    variance of 1/4 before them): the stake that the source calls aGRAPA.
    """
    count = np.arange(1, len(risks) + 1)
    means = (0.5 + np.cumsum(risks)) / (count + 1)
    spreads = (0.25 + np.cumsum((risks - means) ** 2)) / (count + 1)
    before, spread = np.append(0.5, means[:-1]), np.append(0.25, spreads[:-1])
    gain = before - mean
    bets = np.clip(gain / (spread + gain**2), 0.0, MOST_BET / mean)
    return float(np.cumsum(np.log1p(bets * (risks - mean))).max())


@dataclass(frozen=True)
class Harm:
    """The risk before and now, and what can be said of it."""

    source: float
    source_bound: float  # from above
    now: float
    now_bound: float  # from below
    now_most: float  # from above
    rows: int
    called: str = "wrong"

    @property
    def is_harmful(self) -> bool:
        return self.now_bound > self.source_bound + TOLERANCE

    @property
    def text(self) -> str:
        """What it means for a shift that was found."""
        if self.is_harmful:
            return f"The answers are worse too: {self.called} in {self.now:.1%} of {self.rows:,} labelled rows (P2)."
        same = f"{self.called} in {self.now:.1%} of {self.rows:,} labelled rows, in {self.source:.1%} of the test rows"
        # One-sided as an alarm is: what is not shown to be worse may still be, where rows are few.
        if self.now_most <= max(self.source_bound, self.source + 5 * TOLERANCE):
            return f"The model still answers as well: {same}."
        return f"No harm is seen, though more rows would be needed to be sure: {same}."

    def to_json(self) -> dict[str, Any]:
        return {
            "risk_test": self.source, "risk_test_at_most": self.source_bound, "risk_new": self.now,
            "risk_new_at_least": self.now_bound, "rows_new": self.rows,
            "severity": "harmful" if self.is_harmful else "benign",
        }  # fmt: skip


def compare(source: np.ndarray, now: np.ndarray, called: str = "wrong") -> Harm | None:
    """Risks 0 to 1 of the test rows and of new rows (of independent units both); None where there are too few.

    `called` is what a risk of 1 is.
    """
    if min(len(source), len(now)) < LEAST_ROWS:
        return None
    level = LEVEL / 2
    # A file may be sorted, by class for instance; a bet on its first rows would be one on the first class.
    generator = np.random.default_rng(0)
    source, now = generator.permutation(source), generator.permutation(now)
    return Harm(
        float(np.mean(source)),
        upper_bound(source, level),
        float(np.mean(now)),
        lower_bound(now, level),
        upper_bound(now, 0.05),
        len(now),
        called,
    )


def find_harmful_shift(harm: Harm, what: str) -> list[Finding]:
    """At most one finding. `what` says what a risk of a row is ("the wrong class")."""
    if not harm.is_harmful:
        return []
    seen = (
        f"{harm.now:.1%} of {harm.rows:,} new rows are answered with {what} (at least {harm.now_bound:.1%} by what is "
        f"sure), and of the test rows {harm.source:.1%} were (at most {harm.source_bound:.1%})"
    )
    cause = "What is to be predicted, or what it is predicted from, is no longer what the model learned."
    remedy = "Go back to what answered before, mend what P1 tells of, and fit again with the new rows among the data."
    return [Finding("P2", seen, cause, remedy, by="test", confidence=1 - LEVEL, evidence=harm.to_json())]
