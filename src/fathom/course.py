"""What one network is trained on and judged by: its inputs, objective, batches and validation, for one fold of a task.

The trainer and the planner's probe both take their batches from here, so that what is timed is what is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fathom import language, pairs, prediction, translation
from fathom.batches import Batches, Tensors
from fathom.contest import Contest
from fathom.loop import Objective
from fathom.pair_network import Matcher
from fathom.rooms import find
from fathom.store import as_network, predictor
from fathom.text_networks import Translator
from fathom.training import Epochs

# Enough to see which epoch is best; the verdict takes all of them.
TOKENS_TO_WATCH, TEXTS_TO_WATCH = 100_000, 200


@dataclass(frozen=True)
class Course:
    objective: Objective
    batches: Epochs
    validate: Callable[[nn.Module], tuple[float, float]]  # model → (loss, metric) on validation rows


def network_config(contest: Contest) -> dict[str, Any]:
    """What config.json holds: enough to build the network again and to read its outputs."""
    recipe, kind = contest.recipe, contest.task.kind
    objective, spec = prediction.objective_name(contest), prediction.objective_spec(contest)
    about = contest.examples.about
    if kind == "translate":
        about = translation.about_pair(contest.specs, contest.target)
    return {
        "name": recipe.model.name,
        "options": recipe.model.options,
        "about": about,
        "outputs": find("objectives", objective).outputs(spec),
        "objective": objective,
        "spec": spec,
        "views": recipe.train.views or 0,
        **({} if recipe.train.predict_rows is None else {"rows_at_a_time": recipe.train.predict_rows}),
    }


def course(contest: Contest, config: dict[str, Any], tensors: Tensors, number: int, device: torch.device) -> Course:
    """The course of one fold. `tensors` are those of all rows (`tensors_of`)."""
    kind = contest.task.kind
    if kind == "language":
        return _language(contest, config, number, device)
    if kind == "translate":
        return _translation(contest, config, number, device)
    if kind == "pair":
        return _pairs(contest, config, tensors, number, device)
    return _prediction(contest, config, tensors, number, device)


def tensors_of(contest: Contest, device: torch.device) -> Tensors:
    """All rows that a network learns from or is judged by."""
    return Tensors(contest.examples, device, files=None if contest.store is None else contest.store.files)


def seed_of(contest: Contest, number: int) -> int:
    return contest.recipe.seed * 1000 + number


def _prediction(
    contest: Contest, config: dict[str, Any], tensors: Tensors, number: int, device: torch.device
) -> Course:
    recipe, fold = contest.recipe, contest.divided.folds[number]
    assert recipe.train.batch_size is not None
    train = contest.trained_on(number)
    batches = Batches(
        tensors,
        prediction.training_targets(contest, number, device),
        train,
        recipe.train.batch_size,
        seed=seed_of(contest, number),
        augment=prediction.augment_of(contest),
        mix=prediction.mix_of(contest),
        drop_last=len(train) >= 10 * recipe.train.batch_size,
    )
    judged = contest.targets[fold.validate]
    once = config | {"views": 0}  # averaging over views would cost as much as some training
    measure = find("measures", contest.metric)

    def validate(model: nn.Module) -> tuple[float, float]:
        predictions, ends = predictor(model, once, device).predict_with_ends(tensors, fold.validate)
        loss = prediction.validation_loss(contest, predictions, ends, judged)
        return loss, measure.measure(predictions, judged)

    return Course(prediction.make_objective(contest, number), batches, validate)


def _language(contest: Contest, config: dict[str, Any], number: int, device: torch.device) -> Course:
    recipe, fold = contest.recipe, contest.divided.folds[number]
    assert recipe.train.batch_size is not None
    stream, _ = language.stream_of(contest.examples.take(fold.train))
    (about,) = contest.examples.about.values()
    batches = language.Windows(
        stream, about["length"], recipe.train.batch_size, seed=seed_of(contest, number), device=device
    )
    ends = np.cumsum(contest.targets[fold.validate, 0])
    rows = fold.validate[: max(1, int(np.searchsorted(ends, TOKENS_TO_WATCH)))]
    watched, sizes = contest.examples.take(rows), contest.targets[rows]
    measure = find("measures", contest.metric)
    loss = find("measures", "cross_entropy")

    def validate(model: nn.Module) -> tuple[float, float]:
        predictions = as_network(model, config, device).predict(watched)
        return float(loss.measure(predictions, sizes)), measure.measure(predictions, sizes)

    return Course(prediction.make_objective(contest, number), batches, validate)


def _translation(contest: Contest, config: dict[str, Any], number: int, device: torch.device) -> Course:
    recipe, fold = contest.recipe, contest.divided.folds[number]
    assert recipe.train.batch_size is not None
    batches = translation.Pairs(
        contest.examples,
        contest.targets,
        contest.target,
        fold.train,
        recipe.train.batch_size,
        seed=seed_of(contest, number),
        device=device,
    )
    watched = fold.validate[np.linspace(0, len(fold.validate) - 1, min(TEXTS_TO_WATCH, len(fold.validate))).astype(int)]
    shown, references = contest.examples.take(watched), contest.targets[watched]
    measure = find("measures", contest.metric)

    def validate(model: nn.Module) -> tuple[float, float]:
        translator = Translator(model, config, device)
        loss = translator.loss(contest.examples.take(fold.validate), contest.targets[fold.validate])
        return loss, measure.measure(translator.predict(shown, beams=1), references)

    return Course(prediction.make_objective(contest, number), batches, validate)


def _pairs(contest: Contest, config: dict[str, Any], tensors: Tensors, number: int, device: torch.device) -> Course:
    recipe, fold = contest.recipe, contest.divided.folds[number]
    size = recipe.train.batch_size
    assert size is not None
    batches = pairs.batches_of(
        tensors,
        pairs.ids_of(contest.examples).to(device),
        fold.train,
        size,
        seed=seed_of(contest, number),
        augment=prediction.augment_of(contest),
    )
    judged, captions = contest.examples.take(fold.validate), contest.targets[fold.validate]
    measure = find("measures", contest.metric)

    def validate(model: nn.Module) -> tuple[float, float]:
        loss, ranks = Matcher(model, config, device).loss_and_ranks(judged, size)
        return loss, measure.measure(ranks, captions)

    return Course(prediction.make_objective(contest, number), batches, validate)
