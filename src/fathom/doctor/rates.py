"""F10: the learning rate is out of range, by experiment: copies trained at a hundredth to a hundred times the rate.

A range test over one growing rate is quick and blurred: each rate works on what the smaller ones left. Here each rate
starts from the same weights and meets the same batches. What a reader would get wrong: the best rate of forty steps is
not the best of a training. So it is told only where the rate in use learns nothing, or loses what it had, while another
learns well, and where that is so again after three times as many steps with the batches in another order: some nets
stand still at first, and some rates run away and come back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.doctor.finding import Finding
from fathom.doctor.parts.trial import Trial

STEPS = 40
TAIL = 8  # last steps whose mean loss counts
FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)
FAR = (1e-4, 1e-3, 1e3, 1e4)  # tried where none of these learns
LONGER = 3  # times the steps, before an alarm
LEARNS = 0.10  # of the first loss: so much less is learning
IDLE = 0.15  # of what the best rate learns: less is nothing
CAUSES = ("F1", "F3", "F7", "F8", "F2")  # by which no rate, or another, would suit
RUINED = 0.5  # of what a smaller rate learns: less is lost


def find_rate(trial: Trial) -> tuple[bool, list[Finding]]:
    """Whether the model learns at any rate, and at most one finding.

    Costs 200 steps, 360 where no rate helps, and 240 more before an alarm.
    """
    untrained = trial.losses()
    if not np.isfinite(untrained).all():
        return True, []  # nothing can be compared; where it comes from is found elsewhere
    learnt = {factor: _learnt(trial, untrained, factor) for factor in FACTORS}
    if max(learnt.values()) < LEARNS:
        learnt |= {factor: _learnt(trial, untrained, factor) for factor in FAR}
    best = max(sorted(learnt), key=lambda factor: learnt[factor])
    if learnt[best] < LEARNS:
        return False, []
    evidence: dict[str, Any] = {
        "factors": list(FACTORS),
        "learnt": [learnt[factor] for factor in FACTORS],
        "first_loss": float(untrained.mean()),
    }
    rate = trial.rate
    limit = RUINED if best < 1.0 else IDLE
    if best == 1.0 or learnt[1.0] >= limit * learnt[best]:
        return True, []
    again = Trial(trial.model, trial.optimizers, trial.loss, trial.batches[::-1])
    own, other = (_learnt(again, untrained[::-1], factor, LONGER * STEPS) for factor in (1.0, best))
    if own >= limit * other:
        return True, []
    evidence |= {"again": {"steps": LONGER * STEPS, "at_rate": own, "at_best": other}}
    if best < 1.0:
        how = f"learns {learnt[1.0]:.0%} of its loss away" if learnt[1.0] >= 0 else "runs away"
        cause = "The learning rate is too high: each step overshoots."
        remedy = f"Take a learning rate of about {best * rate:g}, or begin with a warm-up."
    else:
        how = f"learns {max(learnt[1.0], 0):.1%} of its loss away"
        cause = "The learning rate is too low: the steps are too small to get anywhere."
        remedy = f"Take a learning rate of about {best * rate:g}."
    seen = f"At the rate {rate:g} a copy {how} in {STEPS} steps, at {best * rate:g} {learnt[best]:.0%}"
    evidence |= {"suggested": best * rate}
    return True, [Finding("F10", seen, cause, remedy, by="experiment", symptom_of=CAUSES, evidence=evidence)]


def _learnt(trial: Trial, untrained: np.ndarray, factor: float, steps: int = STEPS) -> float:
    """The share of the loss that is gone in the end, of what the same batches cost the untrained model [batches].

    -1 and less where it ran away.
    """
    begin = float(untrained[np.arange(steps - TAIL, steps) % len(untrained)].mean())
    end = trial.run(steps, rate=factor).last(TAIL)
    return float(np.clip((begin - end) / max(abs(begin), 1e-12), -1.0, 1.0))
