"""What is to be predicted: the target column and whether it is a class or a number, each with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.data import Table, Task
from fathom.errors import UserError
from fathom.fields import category, number, text
from fathom.recipe import Recipe
from fathom.rooms import every, nearest
from fathom.sources.parts.columns import find_column

# Which objective a task is trained by, and the measure that decides where none was asked for.
OBJECTIVES = {
    "classify": "classify",
    "regress": "regress",
    "language": "next_token",
    "translate": "sequence_to_sequence",
    "pair": "contrastive",
}
METRICS = {
    "classify": "accuracy",
    "regress": "rmse",
    "language": "cross_entropy",
    "translate": "bleu",
    "pair": "recall_at_1",
}
USUAL_NAMES = ("target", "label", "class", "y", "outcome")
# Whole numbers with at most this many distinct values, each seen ten times on average, are taken for classes.
FEW_CLASSES = 20
MOST_CLASSES = 1000


def find_target(table: Table, wanted: str | int | None) -> tuple[str, str]:
    """Name of the target column and why it was taken. Raises UserError naming the nearest column."""
    names = list(table.columns)
    if wanted is not None:
        return str(find_column(names, wanted, "The data", table.first)), "as asked"
    if table.target is not None:
        return table.target, "the data says so"
    usual = [name for name in names if name.lower() in USUAL_NAMES]
    if len(usual) == 1:
        return usual[0], f"it is called '{usual[0]}'"
    texts = [name for name in names if _looks_like_text(table.columns[name])]
    if len(names) == 2 and len(texts) == 1:
        other = next(name for name in names if name not in texts)
        return other, f"it stands beside the one text column '{texts[0]}'"
    shown = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
    raise UserError(
        f"Which column is to be predicted? Pass --target NAME (or its number, from {table.first}). Columns: {shown}."
    )


def is_language(table: Table, recipe: Recipe) -> bool:
    """Whether a language is to be learned: as asked, or because there is one text and nothing beside it."""
    if recipe.task is not None:
        return recipe.task == "language"
    (first, *others) = table.columns.values()
    return recipe.target is None and not others and (table.continues or _looks_like_text(first))


def is_pair(table: Table, recipe: Recipe) -> bool:
    """Whether pictures are to be matched with captions: as asked, or because the data is nothing else."""
    if recipe.task is not None:
        return recipe.task == "pair"
    return table.task == "pair" and recipe.target in (None, table.target)


def is_translation(table: Table, target: str, recipe: Recipe) -> bool:
    """Whether the target is a text of its own: as asked, or because it is free text and hardly ever the same twice."""
    if recipe.task is not None:
        return recipe.task == "translate"
    values = table.columns[target]
    guess = text.sniff(target, values) if values.dtype == object else None
    if guess is None or not any(_looks_like_text(v) for name, v in table.columns.items() if name != target):
        return False
    distinct = len({v for v in values if v is not None})
    return _are_too_many(distinct, len(values))


def _are_too_many(distinct: int, rows: int) -> bool:
    """Whether values are no classes."""
    return distinct > MOST_CLASSES or distinct > rows / 2


def _looks_like_text(values: np.ndarray) -> bool:
    sample = [v for v in values[:200] if isinstance(v, str)]
    return len(sample) > 0 and float(np.mean([len(v.split()) for v in sample])) >= 3


def guess_task(name: str, values: np.ndarray, wanted: str | None = None) -> tuple[Task, str]:
    """The task for known target values (no missing ones). Raises UserError where there is nothing to learn."""
    numbers = number.read(values)
    share = float(np.mean(np.isfinite(numbers))) if len(numbers) else 0.0
    kind, why = _kind(values, numbers, share)
    if wanted is not None:
        kind, why = wanted, "as asked"
    if kind == "regress":
        if share < 0.5:
            raise UserError(f"Column '{name}' cannot be a number: {1 - share:.0%} of its values are words.")
        if len(np.unique(numbers[np.isfinite(numbers)])) < 2:
            raise UserError(f"Every row has the same '{name}': there is nothing to learn. Pass another --target.")
        return Task("regress", name, (), why), why
    classes = tuple(category.fit_target(values)["classes"])
    if len(classes) < 2:
        only = classes[0] if classes else "nothing"
        raise UserError(
            f"Every row has the same '{name}': '{only}'. At least two classes are needed; pass another --target "
            f"or add rows (or a folder) of a second class."
        )
    if _are_too_many(len(classes), len(values)):
        raise UserError(
            f"Column '{name}' has {len(classes):,} distinct values in {len(values):,} rows: too many for classes, and "
            f"they are not numbers. Pass another --target, or group its values first."
        )
    return Task("classify", name, classes, why), why


def _kind(values: np.ndarray, numbers: np.ndarray, share: float) -> tuple[str, str]:
    if values.dtype == bool:
        return "classify", "true or false"
    known = numbers[np.isfinite(numbers)]
    distinct = np.unique(known)
    if share < 0.95:
        words = len({str(v).strip() for v in values})
        return "classify", f"{words} distinct words"
    whole = bool(np.all(known == np.round(known)))
    if len(distinct) == 2:
        return "classify", "two distinct values"
    if whole and len(distinct) <= FEW_CLASSES and len(known) >= 10 * len(distinct):
        return "classify", f"{len(distinct)} distinct whole numbers in {len(known):,} rows"
    return "regress", f"numbers with {len(distinct):,} distinct values"


def chosen_metric(task: Task, recipe: Recipe) -> str:
    """The measure that decides: the one asked for, else accuracy or the root mean squared error."""
    if recipe.metric is None:
        return METRICS[task.kind]
    fitting = [name for name, measure in every("measures").items() if task.kind == measure.TASK]
    if recipe.metric not in fitting:
        raise UserError(f"'{recipe.metric}' is no measure for this task. {nearest(recipe.metric, fitting)}")
    return recipe.metric


def target_spec(task: Task, targets: np.ndarray) -> dict[str, Any]:
    """What an objective must know of the target, from training rows: the classes, or mean and spread.

    A positive target whose logarithm is far less skewed than itself is learned on the logarithm of 1 + target.
    """
    if task.kind == "classify":
        return {"classes": list(task.classes)}
    use_log = bool(targets.min() >= 0 and _skew(targets) > 2 and abs(_skew(np.log1p(targets))) < 1)
    scaled = np.log1p(targets) if use_log else targets
    return {"mean": float(scaled.mean()), "std": float(scaled.std()) or 1.0, "log": use_log}


def _skew(values: np.ndarray) -> float:
    deviation = values.std()
    return float(np.mean(((values - values.mean()) / deviation) ** 3)) if deviation > 0 else 0.0
