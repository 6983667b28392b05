"""The architectures of the benchmark: two that everybody writes, and families of fathom.models.

What a reader would get wrong: the dials of a configuration mean what a family has of them. Activation and norm are
those of the two plain families; a family of fathom.models has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.doctor.configurations import Configuration
from bench.doctor.worlds import World
from fathom.network import build

LAYERS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU, "leaky_relu": nn.LeakyReLU}


def perceptron(world: World, one: Configuration) -> nn.Module:
    """Plain layers, as everybody writes them first."""
    features = int(np.prod(world.train[0].shape[1:]))
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(one.depth):
        layers += [nn.Linear(features, one.width), *_norm(one.norm, one.width, 1), LAYERS[one.activation]()]
        layers += [nn.Dropout(one.dropout)] if one.dropout else []
        features = one.width
    return nn.Sequential(*layers, nn.Linear(features, world.outputs))


def convolutions(world: World, one: Configuration) -> nn.Module:
    layers: list[nn.Module] = []
    channels = world.train[0].shape[1]
    for index in range(one.depth):
        width = max(8, one.width // 4)
        layers += [nn.Conv2d(channels, width, 3, padding=1), *_norm(one.norm, width, 2), LAYERS[one.activation]()]
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
