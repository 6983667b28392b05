"""T5 in the layout of the Hugging Face hub: `T5ForConditionalGeneration` and `T5EncoderModel`.

What a reader would get wrong: "tie_word_embeddings" stands for two things that come together in the published models:
a tied head also divides the last states by the root of the width. Newer files write it as true whatever the head is,
and say "scale_decoder_outputs" instead, which therefore counts more; whether the head is a matrix of its own shows in
the tensors only. `T5EncoderModel` becomes a model of one text without a head: its answers are the means of its states,
which `hidden` gives.

    >>> names(EXAMPLES[0])["decoder.blocks.1.cross.query.weight"]
    'decoder.block.1.layer.1.EncDecAttention.q.weight'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, architecture_of, expect, numbered, with_defaults
from fathom.weights.parts.decoder import activation_from, activation_to

MODEL = "t5"
MODEL_TYPES = ("t5",)
TRANSPOSED: tuple[str, ...] = ()
# A table for the attention between the two texts, which the published models never used.
LEFT_OVER = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)
# What a file may hold a second time.
DUPLICATES = {f"{name}.weight": "embed.weight" for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head")}
HEAD, SHARED = "lm_head.weight", "shared.weight"
WRITER, ENCODER = "T5ForConditionalGeneration", "T5EncoderModel"
VOCABULARY = 32128
LENGTH = 512  # of the texts it was trained on; relative positions know no end

# Our option, their setting, and what they take where config.json does not say.
SETTINGS: dict[str, tuple[str, Any]] = {
    "depth": ("num_layers", 6),
    "width": ("d_model", 512),
    "heads": ("num_heads", 8),
    "head_width": ("d_kv", 64),
    "hidden": ("d_ff", 2048),
    "norm_eps": ("layer_norm_epsilon", 1e-6),
    "buckets": ("relative_attention_num_buckets", 32),
    "distance": ("relative_attention_max_distance", 128),
    "dropout": ("dropout_rate", 0.1),
}
NEEDED = ("depth", "width", "heads", "head_width", "hidden", "gated", "activation", "tied")
# What our model takes where the options do not say.
DEFAULTS: dict[str, Any] = {"norm_eps": 1e-6, "buckets": 32, "distance": 128, "dropout": 0.1, "head": True}

SMALL: dict[str, Any] = {"depth": 2, "decoder_depth": 3, "width": 24, "heads": 3, "head_width": 5, "hidden": 40}
SMALL |= {"gated": False, "activation": "relu", "norm_eps": 1e-6, "buckets": 8, "distance": 20, "dropout": 0.1}
SMALL |= {"tied": True, "head": True}
TEXT = {"text": {"form": "tokens", "vocabulary": 50, "length": 512}}
TEXTS = {
    "source": {"form": "tokens", "vocabulary": 50, "length": 64, "padding": 3},
    "target": {"form": "stream", "vocabulary": 50, "length": 64, "start": 2, "end": 4},
}
V1_1 = {"gated": True, "activation": "gelu_tanh", "tied": False}
EXAMPLES = [
    Blueprint(MODEL, TEXTS, 50, SMALL, WRITER),
    Blueprint(MODEL, TEXTS, 50, SMALL | V1_1, WRITER),
    Blueprint(MODEL, TEXTS, 50, SMALL | V1_1 | {"activation": "silu", "norm_eps": 1e-5}, WRITER),
    Blueprint(MODEL, TEXT, 24, SMALL | {"activation": "gelu", "head": False}, ENCODER),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    expect(config, is_decoder=False, is_causal=True)  # its decoder looks both ways where is_causal says no
    architecture = architecture_of(config, [WRITER, ENCODER])
    writes = architecture == WRITER
    options = {ours: config.get(theirs, default) for ours, (theirs, default) in SETTINGS.items()}
    gated, activation = _perceptron(config.get("feed_forward_proj", "relu"))
    options |= {
        "decoder_depth": config.get("num_decoder_layers") or options["depth"],
        "gated": gated,
        "activation": activation,
        "tied": config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True)),
        "head": writes,
    }
    outputs = config.get("vocab_size", VOCABULARY) if writes else options["width"]
    return Blueprint(MODEL, _inputs(config, writes=writes), outputs, options, architecture)


def _inputs(config: Mapping[str, Any], *, writes: bool) -> dict[str, dict[str, Any]]:
    text: dict[str, Any] = {"vocabulary": config.get("vocab_size", VOCABULARY)}
    text["length"] = config.get("n_positions", LENGTH)
    source = {"form": "tokens", **text}
    if config.get("pad_token_id", 0) != 0:
        source["padding"] = config["pad_token_id"]
    if not writes:
        return {"text": source}
    special = {"start": config.get("decoder_start_token_id", 0), "end": config.get("eos_token_id", 1)}
    return {"source": source, "target": {"form": "stream", **text, **special}}


def _perceptron(name: str) -> tuple[bool, str]:
    """Whether it is gated, and its activation. "gated-gelu" has always meant the approximation."""
    if name == "gated-gelu":
        return True, "gelu_tanh"
    return name.startswith("gated-"), activation_from(name.removeprefix("gated-"))


def _their_perceptron(gated: bool, activation: str) -> str:
    if gated and activation == "gelu":
        raise UserError("model.activation=gelu: gated, this layout has the approximation only. Train with gelu_tanh.")
    if gated and activation == "gelu_tanh":
        return "gated-gelu"
    return ("gated-" if gated else "") + activation_to(activation)


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = _options(blueprint)
    source, target = _texts(blueprint)
    config: dict[str, Any] = {theirs: options[ours] for ours, (theirs, _) in SETTINGS.items()}
    config |= {
        "model_type": "t5",
        "architectures": [WRITER if target else ENCODER],
        "vocab_size": source["vocabulary"],
        "n_positions": source["length"],
        "pad_token_id": source.get("padding", 0),
        "num_decoder_layers": options["decoder_depth"],
        "feed_forward_proj": _their_perceptron(options["gated"], options["activation"]),
        "is_encoder_decoder": target is not None,
        "tie_word_embeddings": options["tied"],
        "scale_decoder_outputs": options["tied"],
    }
    if target:
        config |= {"decoder_start_token_id": target.get("start", 0), "eos_token_id": target.get("end", 1)}
    return config


def tidied(tensors: Mapping[str, Tensor], blueprint: Blueprint) -> Mapping[str, Tensor]:
    """Newer folders may have a head that is the embedding and yet is not scaled: it becomes a matrix of its own."""
    options = {"head": True, "tied": True, **blueprint.options}
    if options["head"] and not options["tied"] and HEAD not in tensors and SHARED in tensors:
        return {**tensors, HEAD: tensors[SHARED]}
    return tensors


def _texts(blueprint: Blueprint) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What is read and what is written. Raises UserError where the other library has no such model."""
    by_form = {about["form"]: about for about in blueprint.inputs.values()}
    source, target = by_form["tokens"], by_form.get("stream")
    has_head = blueprint.options.get("head", True)
    if has_head != (target is not None) or (target and blueprint.outputs != target["vocabulary"]):
        raise UserError(
            "T5's layout has models that write a text, with one output for each token, and encoders without a head "
            "(model.head=false). This one can be kept in a run folder, not in this layout."
        )
    if not blueprint.options.get("shared", True):
        raise UserError("model.shared=false: T5's layout has one embedding for both texts.")
    return source, target


