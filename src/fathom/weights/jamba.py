"""Jamba in the layout of the Hugging Face hub: `JambaForCausalLM`, `JambaForSequenceClassification`, `JambaModel`.

`JambaModel` becomes a model without a head, whose answers are the states. What a reader would get wrong: `transformers`
holds all experts of a layer in one tensor, but writes and reads each one's three matrices by themselves, as the
published files have them.

    >>> names(EXAMPLES[0])["blocks.1.perceptron.experts.2.gate.weight"]
    'model.layers.1.feed_forward.experts.2.gate_proj.weight'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fathom.weights.parts.blueprint import Blueprint, expect, with_defaults
from fathom.weights.parts.decoder import architecture_for, common_settings, head_name, task_of
from fathom.weights.parts.state_space import selective_names

MODEL = "jamba"
MODEL_TYPES = ("jamba",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()
# The output matrix where it is the embedding: what a file may hold a second time.
DUPLICATES = {"lm_head.weight": "embed.weight"}

# Ours, theirs, and what a config.json that does not say it means; None where it always says it.
SETTINGS: tuple[tuple[str, str, Any], ...] = (
    ("depth", "num_hidden_layers", None),
    ("width", "hidden_size", None),
    ("heads", "num_attention_heads", None),
    ("hidden", "intermediate_size", None),
    ("attention_period", "attn_layer_period", 8),
    ("attention_offset", "attn_layer_offset", 4),
    ("experts", "num_experts", 16),
    ("experts_used", "num_experts_per_tok", 2),
    ("expert_period", "expert_layer_period", 2),
    ("expert_offset", "expert_layer_offset", 1),
    ("balance", "router_aux_loss_coef", 0.001),
    ("state", "mamba_d_state", 16),
    ("expand", "mamba_expand", 2),
    ("kernel", "mamba_d_conv", 4),
    ("bias", "mamba_proj_bias", False),
    ("conv_bias", "mamba_conv_bias", True),
    ("norm_eps", "rms_norm_eps", 1e-6),
    ("tied", "tie_word_embeddings", False),
    ("drop_attention", "attention_dropout", 0.0),
)
NEEDED = ["depth", "width", "heads", "key_heads", "hidden", "step_rank", "experts"]
NEEDED += ["attention_period", "attention_offset", "expert_period", "expert_offset"]
DEFAULTS = {ours: unsaid for ours, _, unsaid in SETTINGS if ours not in NEEDED} | {"head": True}
OPTIONS: dict[str, Any] = {
    "depth": 4,
    "width": 24,
    "heads": 4,
    "hidden": 20,
    "attention_period": 3,
    "attention_offset": 1,
    "experts": 3,
    "experts_used": 2,
    "expert_period": 2,
    "expert_offset": 1,
    "balance": 0.002,
    "state": 4,
    "expand": 2,
    "kernel": 4,
    "bias": False,
    "conv_bias": True,
    "norm_eps": 1e-6,
    "tied": False,
    "drop_attention": 0.0,
    "key_heads": 2,
    "step_rank": 2,
    "head": True,
}
OTHERS = {"attention_period": 2, "attention_offset": 0, "experts": 4, "experts_used": 1, "expert_offset": 0}
BIASES = {"bias": True, "conv_bias": False, "kernel": 3, "expand": 1, "key_heads": 4, "tied": True, "norm_eps": 1e-3}
STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": 16}}
TOKENS = {"text": {"form": "tokens", "vocabulary": 50, "length": 16, "padding": 3}}
EXAMPLES = [
    Blueprint("jamba", STREAM, 50, OPTIONS, "JambaForCausalLM"),
    Blueprint("jamba", STREAM, 50, OPTIONS | OTHERS | BIASES | {"depth": 2}, "JambaForCausalLM"),
    Blueprint("jamba", STREAM, 24, OPTIONS | {"head": False, "experts": 1, "depth": 2}, "JambaModel"),
    Blueprint("jamba", TOKENS, 3, OPTIONS | {"depth": 2}, "JambaForSequenceClassification"),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    expect(config, hidden_act="silu", mamba_inner_layernorms=True, head_dim=width // heads)
    task = task_of(config, "Jamba", length=config.get("max_position_embeddings", 262_144), width=width)
    rank = config.get("mamba_dt_rank", "auto")
    options = {
        **{ours: config[theirs] if unsaid is None else config.get(theirs, unsaid) for ours, theirs, unsaid in SETTINGS},
        "key_heads": config.get("num_key_value_heads", 8) or heads,
        "step_rank": math.ceil(width / 16) if rank == "auto" else rank,
        "head": task.head,
    }
    return task.blueprint(MODEL, options)


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = _options(blueprint)
    (about,) = blueprint.inputs.values()
    return {
        "model_type": "jamba",
        **common_settings(blueprint, architecture_for(blueprint, "Jamba")),
        "max_position_embeddings": about["length"],
        **{theirs: options[ours] for ours, theirs, _ in SETTINGS},
        "num_key_value_heads": options["key_heads"],
        "mamba_dt_rank": options["step_rank"],
        "hidden_act": "silu",
    }


def _options(blueprint: Blueprint) -> dict[str, Any]:
    return with_defaults(blueprint, DEFAULTS, needed=NEEDED)


def measured(model: Any) -> dict[str, Any]:
    """What no layer shows (heads, where none is attention) has no effect, so any number will do."""
    blocks = model.blocks
    width = model.embed.embedding_dim
    attention = [place for place, block in enumerate(blocks) if hasattr(block.mixer, "query")]
    mixtures = [place for place, block in enumerate(blocks) if hasattr(block.perceptron, "router")]
    mixture = blocks[mixtures[0]].perceptron if mixtures else None
    perceptron = mixture.experts[0] if mixture else blocks[0].perceptron
    scans = [block.mixer for place, block in enumerate(blocks) if place not in attention]
    found = {
        "depth": len(blocks),
        "width": width,
        "heads": 1,
        "key_heads": 1,
        "hidden": perceptron.expand.out_features,
        "experts": len(mixture.experts) if mixture else 1,
        "step_rank": scans[0].step.in_features if scans else math.ceil(width / 16),
    }
    found["attention_period"], found["attention_offset"] = _rhythm(attention, len(blocks))
    found["expert_period"], found["expert_offset"] = _rhythm(mixtures, len(blocks))
    if attention:
        mixer = blocks[attention[0]].mixer
        heads = {"heads": mixer.query.out_features, "key_heads": mixer.key.out_features}
        found |= {name: channels // mixer.head_width for name, channels in heads.items()}
    return found


def _rhythm(places: list[int], depth: int) -> tuple[int, int]:
    """A period and an offset that give these places among `depth` blocks."""
    if not places:
        return depth + 1, depth
    return (places[1] - places[0] if len(places) > 1 else depth), places[0]


def names(blueprint: Blueprint) -> dict[str, str]:
    options = _options(blueprint)
    stem = "model." if options["head"] else ""
    found = {"embed.weight": f"{stem}embed_tokens.weight", "norm.weight": f"{stem}final_layernorm.weight"}
    for layer in range(options["depth"]):
        for ours, theirs in _layer(layer, options).items():
            found[f"blocks.{layer}.{ours}"] = f"{stem}layers.{layer}.{theirs}"
    return found | head_name(blueprint, tied=options["tied"])


def _layer(layer: int, options: Mapping[str, Any]) -> dict[str, str]:
    """The names within one layer, which depend on the kind that it is."""
    found = {"mixer_norm.weight": "input_layernorm.weight", "perceptron_norm.weight": "pre_ff_layernorm.weight"}
    if layer % options["attention_period"] == options["attention_offset"]:
        matrices = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "project_out": "o_proj"}
        found |= {f"mixer.{ours}.weight": f"self_attn.{theirs}.weight" for ours, theirs in matrices.items()}
    else:
        mixer = selective_names(bias=options["bias"], conv_bias=options["conv_bias"], norms=True)
        found |= {f"mixer.{ours}": f"mamba.{theirs}" for ours, theirs in mixer.items()}
    experts = [""]
    if options["experts"] > 1 and layer % options["expert_period"] == options["expert_offset"]:
        experts = [f"experts.{number}." for number in range(options["experts"])]
        found["perceptron.router.weight"] = "feed_forward.router.weight"
    matrices = {"gate": "gate_proj", "expand": "up_proj", "contract": "down_proj"}
    return found | {
        f"perceptron.{expert}{ours}.weight": f"feed_forward.{expert}{theirs}.weight"
        for expert in experts
        for ours, theirs in matrices.items()
    }
