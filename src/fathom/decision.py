"""Who wins on validation rows: comparisons of candidates that keep their error rate however many there are.

Nothing here sees a test row. "Beats" is a strong word: few rows beat nobody, and then the simpler candidate stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from fathom import intervals
from fathom.evaluate import resampled_measure
from fathom.measures import log_loss

# Of each way of beating: a tie is broken wrongly once in forty.
ERROR_OF_WAY = 0.025
# The temperature is sought on so many probabilities at most.
MOST_TO_TEMPER = 500_000


@dataclass(frozen=True)
class Candidate:
    """A model's predictions, and what one costs. Probabilities [N, C], numbers [N], or texts [N] (object)."""

    name: str
    rank: int  # of simplicity: 0 is the constant; equal ranks keep the order they are given in
    validation: np.ndarray  # out-of-fold where cross-validated; made by a model that did not train on the row
    test: np.ndarray
    seconds_per_row: float
    kind: Literal["baseline", "network", "ensemble"] = "baseline"
    noun: str = ""  # in the sentence: "the trees"; by default from the name: "the boosted trees", "the linear model"
    members: dict[str, float] = field(default_factory=dict)  # of an ensemble: name → weight
    validation_ends: np.ndarray | None = None  # [N, 2]: the intervals that a model of numbers gives itself, if it does
    test_ends: np.ndarray | None = None

    @property
    def called(self) -> str:
        """What the sentence calls it."""
        if self.noun or self.kind == "network":
            return self.noun or "the network"
        name = "the " + self.name.replace("_", " ")
        is_noun = name.endswith("s") or self.name in ("constant", "ensemble")
        return name if is_noun else f"{name} model"


def decide(
    ordered: Sequence[Candidate],
    targets: np.ndarray,
    metric: str,
    module: ModuleType,
    *,
    seed: int,
    units: np.ndarray | None = None,
) -> tuple[Candidate, list[dict[str, Any]]]:
    """The first of the candidates, ordered from the simplest, that no later one beats; and every comparison made.

    One beats another in either of two ways:

    1. It is better in the metric: the paired interval of the difference excludes zero. For accuracy McNemar's exact p
       must also be below 0.05, because the bootstrap is too sure when only a handful of rows differ.
    2. Where the metric reads only the predicted class (accuracy, F1): it is better by any amount in the metric, and its
       probabilities carry clearly more information (log loss after each candidate's own temperature). A row counts
       1 or 0 in accuracy, which therefore needs several times the rows to show what log loss shows at once; the two
       move together once temperature has removed mere over- and underconfidence. Without this way a few hundred
       rows would nearly always end at the simplest model. It asks for strictly better in the metric, so that what is
       advised is never worse in what was asked for.

    Many looks: a candidate is compared with all more complex ones at once, and each interval is as wide as holds for
    all of them together (max-t bootstrap: Romano and Wolf 2005, Econometrica 73; comparison with the best: Hsu 1984,
    Annals of Statistics 12). So chance breaks a tie wrongly in about 2.5 % by each way, at most 5 % together,
    however many candidates there are.

    Few rows or groups vary less when resampled than they do: intervals are widened as Student's t is beside the normal
    law (Ibragimov and Müller 2010, Journal of Business & Economic Statistics 28). One alone decides nothing.

    The rule looks for what nothing beats rather than stepping from winner to winner: a network that beats the linear
    model but not the trees must not be advised over the trees.
    """
    ways = [(metric, *_gains(ordered, targets, module, units, seed))]
    if getattr(module, "ONLY_CLASSES", False):
        losses = np.column_stack([log_loss.per_row(tempered(c.validation, targets), targets) for c in ordered])
        bootstrap = intervals.resample(losses, units, seed=seed)
        ways.append(("log_loss after temperature", -bootstrap.whole, -bootstrap.samples))
    gains = ways[0][1]
    looks: list[dict[str, Any]] = []
    best_beaten = -math.inf
    num_units = intervals.num_units(len(targets), units)
    for i, present in enumerate(ordered):
        # What was beaten takes with it whatever is no better than it.
        if gains[i] <= best_beaten:
            continue
        found = _looks(i, ordered, targets, metric, ways, units)
        if num_units < 2:
            found = [_undecided(look, "row" if units is None else "group") for look in found]
        looks += found
        if not any(look["beats"] for look in found):
            return present, looks
        best_beaten = float(gains[i])
    raise AssertionError("the best candidate in the metric cannot be beaten")


