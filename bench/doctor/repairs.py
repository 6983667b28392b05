"""Repairs of a training that is not well: ours, AutoTrainer's list, and random search with as many trainings.

Each begins from the faulty training as it was and trains it again, changed. What a reader would get wrong: rows to
judge by choose among trials, and test rows tell what came of it; no repair has seen them. A repair succeeds where it
comes within two deviations of the healthy twin and is better than the faulty training was.

Lists: AutoTrainer, repair.py of github.com/shiningrain/AUTOTRAINER, method 'balance', in its order; what asks for
another callback of Keras is left out. It may try as often as random search.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.doctor.beside import Beside, begin
from bench.doctor.training import Training, optimizer_of, run, scored

TRIALS = 3  # trainings: with its experiments before the first step ours takes as long as about three
CLIP = 0.5

Make = Callable[[], Training]
Edit = Callable[[Training], None]


def ours(make: Make) -> dict[str, Any]:
    """The training again, with the doctor's remedies; once more where it asks for settings that only the loop has.

    Of the two the one that judges better, as for the others.
    """
    begun = time.process_time()
    best, score, done, settings = _mended(make, {})
    if settings:
        judged, other, remedies, _ = _mended(make, settings)
        done += [{"id": "settings", "what": str(settings), "kept": judged > best}, *remedies]
        score = other if judged > best else score
    return {"score": score, "seconds": time.process_time() - begun, "remedies": done}


def _mended(make: Make, settings: dict[str, Any]) -> tuple[float, float, list[dict[str, Any]], dict[str, Any]]:
    """What rows to judge by and test rows say of the training with remedies, what was done, and what is asked for."""
    training = make()
    if "batch_size" in settings:
        training.one = replace(training.one, batch=settings["batch_size"])
    training.habits |= {name: value for name, value in settings.items() if name == "shuffle"}
    doctor = begin(training, fix=True)
    run(training, Beside(doctor))
    doctor.close()  # the weights that were judged best may come back here
    score = scored(training.model, training.world)
    judged = scored(training.model, training.world, training.world.judge)
    done = [{"id": one.id, "what": one.what, "kept": one.is_kept} for one in doctor.mended]
    return judged, score, done, doctor.settings


def autotrainer(make: Make, told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first trials of its lists for the symptoms that it told."""
    return _best(make, [edit for one in told for edit in LISTS.get(one["rule"], ())][:TRIALS])


def at_random(make: Make, seed: int) -> dict[str, Any]:
    """Rate, optimizer, batch, activation or start drawn anew, alone or together."""
    random = np.random.default_rng([seed, 8])

    def edit(training: Training) -> None:
        changes = {"rate": training.one.rate * 10 ** random.uniform(-3, 1)}
        if random.random() < 0.3:
            changes["optimizer"] = str(random.choice(["adam", "adamw", "sgd", "rmsprop"]))
        if random.random() < 0.3:
            changes["batch"] = int(random.choice([16, 32, 64]))
        if random.random() < 0.3:
            _started(nn.init.kaiming_uniform_)(training)
        if random.random() < 0.3:
            _activated(nn.GELU)(training)
        training.one = replace(training.one, **changes)
        training.optimizer = optimizer_of(training.model, training.one)

    return _best(make, [edit] * TRIALS)


def _best(make: Make, edits: Sequence[Edit]) -> dict[str, Any]:
    """Of the trials, and of the training as it was, the test score of that which judges best."""
    begun, best = time.process_time(), (-math.inf, -math.inf)
    for edit in (lambda training: None, *edits):
        training = make()
        edit(training)
        score = run(training).score
        best = max(best, (scored(training.model, training.world, training.world.judge), score))
    return {"score": best[1], "seconds": time.process_time() - begun, "trials": len(edits)}


def _activated(make: Callable[[], nn.Module], start: Edit | None = None) -> Edit:
    """All activations replaced, and the layers started to suit."""
    kinds = (nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.LeakyReLU, nn.Sigmoid)

    def edit(training: Training) -> None:
        for part in training.model.modules():
            for name, inner in part.named_children():
                if isinstance(inner, kinds):
                    setattr(part, name, make())
        if start is not None:
            start(training)

    return edit


def _started(init: Callable[[torch.Tensor], object]) -> Edit:
    def edit(training: Training) -> None:
        for part in training.model.modules():
            if isinstance(part, (nn.Linear, nn.Conv2d)):
                init(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    return edit


def _normed(training: Training) -> None:
    """A batch norm behind each layer but the last, of a sequence of layers."""
    if not isinstance(training.model, nn.Sequential):
        return
    parts: list[nn.Module] = []
    layers = [part for part in training.model if isinstance(part, (nn.Linear, nn.Conv2d))]
    for part in training.model:
        parts.append(part)
        if isinstance(part, nn.Linear) and part is not layers[-1]:
            parts.append(nn.BatchNorm1d(part.out_features))
        elif isinstance(part, nn.Conv2d):
            parts.append(nn.BatchNorm2d(part.out_channels))
    training.model = nn.Sequential(*parts)
    training.optimizer = optimizer_of(training.model, training.one)


def _clipped(training: Training) -> None:
    for p in training.model.parameters():
        p.register_hook(lambda gradient: gradient.clamp(-CLIP, CLIP))


def _optimized(optimizer: str, rate: float) -> Edit:
    def edit(training: Training) -> None:
        training.one = replace(training.one, optimizer=optimizer, rate=rate)
        training.optimizer = optimizer_of(training.model, training.one)

    return edit


def _rated(factor: float) -> Edit:
    def edit(training: Training) -> None:
        training.one = replace(training.one, rate=factor * training.one.rate)
        training.optimizer = optimizer_of(training.model, training.one)

    return edit


_selu = _activated(nn.SELU, _started(lambda w: nn.init.kaiming_uniform_(w, nonlinearity="linear")))
_relu = _activated(nn.ReLU, _started(nn.init.kaiming_uniform_))
_tanh = _activated(nn.Tanh, _started(nn.init.kaiming_uniform_))
LISTS: dict[str, list[Edit]] = {
    "vanish": [_selu, _relu, _normed],
    "explode": [_selu, _relu, _clipped, _tanh, _normed],
    "dying relu": [_selu, _normed, _started(nn.init.kaiming_uniform_), _activated(nn.LeakyReLU)],
    "unstable": [_optimized("adam", 1e-3), _rated(0.1), _rated(0.01)],
    "not converge": [_optimized("adam", 1e-3), _rated(0.1), _rated(10.0), _started(nn.init.xavier_uniform_)],
}
