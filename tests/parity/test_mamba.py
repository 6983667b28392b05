"""Mamba and Mamba-2 give the numbers that `transformers` gives, both ways, with padding and token by token.

What a reader would get wrong: at padded positions nothing is compared. There the two libraries compute different
numbers that nobody reads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fathom.errors import UserError
from fathom.models.parts.cache import Cache
from fathom.network import build
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.weights import mamba2
from fathom.weights.parts.blueprint import Blueprint
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
LENGTH = 21  # longer than one segment of the scan
TOKENS = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY)
LENGTHS = (21, 4, 9)
HEADS = {"num_heads": 6, "head_dim": 8, "n_groups": 2}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("Mamba", {}),
    "mamba-untied": ("Mamba", {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-3, "time_step_rank": 3}),
    "mamba-biases": ("Mamba", {"use_bias": True, "use_conv_bias": False, "conv_kernel": 3, "expand": 3}),
    "mamba2": ("Mamba2", HEADS),
    "mamba2-tied": ("Mamba2", HEADS | {"tie_word_embeddings": True, "n_groups": 1, "layer_norm_epsilon": 1e-3}),
    "mamba2-biases": (
        "Mamba2",
        {"use_bias": True, "use_conv_bias": False, "conv_kernel": 3, "expand": 1, "num_heads": 3},
    ),
    "mamba2-chunks": ("Mamba2", HEADS | {"chunk_size": 8, "n_groups": 6}),
}


def theirs_of(variant: str, task: str = "ForCausalLM") -> nn.Module:
    stem, own = VARIANTS[variant]
    small = {"vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "state_size": 4}
    small |= {"head_dim": 8, "n_groups": 1} if stem == "Mamba2" else {}
    config = getattr(transformers, f"{stem}Config")(**small | own)
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
@pytest.mark.parametrize("variant", ["mamba", "mamba2"])
def test_same_states_of_the_bare_model(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant, "Model")
    loaded = brought_over(theirs, tmp_path)
    states = theirs(TOKENS).last_hidden_state
    assert_same(loaded.model(TOKENS), states)
    assert_same(written_back(loaded, type(theirs), tmp_path)(TOKENS).last_hidden_state, states)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["mamba", "mamba-untied", "mamba2", "mamba2-chunks"])
@pytest.mark.parametrize("left", [False, True])
def test_same_answers_with_padding(variant: str, left: bool, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, LENGTH, left=left)
    outputs = theirs(TOKENS, attention_mask=inside.long()).logits
    assert_same(loaded.model(TOKENS, inside)[inside], outputs[inside])


@torch.no_grad()
@pytest.mark.parametrize("variant", ["mamba", "mamba-biases", "mamba2", "mamba2-biases"])
def test_same_answers_step_by_step(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    cache, past = Cache(), None
    for part in TOKENS.split([16, 1, 1, 1, 1, 1], dim=1):
        told = theirs(part, cache_params=past, use_cache=True)
        past = told.cache_params
        assert_same(loaded.model(part, cache=cache), told.logits)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["mamba", "mamba2"])
def test_same_answers_step_by_step_after_padding_on_the_left(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant)
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of((16, 4, 9), 16, left=True)
    cache, past = Cache(), None
    for part in TOKENS.split([16, 1, 1, 1, 1, 1], dim=1):
        mask = inside if past is None else None
        told = theirs(part, cache_params=past, use_cache=True, attention_mask=None if mask is None else mask.long())
        past, real = told.cache_params, torch.ones_like(part, dtype=torch.bool) if mask is None else mask
        assert_same(loaded.model(part, mask, cache=cache)[real], told.logits[real])


@pytest.mark.parametrize(("kind", "high"), [("plain", float("inf")), ("named", {"__float__": "Infinity"})])
def test_infinity_is_read_in_both_spellings(kind: str, high: Any) -> None:
    config = mamba2.write(mamba2.EXAMPLES[0]) | {"time_step_limit": [0.0, high]}
    assert mamba2.read(config).options == mamba2.EXAMPLES[0].options


@pytest.mark.parametrize(
    ("family", "setting", "value"),
    [
        ("mamba", "hidden_act", "relu"),
        ("mamba", "intermediate_size", 50),
        ("mamba2", "num_heads", 5),
        ("mamba2", "time_step_limit", [0.0, 0.1]),
        ("mamba2", "time_step_limit", [0.01, float("inf")]),
    ],
)
def test_settings_that_would_change_the_answers_are_refused(
    family: str, setting: str, value: Any, tmp_path: Path
) -> None:
    theirs = theirs_of(family)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    with pytest.raises(UserError, match=setting):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_a_classifier_is_not_written_as_something_else(name: str, tmp_path: Path) -> None:
    inputs = {"text": {"form": "tokens", "vocabulary": 50, "length": 16}}
    blueprint = Blueprint(name, inputs, 3, {"depth": 1, "width": 32})
    model = build(name, inputs, 3, blueprint.options)
    with pytest.raises(UserError, match="no classifier"):
        save_pretrained(model, blueprint, tmp_path / "there")
