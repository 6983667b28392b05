"""Raw data → what is wrong with it, before any training: read, prepare, split and encode as a fit would, then look.

Nothing is trained that is kept, and nothing is written. `fathom doctor DATA` is this; a fit looks the same way, at
fewer rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fathom.divide import Divided, divide
from fathom.doctor.data_check import look
from fathom.doctor.finding import Finding, in_order_of_blame
from fathom.doctor.parts.given import Given
from fathom.learn import Learned, learn
from fathom.prepare import prepare, read
from fathom.prepared import Prepared
from fathom.recipe import Recipe

Say = Callable[[str, str], None]
ROWS, LEAST_ROWS = 20_000, 300  # as many are looked at where each costs time
# Of a fit's budget, and what a value of a row costs on a slow core: for all the models that are made to look.
SHARE, SECONDS_A_VALUE = 0.03, 2e-5
VALUES = 64  # a picture or a text counts as so many
BUDGET = 300.0  # seconds, where a fit has none


class Checkup(NamedTuple):
    """What was found, and in what."""

    findings: list[Finding]
    rows: int
    columns: int
    looked_for: tuple[str, ...]  # "copies", "wrong labels", …

    @property
    def summary(self) -> str:
        """'2 findings', or that there is nothing and what was looked for."""
        if len(self.findings):
            return f"{len(self.findings)} finding{'s' * (len(self.findings) > 1)}"
        where = f"{self.rows:,} rows and {self.columns:,} column{'s' * (self.columns != 1)}"
        if not self.looked_for:
            return f"{where} can be read and split. For this task nothing more is looked for in data."
        return f"Nothing found in {where}. Looked for: {', '.join(self.looked_for)}."


def check_data(recipe: Recipe, data: Any = None, say: Say | None = None) -> list[Finding]:
    """What is wrong with anything that a source opens. Raises UserError as a fit does."""
    return checkup(recipe, data, say or _nobody).findings


def checkup(recipe: Recipe, data: Any, say: Say) -> Checkup:
    """`check_data` with what was looked at. Without `data` the recipe's own path is read."""
    recipe = copy.deepcopy(recipe)
    table = read(recipe, recipe.data if data is None else data)
    say("Reading", f"{recipe.data or table.name} → {table.summary}")
    for note in table.notes:
        say("", note)
    prepared = prepare(table, recipe, say)
    divided = divide(prepared, recipe, say)
    return check(prepared, divided, learn(prepared, recipe, divided.fitting), recipe)


def check(prepared: Prepared, divided: Divided, learned: Learned, recipe: Recipe, *, rows: int = ROWS) -> Checkup:
    """Look at data that is ready to be learned from. `rows` bounds the time."""
    table, task = prepared.table, prepared.task
    found: list[Finding] = list(prepared.findings)
    looked: tuple[str, ...] = ()
    if task.kind in ("classify", "regress") and divided.copies is not None:
        known = set(prepared.kinds)
        judged = np.concatenate([np.concatenate(fold) for fold in divided.folds])
        split = recipe.split
        given = Given(
            columns=dict(table.columns),
            others={n: v for n, v in prepared.every_column.items() if n not in known | {task.target}},
            examples=learned.examples,
            task=task,
            targets=learned.targets,
            train=np.unique(judged),
            test=divided.test,
            parts=table.parts,
            places=table.places,
            copies=divided.copies,
            groups=divided.groups,
            times=divided.times,
            names={key: name for key, name in (("group", split.group), ("time", split.time)) if name is not None},
            rows=rows,
            seed=recipe.seed,
        )
        more, looked = look(given, prepared.kinds)
        found += more
    return Checkup(in_order_of_blame(found), len(table), len(table.columns), looked)


def affordable_rows(learned: Learned, seconds: float | None) -> int:
    """As many rows as may be looked at in a fit of so many seconds. Not the clock decides but the data: it is the same
    number whenever the fit is repeated."""
    about = learned.examples.about.values()
    values = sum(len(one.get("names", ())) if one["form"] in ("numbers", "categories") else VALUES for one in about)
    outputs = len(learned.target.get("classes", ())) if len(learned.target.get("classes", ())) > 2 else 1
    affordable = SHARE * (seconds or BUDGET) / (SECONDS_A_VALUE * max(values, 1) * min(outputs, 7))
    return int(np.clip(affordable, LEAST_ROWS, ROWS))


def _nobody(label: str, text: str) -> None:
    pass
