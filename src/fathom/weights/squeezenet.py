"""SqueezeNet under torchvision's names: "features.0.weight", "features.3.squeeze.weight", "classifier.1.bias".

There is no such model in transformers, so config.json is ours: it holds the model's own options. What a reader would
get wrong: trained weights go round in two dialects. torchvision's take red-green-blue pixels standardised by ImageNet's
mean and deviation; the authors' (Caffe's) take blue-green-red in 0..255 less a mean, and pad the last convolution.
`from_torchvision` and `from_caffe` say with which settings each computes what it was trained to.

torchvision distributes pickled files, which nothing here opens, because a pickle may run any code. Open one yourself:

    state = torch.load("squeezenet1_1.pth", weights_only=True)
    blueprint = squeezenet.from_torchvision(state)
    model = network.build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    pretrained.load(model, state, squeezenet, blueprint, where="squeezenet1_1.pth")
    pretrained.save_pretrained(model, blueprint, "squeezenet1_1")   # a folder that from_pretrained reads

    >>> names(EXAMPLES[0])["fires.4.expand_wide.0.weight"]
    'features.9.expand3x3.weight'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathom.data import UNPACKING
from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint
from fathom.weights.parts.labels import class_names, labels_of

MODEL = "squeezenet"
MODEL_TYPES = ("squeezenet",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()

FIRES = 8
# Fires that a pooling stands before, besides the first: each takes one number in "features".
POOLED_BEFORE = {"tiny": (2, 4), "1.0": (3, 7), "1.1": (2, 4)}
STEMS = {(96, 7): "1.0", (64, 3): "1.1", (16, 3): "tiny"}  # channels and kernel of the first convolution
# Names of a fire's convolutions here, in torchvision and in Caffe.
CONVOLUTIONS = [
    ("squeeze", "squeeze", "squeeze1x1"),
    ("expand", "expand1x1", "expand1x1"),
    ("expand_wide", "expand3x3", "expand3x3"),
]
ENDS = ("weight", "bias")
LAST = 512  # channels of the last fire in the published sizes

IMAGENET: dict[str, Any] = {"form": "pixels", "height": 224, "width": 224, "channels": 3, "mirror": True}
IMAGENET |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CAFFE = IMAGENET | {"height": 227, "width": 227, "mean": [m / 255 for m in (123, 117, 104)], "std": [1 / 255] * 3}

OPTIONS: dict[str, Any] = {"rectify": True, "border": 0, "all_strides": True, "dropout": 0.5, "head": True}
SMALL = IMAGENET | {"height": 24, "width": 32}
GRAY = SMALL | {"height": 8, "width": 8, "channels": 1, "mean": [0.3], "std": [0.2]}
EXAMPLES = [
    Blueprint(MODEL, {"picture": SMALL}, 4, {"size": "1.1", **OPTIONS}, "SqueezeNet"),
    Blueprint(MODEL, {"picture": GRAY}, 2, {"size": "1.0", **OPTIONS, "all_strides": False}, "SqueezeNet"),
    Blueprint(MODEL, {"picture": SMALL}, 128, {"size": "tiny", **OPTIONS, "head": False, "border": 1}, "SqueezeNet"),
]
# What a model has that was built without saying so.
DEFAULTS: dict[str, Any] = {"size": "tiny", **OPTIONS, "rectify": False, "all_strides": False}


def read(config: Mapping[str, Any]) -> Blueprint:
    unknown = sorted(set(DEFAULTS) - set(config))
    if unknown:
        raise UserError(
            f"config.json of a squeezenet has to say {', '.join(unknown)}; fathom writes such a file. For weights of "
            "torchvision or Caffe see fathom/weights/squeezenet.py."
        )
    height, width = config["image_size"]
    about = {"form": "pixels", "height": height, "width": width, "channels": config["num_channels"], "mirror": True}
    about |= {"mean": config["image_mean"], "std": config["image_std"]}
    options = {name: config[name] for name in DEFAULTS}
    return Blueprint(MODEL, {"picture": about}, config["num_labels"], options, "SqueezeNet", class_names(config))


def write(blueprint: Blueprint) -> dict[str, Any]:
    (about,) = blueprint.inputs.values()
    return {
        "architectures": ["SqueezeNet"],
        "model_type": MODEL_TYPES[0],
        "num_labels": blueprint.outputs,
        "num_channels": about["channels"],
        "image_size": [about["height"], about["width"]],
        "image_mean": about["mean"],
        "image_std": about["std"],
        **DEFAULTS,
        **blueprint.options,
        **(labels_of(blueprint) if blueprint.classes and blueprint.options.get("head", True) else {}),
    }


def names(blueprint: Blueprint) -> dict[str, str]:
    options = {**DEFAULTS, **blueprint.options}
    layers = _layers(options["size"], head=options["head"])
    return {f"{ours}.{end}": f"{theirs}.{end}" for ours, theirs, _ in layers for end in ENDS}


def _layers(size: str, *, head: bool) -> list[tuple[str, str, str]]:
    """Each layer's name here, in torchvision and in Caffe."""
    layers = [("stem.0", "features.0", "conv1")]
    for place in range(FIRES):
        # The first convolution, its rectifier and the first pooling have 0, 1 and 2.
        number = 3 + place + sum(place >= pooled for pooled in POOLED_BEFORE[size])
        for ours, torchvision, caffe in CONVOLUTIONS:
            layers.append((f"fires.{place}.{ours}.0", f"features.{number}.{torchvision}", f"fire{place + 2}.{caffe}"))
    return [*layers, ("head.0", "classifier.1", "conv10")] if head else layers


