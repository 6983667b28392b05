"""Llama, Mistral, Mixtral, Qwen2 and Qwen3 in the layout of the Hugging Face hub.

`…ForCausalLM`, `…ForSequenceClassification` and `…Model` (which becomes a model without a head, whose answers are the
states). What a reader would get wrong: the five differ less in their weights than in what they leave unsaid. Whether
queries have biases or norms follows from the model_type alone, and `sliding_window` counts for Qwen only where
`use_sliding_window` says so.

    >>> names(EXAMPLES[0])["blocks.1.attention.project_out.weight"]
    'model.layers.1.self_attn.o_proj.weight'
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, expect, numbered, with_defaults
from fathom.weights.parts.decoder import (
    CLASSIFIER,
    activation_from,
    activation_to,
    architecture_for,
    common_settings,
    head_name,
    task_of,
)
from fathom.weights.parts.rope import rope_from, rope_to

MODEL = "llama"
STEMS = {"llama": "Llama", "mistral": "Mistral", "mixtral": "Mixtral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
MODEL_TYPES = tuple(STEMS)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER = ("*.rotary_emb.inv_freq",)  # frequencies that older files hold
# The output matrix where it is the embedding: what a file may hold a second time.
DUPLICATES = {"lm_head.weight": "embed.weight"}
# What a config.json that does not say it means, where the model types differ.
THETA = {"mixtral": 1_000_000.0}
WINDOW = {"mistral": 4096}
EPS = {"mixtral": 1e-5}
KEY_HEADS = {"mistral": 8, "mixtral": 8, "qwen2": 32, "qwen3": 32}  # Llama's are as many as the heads, and so is null

OPTIONS: dict[str, Any] = {
    "depth": 2,
    "width": 24,
    "heads": 4,
    "key_heads": 2,
    "head_width": 6,
    "hidden": 40,
    "activation": "silu",
    "norm_eps": 1e-5,
    "norm_queries": False,
    "query_bias": False,
    "output_bias": False,
    "perceptron_bias": False,
    "rope_base": 500.0,
    "rope_scaling": "none",
    "window": 0,
    "window_from": 0,
    "experts": 0,
    "tied": False,
    "head": True,
    "drop_attention": 0.0,
}
NEEDED = ("depth", "width", "heads", "key_heads", "head_width", "hidden")
# What our model takes where the options do not say.
DEFAULTS = {name: value for name, value in OPTIONS.items() if name not in NEEDED}
DEFAULTS |= {"norm_eps": 1e-6, "rope_base": 10_000.0, "tied": True, "experts_used": 2, "balance": 0.01}
LINEAR = {"rope_scaling": "linear", "rope_factor": 2.0}
LLAMA_3 = {"rope_scaling": "llama3", "rope_factor": 4.0, "rope_low": 1.0, "rope_high": 3.0, "rope_length": 8}
BIASES = {"query_bias": True, "output_bias": True, "perceptron_bias": True}
STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": 16}}
TOKENS = {"text": {"form": "tokens", "vocabulary": 50, "length": 16, "padding": 3}}
EXAMPLES = [
    Blueprint("llama", STREAM, 50, OPTIONS | LLAMA_3, "LlamaForCausalLM"),
    Blueprint("llama", STREAM, 50, OPTIONS | BIASES | {"tied": True, "activation": "gelu"}, "LlamaForCausalLM"),
    Blueprint("llama", STREAM, 24, OPTIONS | LINEAR | {"head": False}, "LlamaModel"),
    Blueprint("llama", TOKENS, 3, OPTIONS, "LlamaForSequenceClassification"),
    Blueprint("llama", STREAM, 50, OPTIONS | {"window": 3}, "MistralForCausalLM"),
    Blueprint("llama", STREAM, 50, OPTIONS | {"query_bias": True, "tied": True}, "Qwen2ForCausalLM"),
    Blueprint("llama", TOKENS, 3, OPTIONS | {"query_bias": True, "window": 3, "window_from": 1}, f"Qwen2{CLASSIFIER}"),
    Blueprint("llama", STREAM, 50, OPTIONS | {"norm_queries": True, "head_width": 8, "tied": True}, "Qwen3ForCausalLM"),
    Blueprint("llama", STREAM, 50, OPTIONS | {"experts": 3, "experts_used": 2, "balance": 0.02}, "MixtralForCausalLM"),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    kind = config["model_type"]
    width, heads = config["hidden_size"], config["num_attention_heads"]
    task = task_of(config, STEMS[kind], length=config["max_position_embeddings"], width=width)
    options = {
        "depth": config["num_hidden_layers"],
        "width": width,
        "heads": heads,
        "key_heads": config.get("num_key_value_heads", KEY_HEADS.get(kind)) or heads,
        "head_width": config.get("head_dim") or (128 if kind == "qwen3" else width // heads),
        "hidden": config["intermediate_size"],
        "activation": activation_from(config.get("hidden_act", "silu")),
        "norm_eps": config.get("rms_norm_eps", EPS.get(kind, 1e-6)),
        "norm_queries": kind == "qwen3",
        **_biases(config),
        **rope_from(config, default=THETA.get(kind, 10_000.0)),
        **_window(config),
        **_experts(config),
        "tied": config.get("tie_word_embeddings", False),
        "head": task.head,
        "drop_attention": config.get("attention_dropout", 0.0),
    }
    return task.blueprint(MODEL, options)


def _biases(config: Mapping[str, Any]) -> dict[str, bool]:
    kind = config["model_type"]
    if kind not in ("llama", "qwen3"):
        expect(config, attention_bias=kind == "qwen2")
    if kind != "llama":
        expect(config, mlp_bias=False)
    everywhere = kind in ("llama", "qwen3") and config.get("attention_bias", False)
    return {
        "query_bias": everywhere or kind == "qwen2",
        "output_bias": everywhere,
        "perceptron_bias": config.get("mlp_bias", False),
    }


def _window(config: Mapping[str, Any]) -> dict[str, int]:
    """The window and the first block that has it."""
    kind, depth = config["model_type"], config["num_hidden_layers"]
    if kind in ("mistral", "mixtral"):
        return {"window": config.get("sliding_window", WINDOW.get(kind)) or 0, "window_from": 0}
    if kind == "llama":
        return {"window": 0, "window_from": 0}
    window, first = config.get("sliding_window", 4096), config.get("max_window_layers", 28)
    layers = config.get("layer_types")
    if not config.get("use_sliding_window", False) or not window:
        return {"window": 0, "window_from": 0}
    first = min(first, depth)
    layers = layers or ["full_attention"] * first + ["sliding_attention"] * (depth - first)
    first = layers.index("sliding_attention") if "sliding_attention" in layers else depth
    if layers != ["full_attention"] * first + ["sliding_attention"] * (depth - first):
        raise UserError("config.json mixes blocks with and without a window; here those with one come last.")
    return {"window": window, "window_from": first}


def _experts(config: Mapping[str, Any]) -> dict[str, float]:
    if config["model_type"] != "mixtral":
        return {"experts": 0}
    expect(config, router_jitter_noise=0.0)
    return {
        "experts": config.get("num_local_experts", 8),
        "experts_used": config.get("num_experts_per_tok", 2),
        "balance": config.get("router_aux_loss_coef", 0.001),
    }


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = _options(blueprint)
    kind = _kind(blueprint)
    (about,) = blueprint.inputs.values()
    return {
        "model_type": kind,
        **common_settings(blueprint, architecture_for(blueprint, STEMS[kind])),
        "max_position_embeddings": about["length"],
        "hidden_size": options["width"],
        "intermediate_size": options["hidden"],
        "num_hidden_layers": options["depth"],
        "num_attention_heads": options["heads"],
        "num_key_value_heads": options["key_heads"],
        "head_dim": options["head_width"],
        "hidden_act": activation_to(options["activation"]),
        "rms_norm_eps": options["norm_eps"],
        "tie_word_embeddings": options["tied"],
        "attention_dropout": options["drop_attention"],
        **rope_to(options),
        **_particular(kind, options),
    }


def _particular(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that only some model types have."""
    window = options["window"] or None
    if kind == "llama":
        return {"attention_bias": options["output_bias"], "mlp_bias": options["perceptron_bias"]}
    if kind == "mistral":
        return {"sliding_window": window}
    if kind == "mixtral":
        experts = {"num_local_experts": options["experts"], "num_experts_per_tok": options["experts_used"]}
        return {"sliding_window": window, **experts, "router_aux_loss_coef": options["balance"]}
    first, depth = options["window_from"] if window else options["depth"], options["depth"]
    return {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "max_window_layers": first,
        "layer_types": ["full_attention"] * first + ["sliding_attention"] * (depth - first),
    } | ({"attention_bias": options["output_bias"]} if kind == "qwen3" else {})


