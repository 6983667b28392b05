"""A3: probabilities that do not mean what they say. Of the rows where a model is 90 % sure, about 90 % should be right.

What a reader would get wrong: the plain calibration error of a perfect model is above zero, the more so the fewer the
rows. So the estimate is one that takes away what chance adds, and it is compared with what a calibrated model would
show on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fathom.doctor.finding import Finding

FLOOR = 0.03
REPEATS = 1_000
LEVEL = 0.001
LEAST_ROWS = 100

Measure = Callable[[np.ndarray, np.ndarray], float]


def find_miscalibrated(
    probabilities: np.ndarray,
    targets: np.ndarray,
    measure: Measure,
    *,
    softened: np.ndarray | None = None,
    temperature: float | None = None,
    is_softened: bool = False,
    seed: int = 0,
) -> list[Finding]:
    """At most one finding from probabilities [N, C] of test rows and their classes [N].

    `measure` is the debiased calibration error. By a consistency bootstrap: rows are made right with the probability
    that the model gives itself, moved by three points (Bröcker and Smith 2007, Weather and Forecasting 22, where it is
    not moved), and the error must be above that of 99.9 % of these: it is told where it is clearly more than three
    points. `softened` are the probabilities at a temperature found on other rows; the remedy is offered where their
    log loss is lower. `is_softened` says that training made it less sure on purpose (label smoothing, mixing).
    """
    if len(targets) < LEAST_ROWS:
        return []
    found = measure(probabilities, targets)
    if not found > FLOOR:
        return []
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    is_too_sure = bool(sure.mean() > right.mean())
    if is_softened and not is_too_sure:
        return []
    chances = np.clip(sure - FLOOR if is_too_sure else sure + FLOOR, 0, 1)
    # The error looks at the class that is given alone: two columns hold all that it needs.
    two = np.column_stack([np.full(len(sure), -1.0), sure])
    generator = np.random.default_rng(seed)
    drawn = [measure(two, (generator.random(len(sure)) < chances).astype(np.int64)) for _ in range(REPEATS)]
    p = (1 + sum(value >= found for value in drawn)) / (1 + REPEATS)
    if p > LEVEL:
        return []
    too = "too sure of itself" if is_too_sure else "not as sure as it could be"
    seen = (
        f"It gives its answers {sure.mean():.1%} on average and is right in {right.mean():.1%}; its probabilities are "
        f"{found:.1%} off, where on {len(targets):,} rows one that is three points off shows at most {max(drawn):.1%}"
    )
    cause = f"The model is {too}. Its answers are no worse for it; its probabilities are not to be taken at their word."
    again = "with fewer epochs or train.label_smoothing=0.1" if is_too_sure else "for longer"
    remedy = f"Fit again {again}, or take the probabilities as an order only."
    evidence = {"error": found, "p": p, "sure": float(sure.mean()), "right": float(right.mean())}
    if softened is not None and temperature is not None:
        before, after = _log_loss(probabilities, targets), _log_loss(softened, targets)
        error = measure(softened, targets)
        evidence |= {"temperature": temperature, "log_loss": before, "log_loss_softened": after, "softened": error}
        if after < before and error < found:
            remedy = (
                f"Divide the logarithms of the probabilities by {temperature:.2f} and make them sum to one again; that "
                f"temperature was found on validation rows. On the test rows they are then {error:.1%} off, and their "
                f"log loss is {after:.3f} rather than {before:.3f}."
            )
    return [Finding("A3", seen, cause, remedy, by="test", confidence=1 - p, evidence=evidence)]


def _log_loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    given = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.clip(given, 1e-15, 1)).mean())
