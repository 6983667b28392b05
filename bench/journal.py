"""What the long benches share: results kept as lines of JSON, the conditions they were measured under, and tables.

A result is written as soon as it is there, and one that is there is not measured again: a bench can be stopped and
taken up. What a reader would get wrong: a result belongs to all of its settings, so a bench started with others
measures anew and leaves the old lines where they are.

    >>> table(["net", "error"], [["plain", "12 %"], ["residual", "8 %"]]).splitlines()[2:]
    ['| plain | 12 % |', '| residual | 8 % |']
"""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from fathom.manifest import environment

RECORDS = Path(__file__).parent / "records"


class Journal:
    """The results of one bench in a file of JSON lines, each with its settings and conditions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def result(self, settings: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was measured with exactly these settings, now or earlier."""
        for line in self.lines:
            if line["settings"] == settings:
                return line["result"]
        line = {"settings": settings, "result": measure(), "conditions": conditions()}
        self.lines.append(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return line["result"]


def conditions() -> dict[str, Any]:
    """Machine, versions and day."""
    about = environment()
    return {
        "date": datetime.date.today().isoformat(),
        "processor": about["processor"],
        "threads": torch.get_num_threads(),
        "python": about["python"],
        "torch": torch.__version__,
    }


def told(found: dict[str, Any]) -> str:
    """The conditions as one line.

    >>> told({"date": "2026-01-02", "processor": "a chip", "threads": 1, "python": "3.12", "torch": "2.9"})
    'a chip, threads 1, torch 2.9, Python 3.12, 2026-01-02'
    """
    return (
        f"{found['processor']}, threads {found['threads']}, torch {found['torch']}, Python {found['python']}, "
        + str(found["date"])
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def spread(values: Sequence[float], form: str = ".3f", factor: float = 1.0) -> str:
    """Mean over seeds, and the least and the greatest where there are several.

    >>> spread([0.5, 0.25], ".1f", 100)
    '37.5 (25.0 to 50.0)'
    """
    mean = f"{factor * statistics.mean(values):{form}}"
    if len(values) < 2:
        return mean
    return f"{mean} ({factor * min(values):{form}} to {factor * max(values):{form}})"
