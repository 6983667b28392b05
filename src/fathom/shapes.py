"""What the JSON files of a run folder must look like, so that a damaged or hostile one is refused where it is read.

What a reader would get wrong: only what others rely on is asked for. Files may hold more, and nothing or null where
a key ends in "?". Numbers must be finite where answers are computed with them; a measure may be undefined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from fathom.data import TaskKind

NAMES = "*"  # stands for any key
NUMBER = (int, float)
MAYBE_NUMBER = (int, float, type(None))
MAYBE_TEXT = (str, type(None))
TASKS = frozenset(get_args(TaskKind))

SUM = {"bytes": int, "crc32": str}

FORECAST = {"seconds_per_epoch": NUMBER, "epochs": NUMBER, "steps_per_epoch": int, "folds": int, "seconds": NUMBER,
            "memory": NUMBER}  # fmt: skip

SHAPES: Mapping[str, Any] = {
    "format.json": {"format": int},
    "spec.json": {
        "name": str,
        "task": {"kind": TASKS, "target": str, "classes": [str], "why": str},
        "order": [str],
        "options": {"numbers?": {NAMES: str}},
        "group?": MAYBE_TEXT,
        "fields": {NAMES: {"kind": str}},
    },
    "metrics.json": {
        "task": TASKS,
        "metric": str,
        "advised": str,
        "target?": MAYBE_TEXT,
        "sentence?": str,
        "test": {NAMES: {"seconds_per_row?": MAYBE_NUMBER}},
        "validation?": {NAMES: dict},
        "rows?": {NAMES: int},
        "folds?": int,
        "about?": {NAMES: str},
        "seconds?": {NAMES: MAYBE_NUMBER},
        "members?": {NAMES: NUMBER},
        "confusion?": [[int]],
        "importance?": list,
    },
    "summary.json": {
        "of": SUM,
        "verdict": {
            "task": TASKS,
            "target": MAYBE_TEXT,
            "metric": str,
            "advised": str,
            "value": MAYBE_NUMBER,
            "interval": [MAYBE_NUMBER],
            "rows": {NAMES: int},
            "seconds": MAYBE_NUMBER,
            "seconds_per_row": MAYBE_NUMBER,
        },
    },
    "config.json": {
        "name": str,
        "about": {NAMES: {"form": str}},
        "outputs": int,
        "options": dict,
        "objective": str,
        "spec": dict,
        "members": int,
        "views": int,
        "rows_at_a_time?": int,
    },
    "environment.json": {"libraries?": {NAMES: str}},
    "manifest.json": {
        "run": str,
        "libraries?": {NAMES: str},
        "data": {"rows": int, "columns": {NAMES: str}},
    },
    "forecast.json": {"forecast": FORECAST, "measured?": FORECAST},
    "checksums.json": {"files": {NAMES: SUM}},
    "done.json": {"settings": dict, "files?": {NAMES: SUM}},
    "about.json": {
        "version": int,
        "scale": NUMBER,
        "is_ordered": bool,
        "temperature?": MAYBE_NUMBER,
        "missing": {NAMES: int},
        "other": {NAMES: int},
        "cells": {
            NAMES: {"rows": int, "empty": int, "unreadable": int, "fractions": int, "unseen": int, "unseen_rows": int}
        },
        "features": bool,
    },
    "mistakes.json": [{"place": str, "row?": dict, "text?": str, "picture?": str}],
}
CHECKPOINT = {"step": int, "epoch": int, "average_steps": int, "run": str, "tensors": SUM, "story": [list]}
MUST_BE_FINITE = ("spec.json", "config.json", "done.json")  # what answers are computed with
TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def misfit(name: str, value: Any) -> str:
    """What is wrong with the content of a file of a run folder, "" for nothing.

    >>> misfit("baseline/linear/0/done.json", {"settings": 3})
    'settings is 3; expected an object'
    """
    parts = name.split("/")
    shape = CHECKPOINT if parts[0] == "last" else SHAPES.get(parts[-1])
    if shape is None:
        return ""
    if wrong := _wrong(value, shape, ""):
        return wrong
    if parts[-1] == "metrics.json":
        return _wrong_metrics(value)
    return _endless(value) if parts[-1] in MUST_BE_FINITE else ""


def _wrong_metrics(value: Mapping[str, Any]) -> str:
    """What does not fit together in a verdict of the right form."""
    if value["advised"] not in value["test"]:
        return f"advised is {value['advised']!r}, of which test says nothing"
    for name, scores in value["test"].items():
        if value["metric"] not in scores:
            return f"metric is {_shown(value['metric'])}, of which test.{name} says nothing"
        if wrong := _wrong(scores[value["metric"]], MAYBE_NUMBER, f"test.{name}.{value['metric']}"):
            return wrong
        interval = scores.get("interval")
        if interval is not None and (_wrong(interval, [MAYBE_NUMBER], "") or len(interval) != 2):
            return f"test.{name}.interval is {_shown(interval)}; expected its two ends"
    # A measure may be undefined; what answers are computed with may not.
    return _endless([value.get("members"), *(one.get("conformal") for one in value.get("validation", {}).values())])


def _wrong(value: Any, shape: Any, path: str) -> str:
    if isinstance(shape, dict):
        return _wrong_object(value, shape, path)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _told(value, [list], path)
        return next(filter(None, (_wrong(one, shape[0], f"{path}[{i}]") for i, one in enumerate(value))), "")
    if isinstance(shape, frozenset):
        fits = isinstance(value, str) and value in shape
        return "" if fits else f"{path} is {_shown(value)}; expected {', '.join(sorted(shape))}"
    types = shape if isinstance(shape, tuple) else (shape,)
    # True is an int to Python, but no number to a reader.
    fits = isinstance(value, types) and not (isinstance(value, bool) and bool not in types)
    return "" if fits else _told(value, types, path)


def _wrong_object(value: Any, shape: Mapping[str, Any], path: str) -> str:
    if not isinstance(value, dict):
        return _told(value, [dict], path)
    for key, inner in shape.items():
        if key == NAMES:
            found = value
        elif key.endswith("?") and value.get(key[:-1]) is None:
            continue
        elif key.removesuffix("?") in value:
            found = {key.removesuffix("?"): value[key.removesuffix("?")]}
        else:
            return f"{path or 'it'} has no '{key}'"
        for name, one in found.items():
            if wrong := _wrong(one, inner, f"{path}.{name}" if path else name):
                return wrong
    return ""


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def _told(value: Any, types: Any, path: str) -> str:
    return f"{path or 'it'} is {_shown(value)}; expected {' or '.join(TYPES[kind] for kind in types)}"


def _endless(value: Any, path: str = "") -> str:
    """Where a number stands that is not finite: NaN and Infinity, which Python's reader of JSON accepts."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value}; expected a finite number"
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next(filter(None, (_endless(one, f"{path}.{key}" if path else str(key)) for key, one in pairs)), "")
