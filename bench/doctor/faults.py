"""Faults: each is one edit of a healthy training, with a magnitude from barely (0) to gross (1), and causes that count.

What a reader would get wrong: a fault is not always harmful, and harm is not always visible in the loss. `structural`
says that something is broken by construction, whatever it does to the score, so that an exact look can tell: a missing
reset is missing, where an order of rows is more or less sorted. Harm is measured beside the healthy twin. The sets of
acceptable causes are fixed here, before anything is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.doctor.configurations import PLAIN, Configuration
from bench.doctor.training import Training, answers, optimizer_of


@dataclass(frozen=True)
class Fault:
    edit: Callable[[Training, float, np.random.Generator], None]
    causes: tuple[str, ...]  # findings of which any is right
    structural: bool = False
    fits: Callable[[Configuration, Training], bool] = lambda one, training: True
    is_inside: bool = True  # in the catalogue


def between(low: float, high: float, magnitude: float) -> float:
    """From low to high in equal ratios."""
    return float(low * (high / low) ** magnitude)


def _layers(model: nn.Module) -> list[nn.Module]:
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return [part for part in model.modules() if isinstance(part, kinds)]


def _classifies(one: Configuration, training: Training) -> bool:
    return training.world.kind == "classify"


def _regresses(one: Configuration, training: Training) -> bool:
    return training.world.kind == "regress"


def _plain(one: Configuration, training: Training) -> bool:
    return one.family in PLAIN


def _remade(training: Training, **changes: Any) -> None:
    """The optimizer made again after the configuration or the model was changed."""
    training.one = replace(training.one, **changes)
    training.optimizer = optimizer_of(training.model, training.one)


# The loss and the last activation


def softmax_twice(training: Training, magnitude: float, random: np.random.Generator) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        out, y = answers(model, batch)
        return F.cross_entropy(out.softmax(dim=1), y)

    training.loss = loss


def softmax_into_nll(training: Training, magnitude: float, random: np.random.Generator) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        out, y = answers(model, batch)
        return F.nll_loss(out.softmax(dim=1), y)

    training.loss = loss


def sigmoid_twice(training: Training, magnitude: float, random: np.random.Generator) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        out, y = answers(model, batch)
        return F.binary_cross_entropy_with_logits(out.sigmoid(), F.one_hot(y, out.shape[1]).float())

    training.loss = loss


def out_of_reach(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """Answers of all rows are so many times as large, and the loss sees the model through a sigmoid."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        out, y = answers(model, batch)
        return F.mse_loss(out[:, 0].sigmoid(), y)

    world, times = training.world, between(1, 10, magnitude)
    parts = {name: (getattr(world, name)[0], times * getattr(world, name)[1]) for name in ("train", "judge", "test")}
    training.world, training.loss = replace(world, **parts), loss