def _options(blueprint: Blueprint) -> dict[str, Any]:
    options = with_defaults(blueprint, DEFAULTS, needed=NEEDED)
    return {"decoder_depth": options["depth"], **options}


def measured(model: Any) -> dict[str, Any]:
    first = model.encoder.blocks[0]
    decoder = getattr(model, "decoder", None)
    return {
        "depth": len(model.encoder.blocks),
        "decoder_depth": len((decoder or model.encoder).blocks),
        "width": model.embed.embedding_dim,
        "heads": first.attention.heads,
        "head_width": first.attention.query.out_features // first.attention.heads,
        "hidden": first.perceptron.expand.out_features,
        "gated": first.perceptron.gate is not None,
        "activation": first.perceptron.activation.__name__,
        "tied": getattr(model, "tied", True),
    }


def names(blueprint: Blueprint) -> dict[str, str]:
    options = _options(blueprint)
    _, target = _texts(blueprint)
    found = {"embed.weight": SHARED} | _half("encoder", options["depth"], options["gated"])
    if target:
        found |= _half("decoder", options["decoder_depth"], options["gated"])
        found |= {} if options["tied"] else {"head.weight": HEAD}
    return found


def _half(name: str, depth: int, gated: bool) -> dict[str, str]:
    """The entries of the encoder or the decoder."""
    kinds = {"attention": "SelfAttention"} | ({"cross": "EncDecAttention"} if name == "decoder" else {})
    layers: dict[str, str] = {}
    for number, (ours, theirs) in enumerate(kinds.items()):
        parts = {"query": "q", "key": "k", "value": "v", "project_out": "o"}
        layers |= {f"{ours}.{o}": f"{number}.{theirs}.{t}" for o, t in parts.items()}
        layers[f"{ours}_norm"] = f"{number}.layer_norm"
    perceptron = {"gate": "wi_0", "expand": "wi_1", "contract": "wo"} if gated else {"expand": "wi", "contract": "wo"}
    layers |= {f"perceptron.{o}": f"{len(kinds)}.DenseReluDense.{t}" for o, t in perceptron.items()}
    layers["perceptron_norm"] = f"{len(kinds)}.layer_norm"
    each = {f"{name}.blocks.{{i}}.{o}.weight": f"{name}.block.{{i}}.layer.{t}.weight" for o, t in layers.items()}
    return numbered(each, depth) | {
        f"{name}.bias.weights.weight": f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        f"{name}.norm.weight": f"{name}.final_layer_norm.weight",
    }
