"""What preparing leaves: rows that can be learned from, the task, and what each column is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom.data import LeftOut, Table, Task, TaskKind
from fathom.doctor.finding import Finding


@dataclass(frozen=True)
class Prepared:
    """Rows that all have a target and readable values, and what each column is."""

    table: Table
    task: Task
    targets: np.ndarray  # int64 class indices, float64 numbers, texts [N]; their lengths for a language
    kinds: dict[str, str]  # column → field
    whys: dict[str, str]  # column → why it is taken for that
    every_column: dict[str, np.ndarray]  # also those that are not learned from: to group or to order by
    left_out: list[LeftOut]
    findings: list[Finding]
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # column → options of its field's fit
    looked_for: tuple[str, ...] = ()  # what the doctor asked of the rows: "copies of rows", …

    @property
    def strata(self) -> tuple[np.ndarray, TaskKind]:
        """What the parts shall have equal shares of [N], and how to read it: texts are taken by their length."""
        if self.task.kind in ("classify", "regress"):
            return self.targets, self.task.kind
        if self.task.kind == "pair":
            # A picture with several captions would count for the stratum of one of them.
            return np.zeros(len(self.targets)), "regress"
        if self.task.kind == "translate":
            return np.array([len(text) for text in self.targets], np.float64), "regress"
        return self.targets, "regress"


def tell_left_out(left_out: list[LeftOut], say: Callable[[str, str], None]) -> None:
    """How many are not used, and the first of them."""
    if left_out:
        first = f"the first: {left_out[0].where}: {left_out[0].why}"
        say("", f"{len(left_out):,} left out, listed in left_out.csv; {first}")
