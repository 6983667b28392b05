"""ViT in the layout of the Hugging Face hub: `ViTForImageClassification` and `ViTModel`.

What a reader would get wrong: `ViTModel` answers with its pooler, a layer and a tanh, here the head with `tanh`. A
config.json does not say whether that pooler is in the folder: it is expected, and a folder without it is refused for
the missing tensors pooler.dense. Write "add_pooling_layer": false into such a config.json, and the answer is the state
of the class token.

    >>> names(EXAMPLES[0])["blocks.0.attention.query.weight"]
    'vit.encoder.layer.0.attention.attention.query.weight'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, architecture_of, expect, numbered, with_defaults
from fathom.weights.parts.decoder import activation_from, activation_to
from fathom.weights.parts.labels import class_names, labels_of, num_labels
from fathom.weights.parts.picture import scale_of

MODEL = "vit"
MODEL_TYPES = ("vit",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()
CLASSIFIER, BASE = "ViTForImageClassification", "ViTModel"

# Our option, their setting, and what they take where config.json does not say.
SETTINGS: dict[str, tuple[str, Any]] = {
    "width": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12),
    "hidden": ("intermediate_size", 3072),
    "patch": ("patch_size", 16),
    "norm_eps": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.0),
    "drop_attention": ("attention_probs_dropout_prob", 0.0),
}
NEEDED = ("width", "depth", "heads", "hidden", "patch")
# What our model takes where the options do not say.
DEFAULTS: dict[str, Any] = {
    "pool": "class",
    "head": True,
    "tanh": False,
    "activation": "gelu",
    "norm_eps": 1e-6,
    "dropout": 0.0,
    "drop_attention": 0.0,
}


def _about(height: int, width: int, channels: int) -> dict[str, Any]:
    """The family's own scaling, unless the folder says another: pixels from -1 to 1."""
    half = [0.5] * channels
    return {
        "form": "pixels",
        "height": height,
        "width": width,
        "channels": channels,
        "mean": half,
        "std": half,
        "mirror": False,
    }


SMALL = {"width": 16, "depth": 2, "heads": 2, "hidden": 24, "patch": 4, "activation": "gelu", "norm_eps": 1e-12}
SMALL |= {"dropout": 0.0, "drop_attention": 0.0, "head": True, "tanh": False}
EXAMPLES = [
    Blueprint(MODEL, {"photo": _about(8, 8, 3)}, 5, SMALL, CLASSIFIER),
    Blueprint(MODEL, {"photo": _about(12, 8, 1)}, 2, SMALL | {"activation": "gelu_tanh", "dropout": 0.1}, CLASSIFIER),
    Blueprint(MODEL, {"photo": _about(8, 8, 3)}, 20, SMALL | {"tanh": True}, BASE),
    Blueprint(MODEL, {"photo": _about(8, 8, 3)}, 16, SMALL | {"head": False, "drop_attention": 0.1}, BASE),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    expect(config, qkv_bias=True, pooler_act="tanh")
    options = {ours: config.get(theirs, default) for ours, (theirs, default) in SETTINGS.items()}
    options["activation"] = activation_from(config.get("hidden_act", "gelu"))
    options["patch"] = _patch(options["patch"])
    architecture = architecture_of(config, [BASE, CLASSIFIER])
    pooled = architecture == BASE and config.get("add_pooling_layer", True)
    options |= {"head": architecture == CLASSIFIER or pooled, "tanh": pooled}
    height, width = _sides(config.get("image_size", 224), options["patch"])
    about = scale_of(config, _about(height, width, config.get("num_channels", 3)))
    if architecture == CLASSIFIER:
        return Blueprint(MODEL, {"photo": about}, num_labels(config), options, architecture, class_names(config))
    outputs = (config.get("pooler_output_size") if pooled else None) or options["width"]
    return Blueprint(MODEL, {"photo": about}, outputs, options, architecture)


def _patch(found: Any) -> int:
    sides = set(found) if isinstance(found, list | tuple) else {found}
    if len(sides) != 1:
        raise UserError(f"config.json says patch_size={found}; only square patches are supported.")
    return int(sides.pop())


def _sides(found: Any, patch: int) -> tuple[int, int]:
    """Height and width. A patch must divide them: theirs drops what is left over, ours pads."""
    height, width = found if isinstance(found, list | tuple) else (found, found)
    if height % patch or width % patch:
        raise UserError(f"config.json says image_size={found}, which patches of {patch} pixels do not divide.")
    return int(height), int(width)


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = with_defaults(blueprint, DEFAULTS, needed=NEEDED)
    (about,) = blueprint.inputs.values()
    height, width = about["height"], about["width"]
    _check_has_counterpart(options, height, width)
    config: dict[str, Any] = {theirs: options[ours] for ours, (theirs, _) in SETTINGS.items()}
    config |= {
        "model_type": "vit",
        "architectures": [BASE if options["tanh"] or not options["head"] else CLASSIFIER],
        "hidden_act": activation_to(options["activation"]),
        "image_size": height if height == width else [height, width],
        "num_channels": about["channels"],
        "image_mean": about["mean"],
        "image_std": about["std"],
        "qkv_bias": True,
    }
    if options["tanh"]:
        return config | {"pooler_act": "tanh", "pooler_output_size": blueprint.outputs}
    if not options["head"]:
        return config | {"add_pooling_layer": False}
    return config | labels_of(blueprint)


def measured(model: Any) -> dict[str, Any]:
    first = model.blocks[0]
    return {
        "width": model.norm.normalized_shape[0],
        "depth": len(model.blocks),
        "heads": first.attention.heads,
        "hidden": first.perceptron.expand.out_features,
        "patch": model.patches.patch,
    }


def _check_has_counterpart(options: Mapping[str, Any], height: int, width: int) -> None:
    """Refuse to write what the other library would compute otherwise."""
    if options["pool"] != "class":
        raise UserError(f"model.pool={options['pool']}: this layout has the class token only. Train with pool=class.")
    if options["tanh"] and not options["head"]:
        raise UserError("model.tanh=true with model.head=false has no counterpart in this layout.")
    _sides([height, width], options["patch"])


def names(blueprint: Blueprint) -> dict[str, str]:
    options = with_defaults(blueprint, DEFAULTS, needed=NEEDED)
    stem = "vit." if options["head"] and not options["tanh"] else ""
    block = {
        "attention_norm": "layernorm_before",
        "attention.query": "attention.attention.query",
        "attention.key": "attention.attention.key",
        "attention.value": "attention.attention.value",
        "attention.project_out": "attention.output.dense",
        "perceptron_norm": "layernorm_after",
        "perceptron.expand": "intermediate.dense",
        "perceptron.contract": "output.dense",
    }
    layers = {f"blocks.{{i}}.{ours}": f"{stem}encoder.layer.{{i}}.{theirs}" for ours, theirs in block.items()}
    layers = numbered(layers, options["depth"])
    layers |= {"patches.project": f"{stem}embeddings.patch_embeddings.projection", "norm": f"{stem}layernorm"}
    if options["head"]:
        layers["head"] = "pooler.dense" if options["tanh"] else "classifier"
    found = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in layers.items() for kind in ("weight", "bias")}
    return found | {
        "class_token": f"{stem}embeddings.cls_token",
        "positions": f"{stem}embeddings.position_embeddings",
    }
