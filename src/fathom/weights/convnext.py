"""ConvNeXt in the layout of the Hugging Face hub: `ConvNextForImageClassification`, `ConvNextModel`.

What a reader would get wrong: their `layer_norm_eps` (1e-12 unless said) is that of the last norm only; all others have
1e-6, here as there. `ConvNextModel` answers with its pooled and normalised features. Only nets with `size` and all
their halvings have a counterpart.

    >>> names(EXAMPLES[0])["stages.1.blocks.0.scale"]
    'convnext.encoder.stages.1.layers.0.layer_scale_parameter'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, expect
from fathom.weights.parts.picture import check_all_strides, common_settings, numbers, picture, task_of, tensors_of

MODEL = "convnext"
MODEL_TYPES = ("convnext",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()

STEM = "ConvNext"
# Blocks and channels of each stage.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
BLOCK = {"filter": "dwconv", "norm": "layernorm", "expand": "pwconv1", "contract": "pwconv2"}
ENDS = ("weight", "bias")
# What our model takes where the options do not say.
LAYER_SCALE, NORM_EPS = 1e-6, 1e-6

PICTURE = {"picture": picture({"image_size": [32, 48]})}
GRAY = {"picture": picture({"image_size": 40, "num_channels": 1})}
SMALL: dict[str, Any] = {"size": "tiny", "blocks": "1,2", "channels": "8,12", "all_strides": True}
SMALL |= {"layer_scale": 1e-6, "norm_eps": 1e-12, "drop_path": 0.0, "head": True}
EXAMPLES = [
    Blueprint(MODEL, PICTURE, 3, SMALL, "ConvNextForImageClassification"),
    Blueprint(MODEL, GRAY, 1, SMALL | {"layer_scale": 0.0, "drop_path": 0.1, "blocks": "1,1,1", "channels": "4,8,8"}),
    Blueprint(MODEL, PICTURE, 12, SMALL | {"norm_eps": 1e-6, "head": False}, "ConvNextModel"),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    blocks = tuple(config.get("depths", SIZES["tiny"][0]))
    channels = tuple(config.get("hidden_sizes", SIZES["tiny"][1]))
    if config.get("patch_size", 4) not in (4, [4, 4]):
        raise UserError(f"config.json says patch_size={config['patch_size']}; only patches of 4 pixels are supported.")
    expect(config, hidden_act="gelu", num_stages=len(blocks))
    options: dict[str, Any] = _named(blocks, channels) | {
        "all_strides": True,
        "layer_scale": config.get("layer_scale_init_value", 1e-6),
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "drop_path": config.get("drop_path_rate", 0.0),
    }
    return task_of(config, STEM, width=channels[-1]).blueprint(MODEL, picture(config), options)


def _named(blocks: tuple[int, ...], channels: tuple[int, ...]) -> dict[str, Any]:
    """The published net of these measures, or one with those that differ."""
    for size, published in SIZES.items():
        if (blocks, channels) == published:
            return {"size": size}
    return {"size": "tiny", "blocks": ",".join(map(str, blocks)), "channels": ",".join(map(str, channels))}


def _measures(blueprint: Blueprint) -> tuple[list[int], list[int]]:
    """Blocks and channels of each stage. Raises UserError on nets of our own."""
    size = blueprint.options.get("size")
    if size not in SIZES:
        raise UserError(
            "This convnext has no size, so no counterpart in the other library's layout. To write its weights, train "
            'one with, for example: model.size=tiny model.channels="32,64,128,256" model.all_strides=true'
        )
    check_all_strides(blueprint)
    blocks, channels = (
        numbers(blueprint.options.get(name), published)
        for name, published in zip(("blocks", "channels"), SIZES[size], strict=True)
    )
    return blocks, channels


def write(blueprint: Blueprint) -> dict[str, Any]:
    blocks, channels = _measures(blueprint)
    layer_scale = blueprint.options.get("layer_scale")
    return {
        **common_settings(blueprint, STEM),
        "model_type": MODEL_TYPES[0],
        "patch_size": 4,
        "num_stages": len(blocks),
        "hidden_sizes": channels,
        "depths": blocks,
        "hidden_act": "gelu",
        "layer_norm_eps": blueprint.options.get("norm_eps", NORM_EPS),
        "layer_scale_init_value": LAYER_SCALE if layer_scale is None else layer_scale,
        "drop_path_rate": blueprint.options.get("drop_path", 0.0),
    }


def names(blueprint: Blueprint) -> dict[str, str]:
    blocks, _ = _measures(blueprint)
    has_head = blueprint.options.get("head", True)
    prefix = "convnext." if has_head else ""
    layers = {"stem.0": f"{prefix}embeddings.patch_embeddings", "stem.1": f"{prefix}embeddings.layernorm"}
    scales = {}
    for stage, num_blocks in enumerate(blocks):
        theirs = f"{prefix}encoder.stages.{stage}"
        if stage > 0:
            layers |= {f"stages.{stage}.halving.{i}": f"{theirs}.downsampling_layer.{i}" for i in range(2)}
        for block in range(num_blocks):
            here, there = f"stages.{stage}.blocks.{block}", f"{theirs}.layers.{block}"
            layers |= {f"{here}.{our}": f"{there}.{their}" for our, their in BLOCK.items()}
            scales[f"{here}.scale"] = f"{there}.layer_scale_parameter"
    layers["norm"] = f"{prefix}layernorm"
    if has_head:
        layers["head"] = "classifier"
    has_scales = blueprint.options.get("layer_scale") != 0
    return tensors_of(layers, ENDS) | (scales if has_scales else {})
