"""From whatever was given to a table that can be learned from: target, task, kinds of columns, rows left out.

Every choice is told through `say`, every row or file that is not used is listed with the reason, and a run with too
little left is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fathom import language, pairs, translation
from fathom.data import File, LeftOut, Table, Task
from fathom.doctor.finding import Finding
from fathom.doctor.target_sum import find_sums, sum_finding
from fathom.errors import UserError
from fathom.fields import category, number
from fathom.fields.parts.choose import guess
from fathom.fields.parts.identifier import carries_nothing
from fathom.fields.parts.values import EMPTY, distinct
from fathom.prepared import Prepared, tell_left_out
from fathom.recipe import Recipe
from fathom.rooms import find, names, nearest
from fathom.sampling import beginning_of, sampled
from fathom.sources import plain_text
from fathom.sources.parts.choose import open_any
from fathom.sources.parts.join import join
from fathom.task import find_target, guess_task, is_language, is_pair, is_translation

LEAST_ROWS = 20
Say = Callable[[str, str], None]


def read(recipe: Recipe, data: Any) -> Table:
    """Open the data, or the sample of it that the recipe says, and the test set where one was named."""
    data = expanded(data)
    if recipe.task == "language" and plain_text.takes(data):
        table = beginning_of(plain_text.open(data, **recipe.options), recipe)
    elif recipe.sample.rows is not None:
        table = sampled(recipe, data)
    else:
        table = open_any(data, **recipe.options)
    return with_test(table, recipe)


def with_test(table: Table, recipe: Recipe) -> Table:
    """The table with the test set that the recipe names, where it names one."""
    if recipe.test is None:
        return table
    return join(table, open_any(expanded(recipe.test), alone=True, **{**table.options, **recipe.options}))


def expanded(data: Any) -> Any:
    """'$FATHOM_DATA/mnist' and '~/photos' as a shell would read them."""
    return os.path.expanduser(os.path.expandvars(data)) if isinstance(data, str) else data


def prepare(table: Table, recipe: Recipe, say: Say) -> Prepared:
    """Find the target, the task and the fields; leave out what cannot be used. Raises UserError naming the remedy."""
    left_out = list(table.left_out)
    table = _without_dropped(table, recipe)
    if is_language(table, recipe):
        return language.prepare(table, recipe, say)
    if is_pair(table, recipe):
        return pairs.prepare(table, recipe, say)
    target, why_target = find_target(table, recipe.target)
    pairs.refuse_pictures(table, target)
    if is_translation(table, target, recipe):
        return translation.prepare(table, target, recipe, say, why_target)
    table, labels = _with_known_target(_aligned(table, target, say), target, left_out)
    task, why = guess_task(target, labels, recipe.task)
    say("Task", f"{_task_words(task)} '{target}' ({why_target}): {why}")
    aside = {target, recipe.split.group} - set(recipe.keep)
    columns = {name: values for name, values in table.columns.items() if name not in aside}
    findings: list[Finding] = []
    columns = _without_target_sums(columns, task, labels, recipe, say, findings)
    whys = _whys(columns, recipe, len(table), say)
    kinds = {name: kind for name, (kind, _) in whys.items()}
    say("Fields", _counted(kinds))
    targets = encoded_targets(task, labels)
    known = _readable_rows(table, targets, task, kinds, left_out)
    if not known.all():
        rows = np.flatnonzero(known)
        table, targets = table.take(rows), targets[rows]
    every_column = table.columns
    table = replace(table, columns={name: table.columns[name] for name in kinds})
    _refuse_too_little(table, task, targets, left_out)
    tell_left_out(left_out, say)
    return Prepared(
        table, task, targets, kinds, {n: why for n, (_, why) in whys.items()}, every_column, left_out, findings
    )


def is_missing(values: np.ndarray) -> np.ndarray:
    """Which rows of a column have no value, bool [N]; pictures and files always have one."""
    if values.ndim > 1 or (values.dtype == object and any(isinstance(value, File) for value in values[:1])):
        return np.zeros(len(values), bool)
    if values.dtype.kind in "iufb":
        return np.isnan(values)
    return distinct(values).without(EMPTY).codes < 0


def _task_words(task: Task) -> str:
    if task.kind == "regress":
        return "predict the number"
    return "tell two classes apart by" if len(task.classes) == 2 else f"tell {len(task.classes)} classes apart by"


def _without_dropped(table: Table, recipe: Recipe) -> Table:
    for name in (*recipe.drop, *recipe.keep, *recipe.treat_as):
        if name not in table.columns:
            raise UserError(f"There is no column '{name}'. {nearest(name, table.columns)}")
    columns = {n: v for n, v in table.columns.items() if n not in recipe.drop}
    if not columns:
        raise UserError(f"All {len(table.columns)} columns are dropped. Leave some: the target and what tells of it.")
    return replace(table, columns=columns)


def _aligned(table: Table, target: str, say: Say) -> Table:
    """Test labels written a little differently ('<=50K.') are matched to the training labels, and it is said."""
    if table.parts is None or table.columns[target].dtype != object:
        return table
    others = np.flatnonzero(table.parts != "train")
    values = table.columns[target].copy()
    train_spec = category.fit_target(np.delete(values, others))
    matched, note = category.align(values[others], train_spec)
    if not note:
        return table
    say("", note)
    values[others] = matched
    return replace(table, columns={**table.columns, target: values})


def _with_known_target(table: Table, target: str, left_out: list[LeftOut]) -> tuple[Table, np.ndarray]:
    missing = is_missing(table.columns[target])
    if missing.all():
        raise UserError(f"Column '{target}' has no value in any of {len(table):,} rows. Pass another --target.")
    left_out += [LeftOut(table.places[row], f"no value for '{target}'") for row in np.flatnonzero(missing)]
    if missing.any():
        table = table.take(np.flatnonzero(~missing))
    return table, table.columns[target]


def encoded_targets(task: Task, labels: np.ndarray) -> np.ndarray:
    """Numbers, NaN for what is none, or the indices of classes, -1 for an unknown one [N]."""
    if task.kind == "regress":
        return number.read(labels)
    return category.encode_target(labels, {"classes": list(task.classes)})


def _without_target_sums(
    columns: dict[str, np.ndarray],
    task: Task,
    labels: np.ndarray,
    recipe: Recipe,
    say: Say,
    findings: list[Finding],
) -> dict[str, np.ndarray]:
    if task.kind != "regress":
        return columns
    parsed = {n: number.read(v) for n, v in columns.items() if n not in recipe.keep and _is_numeric(v)}
    for group in find_sums(parsed, number.read(labels)):
        found = sum_finding(group, task.target)
        say("Doctor", found.text)
        findings.append(found)
        columns = {name: values for name, values in columns.items() if name not in group}
    return columns


def _is_numeric(values: np.ndarray) -> bool:
    if values.ndim > 1:
        return False
    if values.dtype != object:
        return bool(np.issubdtype(values.dtype, np.number))
    sample = [v for v in values[:200] if v is not None]
    return bool(sample) and float(np.mean(np.isfinite(number.read(np.array(sample, object))))) > 0.9


def _whys(columns: dict[str, np.ndarray], recipe: Recipe, num_rows: int, say: Say) -> dict[str, tuple[str, str]]:
    """Column → the kind it is taken for, and why. Columns that carry nothing are left out, and it is said."""
    found: dict[str, tuple[str, str]] = {}
    for name, values in columns.items():
        if name in recipe.treat_as:
            found[name] = (_known_kind(recipe.treat_as[name]), "as asked")
        elif name not in recipe.keep and (reason := carries_nothing(name, values)):
            say("", f"'{name}' is left out: {reason}; keep=[{name}] keeps it")
        else:
            kind, guessed = guess(name, values)
            found[name] = (kind, guessed.why)
    if not found:
        raise UserError(
            f"No column of the {num_rows:,} rows is left to predict from. Add columns, or keep some with keep=[NAME]."
        )
    return found


def _counted(kinds: dict[str, str]) -> str:
    """'6 numbers · 8 categories (workclass, education, …) · 1 text (review)'."""
    by_kind: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        by_kind.setdefault(kind, []).append(name)
    told = []
    for kind, names_of in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        several = {"category": "categories", "datetime": "dates"}.get(kind, f"{kind}s")
        shown = ", ".join(names_of[:3]) + (", …" if len(names_of) > 3 else "")
        told.append(f"{len(names_of)} {kind if len(names_of) == 1 else several} ({shown})")
    return " · ".join(told)


def _known_kind(kind: str) -> str:
    if kind not in names("fields"):
        raise UserError(f"'{kind}' is no kind of column. {nearest(kind, names('fields'))}")
    return kind


def _readable_rows(
    table: Table, targets: np.ndarray, task: Task, kinds: dict[str, str], left_out: list[LeftOut]
) -> np.ndarray:
    keep = np.ones(len(table), bool)
    for name, kind in kinds.items():
        for row, why in find("fields", kind).broken(table.columns[name]).items():
            if keep[row]:
                left_out.append(LeftOut(table.places[row], why))
            keep[row] = False
    bad = ~np.isfinite(targets) if task.kind == "regress" else targets < 0
    left_out += [LeftOut(table.places[row], f"'{task.target}' is not a number") for row in np.flatnonzero(bad & keep)]
    return keep & ~bad


def _refuse_too_little(table: Table, task: Task, targets: np.ndarray, left_out: list[LeftOut]) -> None:
    lost = f" ({len(left_out):,} were left out; the first: {left_out[0].where}: {left_out[0].why})" if left_out else ""
    if len(table) < LEAST_ROWS:
        raise UserError(
            f"Only {len(table):,} usable rows{lost}. At least {LEAST_ROWS} are needed to train, validate and test."
        )
    if task.kind == "classify" and len(np.unique(targets)) < 2:
        raise UserError(f"Only one class of '{task.target}' is left{lost}. At least two are needed.")
    if len(left_out) > len(table):
        raise UserError(
            f"More than half of the data cannot be read{lost}. Mend it, or check delimiter=, encoding= and header=."
        )
