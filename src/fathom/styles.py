"""How each network likes to be trained, and the sizes it comes in: won by measurement (recipes/, docs/LOG.md).

A network without an entry here is trained by the "default" style at its own default size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from fathom import rooms
from fathom.data import Task
from fathom.recipe import TrainRecipe

About = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """How large a model is, with the epochs that suit it."""

    options: dict[str, Any]  # of its build(); left out where the user names a published size
    epochs: int  # more than this gains nothing
    least_epochs: int  # with fewer than this a smaller size is better
    why: str


@dataclass(frozen=True)
class Style:
    """Training settings, sizes from the largest to the smallest, and options of build() for all of them."""

    train: TrainRecipe
    sizes: tuple[Size, ...]
    options: dict[str, Any] = field(default_factory=dict)


def default(about: About, rows: int, task: Task) -> Style:
    """For networks that nobody has tuned yet."""
    settings = TrainRecipe(
        batch_size=batch_size(rows, 64),
        optimizer="adamw",
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
    """Tables. Small ones want a small net, few bins, strong dropout and decay, and a low rate."""
    is_large = rows >= 5_000
    num_categories = len(about.get("categories", {}).get("names", ()))
    settings = replace(
        default(about, rows, task).train,
        batch_size=256 if is_large else 64 if rows >= 1_000 else 32,
        learning_rate=5e-3 if is_large else 2e-3 if rows >= 1_500 else 1e-3,
        weight_decay=0.05 if is_large else 0.1,
        warm_up=0.05,
        patience=8 if is_large else 15,
    )
    if is_large:
        options = {"width": 256, "members": 8, "bins": 48, "dropout": 0.2 if num_categories >= 4 else 0.1}
        return Style(
            settings, (Size(options, 30, 10, f"{rows:,} rows"), Size(options | {"width": 128}, 30, 1, f"{rows:,} rows"))
        )
    options = {"width": 128, "members": 8, "bins": min(48, max(2, rows // 200)), "dropout": 0.3}
    return Style(settings, (Size(options, 60, 1, f"only {rows:,} rows"),))


def resnet(about: About, rows: int, task: Task) -> Style:
    """Pictures. Few passes at a high rate; views only where a shift by one pixel is small beside the picture.

    Few passes over many pictures learn little by heart: turning and resizing them costs more than it gives.
    """
    (picture,) = about.values()
    is_small, has_colour = min(picture["height"], picture["width"]) < 16, picture["channels"] > 1
    is_many = rows >= 10_000
    settings = replace(
        default(about, rows, task).train,
        batch_size=batch_size(rows, 128),
        learning_rate=1e-2,
        weight_decay=0.05,
        warm_up=0.2,
        average=0.5,
        patience=20,
        clip=None,
        augment={
            "shift": 0.07,
            "rotate": 0.0 if is_many else 8.0,
            "scale": 0.0 if is_many else 0.1,
            "erase": 0.2 if has_colour else 0.0,
        },
        views=0 if is_small else 1,
    )
    epochs = passes(rows, at_a_thousand=20, least=16)
    if is_many:
        sizes = [
            Size({"width": w}, epochs, least, f"{rows:,} pictures")
            for w, least in ((48, 12), (32, 4), (24, 4), (16, 1))
        ]
    else:
        sizes = [Size({"width": w}, epochs, epochs // 2, f"{rows:,} pictures") for w in (24, 16)]
    return Style(settings, tuple(sizes))


def transformer(about: About, rows: int, task: Task) -> Style:
    """Texts, learned from nothing: few epochs, strong dropout, smoothed labels."""
    (words,) = about.values()
    settings = replace(
        default(about, rows, task).train,
        batch_size=batch_size(rows, 64),
        learning_rate=1e-3,
        weight_decay=0.05,
        label_smoothing=0.1 if task.kind == "classify" else 0.0,
        patience=4,
    )
    epochs = min(12, max(4, round(40_000 / rows)))
    drop_tokens = 0.1 if words["length"] < 35 else 0.4
    return Style(settings, (Size({}, epochs, 2, f"{rows:,} texts"),), {"drop_tokens": drop_tokens})


def lstm(about: About, rows: int, task: Task) -> Style:
    """As the Transformer, at twice the rate."""
    alike = transformer(about, rows, task)
    drop_tokens = min(0.2, alike.options["drop_tokens"])
    return Style(replace(alike.train, learning_rate=2e-3), alike.sizes, {"drop_tokens": drop_tokens})


def fused(about: About, rows: int, task: Task) -> Style:
    """Mixed tables."""
    settings = replace(default(about, rows, task).train, learning_rate=2e-3, weight_decay=0.02, patience=10)
    epochs = passes(rows, at_a_thousand=30, least=8)
    return Style(settings, (Size({}, epochs, 2, f"{rows:,} rows"),))


def language(about: About, rows: int, task: Task) -> Style:
    """Language models: Muon at a high rate, and nothing dropped as long as a text is read few times."""
    settings = replace(
        default(about, rows, task).train,
        batch_size=12,
        optimizer="muon",
        learning_rate=0.02,
        weight_decay=0.1,
        schedule="cosine",
        warm_up=0.05,
        average=0.0,
        patience=4,
    )
    options = {"depth": 4, "width": 256}
    sizes = (Size(options, 8, 1, f"{rows:,} rows"), Size(options | {"width": 128}, 8, 1, f"{rows:,} rows"))
    return Style(settings, sizes)


def translate(about: About, rows: int, task: Task) -> Style:
    """Translators: smoothed labels and strong dropout (Vaswani et al. 2017, section 5.4)."""
    settings = replace(
        default(about, rows, task).train,
        batch_size=batch_size(rows, 64),
        learning_rate=1.5e-3,
        weight_decay=0.01,
        warm_up=0.1,
        average=0.5,
        patience=6,
        label_smoothing=0.1,
    )
    large, small = ({"depth": 3, "width": width} for width in (256, 128))
    sizes = (Size(large, 30, 6, f"{rows:,} pairs"), Size(small, 30, 1, f"{rows:,} pairs"))
    return Style(settings, sizes, {"dropout": 0.2})


def pair(about: About, rows: int, task: Task) -> Style:
    """Pictures with captions, learned from nothing: long, with few patches. More than a small shift hides places.

    A batch is the question that is asked, but of few pairs many small ones teach more than few large ones.
    """
    side = min(min(one["height"], one["width"]) for one in about.values() if one["form"] == "pixels")
    settings = replace(
        default(about, rows, task).train,
        batch_size=64 if rows < 4_000 else 128 if rows < 16_000 else 256,
        learning_rate=1e-3,
        weight_decay=0.1,
        warm_up=0.1,
        average=0.5,
        patience=10,
        augment={"shift": 0.04},
    )
    epochs = passes(rows, at_a_thousand=80, least=16)
    small = {"patch": min(8 if side < 64 else 16, side)}
    large = small | {"width": 128, "text_width": 128}
    sizes = (Size(large, epochs, 3 * epochs // 4, f"{rows:,} pairs"), Size(small, epochs, 2, f"{rows:,} pairs"))
    # The tokens of a text have no sign that ends it: 0 never stands in one, so that each is read to its last token.
    return Style(settings, sizes, {"end": 0})


def batch_size(rows: int, most: int) -> int:
    """A power of two from 8 on that leaves some 16 steps an epoch."""
    size = 8
    while size * 2 <= most and rows / (size * 2) >= 16:
        size *= 2
    return size


def passes(rows: int, *, at_a_thousand: int, least: int) -> int:
    """Epochs worth planning: fewer the more rows there are, by their fourth root."""
    return max(least, round(at_a_thousand * (1000 / max(rows, 100)) ** 0.25))


def style_of(model: str, task: Task) -> Callable[[About, int, Task], Style]:
    """How a model likes to be trained for a task: as the task asks where it is one of texts, else as the model does."""
    if task.kind not in OF_TASKS:
        return STYLES.get(model, default)
    known = rooms.options(rooms.find("models", model).build)

    def style(about: About, rows: int, task: Task) -> Style:
        whole = OF_TASKS[task.kind](about, rows, task)
        # Sizes are of the model that is usual for the task; another has what it shares with that one.
        sizes = (replace(s, options=_among(known, s.options)) for s in whole.sizes)
        return replace(whole, sizes=tuple(sizes), options=_among(known, whole.options))

    return style


def _among(known: Collection[str], options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in known}


OF_TASKS: dict[str, Callable[[About, int, Task], Style]] = {
    "language": language,
    "translate": translate,
    "pair": pair,
}
STYLES: dict[str, Callable[[About, int, Task], Style]] = {
    "default": default,
    "mlp": mlp,
    "resnet": resnet,
    "transformer": transformer,
    "lstm": lstm,
    "fused": fused,
}
