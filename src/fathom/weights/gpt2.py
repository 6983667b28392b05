"""GPT-2 in the layout of the Hugging Face hub: `GPT2LMHeadModel`, `GPT2ForSequenceClassification`, `GPT2Model`.

What a reader would get wrong: their matrices of a block are stored [in, out], and the output matrix is the embedding,
so a file may hold it twice or once. `GPT2Model` becomes a model without a head, whose answers are the states.

    >>> blueprint = EXAMPLES[0]
    >>> names(blueprint)["blocks.1.perceptron.expand.bias"]
    'transformer.h.1.mlp.c_fc.bias'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, expect, numbered, with_defaults
from fathom.weights.parts.decoder import (
    activation_from,
    activation_to,
    architecture_for,
    common_settings,
    head_name,
    task_of,
)

MODEL = "gpt2"
MODEL_TYPES = ("gpt2",)
TRANSPOSED = ("blocks.*.attention.project_*.weight", "blocks.*.perceptron.*.weight")
LEFT_OVER = ("*.attn.bias", "*.attn.masked_bias")  # causal masks
# The output matrix where it is the embedding: what a file may hold a second time.
DUPLICATES = {"lm_head.weight": "embed.weight"}
LANGUAGE_MODEL = "LMHeadModel"
STEM = "transformer."
BESIDE_STEM = ("lm_head.", "score.")

OPTIONS: dict[str, Any] = {
    "depth": 2,
    "width": 24,
    "heads": 3,
    "hidden": 96,
    "activation": "gelu_tanh",
    "norm_eps": 1e-5,
    "tied": True,
    "head": True,
    "scale_by_layer": False,
    "dropout": 0.1,
    "drop_embedding": 0.1,
    "drop_attention": 0.1,
}
NEEDED = ("depth", "width", "heads", "hidden")
DEFAULTS = {name: value for name, value in OPTIONS.items() if name not in NEEDED} | {"bias": True}
STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": 16}}
TOKENS = {"text": {"form": "tokens", "vocabulary": 50, "length": 16, "padding": 3}}
EXAMPLES = [
    Blueprint("gpt2", STREAM, 50, OPTIONS, "GPT2LMHeadModel"),
    Blueprint("gpt2", STREAM, 50, OPTIONS | {"tied": False, "scale_by_layer": True}, "GPT2LMHeadModel"),
    Blueprint("gpt2", STREAM, 24, OPTIONS | {"head": False}, "GPT2Model"),
    Blueprint("gpt2", TOKENS, 3, OPTIONS | {"hidden": 40, "activation": "relu"}, "GPT2ForSequenceClassification"),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    expect(config, add_cross_attention=False, scale_attn_weights=True)
    width = config["n_embd"]
    task = task_of(config, "GPT2", length=config["n_positions"], width=width, language_model=LANGUAGE_MODEL)
    options = {
        "depth": config["n_layer"],
        "width": width,
        "heads": config["n_head"],
        "hidden": config.get("n_inner") or 4 * width,
        "activation": activation_from(config.get("activation_function", "gelu_new")),
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "tied": config.get("tie_word_embeddings", True),
        "head": task.head,
        "scale_by_layer": config.get("scale_attn_by_inverse_layer_idx", False),
        "dropout": config.get("resid_pdrop", 0.1),
        "drop_embedding": config.get("embd_pdrop", 0.1),
        "drop_attention": config.get("attn_pdrop", 0.1),
    }
    return task.blueprint(MODEL, options)


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = _options(blueprint)
    if not options["bias"]:
        raise UserError("model.bias=false: GPT-2's layout always has biases. Train with model.bias=true to export.")
    (about,) = blueprint.inputs.values()
    architecture = architecture_for(blueprint, "GPT2", language_model=LANGUAGE_MODEL)
    return {
        "model_type": "gpt2",
        **common_settings(blueprint, architecture),
        "n_positions": about["length"],
        "n_embd": options["width"],
        "n_layer": options["depth"],
        "n_head": options["heads"],
        "n_inner": options["hidden"],
        "activation_function": activation_to(options["activation"]),
        "layer_norm_epsilon": options["norm_eps"],
        "tie_word_embeddings": options["tied"],
        "scale_attn_by_inverse_layer_idx": options["scale_by_layer"],
        "resid_pdrop": options["dropout"],
        "embd_pdrop": options["drop_embedding"],
        "attn_pdrop": options["drop_attention"],
    }


def _options(blueprint: Blueprint) -> dict[str, Any]:
    return with_defaults(blueprint, DEFAULTS, needed=NEEDED)


def measured(model: Any) -> dict[str, Any]:
    first = model.blocks[0]
    return {
        "depth": len(model.blocks),
        "width": model.embed.embedding_dim,
        "heads": first.attention.heads,
        "hidden": first.perceptron.expand.out_features,
    }


def tidied(tensors: Mapping[str, Tensor], blueprint: Blueprint) -> dict[str, Tensor]:
    """The hub's first files (gpt2, gpt2-medium, …) hold the tensors of the bare model, under the name of the whole."""
    if not blueprint.options.get("head", True) or any(name.startswith(STEM) for name in tensors):
        return dict(tensors)
    return {name if name.startswith(BESIDE_STEM) else STEM + name: tensor for name, tensor in tensors.items()}


def names(blueprint: Blueprint) -> dict[str, str]:
    options = _options(blueprint)
    stem = STEM if options["head"] else ""
    block = {
        "attention_norm": "ln_1",
        "attention.project_in": "attn.c_attn",
        "attention.project_out": "attn.c_proj",
        "perceptron_norm": "ln_2",
        "perceptron.expand": "mlp.c_fc",
        "perceptron.contract": "mlp.c_proj",
    }
    each = {
        f"blocks.{{i}}.{ours}.{kind}": f"{stem}h.{{i}}.{theirs}.{kind}"
        for ours, theirs in block.items()
        for kind in ("weight", "bias")
    }
    found = {"embed.weight": f"{stem}wte.weight", "positions.weight": f"{stem}wpe.weight"}
    found |= numbered(each, options["depth"])
    found |= {f"norm.{kind}": f"{stem}ln_f.{kind}" for kind in ("weight", "bias")}
    return found | head_name(blueprint, tied=options["tied"])
