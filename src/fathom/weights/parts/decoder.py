"""What the families of decoders share: which of the other library's classes a config.json speaks of.

A language model (`…ForCausalLM`) is a "stream" with an answer for each token of the vocabulary, a classifier
(`…ForSequenceClassification`) gives one answer for "tokens", the bare model (`…Model`) the states themselves. What a
reader would get wrong: these libraries pad with any id, so a classifier's input carries its own "padding". The ids at
which a text starts and ends change no answer; they are carried as "start" and "end" for whoever writes texts.

    >>> task_of({"architectures": ["LlamaModel"], "vocab_size": 9}, "Llama", length=8, width=16).outputs
    16
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint, architecture_of, expect
from fathom.weights.parts.labels import class_names, labels_of, num_labels

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}
CLASSIFIER = "ForSequenceClassification"
# Ids that a config.json names. Those that nobody knows are null: left out, the other library would take its own.
IDS = {"start": "bos_token_id", "end": "eos_token_id", "padding": "pad_token_id"}


@dataclass(frozen=True)
class Task:
    inputs: dict[str, dict[str, Any]]
    outputs: int
    head: bool
    architecture: str
    classes: tuple[str, ...] = ()

    def blueprint(self, model: str, options: dict[str, Any]) -> Blueprint:
        return Blueprint(model, self.inputs, self.outputs, options, self.architecture, self.classes)


def task_of(
    config: Mapping[str, Any], stem: str, *, length: int, width: int, language_model: str = "ForCausalLM"
) -> Task:
    """What the class named in config.json takes and gives; `stem` begins its name. Raises UserError on others."""
    expect(config, is_causal=True)  # where it is not, the other library looks both ways
    architecture = architecture_of(config, [stem + end for end in (language_model, "Model", CLASSIFIER)])
    about: dict[str, Any] = {"form": "stream", "vocabulary": config["vocab_size"], "length": length}
    about |= {ours: config[theirs] for ours, theirs in IDS.items() if config.get(theirs) is not None}
    if architecture == stem + language_model:
        return Task({"text": about}, config["vocab_size"], True, architecture)
    if architecture == stem + "Model":
        return Task({"text": about}, width, False, architecture)
    about |= {"form": "tokens", "padding": config.get("pad_token_id")}
    return Task({"text": about}, num_labels(config), True, architecture, class_names(config))


def architecture_for(blueprint: Blueprint, stem: str, *, language_model: str = "ForCausalLM") -> str:
    """The class's name: the one that the weights came with, else the one that does the same."""
    if blueprint.architecture:
        return blueprint.architecture
    if not blueprint.options.get("head", True):
        return stem + "Model"
    return stem + (CLASSIFIER if blueprint.form == "tokens" else language_model)


def common_settings(blueprint: Blueprint, architecture: str) -> dict[str, Any]:
    """The part of config.json that says what comes in and goes out. Raises UserError where the class cannot do it."""
    (about,) = blueprint.inputs.values()
    config: dict[str, Any] = {"architectures": [architecture], "vocab_size": about["vocabulary"]}
    config |= {theirs: about.get(ours) for ours, theirs in IDS.items()}
    if architecture.endswith(CLASSIFIER):
        config |= {"pad_token_id": about.get("padding", 0), **labels_of(blueprint)}
    elif blueprint.options.get("head", True) and blueprint.outputs != about["vocabulary"]:
        raise UserError(
            f"{architecture} answers with one number for each of its {about['vocabulary']} tokens; this model has "
            f"{blueprint.outputs} outputs. It can be kept in a run folder, not in this layout."
        )
    return config


def head_name(blueprint: Blueprint, *, tied: bool) -> dict[str, str]:
    """The entry of a matrix of the head's own, where there is one."""
    if not blueprint.options.get("head", True):
        return {}
    if blueprint.form == "tokens":
        return {"head.project.weight": "score.weight"}
    return {} if tied else {"head.project.weight": "lm_head.weight"}


def activation_from(name: str) -> str:
    """Our name of an activation. Raises UserError where we have none."""
    if name not in ACTIVATIONS:
        raise UserError(f"config.json says activation '{name}'; supported are {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def activation_to(name: str) -> str:
    """Their name of one of ours. Raises UserError where they have none."""
    for theirs, ours in ACTIVATIONS.items():
        if ours == name:
            return theirs
    raise UserError(f"model.activation={name} has no name in this layout.")
