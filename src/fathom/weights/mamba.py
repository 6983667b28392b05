"""Mamba in the layout of the Hugging Face hub: `MambaForCausalLM`, and `MambaModel`, which answers with its states.

What a reader would get wrong: a config.json names no length, since there is no limit. 2,048, what the published models
were trained on, stands in for it.

    >>> names(EXAMPLES[0])["blocks.1.mixer.log_decay"]
    'backbone.layers.1.mixer.A_log'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fathom.weights.parts.blueprint import Blueprint, expect, numbered, with_defaults
from fathom.weights.parts.decoder import architecture_for, common_settings, head_name, task_of
from fathom.weights.parts.state_space import refuse_classifier, selective_names

MODEL = "mamba"
MODEL_TYPES = ("mamba",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()
# The output matrix where it is the embedding: what a file may hold a second time.
DUPLICATES = {"lm_head.weight": "embed.weight"}
LENGTH = 2048

OPTIONS: dict[str, Any] = {
    "depth": 2,
    "width": 24,
    "state": 4,
    "expand": 2,
    "kernel": 4,
    "step_rank": 2,
    "bias": False,
    "conv_bias": True,
    "norm_eps": 1e-5,
    "tied": True,
    "head": True,
}
NEEDED = ("depth", "width", "step_rank")
DEFAULTS = {name: value for name, value in OPTIONS.items() if name not in NEEDED} | {"state": 16}
OTHERS = {"state": 3, "expand": 3, "kernel": 3, "bias": True, "conv_bias": False, "tied": False, "norm_eps": 1e-3}
STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": LENGTH}}
EXAMPLES = [
    Blueprint("mamba", STREAM, 50, OPTIONS, "MambaForCausalLM"),
    Blueprint("mamba", STREAM, 50, OPTIONS | OTHERS, "MambaForCausalLM"),
    Blueprint("mamba", STREAM, 24, OPTIONS | {"head": False}, "MambaModel"),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    width, expand = config["hidden_size"], config.get("expand", 2)
    expect(config, hidden_act="silu", intermediate_size=expand * width)
    task = task_of(config, "Mamba", length=config.get("max_position_embeddings", LENGTH), width=width)
    rank = config.get("time_step_rank", "auto")
    options = {
        "depth": config["num_hidden_layers"],
        "width": width,
        "state": config.get("state_size", 16),
        "expand": expand,
        "kernel": config.get("conv_kernel", 4),
        "step_rank": math.ceil(width / 16) if rank == "auto" else rank,
        "bias": config.get("use_bias", False),
        "conv_bias": config.get("use_conv_bias", True),
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "tied": config.get("tie_word_embeddings", True),
        "head": task.head,
    }
    return task.blueprint(MODEL, options)


def write(blueprint: Blueprint) -> dict[str, Any]:
    refuse_classifier(blueprint)
    options = _options(blueprint)
    (about,) = blueprint.inputs.values()
    return {
        "model_type": "mamba",
        **common_settings(blueprint, architecture_for(blueprint, "Mamba")),
        "max_position_embeddings": about["length"],
        "hidden_size": options["width"],
        "num_hidden_layers": options["depth"],
        "state_size": options["state"],
        "expand": options["expand"],
        "intermediate_size": options["expand"] * options["width"],
        "conv_kernel": options["kernel"],
        "time_step_rank": options["step_rank"],
        "use_bias": options["bias"],
        "use_conv_bias": options["conv_bias"],
        "hidden_act": "silu",
        "layer_norm_epsilon": options["norm_eps"],
        "tie_word_embeddings": options["tied"],
    }


def _options(blueprint: Blueprint) -> dict[str, Any]:
    return with_defaults(blueprint, DEFAULTS, needed=NEEDED)


def measured(model: Any) -> dict[str, Any]:
    return {
        "depth": len(model.blocks),
        "width": model.embed.embedding_dim,
        "step_rank": model.blocks[0].mixer.step.in_features,
    }


def names(blueprint: Blueprint) -> dict[str, str]:
    options = _options(blueprint)
    stem = "backbone." if options["head"] else ""
    mixer = selective_names(bias=options["bias"], conv_bias=options["conv_bias"], norms=False)
    each = {f"blocks.{{i}}.mixer.{ours}": f"{stem}layers.{{i}}.mixer.{theirs}" for ours, theirs in mixer.items()}
    each["blocks.{i}.norm.weight"] = f"{stem}layers.{{i}}.norm.weight"
    found = {"embed.weight": f"{stem}embeddings.weight", "norm.weight": f"{stem}norm_f.weight"}
    return found | numbered(each, options["depth"]) | head_name(blueprint, tied=options["tied"])
