"""How each network likes to be trained, and the sizes it comes in: won by measurement (recipes/, docs/LOG.md).

A network without an entry here is trained by the "default" style at its own default size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fathom.data import Task
from fathom.recipe import TrainRecipe

About = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """Options of a model's build(), with the epochs that suit it."""

    options: dict[str, Any]
    epochs: int  # more than this gains nothing
    least_epochs: int  # with fewer than this a smaller size is better
    why: str


@dataclass(frozen=True)
class Style:
    """Training settings, and sizes from the largest to the smallest."""

    train: TrainRecipe
    sizes: tuple[Size, ...]


def default(about: About, rows: int, task: Task) -> Style:
    """For networks that nobody has tuned yet."""
    settings = TrainRecipe(
        batch_size=batch_size(rows, 64),
        learning_rate=1e-3,
        weight_decay=0.01,
        schedule="cosine",
        warm_up=0.1,
        clip=1.0,
        average=1.0,
        patience=20,
        label_smoothing=0.0,
        huber=0.0,
        augment={},
        views=0,
    )
    return Style(settings, (Size({}, 40, 1, "the model's own defaults"),))


def mlp(about: About, rows: int, task: Task) -> Style:
    """Tables. Small tables want more passes and a smaller net."""
    settings = replace(
        default(about, rows, task).train,
        batch_size=batch_size(rows, 256),
        learning_rate=5e-3,
        weight_decay=0.02,
        patience=16,
    )
    epochs = passes(rows, at_a_thousand=60, least=16)
    widths = (256, 192, 128) if rows >= 5_000 else (128,)
    sizes = [Size({"width": w, "members": 8}, epochs, epochs // 2, f"{rows:,} rows") for w in widths]
    return Style(settings, tuple(sizes))


def resnet(about: About, rows: int, task: Task) -> Style:
    """Pictures. Few passes at a high rate; views only where a shift by one pixel is small beside the picture."""
    (picture,) = about.values()
    is_small, has_colour = min(picture["height"], picture["width"]) < 16, picture["channels"] > 1
    settings = replace(
        default(about, rows, task).train,
        batch_size=batch_size(rows, 128),
        learning_rate=1e-2,
        weight_decay=0.05,
        warm_up=0.2,
        average=0.5,
        patience=20,
        clip=None,
        augment={"shift": 0.07, "rotate": 8.0, "scale": 0.1, "erase": 0.2 if has_colour else 0.0},
        views=0 if is_small else 1,
    )
    epochs = passes(rows, at_a_thousand=20, least=16)
    if rows >= 10_000:
        sizes = [
            Size({"width": w}, epochs, least, f"{rows:,} pictures")
            for w, least in ((48, 12), (32, 4), (24, 4), (16, 1))
        ]
    else:
        sizes = [Size({"width": w}, epochs, epochs // 2, f"{rows:,} pictures") for w in (24, 16)]
    return Style(settings, tuple(sizes))


def text(about: About, rows: int, task: Task) -> Style:
    """Texts, learned from nothing: few epochs, strong dropout inside the network, smoothed labels."""
    settings = replace(
        default(about, rows, task).train,
        batch_size=batch_size(rows, 64),
        learning_rate=2e-3,
        weight_decay=0.05,
        label_smoothing=0.1,
        patience=5,
    )
    epochs = passes(rows, at_a_thousand=16, least=6)
    return Style(settings, (Size({}, epochs, 2, f"{rows:,} texts"),))


def fused(about: About, rows: int, task: Task) -> Style:
    """Mixed tables."""
    settings = replace(default(about, rows, task).train, learning_rate=2e-3, weight_decay=0.02, patience=10)
    epochs = passes(rows, at_a_thousand=30, least=8)
    return Style(settings, (Size({}, epochs, 2, f"{rows:,} rows"),))


def batch_size(rows: int, most: int) -> int:
    """A power of two from 8 on that leaves some 16 steps an epoch."""
    size = 8
    while size * 2 <= most and rows / (size * 2) >= 16:
        size *= 2
    return size


def passes(rows: int, *, at_a_thousand: int, least: int) -> int:
    """Epochs worth planning: fewer the more rows there are, by their fourth root."""
    return max(least, round(at_a_thousand * (1000 / max(rows, 100)) ** 0.25))


STYLES: dict[str, Callable[[About, int, Task], Style]] = {
    "default": default,
    "mlp": mlp,
    "resnet": resnet,
    "transformer": text,
    "lstm": text,
    "fused": fused,
}