def _kind(blueprint: Blueprint) -> str:
    """The model type: that of the class the weights came with, else the one that has all that the model has."""
    for kind, stem in STEMS.items():
        if blueprint.architecture.startswith(stem):
            return kind
    options = _options(blueprint)
    if options["experts"]:
        return "mixtral"
    if options["norm_queries"]:
        return "qwen3"
    if options["query_bias"] and not options["output_bias"]:
        return "qwen2"
    return "mistral" if options["window"] else "llama"


def _options(blueprint: Blueprint) -> dict[str, Any]:
    return with_defaults(blueprint, DEFAULTS, needed=NEEDED)


def measured(model: Any) -> dict[str, Any]:
    return dataclasses.asdict(model.layout)


def names(blueprint: Blueprint) -> dict[str, str]:
    options = _options(blueprint)
    stem = "model." if options["head"] else ""
    block = {f"blocks.{{i}}.{ours}": f"{stem}layers.{{i}}.{theirs}" for ours, theirs in _block(options).items()}
    return {
        "embed.weight": f"{stem}embed_tokens.weight",
        **numbered(block, options["depth"]),
        "norm.weight": f"{stem}norm.weight",
        **head_name(blueprint, tied=options["tied"]),
    }


def _block(options: Mapping[str, Any]) -> dict[str, str]:
    found = {"attention_norm.weight": "input_layernorm.weight"}
    found |= {"perceptron_norm.weight": "post_attention_layernorm.weight"}
    for ours, theirs, bias in (
        ("query", "q_proj", options["query_bias"]),
        ("key", "k_proj", options["query_bias"]),
        ("value", "v_proj", options["query_bias"]),
        ("project_out", "o_proj", options["output_bias"]),
    ):
        found |= {f"attention.{ours}.{k}": f"self_attn.{theirs}.{k}" for k in ("weight", "bias")[: 1 + bias]}
    if options["norm_queries"]:
        found |= {f"attention.{k}_norm.weight": f"self_attn.{k[0]}_norm.weight" for k in ("query", "key")}
    if not options["experts"]:
        kinds = ("weight", "bias")[: 1 + options["perceptron_bias"]]
        three = {"gate": "gate_proj", "expand": "up_proj", "contract": "down_proj"}
        return found | {f"perceptron.{o}.{k}": f"mlp.{t}.{k}" for o, t in three.items() for k in kinds}
    found["perceptron.router.weight"] = "block_sparse_moe.gate.weight"
    three = {"gate": "w1", "expand": "w3", "contract": "w2"}
    return found | {
        f"perceptron.experts.{e}.{o}.weight": f"block_sparse_moe.experts.{e}.{t}.weight"
        for e in range(options["experts"])
        for o, t in three.items()
    }
