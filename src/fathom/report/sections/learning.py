"""How the network learned: losses and the deciding measure by epoch, the kept epoch marked, one line for each fold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fathom.report.axes import axis, whole_axis
from fathom.report.charts import Curve, curves, loss_axis
from fathom.report.facts import Facts
from fathom.report.html import Html, element
from fathom.report.numbers import spoken
from fathom.report.sections.parts import figure, figures, legend, paragraph, section

Training = list[dict[str, str]]  # the epochs of one fold of one model


def learning(facts: Facts) -> Html | None:
    trainings = _trainings(facts.epochs)
    models = list(dict.fromkeys(model for model, _ in trainings))
    drawn = [
        _one_model(facts, m, [t for (name, _), t in trainings.items() if name == m], len(models) > 1) for m in models
    ]
    return section("learning", "How it learned", *drawn)


def _trainings(epochs: Training) -> dict[tuple[str, str], Training]:
    found: dict[tuple[str, str], Training] = {}
    for row in epochs:
        found.setdefault((row.get("model", ""), row.get("fold", "")), []).append(row)
    return found


def _one_model(facts: Facts, model: str, trainings: Sequence[Training], named: bool) -> Html | None:
    metric = facts.metric
    column = "metric" if "metric" in trainings[0][0] else metric.name
    x = whole_axis(1, max(int(row["epoch"]) for t in trainings for row in t))
    losses = [Curve(_points(t, "train_loss"), "train") for t in trainings]
    losses += [_with_best(t, "validate_loss", "validate") for t in trainings]
    measure = [_with_best(t, column, "validate", metric.scale) for t in trainings]
    whose = f"{spoken(model)}: " if named else ""
    loss_plot = curves(losses, x, loss_axis(losses), says=f"{whose}loss by epoch", x_title="epoch")
    metric_axis = axis(_ups(measure))
    metric_plot = curves(measure, x, metric_axis, says=f"{whose}{metric.label} by epoch", x_title="epoch")
    unit = ", %" if metric.unit == "%" else ""
    keys = [("train", "training rows"), ("validate", "validation rows"), ("best", "the epoch that was kept")]
    both = figures(
        figure(f"{whose}loss", loss_plot) if _ups(losses) else None,
        figure(f"{whose}{metric.label}{unit} on validation rows", metric_plot) if _ups(measure) else None,
    )
    if both is None:
        return None
    return element("div", legend(*keys), both, paragraph(_in_words(trainings), kind="caption"), class_="learning")


def _points(training: Training, column: str, scale: int = 1) -> list[tuple[float, float]]:
    return [(float(row["epoch"]), scale * _number(row.get(column))) for row in training]


def _with_best(training: Training, column: str, kind: str, scale: int = 1) -> Curve:
    points = _points(training, column, scale)
    kept = [p for p, row in zip(points, training, strict=True) if _is_true(row.get("best")) and math.isfinite(p[1])]
    return Curve(points, kind, kept[-1] if kept else None)


def _ups(lines: Sequence[Curve]) -> list[float]:
    return [up for line in lines for _, up in line.points if math.isfinite(up)]


def _in_words(trainings: Sequence[Training]) -> str:
    kept = [_kept_epoch(t) for t in trainings]
    done = [len(t) for t in trainings]
    if len(trainings) == 1:
        return f"{done[0]} epochs; the weights after epoch {kept[0]} had the lowest validation loss and were kept."
    return (
        f"{len(trainings)} folds of {_spread(done)} epochs, each with rows of its own held out. The weights after "
        f"epochs {', '.join(map(str, kept))} were kept and answer together."
    )


def _spread(numbers: Sequence[int]) -> str:
    return f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"


def _kept_epoch(training: Training) -> int:
    kept = [int(row["epoch"]) for row in training if _is_true(row.get("best"))]
    return kept[-1] if kept else len(training)


def _is_true(written: str | None) -> bool:
    return (written or "").strip().lower() in ("1", "true", "yes")


def _number(written: str | None) -> float:
    return float(written) if written not in (None, "") else math.nan
