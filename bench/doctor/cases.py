"""One training of the benchmark: what is trained, on what, how; and the loop that somebody might have written.

A configuration is drawn at random from families, sizes, activations, norms, optimizers, rates, batches and schedules. A
fault is one edit of it (faults.py). The loop is plain PyTorch, with a switch for each habit that a fault may break; the
doctor stands beside it and knows nothing of the switches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from worlds import WORLDS, World

from fathom.network import build

STEPS = 150


@dataclass(frozen=True)
class Configuration:
    world: str
    family: str
    seed: int
    depth: int
    width: int
    activation: str
    norm: str
    optimizer: str
    rate: float
    batch: int
    schedule: str
    dropout: float
    steps: int = STEPS
    meant: dict[str, Any] = field(default_factory=dict)  # what is declared to the doctor
    habits: dict[str, Any] = field(default_factory=dict)  # switches of the loop that are not the usual ones


ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU, "leaky_relu": nn.LeakyReLU}
# The rate that suits a family with AdamW; SGD with momentum wants so many times more.
RATES = {"perceptron": 3e-3, "convolutions": 3e-3, "mlp": 3e-3, "ft_transformer": 1e-3, "resnet": 3e-3,
         "convnext": 2e-3, "vit": 1e-3, "transformer": 1e-3, "lstm": 5e-3, "gru": 5e-3, "mamba": 3e-3}  # fmt: skip
SGD_TIMES = 15.0
FAMILIES = {
    "table": ("perceptron", "mlp", "ft_transformer"),
    "picture": ("convolutions", "resnet", "convnext", "vit", "perceptron"),
    "tokens": ("transformer", "lstm", "gru", "mamba"),
}


def perceptron(world: World, one: Configuration) -> nn.Module:
    """Plain layers, as everybody writes them first."""
    features = int(np.prod(world.train[0].shape[1:]))
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(one.depth):
        layers += [nn.Linear(features, one.width), *_norm(one.norm, one.width, 1), ACTIVATIONS[one.activation]()]
        layers += [nn.Dropout(one.dropout)] if one.dropout else []
        features = one.width
    return nn.Sequential(*layers, nn.Linear(features, world.outputs))


def convolutions(world: World, one: Configuration) -> nn.Module:
    layers: list[nn.Module] = []
    channels = world.train[0].shape[1]
    for index in range(one.depth):
        width = max(8, one.width // 4)
        layers += [nn.Conv2d(channels, width, 3, padding=1), *_norm(one.norm, width, 2), ACTIVATIONS[one.activation]()]
        layers += [nn.MaxPool2d(2)] if index == 0 else []
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(one.dropout), nn.Linear(4 * channels, world.outputs)
    )


def _norm(norm: str, width: int, dimensions: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm1d(width) if dimensions == 1 else nn.BatchNorm2d(width)]
    if norm == "layer":
        return [nn.LayerNorm(width) if dimensions == 1 else nn.GroupNorm(1, width)]
    return []


def _fathoms(name: str) -> Callable[[World, Configuration], nn.Module]:
    """A family of fathom.models: named here, it takes part."""

    def made(world: World, one: Configuration) -> nn.Module:
        options = {key: value for key, value in OPTIONS[name](one).items() if value is not None}
        return build(name, _about(world), world.outputs, options)

    return made


OPTIONS: dict[str, Callable[[Configuration], dict[str, Any]]] = {
    "mlp": lambda one: {
        "width": one.width,
        "depth": min(one.depth, 3),
        "members": 4,
        "bins": 8,
        "dropout": one.dropout,
    },
    "ft_transformer": lambda one: {"width": 32, "depth": min(one.depth, 2)},
    "resnet": lambda one: {"width": max(8, one.width // 8)},
    "convnext": lambda one: {"width": max(8, one.width // 4)},
    "vit": lambda one: {"width": 32, "depth": min(one.depth, 3), "dropout": one.dropout},
    "transformer": lambda one: {"width": 32, "depth": min(one.depth, 2), "dropout": one.dropout},
    "lstm": lambda one: {"width": one.width // 2, "depth": 1, "dropout": one.dropout},
    "gru": lambda one: {"width": one.width // 2, "depth": 1, "dropout": one.dropout},
    "mamba": lambda one: {"width": 32, "depth": 1},
}
MAKERS: dict[str, Callable[[World, Configuration], nn.Module]] = {
    "perceptron": perceptron,
    "convolutions": convolutions,
    **{name: _fathoms(name) for name in OPTIONS},
}


def _about(world: World) -> dict[str, Any]:
    if world.form != "table":
        return {"input": world.about}
    x = world.train[0]
    quantiles = torch.quantile(x, torch.linspace(0, 1, 9), dim=0).T
    names = [f"x{i}" for i in range(x.shape[1])]
    facts = {"form": "numbers", "names": names, "mean": x.mean(0).tolist(), "std": x.std(0).tolist()}
    return {"numbers": facts | {"quantiles": quantiles.tolist()}}


@dataclass
class Training:
    """Everything that a loop holds. Faults change it before the loop begins."""

    world: World
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[nn.Module, Any], Tensor]
    one: Configuration
    habits: dict[str, Any]
    generator: torch.Generator

    def batches(self) -> Batches:
        return Batches(self)


class Batches:
    """The training rows, in another order in each pass; can be begun again."""

    def __init__(self, training: Training) -> None:
        self.rows, self.size = training.world.train, training.one.batch
        self.generator, self.is_shuffled = training.generator, training.habits.get("shuffle", True)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.rows
        order = torch.randperm(len(x), generator=self.generator) if self.is_shuffled else torch.arange(len(x))
        for rows in order.split(self.size):
            if len(rows) == self.size:
                yield x[rows], y[rows]


def usual_loss(world: World) -> Callable[[nn.Module, Any], Tensor]:
    if world.kind == "classify":
        return lambda model, batch: F.cross_entropy(_answers(model(batch[0])), _repeated(model, batch[1]))
    return lambda model, batch: F.mse_loss(_answers(model(batch[0]))[:, 0], _repeated(model, batch[1]))


def _answers(out: Tensor) -> Tensor:
    """Members of a net as rows of their own."""
    return out.flatten(0, 1) if out.dim() == 3 else out


def _repeated(model: nn.Module, y: Tensor) -> Tensor:
    members = getattr(model, "members", 1)
    return y.repeat_interleave(members) if isinstance(members, int) and members > 1 else y


def assemble(one: Configuration) -> Training:
    torch.manual_seed(one.seed)
    world = WORLDS[one.world](one.seed)
    model = MAKERS[one.family](world, one)
    return Training(world, model, optimizer_of(model, one), usual_loss(world), one, dict(one.habits),
                    torch.Generator().manual_seed(one.seed))  # fmt: skip


def optimizer_of(model: nn.Module, one: Configuration) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if one.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=one.rate, momentum=0.9)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    return kinds[one.optimizer](parameters, lr=one.rate)


def factor(one: Configuration, step: int) -> float:
    """The schedule's factor on the rate."""
    done = step / one.steps
    if one.schedule == "cosine":
        return 0.5 * (1 + np.cos(np.pi * done))
    if one.schedule == "warm_up":
        return min(1.0, (step + 1) / (0.1 * one.steps)) * (1 - 0.9 * done)
    if one.schedule == "restarts":
        return 0.5 * (1 + np.cos(np.pi * (3 * done % 1)))
    return 1.0