def _gains(
    ordered: Sequence[Candidate], targets: np.ndarray, module: ModuleType, units: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The metric of each candidate [M] and its resamples [B, M], signed so that higher is better."""
    sign = 1 if module.HIGHER_IS_BETTER else -1
    found = resampled_measure(module, [c.validation for c in ordered], targets, units, seed)
    if found is not None:
        return sign * found.whole, sign * found.samples

    def all_measures(rows: np.ndarray) -> np.ndarray:
        return np.array([module.measure(c.validation[rows], targets[rows]) for c in ordered])

    samples = intervals.resampled_values(all_measures, len(targets), units, seed=seed)
    return sign * all_measures(np.arange(len(targets))), sign * samples


def _looks(
    i: int,
    ordered: Sequence[Candidate],
    targets: np.ndarray,
    metric: str,
    ways: list[tuple[str, np.ndarray, np.ndarray]],
    units: np.ndarray | None,
) -> list[dict[str, Any]]:
    """Each more complex candidate against candidate i, by each way; the intervals hold for all of them together."""
    rivals = list(range(i + 1, len(ordered)))
    if not rivals:
        return []
    num_units = intervals.num_units(len(targets), units)
    halves = [
        _simultaneous(gains[rivals] - gains[i], samples[:, rivals] - samples[:, [i]], num_units)
        for _, gains, samples in ways
    ]
    looks = []
    for place, j in enumerate(rivals):
        gain, half = float(ways[0][1][j] - ways[0][1][i]), float(halves[0][place])
        look: dict[str, Any] = {"of": ordered[j].name, "to": ordered[i].name, "gain": gain}
        look["interval"] = [gain - half, gain + half]
        won_by = metric if gain - half > 0 else ""
        if metric == "accuracy" and units is None:
            right = [np.argmax(ordered[k].validation, axis=1) == targets for k in (j, i)]
            look["p"] = intervals.mcnemar(right[0], right[1])
            won_by = won_by if look["p"] < 0.05 else ""
        if len(ways) > 1:
            name, gains, _ = ways[1]
            known, half = float(gains[j] - gains[i]), float(halves[1][place])
            look["information"] = {"gain": known, "interval": [known - half, known + half]}
            if gain > 0 and known - half > 0:
                won_by = won_by or name
        looks.append(look | {"beats": bool(won_by), "by": won_by})
    return looks


def _undecided(look: dict[str, Any], what: str) -> dict[str, Any]:
    """The same look where chance cannot be told from a gain: nothing beats, and it says why."""
    why = f"there is one validation {what}, which cannot tell a gain from chance"
    unknown = {"interval": [math.nan, math.nan]}
    more = {"information": look["information"] | unknown} if "information" in look else {}
    return look | unknown | more | {"beats": False, "by": "", "reason": why}


def _simultaneous(gains: np.ndarray, samples: np.ndarray, num_units: int) -> np.ndarray:
    """Half widths [R] so that all R true gains lie above gain - half together, but for ERROR_OF_WAY of the time."""
    spread = samples.std(axis=0, ddof=1)
    moving = spread > 0
    if not moving.any() or num_units < 2:
        return np.zeros(len(gains))
    largest = ((samples[:, moving] - gains[moving]) / spread[moving]).max(axis=1)
    # Never below Student's quantile: a bootstrap of few units has tails that are too light, and too small a spread.
    student = float(stdtrit(num_units - 1, 1 - ERROR_OF_WAY)) * math.sqrt(num_units / (num_units - 1))
    return max(float(np.quantile(largest, 1 - ERROR_OF_WAY)), student) * spread


def tempered(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Probabilities at the temperature with the least log loss on these rows."""
    return at_temperature(probabilities, temperature_of(probabilities, targets))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [N, C] whose logarithms are divided by the temperature: above 1 they are less sure."""
    return _softmax(np.log(np.clip(probabilities, log_loss.SMALLEST, 1.0)) / temperature)


def temperature_of(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The temperature with the least log loss on these rows: one number for each candidate.

    It removes over- and underconfidence, which a candidate could be cured of at no cost, and leaves what it knows.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    logits = np.log(np.clip(probabilities, log_loss.SMALLEST, 1.0))
    count = min(len(targets), max(200, MOST_TO_TEMPER // logits.shape[1]))
    rows = np.linspace(0, len(targets) - 1, count).astype(int)
    some, right = logits[rows], targets[rows]
    low, high = math.log(0.1), math.log(10.0)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(20):  # golden section: the loss has one valley in the temperature
        lower, upper = high - ratio * (high - low), low + ratio * (high - low)
        if _loss_at(some, right, lower) < _loss_at(some, right, upper):
            high = upper
        else:
            low = lower
    return math.exp((low + high) / 2)


def _loss_at(logits: np.ndarray, targets: np.ndarray, log_temperature: float) -> float:
    return log_loss.measure(_softmax(logits / math.exp(log_temperature)), targets)


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