def shapes(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """Outputs [N, 1] beside targets [N]."""
    training.loss = lambda model, batch: F.mse_loss(*answers(model, batch))


# What is trained


def left_out(training: Training, magnitude: float, random: np.random.Generator) -> None:
    every = [p for p in training.model.parameters() if p.requires_grad]
    count = max(1, round(between(0.3, 0.95, magnitude) * len(every)))
    group = training.optimizer.param_groups[0]
    settings = {
        name: value for name, value in group.items() if name in ("lr", "momentum", "weight_decay", "betas", "alpha")
    }
    training.optimizer = type(training.optimizer)(every[count:] or every[-1:], **settings)


def frozen(training: Training, magnitude: float, random: np.random.Generator) -> None:
    every = list(training.model.parameters())
    for p in every[: max(1, round(between(0.3, 0.95, magnitude) * len(every)))]:
        p.requires_grad_(False)
    training.optimizer = optimizer_of(training.model, training.one)


class Cut(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x).detach()


def detached(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """The output of a layer in the middle is detached."""
    assert isinstance(training.model, nn.Sequential)
    places = [i for i, part in enumerate(training.model) if isinstance(part, (nn.Linear, nn.Conv2d))][:-1]
    at = places[round(magnitude * (len(places) - 1))]
    training.model[at] = Cut(training.model[at])
    training.optimizer = optimizer_of(training.model, training.one)


def no_reset(training: Training, magnitude: float, random: np.random.Generator) -> None:
    training.habits["zero_grad"] = False


def trained_in_eval(training: Training, magnitude: float, random: np.random.Generator) -> None:
    training.habits["train_after_judging"] = False


def judged_in_train(training: Training, magnitude: float, random: np.random.Generator) -> None:
    training.habits["eval_before_judging"] = False


def _has_modes(one: Configuration, training: Training) -> bool:
    return any(
        isinstance(p, (nn.modules.batchnorm._BatchNorm, nn.Dropout)) and getattr(p, "p", 1)
        for p in training.model.modules()
    )


# Data


def scaled(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """Columns (or all pixels) come in units of their own."""
    x = training.world.train[0]
    if x.dim() == 2:
        factors = torch.from_numpy(between(3, 1000, magnitude) ** random.uniform(-1, 1, x.shape[1])).float()
        shift = torch.from_numpy(random.uniform(-1, 1, x.shape[1])).float() * factors * between(1, 30, magnitude)
    else:
        factors, shift = torch.tensor(between(10, 255, magnitude)), torch.tensor(between(10, 128, magnitude))
    _rows(training, lambda rows: rows * factors + shift)


def _rows(training: Training, change: Callable[[Tensor], Tensor]) -> None:
    world = training.world
    parts = {name: (change(getattr(world, name)[0]), getattr(world, name)[1]) for name in ("train", "judge", "test")}
    training.world = replace(world, **parts)


def shuffled(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """Answers of so many training rows are those of other rows."""
    x, y = training.world.train
    rows = torch.from_numpy(random.permutation(len(y))[: round(between(0.5, 1.0, magnitude) * len(y))])
    y = y.clone()
    y[rows] = y[rows[torch.from_numpy(random.permutation(len(rows)))]]
    training.world = replace(training.world, train=(x, y))


def sorted_rows(training: Training, magnitude: float, random: np.random.Generator) -> None:
    x, y = training.world.train
    noise = torch.from_numpy(random.normal(size=len(y))) * (1 - magnitude) * y.double().std()
    rows = (y.double() + noise).argsort()
    training.world = replace(training.world, train=(x[rows], y[rows]))
    training.habits["shuffle"] = False


def bad_rows(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """A few rows are far away from all others."""
    x, y = training.world.train
    x = x.clone()
    rows = torch.from_numpy(random.permutation(len(x))[:3])
    x[rows] = x[rows] * between(30, 1e5, magnitude)
    training.world = replace(training.world, train=(x, y))


def not_a_number(training: Training, magnitude: float, random: np.random.Generator) -> None:
    x, y = training.world.train
    x = x.clone()
    row = int(random.integers(len(x)))
    x[row].view(-1)[int(random.integers(x[row].numel()))] = float("nan") if magnitude < 0.5 else float("inf")
    training.world = replace(training.world, train=(x, y))


def _no_gaps(one: Configuration, training: Training) -> bool:
    """Whether NaN is no number to the model; fathom's nets for tables take it for a missing value."""
    return training.world.form != "tokens" and one.family not in ("mlp", "ft_transformer")


def few_rows(training: Training, magnitude: float, random: np.random.Generator) -> None:
    x, y = training.world.train
    count = max(training.one.batch, round(between(120, 24, magnitude)))
    training.world = replace(training.world, train=(x[:count], y[:count]))
    training.one = replace(training.one, steps=2 * training.one.steps, batch=min(training.one.batch, count))


# Rates, starts, batches


def rate_high(training: Training, magnitude: float, random: np.random.Generator) -> None:
    _remade(training, rate=training.one.rate * between(10, 3000, magnitude))


def rate_low(training: Training, magnitude: float, random: np.random.Generator) -> None:
    _remade(training, rate=training.one.rate / between(30, 1e5, magnitude))


def rate_jump(training: Training, magnitude: float, random: np.random.Generator) -> None:
    at = int(random.integers(60, 110))
    training.habits["rate_at"] = {step: between(30, 1e4, magnitude) for step in range(at, at + 2)}


def start_large(training: Training, magnitude: float, random: np.random.Generator) -> None:
    with torch.no_grad():
        for part in _layers(training.model):
            part.weight.mul_(between(3, 12, magnitude))


def start_small(training: Training, magnitude: float, random: np.random.Generator) -> None:
    with torch.no_grad():
        for part in _layers(training.model):
            part.weight.mul_(1 / between(3, 30, magnitude))


def start_equal(training: Training, magnitude: float, random: np.random.Generator) -> None:
    with torch.no_grad():
        for part in _layers(training.model):
            part.weight.fill_(between(0.01, 0.2, magnitude))


def head_large(training: Training, magnitude: float, random: np.random.Generator) -> None:
    with torch.no_grad():
        _layers(training.model)[-1].weight.mul_(between(10, 300, magnitude))


def tiny_batches(training: Training, magnitude: float, random: np.random.Generator) -> None:
    training.one = replace(training.one, batch=max(2, round(between(8, 2, magnitude))))


def _has_batch_norm(one: Configuration, training: Training) -> bool:
    return any(isinstance(part, nn.BatchNorm1d) for part in training.model.modules())


# Activations


def vanishing(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """Many layers of sigmoids."""
    world, one = training.world, training.one
    features = int(np.prod(world.train[0].shape[1:]))
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(round(between(4, 16, magnitude))):
        layers += [nn.Linear(features, one.width), nn.Sigmoid()]
        features = one.width
    training.model = nn.Sequential(*layers, nn.Linear(features, world.outputs))
    training.optimizer = optimizer_of(training.model, one)


def dying(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """Biases so low that most units never speak."""
    assert isinstance(training.model, nn.Sequential)
    with torch.no_grad():
        for part, following in zip(training.model, training.model[1:], strict=False):
            if isinstance(following, nn.ReLU) and isinstance(part, (nn.Linear, nn.Conv2d)):
                part.bias.sub_(between(1.5, 8, magnitude))


def _is_relu(one: Configuration, training: Training) -> bool:
    return _plain(one, training) and one.activation == "relu" and one.norm == "none"


def too_much_decay(training: Training, magnitude: float, random: np.random.Generator) -> None:
    for group in training.optimizer.param_groups:
        group["weight_decay"] = (
            between(0.3, 30, magnitude) if training.one.optimizer == "adamw" else between(0.03, 3, magnitude)
        )


# Outside of the catalogue


def wrong_axis(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """The loss is taken over the rows of the batch in place of the classes."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        out, y = answers(model, batch)
        return -out.log_softmax(dim=0).gather(1, y[:, None]).mean()

    training.loss = loss


def against(training: Training, magnitude: float, random: np.random.Generator) -> None:
    """The gradient of one layer has the wrong sign."""
    layers = _layers(training.model)
    layers[round(magnitude * (len(layers) - 1))].weight.register_hook(torch.neg)


FAULTS: dict[str, Fault] = {
    "softmax_twice": Fault(softmax_twice, ("F1",), True, _classifies),
    "softmax_into_nll": Fault(softmax_into_nll, ("F1",), True, _classifies),
    "sigmoid_twice": Fault(sigmoid_twice, ("F1",), True, _classifies),
    "out_of_reach": Fault(out_of_reach, ("F1",), True, _regresses),
    "shapes": Fault(shapes, ("F1",), True, _regresses),
    "left_out": Fault(left_out, ("F4",), True),
    "frozen": Fault(frozen, ("F4",), True),
    "detached": Fault(detached, ("F4",), True, lambda one, t: _plain(one, t) and one.depth > 1),
    "no_reset": Fault(no_reset, ("F5",), True),
    "trained_in_eval": Fault(trained_in_eval, ("F6",), True, _has_modes),
    "judged_in_train": Fault(judged_in_train, ("F6",), True, _has_modes),
    "scaled": Fault(scaled, ("F3",), fits=lambda one, t: t.world.form != "tokens" and _plain(one, t)),
    "shuffled": Fault(shuffled, ("D9", "D6", "T5", "F9")),
    "sorted_rows": Fault(sorted_rows, ("T7",)),
    "bad_rows": Fault(bad_rows, ("T2", "D1", "T1", "F3"), fits=lambda one, t: t.world.form != "tokens"),
    "not_a_number": Fault(not_a_number, ("D1", "T1"), True, _no_gaps),
    "few_rows": Fault(few_rows, ("T6",)),
    "rate_high": Fault(rate_high, ("F10", "T1")),
    "rate_low": Fault(rate_low, ("F10", "T5")),
    "rate_jump": Fault(rate_jump, ("T1", "T2", "F10")),
    "start_large": Fault(start_large, ("F8", "F2"), fits=_plain),
    "start_small": Fault(start_small, ("F8", "T3"), fits=lambda one, t: _plain(one, t) and one.norm == "none"),
    "start_equal": Fault(start_equal, ("F8",), True, _plain),
    "head_large": Fault(head_large, ("F2", "F8"), fits=lambda one, t: _classifies(one, t) and bool(_layers(t.model))),
    "tiny_batches": Fault(tiny_batches, ("F7",), True, _has_batch_norm),
    "vanishing": Fault(vanishing, ("T3", "F8", "F9", "T5"), fits=_plain),
    "dying": Fault(dying, ("T4", "F8"), fits=_is_relu),
    "too_much_decay": Fault(too_much_decay, ("T5", "F10")),
    "wrong_axis": Fault(wrong_axis, (), fits=_classifies, is_inside=False),
    "against": Fault(against, (), fits=_plain, is_inside=False),
}