@dataclass
class Result:
    losses: list[float]
    judged: list[float]
    score: float  # accuracy or R² on the test rows


def run(training: Training, watch: Callable[[Training], Any] | None = None) -> tuple[Result, Any]:
    """The loop. `watch` begins a doctor beside it, which comes back."""
    one, habits, model, optimizer = training.one, training.habits, training.model, training.optimizer
    torch.manual_seed(one.seed + 1)
    doctor = None if watch is None else watch(training)
    accumulate = habits.get("accumulate", 1)
    losses, judged, step, seen = [], [], 0, 0
    model.train()
    base = [group["lr"] for group in optimizer.param_groups]
    while step < one.steps:
        for batch in training.batches():
            if habits.get("frozen_norms"):
                for part in model.modules():
                    if isinstance(part, nn.modules.batchnorm._BatchNorm):
                        part.eval()
            if habits.get("zero_grad", True) and seen % accumulate == 0:
                optimizer.zero_grad()
            loss = training.loss(model, batch) / accumulate
            loss.backward()
            seen += 1
            if seen % accumulate:
                continue
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * factor(one, step) * habits.get("rate_at", {}).get(step, 1.0)
            optimizer.step()
            losses.append(accumulate * float(loss.detach()))
            step += 1
            if step % 50 == 0:
                judged.append(judge(training, training.world.judge))
            if step >= one.steps:
                break
    model.eval()
    score = scored(training)
    if doctor is not None:
        doctor.close()
    return Result(losses, judged, score), doctor


def judge(training: Training, rows: tuple[Tensor, Tensor]) -> float:
    habits, model = training.habits, training.model
    if habits.get("eval_before_judging", True):
        model.eval()
    with torch.no_grad():
        losses = [float(training.loss(model, part)) for part in zip(*(one.split(128) for one in rows), strict=True)]
    if habits.get("train_after_judging", True):
        model.train()
    return float(np.mean(losses))


@torch.no_grad()
def scored(training: Training) -> float:
    """On test rows: accuracy, or the share of the variance that is told. Not finite counts as nothing known."""
    x, y = training.world.test
    out = training.model(x)
    out = out.mean(dim=1) if out.dim() == 3 else out
    if training.world.kind == "classify":
        return float((out.argmax(dim=1) == y).float().mean())
    error = (out[:, 0] - y).square().mean() / y.var()
    return float(1 - error) if bool(torch.isfinite(error)) else -1.0


def healthy(seed: int) -> Configuration:
    """A configuration that should train well: everything drawn, rates within a factor of three of what suits."""
    random = np.random.default_rng([seed, 1])
    world = str(random.choice(list(WORLDS)))
    form = WORLDS[world](0).form
    family = str(random.choice(FAMILIES[form]))
    optimizer = str(
        random.choice(
            ["adamw", "adam", "sgd", "rmsprop"] if family in ("perceptron", "convolutions") else ["adamw", "adam"]
        )
    )
    times = SGD_TIMES if optimizer == "sgd" else 0.3 if optimizer == "rmsprop" else 1.0
    return Configuration(
        world=world,
        family=family,
        seed=seed,
        depth=int(random.integers(1, 5)),
        width=int(random.choice([32, 64, 128])),
        activation=str(random.choice(list(ACTIVATIONS))),
        norm=str(random.choice(["none", "batch", "layer"])),
        optimizer=optimizer,
        rate=float(RATES[family] * times * 3 ** random.uniform(-1, 1)),
        batch=int(random.choice([16, 32, 64])),
        schedule=str(random.choice(["constant", "cosine", "warm_up"])),
        dropout=float(random.choice([0.0, 0.0, 0.1, 0.3])),
    )
