"""What the families of picture classifiers share: their input, their classes, and which of the other library's classes.

What a reader would get wrong: mean and deviation of the pixels are no part of the other library's config.json (it keeps
them beside, in preprocessor_config.json). They are ImageNet's, in which nearly all published weights were trained,
unless config.json has "image_mean" and "image_std", which we write there and the other library passes over.

    >>> picture({"num_channels": 3, "image_size": [32, 48]})["width"]
    48
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint

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
    return {
        "form": "pixels",
        "height": height,
        "width": width,
        "channels": channels,
        "mean": config.get("image_mean", MEAN if channels == len(MEAN) else [GRAY_MEAN] * channels),
        "std": config.get("image_std", STD if channels == len(STD) else [GRAY_STD] * channels),
        "mirror": True,
    }


def task_of(config: Mapping[str, Any], stem: str, *, width: int) -> tuple[int, bool, str]:
    """Outputs, whether there is a head, and the class that config.json names. `stem` begins that name.

    The bare model answers with its pooled features, `width` of them. Raises UserError on other classes.
    """
    architecture = (config.get("architectures") or [stem + CLASSIFIER])[0]
    if architecture == stem + BASE:
        return width, False, architecture
    if architecture == stem + CLASSIFIER:
        outputs = len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels", 2))
        return outputs, True, architecture
    raise UserError(
        f"config.json says architectures=['{architecture}']; supported are {stem}{CLASSIFIER} and {stem}{BASE}."
    )


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
    if has_head:
        labels = {str(place): f"LABEL_{place}" for place in range(blueprint.outputs)}
        config |= {"id2label": labels, "label2id": {label: int(place) for place, label in labels.items()}}
    return config


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
