"""Mamba-2 in the layout of the Hugging Face hub: `Mamba2ForCausalLM`, and `Mamba2Model`, which answers with its states.

What a reader would get wrong: two settings that look as if they counted do not. `chunk_size` says how the answers are
computed, not what they are, and `time_step_rank` has no part in this model. A `time_step_limit` would count; only the
one that limits nothing is supported.

    >>> names(EXAMPLES[0])["blocks.1.mixer.step_bias"]
    'backbone.layers.1.mixer.dt_bias'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, expect, numbered, with_defaults
from fathom.weights.parts.decoder import architecture_for, common_settings, head_name, task_of
from fathom.weights.parts.state_space import refuse_classifier

MODEL = "mamba2"
MODEL_TYPES = ("mamba2",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()
# The output matrix where it is the embedding: what a file may hold a second time.
DUPLICATES = {"lm_head.weight": "embed.weight"}
LENGTH = 2048  # what the published models were trained on; there is no limit, and a config.json names none

OPTIONS: dict[str, Any] = {
    "depth": 2,
    "width": 24,
    "head_width": 6,
    "groups": 2,
    "state": 5,
    "expand": 2,
    "kernel": 4,
    "bias": False,
    "conv_bias": True,
    "norm_eps": 1e-5,
    "tied": False,
    "head": True,
}
NEEDED = ("depth", "width")
# What our model takes where the options do not say.
DEFAULTS = {name: value for name, value in OPTIONS.items() if name not in NEEDED}
DEFAULTS |= {"head_width": 64, "groups": 1, "state": 128, "tied": True}
OTHERS = {"head_width": 8, "groups": 1, "expand": 1, "kernel": 3, "bias": True, "conv_bias": False, "norm_eps": 1e-3}
STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": LENGTH}}
EXAMPLES = [
    Blueprint("mamba2", STREAM, 50, OPTIONS, "Mamba2ForCausalLM"),
    Blueprint("mamba2", STREAM, 50, OPTIONS | OTHERS | {"tied": True}, "Mamba2ForCausalLM"),
    Blueprint("mamba2", STREAM, 24, OPTIONS | {"head": False}, "Mamba2Model"),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    width, expand = config["hidden_size"], config.get("expand", 2)
    head_width = config.get("head_dim", 64)
    expect(config, hidden_act="silu", num_heads=expand * width // head_width)
    _expect_no_limit(config)
    task = task_of(config, "Mamba2", length=config.get("max_position_embeddings", LENGTH), width=width)
    options = {
        "depth": config["num_hidden_layers"],
        "width": width,
        "head_width": head_width,
        "groups": config.get("n_groups", 8),
        "state": config.get("state_size", 128),
        "expand": expand,
        "kernel": config.get("conv_kernel", 4),
        "bias": config.get("use_bias", False),
        "conv_bias": config.get("use_conv_bias", True),
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "tied": config.get("tie_word_embeddings", False),
        "head": task.head,
    }
    return task.blueprint(MODEL, options)


def _expect_no_limit(config: Mapping[str, Any]) -> None:
    """Infinity is written as such by some versions, and as {"__float__": "Infinity"} by others."""
    low, high = config.get("time_step_limit", (0.0, math.inf))
    if isinstance(high, Mapping):
        high = float(high.get("__float__", "nan"))
    if low > 0 or high != math.inf:
        raise UserError(f"config.json says time_step_limit=[{low}, {high}]; only [0, infinity] is supported.")


def write(blueprint: Blueprint) -> dict[str, Any]:
    refuse_classifier(blueprint)
    options = _options(blueprint)
    (about,) = blueprint.inputs.values()
    return {
        "model_type": "mamba2",
        **common_settings(blueprint, architecture_for(blueprint, "Mamba2")),
        "max_position_embeddings": about["length"],
        "hidden_size": options["width"],
        "num_hidden_layers": options["depth"],
        "head_dim": options["head_width"],
        "num_heads": options["expand"] * options["width"] // options["head_width"],
        "n_groups": options["groups"],
        "state_size": options["state"],
        "expand": options["expand"],
        "conv_kernel": options["kernel"],
        "use_bias": options["bias"],
        "use_conv_bias": options["conv_bias"],
        "hidden_act": "silu",
        "layer_norm_epsilon": options["norm_eps"],
        "tie_word_embeddings": options["tied"],
    }


def _options(blueprint: Blueprint) -> dict[str, Any]:
    return with_defaults(blueprint, DEFAULTS, needed=NEEDED)


def measured(model: Any) -> dict[str, Any]:
    return {"depth": len(model.blocks), "width": model.embed.embedding_dim}


def names(blueprint: Blueprint) -> dict[str, str]:
    options = _options(blueprint)
    stem = "backbone." if options["head"] else ""
    mixer = {
        "project_in.weight": "in_proj.weight",
        "conv.weight": "conv1d.weight",
        "step_bias": "dt_bias",
        "log_decay": "A_log",
        "skip": "D",
        "norm.weight": "norm.weight",
        "project_out.weight": "out_proj.weight",
    }
    if options["conv_bias"]:
        mixer["conv.bias"] = "conv1d.bias"
    if options["bias"]:
        mixer |= {"project_in.bias": "in_proj.bias", "project_out.bias": "out_proj.bias"}
    each = {f"blocks.{{i}}.mixer.{ours}": f"{stem}layers.{{i}}.mixer.{theirs}" for ours, theirs in mixer.items()}
    each["blocks.{i}.norm.weight"] = f"{stem}layers.{{i}}.norm.weight"
    found = {"embed.weight": f"{stem}embeddings.weight", "norm.weight": f"{stem}norm_f.weight"}
    return found | numbered(each, options["depth"]) | head_name(blueprint, tied=options["tied"])
