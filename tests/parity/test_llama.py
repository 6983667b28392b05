"""Llama, Mistral, Mixtral, Qwen2 and Qwen3 give the numbers that `transformers` gives, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fathom.models.parts.cache import Cache
from tests.parity.common import (
    assert_same,
    assert_same_gradients,
    brought_over,
    inside_of,
    token_ids,
    written_back,
)

transformers = pytest.importorskip("transformers")

VOCABULARY = 50
LENGTH = 14
TOKENS = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY)
LENGTHS = (14, 4, 9)
WINDOW = 4  # shorter than the text, so that it matters
LLAMA_3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}),
    "llama-3": ("Llama", {"rope_parameters": LLAMA_3 | {"original_max_position_embeddings": 24}}),
    "llama-linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0}}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "mistral-without-window": ("Mistral", {"sliding_window": None, "head_dim": 10}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": ("Qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 10, "tie_word_embeddings": True}),
    "qwen3-biases": ("Qwen3", {"head_dim": 8, "attention_bias": True}),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "mixtral-window": ("Mixtral", {"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": WINDOW}),
}


def theirs_of(variant: str, task: str = "ForCausalLM", **settings: Any) -> nn.Module:
    stem, own = VARIANTS[variant]
    small = {
        "vocab_size": VOCABULARY,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    }
    config = getattr(transformers, f"{stem}Config")(**small | own | settings)
    return getattr(transformers, f"{stem}{task}")(config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_answers_and_gradients_both_ways(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    outputs = theirs(TOKENS).logits
    assert_same(loaded.model(TOKENS), outputs)
    assert_same_gradients(loaded, theirs, loaded.model(TOKENS), outputs, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(TOKENS).logits, outputs)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["llama", "mistral", "mixtral", "qwen2", "qwen3"])
def test_same_states_of_the_bare_model(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant, "Model")
    loaded = brought_over(theirs, tmp_path)
    states = theirs(TOKENS).last_hidden_state
    assert_same(loaded.model(TOKENS), states)
    assert_same(written_back(loaded, type(theirs), tmp_path)(TOKENS).last_hidden_state, states)


@pytest.mark.parametrize(("variant", "padding"), [("llama", 47), ("mistral", 0), ("qwen2", 0), ("qwen3", 47)])
def test_same_classes_from_the_last_real_position(variant: str, padding: int, tmp_path: Path) -> None:
    theirs = theirs_of(variant, "ForSequenceClassification", num_labels=3, pad_token_id=padding)
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, LENGTH)
    tokens = TOKENS.masked_fill(padding == TOKENS, 5).masked_fill(~inside, padding)
    outputs = theirs(tokens, attention_mask=inside.long()).logits
    assert_same(loaded.model(tokens), outputs)
    assert_same_gradients(loaded, theirs, loaded.model(tokens), outputs, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(tokens, attention_mask=inside.long()).logits, outputs)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["llama", "mistral", "mixtral", "qwen2-window", "qwen3"])
@pytest.mark.parametrize("left", [False, True])
def test_same_answers_with_padding(variant: str, left: bool, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, LENGTH, left=left)
    outputs = theirs(TOKENS, attention_mask=inside.long()).logits
    assert_same(loaded.model(TOKENS, inside)[inside], outputs[inside])


@torch.no_grad()
@pytest.mark.parametrize("variant", ["llama", "llama-3", "mistral", "mixtral", "qwen2-window", "qwen3"])
def test_same_answers_step_by_step(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    cache, past = Cache(), None
    for part in TOKENS.split([6, 1, 1, 3, 3], dim=1):
        told = theirs(part, past_key_values=past, use_cache=True)
        past = told.past_key_values
        assert_same(loaded.model(part, cache=cache), told.logits)


def test_balance_of_one_mixture_is_theirs(tmp_path: Path) -> None:
    theirs = theirs_of("mixtral", num_hidden_layers=1, router_aux_loss_coef=0.5)
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, LENGTH)
    told = theirs(TOKENS, attention_mask=inside.long(), output_router_logits=True)
    loaded.model.train()(TOKENS, inside)
    assert_same(loaded.model.blocks[0].perceptron.auxiliary_loss(), 0.5 * told.aux_loss)


@torch.no_grad()
def test_far_positions_are_turned_alike(tmp_path: Path) -> None:
    """Angles grow with the position, and with them what rounding makes of them."""
    theirs = theirs_of("llama-3", max_position_embeddings=4096)
    loaded = brought_over(theirs, tmp_path)
    tokens = token_ids(rows=1, length=2000, vocabulary=VOCABULARY)
    assert_same(loaded.model(tokens)[:, -20:], theirs(tokens).logits[:, -20:])
