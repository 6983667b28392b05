"""Jamba gives the numbers that `transformers` gives, both ways, with padding and token by token.

What a reader would get wrong: which expert reads a position is a choice, so rounding can change an answer by much.
Random weights make near ties unlikely; they do not rule them out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fathom.models.parts.cache import Cache
from fathom.weights import jamba
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
LENGTH = 19  # longer than one segment of the scan
TOKENS = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY)
LENGTHS = (19, 4, 9)
VARIANTS: dict[str, dict[str, Any]] = {
    "jamba": {},
    "published-places": {"num_hidden_layers": 6, "attn_layer_period": 8, "attn_layer_offset": 4},
    "one-expert-each": {
        "num_experts": 4,
        "num_experts_per_tok": 1,
        "expert_layer_offset": 0,
        "tie_word_embeddings": True,
    },
    "no-experts": {"num_experts": 1, "rms_norm_eps": 1e-3, "num_key_value_heads": 4},
    "biases": {"mamba_proj_bias": True, "mamba_conv_bias": False, "mamba_d_conv": 3, "mamba_expand": 1},
}


def theirs_of(variant: str, task: str = "ForCausalLM", **settings: Any) -> nn.Module:
    small = {
        "vocab_size": VOCABULARY,
        "hidden_size": 24,
        "intermediate_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "num_experts": 3,
        "mamba_d_state": 4,
        "max_position_embeddings": 64,
    }
    config = transformers.JambaConfig(**small | VARIANTS[variant] | settings)
    return getattr(transformers, f"Jamba{task}")(config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_answers_and_gradients_both_ways(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    outputs = theirs(TOKENS).logits
    assert_same(loaded.model(TOKENS), outputs)
    assert_same_gradients(loaded, theirs, loaded.model(TOKENS), outputs, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(TOKENS).logits, outputs)


@torch.no_grad()
def test_same_states_of_the_bare_model(tmp_path: Path) -> None:
    theirs = theirs_of("jamba", "Model")
    loaded = brought_over(theirs, tmp_path)
    states = theirs(TOKENS).last_hidden_state
    assert_same(loaded.model(TOKENS), states)
    assert_same(written_back(loaded, type(theirs), tmp_path)(TOKENS).last_hidden_state, states)


@pytest.mark.parametrize("padding", [0, 47])
def test_same_classes_from_the_last_real_position(padding: int, tmp_path: Path) -> None:
    theirs = theirs_of("jamba", "ForSequenceClassification", num_labels=3, pad_token_id=padding)
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, LENGTH)
    tokens = TOKENS.masked_fill(padding == TOKENS, 5).masked_fill(~inside, padding)
    outputs = theirs(tokens, attention_mask=inside.long()).logits
    assert_same(loaded.model(tokens), outputs)
    assert_same_gradients(loaded, theirs, loaded.model(tokens), outputs, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(tokens, attention_mask=inside.long()).logits, outputs)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["jamba", "one-expert-each"])
@pytest.mark.parametrize("left", [False, True])
def test_same_answers_with_padding(variant: str, left: bool, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, LENGTH, left=left)
    outputs = theirs(TOKENS, attention_mask=inside.long()).logits
    assert_same(loaded.model(TOKENS, inside)[inside], outputs[inside])


@torch.no_grad()
@pytest.mark.parametrize("variant", ["jamba", "biases"])
def test_same_answers_step_by_step(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    cache, past = Cache(), None
    for part in TOKENS.split([14, 1, 1, 1, 1, 1], dim=1):
        told = theirs(part, past_key_values=past, use_cache=True)
        past = told.past_key_values
        assert_same(loaded.model(part, cache=cache), told.logits)


@torch.no_grad()
def test_same_answers_step_by_step_after_padding_on_the_left(tmp_path: Path) -> None:
    theirs = theirs_of("jamba")
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of((19, 9, 14), LENGTH, left=True)
    cache, past, read = Cache(), None, 0
    for part in TOKENS.split([14, 1, 1, 1, 1, 1], dim=1):
        mask, read = inside[:, read : read + part.shape[1]], read + part.shape[1]
        told = theirs(part, past_key_values=past, use_cache=True, attention_mask=inside[:, :read].long())
        past = told.past_key_values
        assert_same(loaded.model(part, mask, cache=cache)[mask], told.logits[mask])


def test_balance_of_one_mixture_is_theirs(tmp_path: Path) -> None:
    theirs = theirs_of("jamba", router_aux_loss_coef=0.5)  # of its three layers one has experts
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, LENGTH)
    told = theirs(TOKENS, attention_mask=inside.long(), output_router_logits=True)
    loaded.model.train()(TOKENS, inside)
    losses = [part.auxiliary_loss() for part in loaded.model.modules() if hasattr(part, "auxiliary_loss")]
    assert_same(torch.stack(losses), 0.5 * told.aux_loss[None])


def test_published_configuration_is_understood() -> None:
    """As Jamba-v0.1 has it, with what its config.json leaves out or says of computing only."""
    config = {
        "architectures": ["JambaForCausalLM"],
        "model_type": "jamba",
        "vocab_size": 65536,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "mamba_inner_layernorms": True,
        "use_mamba_kernels": True,
        "hidden_act": "silu",
    }
    options = jamba.read(config).options
    assert (options["experts"], options["attention_period"], options["step_rank"]) == (16, 8, 256)
