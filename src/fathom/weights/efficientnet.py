"""EfficientNet in the layout of the Hugging Face hub: `EfficientNetForImageClassification`, `EfficientNetModel`.

What a reader would get wrong, where their settings do not say what they do:

- `depthwise_padding` lists the blocks that meet an odd side, for pictures of `image_size` only. Ours looks at the
  picture in hand, as TensorFlow does: the same at that size, and right at others. A list that does not belong to the
  size is refused, and so are odd sizes, which their stem pads otherwise.
- `batch_norm_momentum` 0.99 is TensorFlow's way to say that the newest batch counts for 0.01. Theirs hands it to torch,
  where it means 0.99, and passes over the first norm of each block (0.1). Ours is 0.01 everywhere; this shows in the
  running statistics of further training, never in predictions.
- `drop_connect_rate` leaves out single numbers there, and a row's whole branch here, as the paper says.
- The mean of the last pixels is called a pooling of `hidden_dim` pixels a side, which is larger than any picture.
- Their preprocessing divides twice by the square roots of ImageNet's deviations, so that ImageNet's mean and deviation
  are what comes in (parts/preprocessor.py reads it so).

`EfficientNetModel` answers with its pooled features.

    >>> names(EXAMPLES[0])["blocks.1.excite.reduce.bias"]
    'efficientnet.encoder.blocks.1.squeeze_excite.reduce.bias'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, expect
from fathom.weights.parts.picture import NORM, check_all_strides, common_settings, picture, task_of, tensors_of

MODEL = "efficientnet"
MODEL_TYPES = ("efficientnet",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()

STEM = "EfficientNet"
# Table 1 of the paper, in their settings. Published sizes differ in the two multipliers only.
TABLE: dict[str, list[int]] = {
    "kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "in_channels": [32, 16, 24, 40, 80, 112, 192],
    "out_channels": [16, 24, 40, 80, 112, 192, 320],
    "strides": [1, 2, 2, 2, 1, 2, 1],
    "num_block_repeats": [1, 2, 2, 3, 3, 4, 1],
    "expand_ratios": [1, 6, 6, 6, 6, 6, 6],
}
FIXED: dict[str, Any] = {**TABLE, "depth_divisor": 8, "squeeze_expansion_ratio": 0.25, "pooling_type": "mean"}
LAST = 1280  # channels of the last convolution at a width of 1
# Multipliers of width and depth, dropout before the head.
SIZES: dict[str, tuple[float, float, float]] = {
    "tiny": (0.5, 0.25, 0.2),
    "b0": (1.0, 1.0, 0.2),
    "b1": (1.0, 1.1, 0.2),
    "b2": (1.1, 1.2, 0.3),
    "b3": (1.2, 1.4, 0.3),
    "b4": (1.4, 1.8, 0.4),
    "b5": (1.6, 2.2, 0.4),
    "b6": (1.8, 2.6, 0.5),
    "b7": (2.0, 3.1, 0.5),
}
# What our model takes where the options do not say.
DEFAULTS: dict[str, Any] = {"padding": "symmetric", "norm_eps": 1e-3, "norm_momentum": 0.1, "drop_path": 0.2}

CONVOLUTIONS = {
    "widen": ("expansion.expand_conv", "expansion.expand_bn"),
    "filter": ("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
    "narrow": ("projection.project_conv", "projection.project_bn"),
}

PICTURE = {"picture": picture({"image_size": 40})}
GRAY = {"picture": picture({"image_size": [32, 32], "num_channels": 1})}
SMALL: dict[str, Any] = {"size": "b0", "width": 0.25, "depth": 0.25, "padding": "tensorflow", "all_strides": True}
SMALL |= {"norm_eps": 0.001, "norm_momentum": 0.01, "dropout": 0.2, "drop_path": 0.2, "head": True}
EXAMPLES = [
    Blueprint(MODEL, PICTURE, 3, SMALL, "EfficientNetForImageClassification"),
    Blueprint(MODEL, GRAY, 1, SMALL | {"width": 0.1, "depth": 0.4, "norm_eps": 0.01, "dropout": 0.0, "drop_path": 0.0}),
    Blueprint(MODEL, PICTURE, 320, SMALL | {"norm_momentum": 0.1, "head": False}, "EfficientNetModel"),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    expect(config, **FIXED)
    if config.get("hidden_act", "swish") not in ("swish", "silu"):
        raise UserError(f"config.json says hidden_act='{config['hidden_act']}'; only 'swish' is supported.")
    width, depth = config.get("width_coefficient", 2.0), config.get("depth_coefficient", 3.1)
    last = _rounded(LAST * width)
    if config.get("hidden_dim", 2560) != last:
        raise UserError(f"config.json says hidden_dim={config.get('hidden_dim', 2560)}; a width of {width} has {last}.")
    about = picture(config, side=600)
    wanted = _odd_blocks(about, depth)
    if _of_those_with_stride(config.get("depthwise_padding", []), depth) != wanted:
        raise UserError(
            f"config.json says depthwise_padding={config.get('depthwise_padding', [])}; pictures of "
            f"{about['height']} x {about['width']} need {wanted}. These weights cannot be used here."
        )
    options: dict[str, Any] = _named(width, depth) | {
        "padding": "tensorflow",
        "all_strides": True,
        "norm_eps": config.get("batch_norm_eps", 0.001),
        "norm_momentum": _other_way_round(config.get("batch_norm_momentum", 0.99)),
        "dropout": config.get("dropout_rate", 0.5),
        "drop_path": config.get("drop_connect_rate", 0.2),
    }
    return task_of(config, STEM, width=last).blueprint(MODEL, about, options)


def _named(width: float, depth: float) -> dict[str, Any]:
    """The published net of these multipliers, or b0 with others."""
    for size, (*published, _) in SIZES.items():
        if published == [width, depth]:
            return {"size": size}
    return {"size": "b0", "width": width, "depth": depth}


def _rounded(channels: float) -> int:
    """To a multiple of 8 that is not less than nine tenths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


