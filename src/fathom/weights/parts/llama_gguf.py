"""Llama, Mistral, Mixtral, Qwen2 and Qwen3 in GGUF files, under llama.cpp's names: "blk.0.attn_q.weight".

What a reader would get wrong: files of the architecture "llama" (which Mistral and Mixtral share) hold the rows of
queries and keys in another order. llama.cpp turns neighbouring channels there, where the layout of the hub and our
model turn channel i with i + D/2; `tidied` puts them back. Qwen's are in our order already. And the scaling of Llama 3
is no setting but a tensor, rope_freqs.weight: by how much each frequency is divided.

    >>> from fathom.weights.llama import EXAMPLES
    >>> names(EXAMPLES[0])["blocks.1.attention.project_out.weight"]
    'blk.1.attn_output.weight'
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fathom.errors import UserError
from fathom.weights import llama
from fathom.weights.parts.blueprint import Blueprint, Settings
from fathom.weights.parts.lazy import LazyTensors, Maker

TRANSPOSED: tuple[str, ...] = ()
LEFT_OVER: tuple[str, ...] = ()

ARCHITECTURES = ("llama", "qwen2", "qwen3")
FREQUENCIES = "rope_freqs.weight"
# Llama 3.1 to 3.3: low, high, and the length of the first training. The factor is in the tensor itself.
LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

# Settings of a config.json and what llama.cpp calls them, behind the architecture's name.
SETTINGS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
IDS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
# Those that are read by name below, or change no answer.
OTHERS = ["vocab_size", "attention.head_count_kv", "attention.key_length", "rope.freq_base", "expert_count"]
OTHERS += ["expert_used_count", "attention.sliding_window", "rope.scaling.type", "rope.scaling.factor"]
OTHERS += ["rope.scaling.finetuned", "rope.scaling.original_context_length", "pooling_type", "tensor_data_layout"]

ENDS = {"embed": "token_embd", "norm": "output_norm", "head.project": "output"}
BLOCK = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.project_out": "attn_output",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "perceptron_norm": "ffn_norm",
    "perceptron.router": "ffn_gate_inp",
    "perceptron.gate": "ffn_gate",
    "perceptron.expand": "ffn_up",
    "perceptron.contract": "ffn_down",
}
EXPERT = re.compile(r"perceptron\.experts\.(\d+)\.(\w+)")
STACKED = re.compile(r"(blk\.\d+\.ffn_\w+)_exps\.weight")  # all experts of a block in one tensor
TURNED = re.compile(r"blk\.\d+\.attn_([qk])\.(weight|bias)")


def read(settings: Settings, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Blueprint:
    """The same blueprint as from the hub's folder. Raises UserError on other architectures and unknown settings."""
    name = settings["general.architecture"]
    if name not in ARCHITECTURES:
        raise UserError(
            f"{settings.where} has the architecture '{name}'; of GGUF files, only {', '.join(ARCHITECTURES)} are read."
        )
    own = {key.removeprefix(f"{name}."): value for key, value in settings.items() if key.startswith(f"{name}.")}
    said = Settings(own, where=f"{settings.where} ({name})")
    config: dict[str, Any] = {theirs: _number(said, ours) for theirs, ours in SETTINGS.items()}
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = _number(said, "attention.head_count_kv", unsaid=heads)
    config["head_dim"] = _number(said, "attention.key_length", unsaid=config["hidden_size"] // heads)
    _check_known(said, head_width=config["head_dim"])
    embedding = shapes.get("token_embd.weight")
    config["vocab_size"] = embedding[0] if embedding else _number(said, "vocab_size")
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config["rope_theta"] = _number(said, "rope.freq_base", unsaid=10_000.0)
    config["rope_scaling"] = _scaling(said, tensors, config)
    config |= {theirs: settings.get(f"tokenizer.ggml.{name}") for theirs, name in IDS.items()}
    return llama.read(config | _particular(name, said, tensors))


def _number(said: Settings, name: str, *, unsaid: float | None = None) -> Any:
    found = said[name] if unsaid is None else said.get(name, unsaid)
    if isinstance(found, bool) or not isinstance(found, int | float) or found <= 0:
        raise UserError(f"{said.where} says {name}={found}; expected one number above 0 for all blocks.")
    return found


def _check_known(said: Settings, *, head_width: int) -> None:
    """Refuse settings that our model does not have, unless they say what it does anyway."""
    expected: dict[str, Any] = dict.fromkeys(("rope.dimension_count", "attention.value_length"), head_width)
    expected |= {"attention.causal": True, "rope.scaling.attn_factor": 1.0, "expert_weights_scale": 1.0}
    for name, found in said.items():
        if name not in OTHERS and name not in SETTINGS.values() and expected.get(name) != found:
            raise UserError(f"{said.where} says {name}={found}, which our model does not have or has otherwise.")


def _particular(name: str, said: Settings, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings that only some have, and which of the hub's model types it is."""
    window, experts = said.get("attention.sliding_window"), said.get("expert_count", 0)
    if name != "llama":
        if window or experts:
            raise UserError(f"{said.where} says attention.sliding_window={window}, expert_count={experts}; expected 0.")
        return {"model_type": name, "attention_bias": name == "qwen2" or "blk.0.attn_q.bias" in tensors}
    if experts:
        used = said["expert_used_count"]
        return {"model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": used} | _window(window)
    if window:
        return {"model_type": "mistral"} | _window(window)
    biases = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_gate.bias"}
    return {"model_type": "llama"} | {theirs: bias in tensors for theirs, bias in biases.items()}


def _window(window: int | None) -> dict[str, int | None]:
    return {"sliding_window": window or None}


def _scaling(said: Settings, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = said.get("rope.scaling.type", "linear")  # what llama.cpp takes where a file does not say it
    if kind not in ("none", "linear"):
        raise UserError(f"{said.where} says rope.scaling.type={kind}; supported are none, linear and Llama 3's.")
    factor = _number(said, "rope.scaling.factor", unsaid=1.0) if kind == "linear" else 1.0
    if FREQUENCIES not in tensors:
        return {"rope_type": "linear", "factor": factor} if factor != 1 else None
    if factor != 1:
        raise UserError(
            f"{said.where} scales rotary positions twice: by rope.scaling.factor={factor:g} and by its tensor "
            f"{FREQUENCIES}. Supported is one of them."
        )
    found = tensors[FREQUENCIES]
    scaling = {"rope_type": "llama3", "factor": float(found.max()), **LLAMA_3}
    expected = _divisors(scaling, config["rope_theta"], config["head_dim"])
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-4):
        raise UserError(
            f"{said.where} holds {FREQUENCIES}, which is not that of Llama 3 (1 to {found.max():g}, for texts of "
            f"{LLAMA_3['original_max_position_embeddings']} tokens). Other scalings are not supported."
        )
    return scaling


def _divisors(scaling: Mapping[str, Any], base: float, head_width: int) -> Tensor:
    """By how much Llama 3 divides each frequency: see models/parts/rotary.py for the rule."""
    frequencies = base ** -(torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 / (kept + (1 - kept) / scaling["factor"])).float()


def names(blueprint: Blueprint) -> dict[str, str]:
    return {ours: _theirs(ours) for ours in llama.names(blueprint)}


def _theirs(ours: str) -> str:
    layer, kind = ours.rsplit(".", 1)
    if layer in ENDS:
        return f"{ENDS[layer]}.{kind}"
    _, place, part = layer.split(".", 2)
    expert = EXPERT.fullmatch(part)
    if expert:
        # Such a name stood in the first files of Mixtral; where all experts are one tensor, `tidied` cuts it up.
        return f"blk.{place}.{BLOCK[f'perceptron.{expert[2]}']}.{expert[1]}.{kind}"
    return f"blk.{place}.{BLOCK[part]}.{kind}"


def tidied(tensors: LazyTensors, blueprint: Blueprint) -> LazyTensors:
    """Rows of queries and keys in our order, each expert by itself, and no frequencies, which `read` has read."""
    is_turned = not blueprint.architecture.startswith("Qwen")
    heads = {"q": blueprint.options["heads"], "k": blueprint.options["key_heads"]}
    found: dict[str, Maker] = {}
    for name, made in tensors.makers.items():
        turned, stacked = TURNED.fullmatch(name), STACKED.fullmatch(name)
        if name == FREQUENCIES:
            continue
        if turned and is_turned:
            found[name] = partial(_turned_back, made, heads[turned[1]])
        elif stacked:
            experts = range(blueprint.options["experts"])
            found |= {f"{stacked[1]}.{number}.weight": partial(made, number) for number in experts}
        else:
            found[name] = made
    return LazyTensors(found)


def _turned_back(made: Maker, heads: int) -> Tensor:
    """Rows (head, pair, which of the pair) → (head, which of the pair, pair)."""
    tensor = made()
    if tensor.shape[0] % (2 * heads):
        return tensor  # which loading will refuse for its shape
    return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
