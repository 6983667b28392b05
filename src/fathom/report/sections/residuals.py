"""Where a prediction of numbers is off: against the truth, how far, and whether its intervals keep their promise."""

from __future__ import annotations

import numpy as np

from fathom.report.axes import axis
from fathom.report.charts import cloud, histogram, shares
from fathom.report.facts import Facts
from fathom.report.html import Html
from fathom.report.numbers import decimals_for, fixed, percent
from fathom.report.sections.parts import figure, figures

MOST_SPECKS = 1200


def residuals(facts: Facts) -> list[Html | None]:
    if facts.truth is None or facts.predicted is None:
        return []
    truth, predicted = np.asarray(facts.truth, float), np.asarray(facts.predicted, float)
    known = np.isfinite(truth) & np.isfinite(predicted)
    if not known.any():
        return []
    return [
        figures(
            _against(facts, truth[known], predicted[known]),
            _errors(facts, truth[known], predicted[known]),
            _coverage(facts),
        )
    ]


def _against(facts: Facts, truth: np.ndarray, predicted: np.ndarray) -> Html:
    chosen = np.linspace(0, len(truth) - 1, min(MOST_SPECKS, len(truth))).astype(int)
    scale = axis([*truth, *predicted], ticks=5, pad=0.02)
    unit = f"‘{facts.target}’"
    drawing = cloud(
        truth[chosen],
        predicted[chosen],
        scale,
        says="predicted against true values",
        x_title=f"true {unit}",
        y_title="predicted",
    )
    spread = float(((truth - truth.mean()) ** 2).sum())
    explained = 1 - float(((truth - predicted) ** 2).sum()) / spread if spread else float("nan")
    some = "" if len(chosen) == len(truth) else f" {len(chosen):,} of {len(truth):,} test rows are drawn."
    return figure("Predicted against true", drawing, f"{percent(explained, 1)} of the variance is explained.{some}")


def _errors(facts: Facts, truth: np.ndarray, predicted: np.ndarray) -> Html:
    errors = predicted - truth
    # The outermost hundredth is drawn at the edge, so that one far row does not flatten the rest.
    reach = float(np.quantile(np.abs(errors), 0.99)) or 1.0
    drawing = histogram(
        errors, axis([-reach, reach], pad=0.02), says="how often each error occurs", x_title="predicted − true"
    )
    half, most = (float(np.quantile(np.abs(errors), q)) for q in (0.5, 0.9))
    bias, places = float(errors.mean()), decimals_for([half])
    caption = (
        f"Half of the rows are off by less than {fixed(half, places)}, nine in ten by less than {fixed(most, places)}."
    )
    # Twice the standard error of the mean: a smaller lean is chance.
    if abs(bias) > 2 * errors.std() / np.sqrt(len(errors)):
        caption += f" On average {fixed(abs(bias), places)} too {'high' if bias > 0 else 'low'}."
    return figure("How far off", drawing, caption)


def _coverage(facts: Facts) -> Html | None:
    low, high = (facts.predictions.get(f"{facts.advised}:{end}") for end in ("low", "high"))
    if low is None or high is None or facts.truth is None or facts.predicted is None:
        return None
    inside = (facts.truth >= low) & (facts.truth <= high)
    num_groups = min(10, max(1, len(inside) // 25))
    groups = np.array_split(np.argsort(np.asarray(facts.predicted, float), kind="stable"), num_groups)
    held = [float(inside[g].mean()) for g in groups]
    wanted = facts.interval_level
    promised = "" if wanted is None else f"; {percent(wanted, 0)} was promised (the line)"
    labels = ["low" if i == 0 else "high" if i == num_groups - 1 else "" for i in range(num_groups)]
    drawing = shares(
        held, wanted, labels, says="share of true values inside the interval", x_title="by size of the prediction"
    )
    width = float(np.median(np.asarray(high, float) - np.asarray(low, float)))
    caption = (
        f"{percent(float(inside.mean()))} of the true values lie inside their interval{promised}. "
        f"Half of the intervals are narrower than {fixed(width, decimals_for([width]))}."
    )
    return figure("Do the intervals hold?", drawing, caption)
