"""F10: the learning rate is out of range, by experiment: copies trained at a hundredth to a hundred times the rate.

A range test over one growing rate is quick and blurred: each rate works on what the smaller ones left. Here each rate
starts from the same weights and meets the same batches. What a reader would get wrong: the best rate of forty steps is
not the best of a training. So it is told only where the rate in use learns nothing, or loses what it had, while another
learns well.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.doctor.finding import Finding
from fathom.doctor.parts.trial import Outcome, Trial

STEPS = 40
TAIL = 8  # last steps whose mean loss counts
FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)
FAR = (1e-4, 1e-3, 1e3, 1e4)  # tried where none of these learns
LEARNS = 0.10  # of the first loss: so much less is learning
IDLE = 0.05  # of what the best rate learns: less is nothing
CAUSES = ("F1", "F3", "F7", "F8", "F2")  # by which no rate, or another, would suit
RUINED = 0.5  # of what a smaller rate learns: less is lost


def find_rate(trial: Trial) -> tuple[bool, list[Finding]]:
    """Whether the model learns at any rate, and at most one finding. Costs 200 steps, 360 where none helps."""
    ended = {factor: trial.run(STEPS, rate=factor) for factor in FACTORS}
    begin = float(trial.losses().mean())
    if max(_learnt(begin, outcome) for outcome in ended.values()) < LEARNS:
        ended |= {factor: trial.run(STEPS, rate=factor) for factor in FAR}
    learnt = {factor: _learnt(begin, ended[factor]) for factor in sorted(ended)}
    best = max(learnt, key=lambda factor: learnt[factor])
    if learnt[best] < LEARNS:
        return False, []
    evidence: dict[str, Any] = {
        "factors": list(FACTORS),
        "learnt": [learnt[factor] for factor in FACTORS],
        "first_loss": begin,
    }
    rate = trial.rate
    smaller = max(share for factor, share in learnt.items() if factor < 1)
    if best < 1.0 and learnt[1.0] < RUINED * smaller:
        ran_away = not ended[1.0].is_finite or learnt[1.0] < 0
        how = "runs away" if ran_away else f"learns {learnt[1.0]:.0%} of its loss away"
        cause = "The learning rate is too high: each step overshoots."
        remedy = f"Take a learning rate of about {best * rate:g}, or begin with a warm-up."
    elif best >= 10.0 and learnt[1.0] < IDLE * learnt[best]:
        how = f"learns {max(learnt[1.0], 0):.1%} of its loss away"
        cause = "The learning rate is too low: the steps are too small to get anywhere."
        remedy = f"Take a learning rate of about {best * rate:g}."
    else:
        return True, []
    seen = f"At the rate {rate:g} a copy {how} in {STEPS} steps, at {best * rate:g} {learnt[best]:.0%}"
    evidence |= {"suggested": best * rate}
    return True, [Finding("F10", seen, cause, remedy, by="experiment", symptom_of=CAUSES, evidence=evidence)]


def _learnt(begin: float, outcome: Outcome) -> float:
    """The share of the first loss that is gone in the end; -1 and less where it ran away."""
    end = outcome.last(TAIL)
    return float(np.clip((begin - end) / max(abs(begin), 1e-12), -1.0, 1.0))
