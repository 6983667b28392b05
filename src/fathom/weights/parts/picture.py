"""What the families of picture classifiers share: their input, their classes, and which of the other library's classes.

What a reader would get wrong: mean and deviation of the pixels are no part of the other library's config.json. They
stand beside, in preprocessor_config.json, and come to a family's `read` as "image_mean" and "image_std" of its
settings. Where that file is missing they are ImageNet's, in which nearly all published weights were trained.

    >>> picture({"num_channels": 3, "image_size": [32, 48]})["width"]
    48
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, architecture_of
from fathom.weights.parts.labels import class_names, labels_of, num_labels
from fathom.weights.parts.preprocessor import KEYS

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
GRAY_MEAN, GRAY_STD = 0.449, 0.226  # the averages of these three
CLASSIFIER, BASE = "ForImageClassification", "Model"
SMALLEST_WHOLE = 97  # pixels from which a model keeps its five halvings by itself
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")  # of a batch normalisation


def picture(config: Mapping[str, Any], *, side: int = 224) -> dict[str, Any]:
    """The description of the pixels that these weights take."""
    size = config.get("image_size", side)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = config.get("num_channels", 3)
    about = {
        "form": "pixels",
        "height": height,
        "width": width,
        "channels": channels,
        "mean": MEAN if channels == len(MEAN) else [GRAY_MEAN] * channels,
        "std": STD if channels == len(STD) else [GRAY_STD] * channels,
        "mirror": True,
    }
    return scale_of(config, about)


def scale_of(config: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """The description with the mean and deviation that the settings say, one for each channel; else as it is."""
    found = dict(about)
    for ours, theirs in zip(("mean", "std"), KEYS, strict=True):
        if theirs in config:
            numbers = list(config[theirs])
            numbers = numbers * about["channels"] if len(numbers) == 1 else numbers
            if len(numbers) != about["channels"]:
                raise UserError(
                    f"preprocessor_config.json says {theirs}={numbers}; expected a number for each of the "
                    f"{about['channels']} channels."
                )
            found[ours] = numbers
    return found


@dataclass(frozen=True)
class Task:
    outputs: int
    head: bool
    architecture: str
    classes: tuple[str, ...] = ()

    def blueprint(self, model: str, about: dict[str, Any], options: Mapping[str, Any]) -> Blueprint:
        options = {**options, "head": self.head}
        return Blueprint(model, {"picture": about}, self.outputs, options, self.architecture, self.classes)


def task_of(config: Mapping[str, Any], stem: str, *, width: int) -> Task:
    """What the class that config.json names gives. `stem` begins that name.

    The bare model answers with its pooled features, `width` of them. Raises UserError on other classes.
    """
    architecture = architecture_of(config, [stem + CLASSIFIER, stem + BASE])
    if architecture == stem + BASE:
        return Task(width, False, architecture)
    return Task(num_labels(config), True, architecture, class_names(config))


def common_settings(blueprint: Blueprint, stem: str) -> dict[str, Any]:
    """The part of config.json that says what comes in and goes out."""
    (about,) = blueprint.inputs.values()
    has_head = blueprint.options.get("head", True)
    config: dict[str, Any] = {
        "architectures": [stem + (CLASSIFIER if has_head else BASE)],
        "num_channels": about["channels"],
        "image_size": [about["height"], about["width"]],
        "image_mean": about["mean"],
        "image_std": about["std"],
    }
    return config | (labels_of(blueprint) if has_head else {})


def tensors_of(layers: Mapping[str, str], kinds: tuple[str, ...]) -> dict[str, str]:
    """Each layer's tensors: {"norm": "bn"} with ("weight",) → {"norm.weight": "bn.weight"}."""
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in layers.items() for kind in kinds}


def numbers(text: object, published: Iterable[int]) -> list[int]:
    """Counts of an option as typed ("3,4,6,3"), or those of the published net where it was left out."""
    return [int(number) for number in str(text).split(",")] if text else list(published)


def check_all_strides(blueprint: Blueprint) -> None:
    """Raises UserError where halvings were left out for a small picture: the other library always has all of them."""
    (about,) = blueprint.inputs.values()
    if min(about["height"], about["width"]) < SMALLEST_WHOLE and not blueprint.options.get("all_strides", False):
        raise UserError(
            f"This {blueprint.model} left out halvings for pictures of {about['height']} x {about['width']}, which no "
            "other library does. Train it with model.all_strides=true to write its weights for others."
        )
