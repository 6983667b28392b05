"""ResNet in the layout of the Hugging Face hub: `ResNetForImageClassification`, `ResNetModel`.

Both kinds of blocks and both places of the stride (`downsample_in_bottleneck`) are read; other activations than ReLU
and a first stage that halves the picture are refused. What a reader would get wrong: only nets with `size` have a
counterpart. Those that fit themselves to the picture (`width`, `depth`) pool in their shortcuts, and sizes 20 to 110
pad theirs with zeros, which that layout has no names for. `ResNetModel` answers with its pooled features.

    >>> names(EXAMPLES[0])["stages.1.0.shortcut.1.bias"]
    'resnet.encoder.stages.1.layers.0.shortcut.normalization.bias'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, expect
from fathom.weights.parts.picture import NORM, common_settings, numbers, picture, task_of, tensors_of

MODEL = "resnet"
MODEL_TYPES = ("resnet",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()

STEM = "ResNet"
# Blocks of each stage, channels of the stem and of each stage: Table 1 of the paper.
BLOCKS: dict[str, dict[str, tuple[int, ...]]] = {
    "basic": {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3)},
    "bottleneck": {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)},
}
CHANNELS = {"basic": (64, 64, 128, 256, 512), "bottleneck": (64, 256, 512, 1024, 2048)}
CONVOLUTIONS = {"basic": ("first", "second"), "bottleneck": ("first", "second", "third")}

PICTURE = {"picture": picture({"image_size": [32, 48]})}
GRAY = {"picture": picture({"image_size": 24, "num_channels": 1})}
SMALL: dict[str, Any] = {"size": "50", "stride_first": False, "head": True, "blocks": "2,1", "channels": "6,8,16"}
EXAMPLES = [
    Blueprint(MODEL, PICTURE, 3, SMALL, "ResNetForImageClassification"),
    Blueprint(MODEL, GRAY, 1, SMALL | {"stride_first": True, "blocks": "1,2,1", "channels": "8,8,12,16"}),
    Blueprint(MODEL, PICTURE, 7, SMALL | {"size": "18", "channels": "4,4,7", "head": False}, "ResNetModel"),
    Blueprint(MODEL, GRAY, 5, {"size": "34", "stride_first": False, "head": True, "channels": "4,4,6,8,8"}),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    expect(config, hidden_act="relu", downsample_in_first_stage=False)
    kind = config.get("layer_type", "bottleneck")
    if kind not in BLOCKS:
        raise UserError(f"config.json says layer_type='{kind}'; supported are {' and '.join(BLOCKS)}.")
    blocks = tuple(config.get("depths", (3, 4, 6, 3)))
    channels = (config.get("embedding_size", 64), *config.get("hidden_sizes", CHANNELS["bottleneck"][1:]))
    options = _named(kind, blocks, channels)
    # Theirs passes over this setting in blocks of two layers.
    options["stride_first"] = config.get("downsample_in_bottleneck", False) and kind == "bottleneck"
    return task_of(config, STEM, width=channels[-1]).blueprint(MODEL, picture(config), options)


def _named(kind: str, blocks: tuple[int, ...], channels: tuple[int, ...]) -> dict[str, Any]:
    """The published net of these measures, or the smallest of its kind with those that differ."""
    sizes = BLOCKS[kind]
    size = next((name for name, published in sizes.items() if published == blocks), next(iter(sizes)))
    options: dict[str, Any] = {"size": size}
    if blocks != sizes[size]:
        options["blocks"] = ",".join(map(str, blocks))
    if channels != CHANNELS[kind]:
        options["channels"] = ",".join(map(str, channels))
    return options


def _measures(blueprint: Blueprint) -> tuple[str, list[int], list[int]]:
    """The kind of block, blocks of each stage, channels of stem and stages. Raises UserError on nets of our own."""
    options = blueprint.options
    size = str(options.get("size"))
    kind = next((kind for kind, sizes in BLOCKS.items() if size in sizes), None)
    if kind is None or not options.get("residual", True):
        known = ", ".join(name for sizes in BLOCKS.values() for name in sizes)
        raise UserError(
            f"This resnet (size={options.get('size')}, residual={options.get('residual', True)}) has no counterpart in "
            f"the other library's layout. Train one with model.size={known.replace(', ', ' or ')} to write its weights."
        )
    blocks = numbers(options.get("blocks"), BLOCKS[kind][size])
    return kind, blocks, numbers(options.get("channels"), CHANNELS[kind])


def write(blueprint: Blueprint) -> dict[str, Any]:
    kind, blocks, (stem, *channels) = _measures(blueprint)
    return {
        **common_settings(blueprint, STEM),
        "model_type": MODEL_TYPES[0],
        "layer_type": kind,
        "embedding_size": stem,
        "hidden_sizes": channels,
        "depths": blocks,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": blueprint.options.get("stride_first", False),
    }


def names(blueprint: Blueprint) -> dict[str, str]:
    kind, blocks, channels = _measures(blueprint)
    has_head = blueprint.options.get("head", True)
    prefix = "resnet." if has_head else ""
    layers = {"stem.0": f"{prefix}embedder.embedder"}
    for stage, num_blocks in enumerate(blocks):
        for block in range(num_blocks):
            ours, theirs = f"stages.{stage}.{block}", f"{prefix}encoder.stages.{stage}.layers.{block}"
            layers |= {f"{ours}.{own}": f"{theirs}.layer.{place}" for place, own in enumerate(CONVOLUTIONS[kind])}
            if block == 0 and (stage > 0 or channels[0] != channels[1]):
                layers[f"{ours}.shortcut"] = f"{theirs}.shortcut"
    found = tensors_of({f"{our}.0": f"{their}.convolution" for our, their in layers.items()}, ("weight",))
    found |= tensors_of({f"{our}.1": f"{their}.normalization" for our, their in layers.items()}, NORM)
    return found | (tensors_of({"head": "classifier.1"}, ("weight", "bias")) if has_head else {})
