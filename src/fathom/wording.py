"""The verdict as one sentence. It only words numbers that stand in metrics.json; it decides nothing.

Points are hundredths of a share: 0.179 of accuracy is 17.9 points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol

ONE_GROUP = "the test rows are one group, which allows no interval"


class Named(Protocol):
    """What a sentence needs of a candidate."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def called(self) -> str: ...
    @property
    def seconds_per_row(self) -> float: ...


def sentence(
    advised: Named,
    other: Named | None,
    difference: Mapping[str, Any],
    test: Mapping[str, Mapping[str, Any]],
    module: ModuleType,
    noun: str,
) -> str:
    """'use the network: +17.9 points (95 % interval 14.1 to 21.6); 2.1 ms a picture against 0.3'."""
    if other is None:
        return f"use {advised.called}: nothing else was tried"
    sign = 1 if module.HIGHER_IS_BETTER else -1
    low, high = sorted(sign * end for end in difference["interval"])
    shown = _amount(difference, module, test)
    cost = _cost(advised.seconds_per_row, other.seconds_per_row, noun)
    if math.isnan(low):
        is_undefined = math.isnan(difference["value"])
        why = f"{module.LABEL} is undefined on the test rows" if is_undefined else ONE_GROUP
        return f"use {advised.called}, by the validation rows; {why}{cost}"
    if difference["of"] == advised.name:
        return f"use {advised.called}: {_for_complex(advised, other, low, high, shown, test)}{cost}"
    return f"use {advised.called}: {_for_simple(other, low, high, shown)}{cost}"


def _for_complex(
    advised: Named, other: Named, low: float, high: float, shown: str, test: Mapping[str, Mapping[str, Any]]
) -> str:
    """The more complex of the two is advised: validation rows have shown it to be better than what is simpler."""
    over = "" if (advised.kind, other.kind) == ("network", "baseline") else f" over {other.called}"
    if low > 0:
        return shown + over
    if high < 0:
        return f"better on the validation rows, though not on the test rows: {shown}{over}"
    losses = [test[one.name].get("log_loss", 0.0) for one in (advised, other)]
    if losses[0] < losses[1]:
        return f"{shown}{over}, with better probabilities (log loss {losses[0]:.3g} against {losses[1]:.3g})"
    return f"better on the validation rows; on the test rows {shown}{over}, which may be chance"


def _for_simple(other: Named, low: float, high: float, shown: str) -> str:
    verb = "are" if other.called.endswith("s") else "is"
    if high < 0:
        return f"{other.called} {verb} worse ({shown})"
    if low > 0:
        return (
            f"{other.called} {verb} better on the test rows ({shown}), but not clearly on validation rows, which decide"
        )
    return f"{other.called} {verb} not better ({shown})"


def _amount(difference: Mapping[str, Any], module: ModuleType, test: Mapping[str, Mapping[str, Any]]) -> str:
    """'+17.9 points (95 % interval 14.1 to 21.6)', or for the unit of the target with its share in per cent."""
    value, (low, high) = difference["value"], difference["interval"]
    if module.UNIT == "%":
        ends = f"{_plain(100 * low, '.1f')} to {_plain(100 * high, '.1f')}"
        return f"{_signed(100 * value, '.1f')} points (95 % interval {ends})"
    if module.UNIT != "target":
        form = ".1f" if module.UNIT == "score" else ".3f"
        return f"{_signed(value, form)} {module.LABEL} (95 % interval {_plain(low, form)} to {_plain(high, form)})"
    base = test[difference["to"]][difference["measure"]]
    share = f", {_signed(100 * value / base, '.1f')} %" if base else ""
    form = _digits(max(abs(low), abs(high)))
    return f"{_signed(value, form)} {module.LABEL}{share} (95 % interval {_plain(low, form)} to {_plain(high, form)})"


def _digits(size: float) -> str:
    """Three digits that mean something: 2,680 · 26.8 · 0.268."""
    places = 0 if size == 0 or not math.isfinite(size) else max(0, 2 - math.floor(math.log10(size)))
    return f",.{places}f"


def _plain(value: float, form: str) -> str:
    text = format(value, form)
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def _signed(value: float, form: str) -> str:
    text = _plain(value, form)
    return text if text.startswith("-") else f"+{text}"


def _cost(own: float, other: float, noun: str) -> str:
    """'; 2.1 ms a picture against 0.3', both in the unit of the larger."""
    unit, factor = _unit(max(own, other))
    return f"; {_short(own * factor)} {unit} {_article(noun)} against {_short(other * factor)}"


def _unit(seconds: float) -> tuple[str, float]:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 0.1:
            return unit, factor
    return "µs", 1e6


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 or value == 0 else f"{value:.1g}"


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"
