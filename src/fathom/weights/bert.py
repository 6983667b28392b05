"""BERT in the layout of the Hugging Face hub: `BertModel`, `…ForMaskedLM` and the classifiers of rows and positions.

What a reader would get wrong: a bare `BertModel` becomes a model of "tokens" without a head. It answers with the pooled
vector of each row; its `hidden` gives the states that sentence vectors are averaged from. A config.json does not say
whether the pooler is in the folder: it is expected, unless "add_pooling_layer": false stands there. The
next-sentence layer of pretraining is not kept.

    >>> names(EXAMPLES[0])["blocks.0.attention_norm.weight"]
    'encoder.layer.0.attention.output.LayerNorm.weight'
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from fathom.errors import UserError
from fathom.weights import distilbert
from fathom.weights.parts import bert_layout
from fathom.weights.parts.bert_layout import MASKED, class_of, options_of, task_of, task_settings
from fathom.weights.parts.blueprint import Blueprint, expect
from fathom.weights.parts.decoder import activation_from, activation_to

MODEL = "bert"
MODEL_TYPES = ("bert",)
TRANSPOSED: tuple[str, ...] = ()
# Numbers of positions; what pretraining had beside the masked language model.
LEFT_OVER = ("*embeddings.position_ids", "cls.seq_relationship.*", "bert.pooler.*")
# What a file may hold a second time: the embedding and the bias, as those of the output matrix.
DUPLICATES = {"cls.predictions.decoder.weight": "embed.weight", "cls.predictions.decoder.bias": "head.bias"}
# Names of a norm's tensors in files of before 2019.
OLD_ENDS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

# Our option, their setting, and what they take where config.json does not say.
SETTINGS: dict[str, tuple[str, Any]] = {
    "depth": ("num_hidden_layers", 12),
    "width": ("hidden_size", 768),
    "heads": ("num_attention_heads", 12),
    "hidden": ("intermediate_size", 3072),
    "segments": ("type_vocab_size", 2),
    "norm_eps": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.1),
    "drop_attention": ("attention_probs_dropout_prob", 0.1),
    "drop_head": ("classifier_dropout", None),
}

SMALL: dict[str, Any] = {"depth": 2, "width": 24, "heads": 3, "hidden": 40, "segments": 2, "norm_eps": 1e-12}
SMALL |= {"dropout": 0.1, "drop_attention": 0.1, "drop_head": None, "activation": "gelu", "pooler": "tanh"}
SMALL |= {"head": True}
TOKENS = {"text": {"form": "tokens", "vocabulary": 50, "length": 16}}
STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": 16}}
PADDED = {"text": {"form": "tokens", "vocabulary": 50, "length": 16, "padding": 3}}
EXAMPLES = [
    Blueprint(MODEL, TOKENS, 24, SMALL | {"head": False}, "BertModel"),
    Blueprint(MODEL, TOKENS, 24, SMALL | {"head": False, "pooler": "none", "segments": 1}, "BertModel"),
    Blueprint(MODEL, STREAM, 50, SMALL | {"activation": "gelu_tanh", "pooler": "none"}, "BertForMaskedLM"),
    Blueprint(MODEL, PADDED, 3, SMALL | {"drop_head": 0.3, "norm_eps": 1e-5}, "BertForSequenceClassification"),
    Blueprint(MODEL, STREAM, 3, SMALL | {"activation": "relu", "pooler": "none"}, "BertForTokenClassification"),
]


def read(config: dict[str, Any]) -> Blueprint:
    expect(
        config,
        is_decoder=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
        position_embedding_type="absolute",
    )
    if config.get("architectures") == ["BertForPreTraining"]:
        config = copy.copy(config)  # a copy of Settings goes on noting what was asked for
        config["architectures"] = ["Bert" + MASKED]
    options = {ours: config.get(theirs, default) for ours, (theirs, default) in SETTINGS.items()}
    task = task_of(config, "Bert", length=config.get("max_position_embeddings", 512), width=options["width"])
    options |= task.options | {"activation": activation_from(config.get("hidden_act", "gelu"))}
    options["pooler"] = "tanh" if task.form == "tokens" and config.get("add_pooling_layer", True) else "none"
    return replace(task, options=options)


def write(blueprint: Blueprint) -> dict[str, Any]:
    options = options_of(blueprint)
    if not options["segments"]:
        return distilbert.write(blueprint)
    config = {theirs: options[ours] for ours, (theirs, _) in SETTINGS.items()}
    config |= {"model_type": "bert", "hidden_act": activation_to(options["activation"]), **task_settings(blueprint)}
    kind = class_of(blueprint)
    if kind == "BertModel" and options["pooler"] == "none":
        config["add_pooling_layer"] = False
    elif blueprint.form == "tokens" and options["pooler"] != "tanh":
        raise UserError(
            f"model.pooler={options['pooler']}: {kind} has the tanh. Train with model.pooler=tanh to export."
        )
    return config


def names(blueprint: Blueprint) -> dict[str, str]:
    return bert_layout.names(blueprint)


def measured(model: Any) -> dict[str, Any]:
    return bert_layout.measured(model)


def tidied(tensors: Mapping[str, Tensor], blueprint: Blueprint) -> dict[str, Tensor]:
    return {_without_old_end(name): tensor for name, tensor in tensors.items()}


def _without_old_end(name: str) -> str:
    for old, new in OLD_ENDS.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
