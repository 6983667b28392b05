"""GPT-2 gives the numbers that `transformers` gives, both ways, with padding and with a cache."""

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
TOKENS = token_ids(rows=3, length=11, vocabulary=VOCABULARY)
LENGTHS = (11, 4, 7)
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "own hidden width": {"n_inner": 20, "activation_function": "relu", "layer_norm_epsilon": 1e-3},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "untied": {"tie_word_embeddings": False},
}


def theirs_of(kind: str = "GPT2LMHeadModel", **settings: Any) -> nn.Module:
    config = transformers.GPT2Config(
        **{"vocab_size": VOCABULARY, "n_positions": 16, "n_embd": 24, "n_layer": 3, "n_head": 3} | settings,
        bos_token_id=1,
        eos_token_id=2,
    )
    return getattr(transformers, kind)(config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_answers_and_gradients_both_ways(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(**VARIANTS[variant])
    loaded = brought_over(theirs, tmp_path)
    outputs = theirs(TOKENS).logits
    assert_same(loaded.model(TOKENS), outputs)
    assert_same_gradients(loaded, theirs, loaded.model(TOKENS), theirs(TOKENS).logits, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(TOKENS).logits, outputs)


@torch.no_grad()
def test_same_states_of_the_bare_model(tmp_path: Path) -> None:
    theirs = theirs_of("GPT2Model")
    loaded = brought_over(theirs, tmp_path)
    states = theirs(TOKENS).last_hidden_state
    assert_same(loaded.model(TOKENS), states)
    assert_same(loaded.model.hidden(TOKENS), states)
    assert_same(written_back(loaded, type(theirs), tmp_path)(TOKENS).last_hidden_state, states)


@pytest.mark.parametrize("padding", [0, 47])
def test_same_classes_from_the_last_real_position(padding: int, tmp_path: Path) -> None:
    theirs = theirs_of("GPT2ForSequenceClassification", num_labels=3, pad_token_id=padding)
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, 11)
    tokens = TOKENS.masked_fill(padding == TOKENS, 5).masked_fill(~inside, padding)
    outputs = theirs(tokens, attention_mask=inside.long()).logits
    assert_same(loaded.model(tokens), outputs)
    assert_same(loaded.model(tokens, inside), outputs)
    assert_same_gradients(loaded, theirs, loaded.model(tokens), outputs, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(tokens, attention_mask=inside.long()).logits, outputs)


@torch.no_grad()
@pytest.mark.parametrize("left", [False, True])
def test_same_answers_with_padding(left: bool, tmp_path: Path) -> None:
    theirs = theirs_of()
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, 11, left=left)
    # Their forward pass counts padding on the left as positions unless it is told otherwise; their `generate` does so.
    places = (inside.cumsum(dim=1) - 1).clamp(min=0)
    outputs = theirs(TOKENS, attention_mask=inside.long(), position_ids=places).logits
    assert_same(loaded.model(TOKENS, inside)[inside], outputs[inside])


@torch.no_grad()
def test_same_answers_step_by_step(tmp_path: Path) -> None:
    theirs = theirs_of()
    loaded = brought_over(theirs, tmp_path)
    cache, past = Cache(), None
    for part in TOKENS.split([5, 1, 1, 4], dim=1):
        told = theirs(part, past_key_values=past, use_cache=True)
        past = told.past_key_values
        assert_same(loaded.model(part, cache=cache), told.logits)
