"""Learning to predict classes or numbers, as the recipe's training keys say: objective, targets, batches, loss.

The trainer knows none of this; it asks for batches, an objective and a number to be brought down. What a reader would
get wrong: weights, smoothing, mixing and teachers change what is trained, never what chooses the best weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np
import torch

from fathom.augment import Augment
from fathom.batches import TargetsOf
from fathom.contest import Contest
from fathom.data import Task
from fathom.errors import UserError
from fathom.mix import Mix, Targets
from fathom.recipe import Recipe
from fathom.rooms import find, nearest
from fathom.stored import TARGETS
from fathom.task import OBJECTIVES

# Keys that mean nothing but for some kinds of task, and what these are called.
MEANT_FOR = {
    **dict.fromkeys(
        ("train.mixup", "train.cutmix", "train.class_weights", "train.focal", "train.teacher"), ("classify",)
    ),
    **dict.fromkeys(("train.head", "train.huber"), ("regress",)),
    "train.label_smoothing": ("classify", "language", "translate", "pair"),
    **dict.fromkeys(("text.unit", "text.context", "text.masked"), ("language",)),
    "text.vocabulary": ("language", "translate", "pair"),
}
CALLED = {"classify": "classes", "regress": "numbers", "language": "a language", "translate": "translation",
          "pair": "pictures with captions"}  # fmt: skip
MIXABLE = {"mixup": ("pixels", "numbers"), "cutmix": ("pixels",)}


def refuse_unfit(recipe: Recipe, task: Task, about: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UserError for keys of `train` and `text` that mean nothing for this task or these inputs."""
    train = recipe.train
    for key, kinds in MEANT_FOR.items():
        value = attrgetter(key)(recipe)
        # What a style or a default writes into the recipe of any task: nothing, and one number for a number.
        if value and value != "number" and task.kind not in kinds:
            meant = " or ".join(CALLED[kind] for kind in kinds)
            raise UserError(f"{key} is for {meant}; the task here is '{task.kind}'. Leave it out.")
    found = [value["form"] for value in about.values()]
    if train.augment and "pixels" not in found:
        raise UserError(f"train.augment changes pictures; the inputs here are {', '.join(found)}. Leave it out.")
    if train.views and found != ["pixels"]:
        raise UserError(f"train.views is for pictures alone; the inputs here are {', '.join(found)}. Leave it out.")
    for name, forms in MIXABLE.items():
        unfit = [f"'{one}' ({value['form']})" for one, value in about.items() if value["form"] not in forms]
        if getattr(train, name) and unfit:
            raise UserError(
                f"train.{name} mixes {' and '.join(forms)} only, and cannot mix {', '.join(unfit)}: "
                "half of one category and half of another is none. Leave it out."
            )
    if isinstance(train.class_weights, dict):
        for given in map(str, train.class_weights):
            if given not in task.classes:
                raise UserError(f"train.class_weights has no class '{given}'. {nearest(given, task.classes)}")


def objective_name(contest: Contest) -> str:
    """The file of objectives/ that the network is trained by."""
    if contest.recipe.text.masked and contest.task.kind == "language":
        return "masked_token"
    return "distill" if contest.recipe.train.teacher else OBJECTIVES[contest.task.kind]


def objective_spec(contest: Contest) -> dict[str, Any]:
    """What the objective must know: the target, and for numbers what the network makes of each."""
    if contest.task.kind != "regress":
        return contest.target
    return contest.target | {"head": contest.recipe.train.head or "number"}


def make_objective(contest: Contest, number: int) -> Any:
    """The objective of one fold."""
    train, part = contest.recipe.train, find("objectives", objective_name(contest))
    spec = objective_spec(contest)
    if contest.task.kind == "regress":
        return part.build(spec, huber=train.huber or 0.0)
    options: dict[str, Any] = {"label_smoothing": train.label_smoothing or 0.0}
    if contest.recipe.text.masked and contest.task.kind == "language":
        options["share"] = contest.recipe.text.masked
    if contest.task.kind == "classify":
        options |= {"focal": train.focal or 0.0, "class_weights": class_weights(contest, number)}
    if train.teacher:
        given = {"temperature": train.temperature, "share": train.teacher_share}
        options |= {name: value for name, value in given.items() if value is not None}
    return part.build(spec, **options)


def class_weights(contest: Contest, number: int) -> list[float] | None:
    """How much a row of each class counts: scaled so that the training rows of the fold weigh 1 on average."""
    wanted, classes = contest.recipe.train.class_weights, contest.task.classes
    if not wanted:
        return None
    counts = np.bincount(contest.targets[contest.divided.folds[number].train], minlength=len(classes))
    if isinstance(wanted, dict):
        given = {str(name): weight for name, weight in wanted.items()}
        weights = np.array([given.get(name, 1.0) for name in classes])
    else:
        weights = 1 / np.maximum(counts, 1)
    return (weights * counts.sum() / (weights * counts).sum()).tolist()


def training_targets(contest: Contest, number: int, device: torch.device) -> Targets | TargetsOf:
    """The targets of all rows; where a run teaches this one, with its probabilities for the fold's training rows."""
    if contest.store is not None:
        files = contest.store.files
        return lambda rows: torch.from_numpy(files.gather(TARGETS, rows)).to(device)
    targets = torch.as_tensor(contest.targets, device=device)
    if contest.task.kind != "classify":
        return targets.float()
    if contest.taught is None:
        return targets
    return {"truth": targets, "teacher": torch.as_tensor(contest.taught[number], device=device)}


def augment_of(contest: Contest) -> Augment | None:
    """How pictures are changed: by the recipe's strengths, mirrored only where every picture column allows it.

    Pictures with captions are never mirrored."""
    strengths = contest.recipe.train.augment
    pictures = [contest.examples.about[name] for name in contest.examples.of_form("pixels")]
    if not strengths or not pictures:
        return None
    # A caption may say left or right, which no picture tells.
    mirror = contest.task.kind != "pair" and all(about["mirror"] for about in pictures)
    return Augment(mirror=mirror, **strengths)


def mix_of(contest: Contest) -> Mix | None:
    """How rows are mixed in pairs."""
    train = contest.recipe.train
    if not (train.mixup or train.cutmix):
        return None
    return Mix(len(contest.task.classes), mixup=train.mixup or 0.0, cutmix=train.cutmix or 0.0)


def validation_loss(contest: Contest, predictions: np.ndarray, ends: np.ndarray | None, targets: np.ndarray) -> float:
    """The loss that chooses the best weights: log loss in nats, half squared deviations, or that of the head.

    Neither weighted nor smoothed. `ends` [N, 2] are the model's own intervals, where its head makes some.
    """
    if contest.task.kind == "classify":
        return float(find("measures", "log_loss").measure(predictions, targets))
    if ends is not None:
        given = [torch.from_numpy(np.asarray(one, np.float64)) for one in (predictions, ends, targets)]
        return float(find("objectives", "regress").held_out_loss(*given, objective_spec(contest)))
    scale = np.log1p if contest.target["log"] else np.asarray
    # A prediction below -1 has no logarithm; the target has none below 0.
    errors = scale(np.maximum(predictions, 0) if contest.target["log"] else predictions) - scale(targets)
    return float(0.5 * np.mean((errors / contest.target["std"]) ** 2))