def from_torchvision(tensors: Mapping[str, Tensor]) -> Blueprint:
    """What to build for a state of torchvision's squeezenet1_0 or squeezenet1_1. Raises UserError on other tensors."""
    stem = tensors.get("features.0.weight")
    size = STEMS.get((stem.shape[0], stem.shape[-1])) if stem is not None and stem.dim() == 4 else None
    if stem is None or size is None:
        raise UserError(
            f"These {len(tensors)} tensors are no SqueezeNet: expected 'features.0.weight' to have the shape "
            f"[96, 3, 7, 7] (1.0) or [64, 3, 3, 3] (1.1); found {list(stem.shape) if stem is not None else 'none'}."
        )
    head = tensors.get("classifier.1.weight")
    options = {"size": size, **OPTIONS, "head": head is not None}
    return Blueprint(MODEL, {"picture": IMAGENET}, LAST if head is None else head.shape[0], options, "SqueezeNet")


def from_caffe(tensors: Mapping[str, Tensor]) -> tuple[Blueprint, dict[str, Tensor]]:
    """What to build for the authors' weights ("fire2.squeeze1x1.weight"), and the same under torchvision's names.

    The model takes red-green-blue pixels like any other: the first convolution's channels are turned over instead.
    Without "conv10" the model has no head. Raises UserError on other tensors.
    """
    ends = {"conv1.weight": "features.0.weight", "conv10.weight": "classifier.1.weight"}
    found = from_torchvision({theirs: tensors[caffe] for caffe, theirs in ends.items() if caffe in tensors})
    blueprint = replace(found, inputs={"picture": CAFFE}, options=found.options | {"border": 1})
    layers = _layers(blueprint.options["size"], head=blueprint.options["head"])
    known = {f"{caffe}.{end}": f"{theirs}.{end}" for _, theirs, caffe in layers for end in ENDS}
    # A name that is not known stays as it is, so that loading tells of it.
    renamed = {known.get(name, name): tensor for name, tensor in tensors.items()}
    return blueprint, renamed | {"features.0.weight": tensors["conv1.weight"].flip(1)}


def open_npz(path: str | Path) -> dict[str, Tensor]:
    """The arrays of a numpy archive by name. Raises UserError on other files and on pickled objects."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (*UNPACKING, OSError, TypeError) as error:
        raise UserError(f"{path} is no numpy archive of plain arrays (.npz): {error}.") from None
