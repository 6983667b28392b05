"""CLIP in the layout of the Hugging Face hub: `CLIPModel`, both nets and their projections.

What a reader would get wrong: `eos_token_id` 2 is an error in the oldest files, kept alive: it stands for the highest
id of each text. The nets of pictures and texts have settings of their own; the activation, the norms' eps and the
dropout must be the same in both.

    >>> names(EXAMPLES[0])["picture.embed_norm.weight"]
    'vision_model.pre_layrnorm.weight'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, architecture_of, expect, numbered, with_defaults
from fathom.weights.parts.decoder import activation_from, activation_to
from fathom.weights.parts.picture import scale_of

MODEL = "clip"
MODEL_TYPES = ("clip",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER = ("*.position_ids",)
ARCHITECTURE = "CLIPModel"
HIGHEST_ID = 2  # the eos_token_id that stands for it

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]

# Our option and their setting, for each net; then what both share.
PICTURE = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
}
TEXT = {f"text_{ours}": theirs for ours, theirs in PICTURE.items()}
SHARED = {"norm_eps": "layer_norm_eps", "drop_attention": "attention_dropout"}
NEEDED = (*PICTURE, *TEXT, "patch")
# What our model takes where the options do not say.
DEFAULTS = {"activation": "quick_gelu", "norm_eps": 1e-5, "drop_attention": 0.0, "end": None}
# What they take where config.json does not say.
THEIR_SHARED = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "attention_dropout": 0.0}
THEIR_PICTURE = THEIR_SHARED | {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
THEIR_TEXT = THEIR_SHARED | {
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}


def _inputs(side: int, vocabulary: int, length: int) -> dict[str, dict[str, Any]]:
    photo = {"form": "pixels", "height": side, "width": side, "channels": 3, "mean": MEAN, "std": STD, "mirror": False}
    return {"photo": photo, "caption": {"form": "tokens", "vocabulary": vocabulary, "length": length}}


SMALL = {"width": 16, "depth": 2, "heads": 2, "hidden": 24, "patch": 4, "activation": "quick_gelu", "norm_eps": 1e-5}
SMALL |= {"text_width": 12, "text_depth": 1, "text_heads": 3, "text_hidden": 20, "end": None, "drop_attention": 0.0}
EXAMPLES = [
    Blueprint(MODEL, _inputs(8, 40, 10), 6, SMALL, ARCHITECTURE),
    Blueprint(MODEL, _inputs(12, 40, 10), 6, SMALL | {"end": 38, "activation": "gelu", "norm_eps": 1e-6}, ARCHITECTURE),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    architecture_of(config, [ARCHITECTURE])
    picture = _settings(config, "vision_config", THEIR_PICTURE)
    text = _settings(config, "text_config", THEIR_TEXT)
    for name in THEIR_SHARED:
        if picture[name] != text[name]:
            raise UserError(
                f"config.json says {name}={picture[name]!r} for pictures and {text[name]!r} for texts; "
                "only the same for both is supported."
            )
    expect(picture | {"model_type": "clip"}, num_channels=3)
    expect(text | {"model_type": "clip"}, is_causal=True)  # where it is not, the other library looks both ways
    side, patch, end = picture["image_size"], picture["patch_size"], text["eos_token_id"]
    if not all(isinstance(number, int) for number in (side, patch, end)) or side % patch:
        raise UserError(
            f"config.json says image_size={side}, patch_size={patch} and eos_token_id={end}; expected whole numbers, "
            "the second a divisor of the first."
        )
    options = {ours: picture[theirs] for ours, theirs in (PICTURE | SHARED).items()}
    options |= {ours: text[theirs] for ours, theirs in TEXT.items()}
    options |= {"patch": patch, "end": None if end == HIGHEST_ID else end}
    options["activation"] = activation_from(picture["hidden_act"])
    inputs = _inputs(side, text["vocab_size"], text["max_position_embeddings"])
    inputs["photo"] = scale_of(config, inputs["photo"])
    return Blueprint(MODEL, inputs, config.get("projection_dim", 512), options, ARCHITECTURE)


def _settings(config: Mapping[str, Any], part: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one net. Where an old file says them twice, the one with _dict counts."""
    found, twice = config.get(part), config.get(f"{part}_dict")
    return {**defaults, **((found if twice is None else twice) or {})}


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = with_defaults(blueprint, DEFAULTS, needed=NEEDED)
    abouts = {about["form"]: about for about in blueprint.inputs.values()}
    photo, caption = abouts["pixels"], abouts["tokens"]
    if photo["height"] != photo["width"] or photo["height"] % options["patch"] or photo["channels"] != 3:
        raise UserError(
            f"Pictures of {photo['height']} x {photo['width']} pixels and {photo['channels']} channels in patches of "
            f"{options['patch']} have no counterpart: this layout has squares of 3 channels that the patch divides."
        )
    if options["end"] == HIGHEST_ID:
        raise UserError(
            f"model.end={HIGHEST_ID}: in this layout that eos_token_id stands for the highest id of each text. Train "
            "with another id as the end, or without model.end, where the highest id ends a text here too."
        )
    shared: dict[str, Any] = {theirs: options[ours] for ours, theirs in SHARED.items()}
    shared |= {"hidden_act": activation_to(options["activation"]), "projection_dim": blueprint.outputs}
    vision = {theirs: options[ours] for ours, theirs in PICTURE.items()} | shared
    vision |= {"image_size": photo["height"], "patch_size": options["patch"], "num_channels": 3}
    text = {theirs: options[ours] for ours, theirs in TEXT.items()} | shared
    text |= {"vocab_size": caption["vocabulary"], "max_position_embeddings": caption["length"]}
    text |= {"eos_token_id": HIGHEST_ID if options["end"] is None else options["end"]}
    return {
        "model_type": "clip",
        "architectures": [ARCHITECTURE],
        "projection_dim": blueprint.outputs,
        "image_mean": photo["mean"],
        "image_std": photo["std"],
        "vision_config": vision | {"model_type": "clip_vision_model"},
        "text_config": text | {"model_type": "clip_text_model"},
    }


