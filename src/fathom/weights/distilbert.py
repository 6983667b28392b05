"""DistilBERT in the layout of the Hugging Face hub: BERT without segments, with names and a classifier of its own.

What a reader would get wrong: a bare `DistilBertModel` has no pooler, so its answer for a row is the state of the first
position; the classifier of rows has a layer with a ReLU between that state and the head, where BERT has a tanh.

    >>> names(EXAMPLES[0])["blocks.0.attention_norm.weight"]
    'transformer.layer.0.sa_layer_norm.weight'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts import bert_layout
from fathom.weights.parts.bert_layout import ROWS, class_of, options_of, task_of, task_settings
from fathom.weights.parts.blueprint import Blueprint, expect
from fathom.weights.parts.decoder import activation_from, activation_to

MODEL = "bert"
MODEL_TYPES = ("distilbert",)
TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER = ("*embeddings.position_ids",)
# The embedding again, as output matrix: what a file may hold a second time.
DUPLICATES = {"vocab_projector.weight": "embed.weight"}
NORM_EPS = 1e-12  # theirs cannot be set

# Our option, their setting, and what they take where config.json does not say.
SETTINGS: dict[str, tuple[str, Any]] = {
    "depth": ("n_layers", 6),
    "width": ("dim", 768),
    "heads": ("n_heads", 12),
    "hidden": ("hidden_dim", 3072),
    "dropout": ("dropout", 0.1),
    "drop_attention": ("attention_dropout", 0.1),
}

SMALL: dict[str, Any] = {"depth": 2, "width": 24, "heads": 3, "hidden": 40, "segments": 0, "norm_eps": NORM_EPS}
SMALL |= {"dropout": 0.1, "drop_attention": 0.1, "drop_head": None, "activation": "gelu", "pooler": "none"}
SMALL |= {"head": True}
TOKENS = {"text": {"form": "tokens", "vocabulary": 50, "length": 16}}
STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": 16}}
ROW_HEAD = {"pooler": "relu", "drop_head": 0.2}
EXAMPLES = [
    Blueprint(MODEL, TOKENS, 24, SMALL | {"head": False}, "DistilBertModel"),
    Blueprint(MODEL, STREAM, 50, SMALL | {"activation": "relu"}, "DistilBertForMaskedLM"),
    Blueprint(MODEL, TOKENS, 3, SMALL | ROW_HEAD, "DistilBertForSequenceClassification"),
    Blueprint(MODEL, STREAM, 3, SMALL | {"dropout": 0.2}, "DistilBertForTokenClassification"),
]


def read(config: Mapping[str, Any]) -> Blueprint:
    expect(config, tie_word_embeddings=True)
    options = {ours: config.get(theirs, default) for ours, (theirs, default) in SETTINGS.items()}
    length = config.get("max_position_embeddings", 512)
    task = task_of(config, "DistilBert", length=length, width=options["width"])
    classifies_rows = task.architecture.endswith(ROWS)
    options |= task.options | {
        "segments": 0,
        "norm_eps": NORM_EPS,
        "activation": activation_from(config.get("activation", "gelu")),
        "pooler": "relu" if classifies_rows else "none",
        "drop_head": config.get("seq_classif_dropout", 0.2) if classifies_rows else None,
    }
    return replace(task, options=options)


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = options_of(blueprint)
    if options["norm_eps"] != NORM_EPS:
        raise UserError(f"model.norm_eps={options['norm_eps']}: DistilBERT's layout knows {NORM_EPS} only.")
    config = {theirs: options[ours] for ours, (theirs, _) in SETTINGS.items()}
    config |= {"model_type": "distilbert", "activation": activation_to(options["activation"])}
    kind = class_of(blueprint)
    wanted = "relu" if kind.endswith(ROWS) else "none"
    if blueprint.form == "tokens" and options["pooler"] != wanted:
        raise UserError(f"model.pooler={options['pooler']}: {kind} has {wanted}. Train with model.pooler={wanted}.")
    if kind.endswith(ROWS):
        dropped = options["drop_head"]
        config["seq_classif_dropout"] = options["dropout"] if dropped is None else dropped
    return config | task_settings(blueprint)


def names(blueprint: Blueprint) -> dict[str, str]:
    return bert_layout.names(blueprint)


def measured(model: Any) -> dict[str, Any]:
    return bert_layout.measured(model)
