"""Published rules beside which the doctor is measured, written anew from what their authors say, on the same signals.

- SageMaker Debugger: the rules that its default configuration gives tensors to (awslabs/sagemaker-debugger-rulesconfig,
  ruleConfigs.json), with the defaults of docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-rules.html;
- UMLAUT: Schoop et al. 2021 (CHI), the heuristics of github.com/BerkeleyHCI/umlaut, umlaut/heuristics.py;
- AutoTrainer: Zhang et al. 2021 (ICSE), the symptoms and defaults of github.com/shiningrain/AUTOTRAINER, monitor.py;
- a threshold on the final score, always, never.

What a reader would get wrong: each alarm is read as kindly as can be. It counts as right where any of the findings that
it may mean is acceptable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from bench.doctor.signals import Signals

Told = tuple[str, tuple[str, ...]]  # a rule, and the findings of our catalogue that it may mean


def sagemaker(s: Signals) -> Iterator[Told]:
    if not all(look.is_finite for look in s.looks) or not all(map(math.isfinite, s.losses)):
        yield "ExplodingTensor", ("T1", "D1", "F10", "F8")
    # "If the mean of the absolute values of the gradients drops below a specified threshold": 0.0000001.
    if any(g["mean_abs"] < 1e-7 for look in s.looks for g in look.gradients):
        yield "VanishingGradient", ("T3", "F4", "F8")
    # threshold 10.0 on the ratio of variances, distribution_range 0.001, over 10 steps: the first look here.
    first = s.looks[0]
    apart = max(first.variances, default=1.0) / max(min(first.variances, default=1.0), 1e-30)
    if apart > 10 or min((g["span"] for g in first.gradients), default=1.0) < 0.001:
        yield "PoorWeightInitialization", ("F8", "F2", "F3")
    # large_threshold 10.0, small_threshold 0.00000001.
    if any(look.moved > 10 or look.moved_least < 1e-8 for look in s.looks[:-1]):
        yield "WeightUpdateRatio", ("F10", "F4")
    # threshold_inactivity 1.0 %, threshold_layer 50.0 %; limits of tanh and sigmoid stand in signals.py.
    if any(share > 0.5 for look in s.looks for share in look.inactive):
        yield "DeadRelu", ("T4", "F8")
    if any(share > 0.5 for look in s.looks for share in look.saturated):
        yield "SaturatedActivation", ("T4", "F8", "F3")
    # num_steps 10, diff_percent 0.1: the loss must fall by so many percent in so many steps.
    pairs = zip(s.losses[:-10:10], s.losses[10::10], strict=False)
    if any(not later < earlier * (1 - 0.001) for earlier, later in pairs):
        yield "LossNotDecreasing", ("T5", "F10", "F9")
    # ratio_threshold 0.1, patience 1.
    over = [look.judged_loss - look.loss > 0.1 * abs(look.loss) for look in s.looks]
    if any(a and b for a, b in pairwise(over)):
        yield "Overfit", ("T6",)
    # patience_validation 10, delta 0.01.
    judged = [look.judged_loss for look in s.looks]
    if any(min(judged[i - 9 : i + 1]) > min(judged[: i - 9]) - 0.01 for i in range(10, len(judged))):
        yield "Overtraining", ("T6",)


def umlaut(s: Signals) -> Iterator[Told]:
    # check_input_normalization: below -1 or above 1.
    if s.is_floating and not (s.least_input >= -1 and s.greatest_input <= 1):
        yield "InputNotNormalized", ("F3", "D1")
    if not s.is_floating:
        yield "InputNotFloating", ()
    if not (math.isfinite(s.least_input) and math.isfinite(s.greatest_input)):
        yield "NaNInInput", ("D1", "T1")
    # check_learning_rate_range: above 0.01 or below 1e-7, read at each epoch.
    if any(look.rate > 0.01 or look.rate < 1e-7 for look in s.looks):
        yield "LearningRate", ("F10",)
    # check_overfitting: the one falls while the other rises, between two epochs.
    pairs = list(pairwise(s.looks))
    if any(b.judged_loss > a.judged_loss and b.loss <= a.loss for a, b in pairs):
        yield "Overfitting", ("T6",)
    # check_high_validation_acc: from the fourth epoch above 95 %, or 5 points above training.
    if any(look.judged_score > 0.95 or look.judged_score - look.score > 0.05 for look in s.looks[3:]):
        yield "OverconfidentValAccuracy", ("A1", "D2", "D4")
    if s.dropout > 0.5:
        yield "HighDropout", ("T5",)


# default_param of monitor.py and demo.py.
BETA_1, BETA_2, BETA_3, GAMMA = 1e-3, 1e-4, 70.0, 0.7
ZETA, ETA, DELTA, THETA = 0.03, 0.2, 0.01, 0.7
LARGE_LOSS = 1e3


def autotrainer(s: Signals) -> Iterator[Told]:
    """Symptoms count only where the training does not converge, or nearly stands still."""
    losses = [value for look in s.looks for value in (look.loss, look.judged_loss)]
    if not all(map(math.isfinite, losses)) or max(losses) >= LARGE_LOSS or not all(look.is_finite for look in s.looks):
        yield "explode", ("T1", "F10", "F8", "D1", "F3")
        return
    scores = [look.score for look in s.looks], [look.judged_score for look in s.looks]
    does_not_converge = max(map(max, scores)) < THETA
    stands_still = all(max(np.diff(one), default=0.0) < DELTA for one in scores)
    kernels = [look.gradients for look in s.looks if len(look.gradients) > 1]
    ratios = [k[0]["norm"] / max(k[-1]["norm"], 1e-30) for k in kernels]
    if does_not_converge or stands_still:
        if any(np.mean([g["zeros"] for g in k]) >= GAMMA for k in kernels):
            yield "dying relu", ("T4", "F8")
        elif any(ratio > BETA_3 for ratio in ratios):
            yield "explode", ("T1", "F10", "F8", "F3")
        elif any(r < BETA_1 and k[0]["norm"] < BETA_2 for r, k in zip(ratios, kernels, strict=True)):
            yield "vanish", ("T3", "F8")
        elif does_not_converge and stands_still:
            yield "not converge", ("T5", "F10", "F9", "D9")
    if _oscillates(scores[0]):
        yield "unstable", ("F10", "T2", "T1")


def _oscillates(scores: list[float]) -> bool:
    """Enough pairs of a peak and a valley that lie ZETA apart."""
    inner = range(1, len(scores) - 1)
    peaks = [scores[i] for i in inner if scores[i] >= max(scores[i - 1], scores[i + 1])]
    valleys = [scores[i] for i in inner if scores[i] <= min(scores[i - 1], scores[i + 1])]
    return sum(p - v >= ZETA for p, v in zip(peaks, valleys, strict=False)) >= ETA * len(scores)


def final_score(s: Signals) -> Iterator[Told]:
    """AutoTrainer's idea of a good score, alone."""
    if not s.looks[-1].judged_score >= THETA:
        yield "final score", ("T5", "F10", "F9")


def always(s: Signals) -> Iterator[Told]:
    yield "always", ()


def never(s: Signals) -> Iterator[Told]:
    yield from ()


RULES: dict[str, Callable[[Signals], Iterator[Told]]] = {
    "sagemaker": sagemaker,
    "umlaut": umlaut,
    "autotrainer": autotrainer,
    "final_score": final_score,
    "always": always,
    "never": never,
}
