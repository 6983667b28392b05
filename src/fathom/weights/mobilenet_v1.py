"""MobileNet V1 in the layout of the Hugging Face hub: `MobileNetV1ForImageClassification`, `MobileNetV1Model`.

`MobileNetV1Model` becomes a model without a head, which answers with the pooled features. What a reader would get
wrong: their config of the published weights says classifier_dropout_prob 0.999. TensorFlow's network kept that share,
so it is read as 0.001 dropped; any other number is taken at its word. Pixels are divided by 127.5 and lowered by 1
unless the folder's preprocessor_config.json says otherwise.

    >>> names(EXAMPLES[0])["blocks.1.pointwise.norm.bias"]
    'mobilenet_v1.layer.3.normalization.bias'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint
from fathom.weights.parts.picture import (
    NORM,
    check_all_strides,
    common_settings,
    picture,
    scale_of,
    task_of,
    tensors_of,
)

MODEL = "mobilenet_v1"
MODEL_TYPES = ("mobilenet_v1",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()

STEM = "MobileNetV1"
BLOCKS = 13
WIDEST = 1024  # channels of the last block at a multiplier of 1
KEPT_MISTAKEN_FOR_DROPPED = 0.999
ACTIVATIONS = {name: name for name in ("relu6", "relu", "silu", "gelu", "hardswish")} | {"swish": "silu"}

PICTURE: dict[str, Any] = {"form": "pixels", "height": 40, "width": 32, "channels": 3, "mirror": True}
PICTURE |= {"mean": [0.5] * 3, "std": [0.5] * 3}
GRAY = PICTURE | {"height": 64, "width": 64, "channels": 1, "mean": [0.3], "std": [0.2]}
OPTIONS: dict[str, Any] = {
    "width": 0.25,
    "narrowest": 8,
    "activation": "relu6",
    "padding": "tensorflow",
    "norm_eps": 0.001,
    "all_strides": True,
    "dropout": 0.001,
    "head": True,
}
EXAMPLES = [
    Blueprint(MODEL, {"picture": PICTURE}, 3, OPTIONS, "MobileNetV1ForImageClassification"),
    Blueprint(
        MODEL,
        {"picture": GRAY},
        1,
        OPTIONS | {"padding": "symmetric", "activation": "relu"},
        "MobileNetV1ForImageClassification",
    ),
    Blueprint(
        MODEL, {"picture": PICTURE}, 51, OPTIONS | {"width": 0.05, "head": False, "dropout": 0.2}, "MobileNetV1Model"
    ),
]
# What a model has that was built without saying so.
DEFAULTS = OPTIONS | {"padding": "symmetric", "all_strides": False}


def read(config: Mapping[str, Any]) -> Blueprint:
    options = _options(config)
    width = max(int(WIDEST * options["width"]), options["narrowest"])
    centred = [0.5] * config.get("num_channels", 3)
    about = scale_of(config, picture(config) | {"mean": centred, "std": centred})
    return task_of(config, STEM, width=width).blueprint(MODEL, about, options)


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    activation = config.get("hidden_act", "relu6")
    if activation not in ACTIVATIONS:
        raise UserError(f"config.json says hidden_act='{activation}'; supported are {', '.join(ACTIVATIONS)}.")
    dropout = config.get("classifier_dropout_prob", KEPT_MISTAKEN_FOR_DROPPED)
    return {
        "width": config.get("depth_multiplier", 1.0),
        "narrowest": config.get("min_depth", 8),
        "activation": ACTIVATIONS[activation],
        "padding": "tensorflow" if config.get("tf_padding", True) else "symmetric",
        "norm_eps": config.get("layer_norm_eps", 0.001),
        "all_strides": True,
        "dropout": 0.001 if dropout == KEPT_MISTAKEN_FOR_DROPPED else dropout,
    }


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Raises UserError where halvings were left out for a small picture, or the activation has no name there."""
    check_all_strides(blueprint)
    options = {**DEFAULTS, **blueprint.options}
    if options["activation"] not in ACTIVATIONS:
        raise UserError(f"model.activation={options['activation']} has no name in this layout.")
    return {
        **common_settings(blueprint, STEM),
        "model_type": MODEL_TYPES[0],
        "depth_multiplier": options["width"],
        "min_depth": options["narrowest"],
        "hidden_act": options["activation"],
        "tf_padding": options["padding"] == "tensorflow",
        "layer_norm_eps": options["norm_eps"],
        "classifier_dropout_prob": options["dropout"],
    }


def names(blueprint: Blueprint) -> dict[str, str]:
    has_head = blueprint.options.get("head", True)
    prefix = "mobilenet_v1." if has_head else ""
    layers = {"stem": f"{prefix}conv_stem"}
    for place in range(BLOCKS):
        layers[f"blocks.{place}.depthwise"] = f"{prefix}layer.{2 * place}"
        layers[f"blocks.{place}.pointwise"] = f"{prefix}layer.{2 * place + 1}"
    convolutions = {f"{ours}.conv": f"{theirs}.convolution" for ours, theirs in layers.items()}
    norms = {f"{ours}.norm": f"{theirs}.normalization" for ours, theirs in layers.items()}
    head = {"head": "classifier"} if has_head else {}
    return tensors_of(convolutions, ("weight",)) | tensors_of(norms, NORM) | tensors_of(head, ("weight", "bias"))