def measured(model: Any) -> dict[str, Any]:
    found = {"patch": model.picture.patches.patch}
    for prefix, net in (("", model.picture), ("text_", model.text)):
        first = net.blocks[0]
        found[f"{prefix}width"] = net.norm.normalized_shape[0]
        found[f"{prefix}depth"] = len(net.blocks)
        found[f"{prefix}heads"] = first.attention.heads
        found[f"{prefix}hidden"] = first.perceptron.expand.out_features
    return found


def names(blueprint: Blueprint) -> dict[str, str]:
    options = with_defaults(blueprint, DEFAULTS, needed=NEEDED)
    found = {
        "logit_scale": "logit_scale",
        "picture.class_token": "vision_model.embeddings.class_embedding",
        "picture.patches.project.weight": "vision_model.embeddings.patch_embedding.weight",
        "picture.positions": "vision_model.embeddings.position_embedding.weight",
        "picture.project.weight": "visual_projection.weight",
        "text.embed.weight": "text_model.embeddings.token_embedding.weight",
        "text.positions": "text_model.embeddings.position_embedding.weight",
        "text.project.weight": "text_projection.weight",
    }
    layers = {
        "picture.embed_norm": "vision_model.pre_layrnorm",
        "picture.norm": "vision_model.post_layernorm",
        "text.norm": "text_model.final_layer_norm",
    }
    layers |= _layers("picture", "vision_model", options["depth"])
    layers |= _layers("text", "text_model", options["text_depth"])
    return found | {f"{o}.{kind}": f"{t}.{kind}" for o, t in layers.items() for kind in ("weight", "bias")}


def _layers(ours: str, theirs: str, depth: int) -> dict[str, str]:
    block = {
        "attention_norm": "layer_norm1",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.project_out": "self_attn.out_proj",
        "perceptron_norm": "layer_norm2",
        "perceptron.expand": "mlp.fc1",
        "perceptron.contract": "mlp.fc2",
    }
    named = {f"{ours}.blocks.{{i}}.{o}": f"{theirs}.encoder.layers.{{i}}.{t}" for o, t in block.items()}
    return numbered(named, depth)