def _other_way_round(momentum: float) -> float:
    """TensorFlow counts the share that is kept, torch the share that is new."""
    return round(1 - momentum, 12)


def _repeats(depth: float) -> list[int]:
    return [math.ceil(depth * repeats) for repeats in TABLE["num_block_repeats"]]


def _halving_blocks(depth: float) -> list[int]:
    """The places of the blocks that have a stride."""
    repeats = _repeats(depth)
    return [sum(repeats[:stage]) for stage, stride in enumerate(TABLE["strides"]) if stride == 2]


def _odd_blocks(about: Mapping[str, Any], depth: float) -> list[int]:
    """The places of those blocks that halve an odd side. Raises UserError where the two sides of a picture differ."""
    found = []
    for side in (about["height"], about["width"]):
        left = math.ceil(side / 2)  # by the stem
        odd = []
        for block in _halving_blocks(depth):
            odd += [block] if left % 2 else []
            left = math.ceil(left / 2)
        found.append(odd)
    if found[0] != found[1] or about["height"] % 2 or about["width"] % 2:
        raise UserError(
            f"The other library pads pictures of {about['height']} x {about['width']} otherwise than TensorFlow did. "
            "Weights for these can be read and written for even sides that are halved alike."
        )
    return found[0]


def _of_those_with_stride(blocks: list[int], depth: float) -> list[int]:
    """Only there the setting does something."""
    return [block for block in _halving_blocks(depth) if block in blocks]


def _measures(blueprint: Blueprint) -> tuple[float, float, float]:
    """Multipliers of width and depth, dropout before the head."""
    usual = SIZES[blueprint.options.get("size", "tiny")]
    given = (blueprint.options.get(name) for name in ("width", "depth", "dropout"))
    width, depth, dropout = (own if own is not None else size for own, size in zip(given, usual, strict=True))
    return width, depth, dropout


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = DEFAULTS | blueprint.options
    width, depth, dropout = _measures(blueprint)
    (about,) = blueprint.inputs.values()
    check_all_strides(blueprint)
    if options["padding"] != "tensorflow":
        raise UserError(
            f"model.padding={options['padding']}: this layout has TensorFlow's padding only. "
            "Train with model.padding=tensorflow to write the weights for others."
        )
    return {
        **common_settings(blueprint, STEM),
        "model_type": MODEL_TYPES[0],
        **FIXED,
        "image_size": about["height"] if about["height"] == about["width"] else [about["height"], about["width"]],
        "width_coefficient": width,
        "depth_coefficient": depth,
        "hidden_dim": _rounded(LAST * width),
        "depthwise_padding": _odd_blocks(about, depth),
        "hidden_act": "swish",
        "batch_norm_eps": options["norm_eps"],
        "batch_norm_momentum": _other_way_round(options["norm_momentum"]),
        "dropout_rate": dropout,
        "drop_connect_rate": options["drop_path"],
    }


def names(blueprint: Blueprint) -> dict[str, str]:
    has_head = blueprint.options.get("head", True)
    prefix = "efficientnet." if has_head else ""
    convolutions = {
        "stem": (f"{prefix}embeddings.convolution", f"{prefix}embeddings.batchnorm"),
        "widen": (f"{prefix}encoder.top_conv", f"{prefix}encoder.top_bn"),
    }
    layers = {"head": "classifier"} if has_head else {}
    repeats = _repeats(_measures(blueprint)[1])
    for block in range(sum(repeats)):
        ours, theirs = f"blocks.{block}", f"{prefix}encoder.blocks.{block}"
        for own, pair in CONVOLUTIONS.items():
            if own != "widen" or block >= repeats[0]:  # the first stage does not widen
                convolutions[f"{ours}.{own}"] = (f"{theirs}.{pair[0]}", f"{theirs}.{pair[1]}")
        layers |= {f"{ours}.excite.{own}": f"{theirs}.squeeze_excite.{own}" for own in ("reduce", "expand")}
    found = tensors_of({f"{ours}.conv": theirs for ours, (theirs, _) in convolutions.items()}, ("weight",))
    found |= tensors_of({f"{ours}.norm": theirs for ours, (_, theirs) in convolutions.items()}, NORM)
    return found | tensors_of(layers, ("weight", "bias"))
