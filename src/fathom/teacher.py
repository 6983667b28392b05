"""A finished run as a teacher: its probabilities for the rows that train this run (objectives/distill.py).

What a reader would get wrong: a teacher that trained on rows which judge this run would tell their classes through its
probabilities for other rows. So each fold is taught only by members of the teacher that trained on none of the fold's
validation rows, and by none that has met a test row; where there is no such member the run is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fathom.candidates import Candidate, Ensemble, Fold
from fathom.data import Examples, Task
from fathom.divide import Divided
from fathom.encode import Specs, encode
from fathom.errors import UserError
from fathom.prepared import Prepared
from fathom.recipe import Recipe, load
from fathom.rooms import nearest
from fathom.run import RunFolder
from fathom.store import open_candidate

Say = Callable[[str, str], None]


def soft_targets(recipe: Recipe, prepared: Prepared, divided: Divided, say: Say) -> list[np.ndarray] | None:
    """For each fold the teacher's probabilities, float32 [N, C] in the order of this run's classes; None without one.

    Only the fold's training rows are told, all others are NaN. Raises UserError where the run cannot teach this one.
    """
    if not recipe.train.teacher:
        return None
    folder = RunFolder.open_finished(recipe.train.teacher, "teacher")
    spec, metrics = folder.read_json("spec.json"), folder.read_json("metrics.json")
    order = _order_of_classes(folder, Task.from_json(spec["task"]), prepared.task)
    name = recipe.train.teacher_candidate or metrics["advised"]
    if name not in metrics["test"]:
        raise UserError(f"The teacher {folder.path} has no candidate '{name}'. {nearest(name, metrics['test'])}")
    examples = _examples(folder, spec["fields"], prepared)
    seen = _seen(folder, spec["name"], metrics["folds"], prepared, say)
    every = list(range(metrics["folds"]))
    chosen = [every if seen is None else _honest(folder, seen, fold, divided, prepared) for fold in divided.folds]
    teacher = open_candidate(folder, name)
    say("Teacher", f"{name} of {folder.path}")
    taught = []
    for fold, members in zip(divided.folds, chosen, strict=True):
        told = np.full((len(prepared.table), len(order)), np.nan, np.float32)
        told[fold.train] = _only(teacher, members).predict(examples.take(fold.train))[:, order]
        taught.append(told)
    return taught


def _order_of_classes(folder: RunFolder, teachers: Task, task: Task) -> list[int]:
    """Where each of this run's classes stands in the teacher's."""
    new = [name for name in task.classes if name not in teachers.classes]
    gone = [name for name in teachers.classes if name not in task.classes]
    if new or gone:
        told = [f"only {where}: {', '.join(names[:5])}" for where, names in (("here", new), ("there", gone)) if names]
        raise UserError(
            f"The teacher {folder.path} knows other classes ({'; '.join(told)}). "
            "It must be fitted on the same classes as are to be learned here."
        )
    return [teachers.classes.index(name) for name in task.classes]


def _examples(folder: RunFolder, fields: Specs, prepared: Prepared) -> Examples:
    """This run's rows as the teacher reads them."""
    for column in fields:
        if column not in prepared.every_column:
            hint = nearest(column, prepared.every_column)
            raise UserError(f"The teacher {folder.path} reads the column '{column}', which this run lacks. {hint}")
    return encode(replace(prepared.table, columns=prepared.every_column), fields)


@dataclass(frozen=True)
class _Seen:
    """What a teacher did with the rows of this run [N]."""

    part: np.ndarray  # "train", "validate" or "test" in its split, "" for rows that it never had
    fold: np.ndarray  # in which of its folds a row was held out
    folds: int

    def trained(self, member: int) -> np.ndarray:
        """Which rows the teacher's member trained on, bool [N]."""
        held_out = (self.part == "validate") & ((self.folds == 1) | (self.fold == member))
        return self.met & ~held_out

    @property
    def met(self) -> np.ndarray:
        """Which rows any member trained on or was chosen by, bool [N]."""
        return np.isin(self.part, ("train", "validate"))


def _seen(folder: RunFolder, name: str, folds: int, prepared: Prepared, say: Say) -> _Seen | None:
    """Rows are known by where they come from, whatever the data is called; None where none is known."""
    split = folder.read_table("split.parquet")
    own, theirs = [prepared.table.places[row] for row in range(len(prepared.table))], list(split["place"])
    found = _found(own, theirs)
    if (found < 0).all():
        # The same file may lie in another folder by now.
        found = _found([os.path.basename(place) for place in own], [os.path.basename(place) for place in theirs])
    known = found >= 0
    if not known.any():
        say("Doctor", f"the teacher was fitted on other data ('{name}'): whether it met rows that judge is not known")
        return None
    part = np.where(known, split["part"][found], "")
    return _Seen(part.astype(str), np.where(known, split["fold"][found], -1), folds)


def _found(places: Sequence[str], among: Sequence[str]) -> np.ndarray:
    """Where each place stands among others that are all different; -1 for none."""
    index = {place: number for number, place in enumerate(among)}
    return np.array([index.get(place, -1) if len(index) == len(among) else -1 for place in places])


def _honest(folder: RunFolder, seen: _Seen, fold: Fold, divided: Divided, prepared: Prepared) -> list[int]:
    """The members of the teacher that may teach this fold. Raises UserError where there is none."""
    test = divided.test[seen.met[divided.test]]
    told = [np.concatenate([test, fold.validate[seen.trained(m)[fold.validate]]]) for m in range(seen.folds)]
    honest = [member for member, rows in enumerate(told) if not len(rows)]
    if not honest:
        rows = min(told, key=len)
        seed = load(folder.inside("recipe.yaml")).seed
        raise UserError(
            f"The teacher {folder.path} was trained or chosen by {len(rows):,} of the rows that judge this run, such "
            f"as {prepared.table.places[int(rows[0])]}: it would tell their classes. Split as the teacher did, with "
            f"--seed {seed} split.folds={seen.folds} and the other keys of split in its recipe.yaml, or fit the "
            "teacher again with this run's."
        )
    return honest


def _only(teacher: Candidate | Ensemble, members: Sequence[int]) -> Candidate | Ensemble:
    """The teacher with some of its members."""
    if isinstance(teacher, Ensemble):
        some = [replace(one, members=[one.members[m] for m in members]) for one in teacher.candidates]
        return Ensemble(some, teacher.weights)
    return replace(teacher, members=[teacher.members[m] for m in members])
