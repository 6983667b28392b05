"""Measures as a person reads them: per cent, the target's unit, or plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType


def shown(measure: ModuleType, value: float | None) -> str:
    """'61.2 %', '46,210', '0.9271', '38.4' for a score of at most 100; '–' where it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    if measure.UNIT == "%":
        return f"{100 * value:.2f} %"
    if measure.UNIT == "target":
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if measure.UNIT == "score":
        return f"{value:.1f}"
    return f"{value:.4f}"


def shown_interval(measure: ModuleType, interval: Sequence[float | None] | None) -> str:
    """'57.40 % to 65.00 %', empty where there is none."""
    low, high = interval or (None, None)
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f"{shown(measure, low)} to {shown(measure, high)}"
