"""What BERT's and DistilBERT's folders share: which class a model is, and how its tensors are called.

Both are models of models/bert.py, so either family file may be asked to write either. A model without segments is laid
out as DistilBERT's, one with segments as BERT's. What a reader would get wrong: the class follows from the model. One
without a head is `…Model`, "tokens" make `…ForSequenceClassification`, a "stream" makes `…ForMaskedLM` where it has as
many outputs as tokens, else `…ForTokenClassification`.

    >>> about = {"form": "stream", "vocabulary": 50, "length": 16}
    >>> class_of(Blueprint("bert", {"text": about}, 50, {"segments": 0}))
    'DistilBertForMaskedLM'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.weights.parts.blueprint import Blueprint, architecture_of, numbered, with_defaults
from fathom.weights.parts.labels import class_names, labels_of, num_labels

BASE, MASKED, ROWS, POSITIONS = "Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"

BERT_BLOCK = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.project_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "perceptron.expand": "intermediate.dense",
    "perceptron.contract": "output.dense",
    "perceptron_norm": "output.LayerNorm",
}
DISTILBERT_BLOCK = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.project_out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "perceptron.expand": "ffn.lin1",
    "perceptron.contract": "ffn.lin2",
    "perceptron_norm": "output_layer_norm",
}
NEEDED = ("depth", "width", "heads", "hidden")
# What our model takes where the options do not say.
DEFAULTS: dict[str, Any] = {
    "segments": 2,
    "pooler": "tanh",
    "head": True,
    "activation": "gelu",
    "norm_eps": 1e-12,
    "dropout": 0.1,
    "drop_attention": 0.1,
    "drop_head": None,
}


def options_of(blueprint: Blueprint) -> dict[str, Any]:
    """The options with their defaults. Only the answer for a row has a pooler."""
    options = with_defaults(blueprint, DEFAULTS, needed=NEEDED)
    return options if blueprint.form == "tokens" else options | {"pooler": "none"}


def measured(model: Any) -> dict[str, Any]:
    """What a built model says of its options."""
    first = model.blocks[0]
    return {
        "depth": len(model.blocks),
        "width": model.embed.embedding_dim,
        "heads": first.attention.heads,
        "hidden": first.perceptron.expand.out_features,
        "segments": 0 if model.segments is None else model.segments.num_embeddings,
        "pooler": "none" if model.pooler is None else model.pooler.activation.__name__,
    }


def class_of(blueprint: Blueprint) -> str:
    """The name of the other library's class that does the same."""
    options = DEFAULTS | blueprint.options
    stem = "Bert" if options["segments"] else "DistilBert"
    if not options["head"]:
        return stem + BASE
    if blueprint.form == "tokens":
        return stem + ROWS
    (about,) = blueprint.inputs.values()
    return stem + (MASKED if blueprint.outputs == about["vocabulary"] else POSITIONS)


def names(blueprint: Blueprint) -> dict[str, str]:
    """Our names of tensors and theirs."""
    options, kind = options_of(blueprint), class_of(blueprint)
    is_bert = kind.startswith("Bert")
    stem = ("bert." if is_bert else "distilbert.") if options["head"] else ""
    block = BERT_BLOCK if is_bert else DISTILBERT_BLOCK
    blocks = f"{stem}{'encoder' if is_bert else 'transformer'}.layer.{{i}}"
    layers = numbered({f"blocks.{{i}}.{o}": f"{blocks}.{t}" for o, t in block.items()}, options["depth"])
    layers["norm"] = f"{stem}embeddings.LayerNorm"
    layers |= _bert_ends(stem, kind, options) if is_bert else _distilbert_ends(kind)
    found = {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in layers.items() for part in ("weight", "bias")}
    tables = {"embed": "word", "positions": "position"} | ({"segments": "token_type"} if is_bert else {})
    found |= {f"{ours}.weight": f"{stem}embeddings.{theirs}_embeddings.weight" for ours, theirs in tables.items()}
    if kind.endswith(MASKED):
        found["head.bias"] = "cls.predictions.bias" if is_bert else "vocab_projector.bias"
    return found


def _bert_ends(stem: str, kind: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The layers behind the last block."""
    if kind.endswith(MASKED):
        transform = "cls.predictions.transform"
        return {"head.transform": f"{transform}.dense", "head.norm": f"{transform}.LayerNorm"}
    ends = {"pooler.project": f"{stem}pooler.dense"} if options["pooler"] != "none" else {}
    return ends | ({"head.project": "classifier"} if options["head"] else {})


def _distilbert_ends(kind: str) -> dict[str, str]:
    return {
        BASE: {},
        MASKED: {"head.transform": "vocab_transform", "head.norm": "vocab_layer_norm"},
        ROWS: {"pooler.project": "pre_classifier", "head.project": "classifier"},
        POSITIONS: {"head.project": "classifier"},
    }[kind.removeprefix("DistilBert")]


def task_of(config: Mapping[str, Any], stem: str, *, length: int, width: int) -> Blueprint:
    """What the class named in config.json takes and gives, without options. Raises UserError on other classes."""
    architecture = architecture_of(config, [stem + kind for kind in (BASE, MASKED, ROWS, POSITIONS)])
    form = "tokens" if architecture.endswith((BASE, ROWS)) else "stream"
    about = {"form": form, "vocabulary": config["vocab_size"], "length": length}
    if config.get("pad_token_id", 0) != 0:
        about["padding"] = config["pad_token_id"]
    options = {"head": not architecture.endswith(BASE)}
    if architecture.endswith((BASE, MASKED)):
        outputs = config["vocab_size"] if options["head"] else width
        return Blueprint("bert", {"text": about}, outputs, options, architecture)
    return Blueprint("bert", {"text": about}, num_labels(config), options, architecture, class_names(config))


def task_settings(blueprint: Blueprint) -> dict[str, Any]:
    """The part of config.json that says what comes in and goes out."""
    (about,) = blueprint.inputs.values()
    kind = class_of(blueprint)
    config: dict[str, Any] = {
        "architectures": [kind],
        "vocab_size": about["vocabulary"],
        "max_position_embeddings": about["length"],
        "pad_token_id": about.get("padding", 0),
    }
    if kind.endswith((ROWS, POSITIONS)):
        config |= labels_of(blueprint)
    return config
