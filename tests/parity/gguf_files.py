"""Shared by the tests of GGUF files: a model of `transformers`, written as llama.cpp's converter writes it.

What a reader would get wrong: the converter moves rows of queries and keys for the architecture "llama", and for that
one only, so that channels i and i + D/2 of a head become neighbours.

    path = written(theirs, tmp_path / "model.gguf", architecture="llama")
    path = written(theirs, tmp_path / "model.gguf", architecture="qwen2", kind=gguf.GGMLQuantizationType.Q8_0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from torch import nn

Kind = gguf.GGMLQuantizationType

ENDS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}


def written(
    theirs: Any,
    path: Path,
    *,
    architecture: str,
    kind: Kind = Kind.F32,
    more: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    without: tuple[str, ...] = (),
    besides: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """The file at `path`. Matrices are of that kind, vectors float32, as the converter has them.

    `more` may add settings; `without` leaves out tensors and settings by their names, `besides` adds tensors.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in settings_of(theirs.config).items():
        if name not in without:
            getattr(writer, f"add_{name}")(value)
    more(writer)
    for name, values in {**tensors_of(theirs, architecture), **(besides or {})}.items():
        if name not in without:
            as_stored = kind if values.ndim > 1 else Kind.F32
            writer.add_tensor(name, stored(values, as_stored), raw_dtype=as_stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def settings_of(config: Any) -> dict[str, Any]:
    """By the names of the writer's methods, add_block_count and so on."""
    return {
        "vocab_size": config.vocab_size,
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "head_count": config.num_attention_heads,
        "head_count_kv": config.num_key_value_heads,
        "key_length": head_width(config),
        "value_length": head_width(config),
        "rope_dimension_count": head_width(config),
        "rope_freq_base": config.rope_parameters["rope_theta"],
        "layer_norm_rms_eps": config.rms_norm_eps,
    }


def head_width(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def tensors_of(theirs: nn.Module, architecture: str) -> dict[str, np.ndarray]:
    """Their tensors under the converter's names, rows moved where it moves them, experts in one tensor."""
    config: Any = theirs.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    found = {}
    for name, tensor in theirs.state_dict().items():
        values = tensor.float().numpy()
        if name in ENDS:
            if name != "lm_head.weight" or not config.tie_word_embeddings:
                found[ENDS[name]] = values
            continue
        _, _, place, rest = name.split(".", 3)
        if rest == "mlp.experts.gate_up_proj":
            gate, up = np.split(values, 2, axis=1)
            found |= {f"blk.{place}.ffn_gate_exps.weight": gate, f"blk.{place}.ffn_up_exps.weight": up}
        elif rest == "mlp.experts.down_proj":
            found[f"blk.{place}.ffn_down_exps.weight"] = values
        else:
            layer, end = rest.rsplit(".", 1)
            own = LAYER[layer]
            moved = architecture == "llama" and own in heads
            found[f"blk.{place}.{own}.{end}"] = as_neighbours(values, heads[own]) if moved else values
    return found


def as_neighbours(values: np.ndarray, heads: int) -> np.ndarray:
    """Row i of a head to place 2i, row i + D/2 to place 2i + 1."""
    found = np.empty_like(values)
    width = len(values) // heads
    for head in range(heads):
        mine = values[head * width : (head + 1) * width]
        found[head * width : (head + 1) * width : 2] = mine[: width // 2]
        found[head * width + 1 : (head + 1) * width : 2] = mine[width // 2 :]
    return found


# Where the kinds that cannot be quantized here keep their 16-bit scales, in bytes of a block of 256 weights.
SCALES = {Kind.Q2_K: (80, 82), Kind.Q3_K: (108,), Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2), Kind.Q6_K: (208,)}


def stored(values: np.ndarray, kind: Kind) -> np.ndarray:
    """The values quantized, or, for those kinds, blocks of random bytes with small scales instead of the values."""
    if kind not in SCALES:
        return gguf.quantize(np.ascontiguousarray(values, np.float32), kind)
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(values.size)
    blocks = random.integers(0, 256, (values.size // weights, size), dtype=np.uint8)
    for place in SCALES[kind]:
        scales = random.uniform(1e-4, 1e-3, len(blocks)).astype(np.float16)
        blocks[:, place : place + 2] = scales[:, None].view(np.uint8)
    return blocks.reshape(*values.shape[:-1], -1)
