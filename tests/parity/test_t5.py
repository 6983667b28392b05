"""T5 gives the numbers of `transformers` with the same weights, in both directions, whole and token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom.models.parts.cache import Cache
from fathom.models.parts.t5_stack import bucket
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
LENGTHS = (11, 4, 1)  # of the sources, in 11 positions
SMALL = {
    "vocab_size": VOCABULARY,
    "d_model": 24,
    "d_kv": 5,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
    "decoder_start_token_id": 0,
}
V1_1 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CASES = [{}, V1_1, {"feed_forward_proj": "gated-silu", "layer_norm_epsilon": 1e-2, "num_decoder_layers": None}]


def small(settings: dict[str, Any]) -> nn.Module:
    """A model that writes. Theirs ties the head always; only files with two matrices tell them apart."""
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**SMALL | settings))
    if not settings.get("tie_word_embeddings", True):
        theirs.lm_head.weight = nn.Parameter(torch.empty(VOCABULARY, SMALL["d_model"]))
    return theirs


def texts(*, left: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    inputs = {"source": token_ids(rows=3, length=11, vocabulary=VOCABULARY)}
    inputs["target"] = token_ids(rows=3, length=7, vocabulary=VOCABULARY, seed=1)
    inputs["target"][:, 0] = 0
    return inputs, inside_of(LENGTHS, 11, left=left)


def theirs_of(model: nn.Module, inputs: dict[str, Tensor], inside: Tensor) -> Tensor:
    given = {"input_ids": inputs["source"], "decoder_input_ids": inputs["target"], "attention_mask": inside.long()}
    return model(**given).logits


@pytest.mark.parametrize("settings", CASES)
def test_same_answers_and_gradients_there_and_back(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = small(settings)
    loaded = brought_over(theirs, tmp_path)
    inputs, inside = texts()
    wanted = theirs_of(theirs, inputs, inside)
    assert_same(loaded.model(inputs, inside), wanted)
    back = written_back(loaded, type(theirs), tmp_path)
    assert_same(theirs_of(back, inputs, inside), wanted)
    assert back.config.decoder_start_token_id == 0
    assert_same_gradients(loaded, theirs, loaded.model(inputs, inside), theirs_of(theirs, inputs, inside), tmp_path)


def test_the_head_is_a_matrix_of_its_own_only_where_it_was(tmp_path: Path) -> None:
    tied, own = brought_over(small({}), tmp_path), brought_over(small(V1_1), tmp_path)
    assert "head.weight" not in tied.model.state_dict()
    assert not torch.equal(own.model.head.weight, own.model.embed.weight)


def test_a_head_that_is_the_embedding_without_its_scale(tmp_path: Path) -> None:
    """As theirs makes it afresh from the settings of v1.1."""
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**SMALL | V1_1))
    assert theirs.lm_head.weight is theirs.shared.weight
    loaded = brought_over(theirs, tmp_path)
    inputs, inside = texts()
    wanted = theirs_of(theirs, inputs, inside)
    assert_same(loaded.model(inputs, inside), wanted)
    assert_same(theirs_of(written_back(loaded, type(theirs), tmp_path), inputs, inside), wanted)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("settings", [{}, V1_1])
def test_source_padded_on_either_side(settings: dict[str, Any], left: bool, tmp_path: Path) -> None:
    theirs = small(settings)
    loaded = brought_over(theirs, tmp_path)
    inputs, inside = texts(left=left)
    with torch.no_grad():
        ours = loaded.model(inputs, inside)
        assert_same(ours, theirs_of(theirs, inputs, inside))
        # Alone, without padding, each row gets the same.
        for row, real in enumerate(inside):
            alone = {"source": inputs["source"][row, real][None], "target": inputs["target"][row][None]}
            assert_same(loaded.model(alone)[0], ours[row])


@pytest.mark.parametrize("padding", [0, 3])
def test_ids_of_padding_alone_tell_the_mask(padding: int, tmp_path: Path) -> None:
    theirs = small({"pad_token_id": padding})
    loaded = brought_over(theirs, tmp_path)
    inputs, inside = texts()
    source = inputs["source"].masked_fill(inside & (inputs["source"] == padding), 7).masked_fill(~inside, padding)
    with torch.no_grad():
        assert_same(loaded.model({**inputs, "source": source}), theirs_of(theirs, {**inputs, "source": source}, inside))


@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1, 1, 1), (3, 1, 2, 1)])
def test_written_token_by_token_as_theirs_in_one(pieces: tuple[int, ...], tmp_path: Path) -> None:
    theirs = small({})
    loaded = brought_over(theirs, tmp_path)
    inputs, inside = texts()
    cache = Cache()
    with torch.no_grad():
        found = [
            loaded.model({**inputs, "target": piece}, inside, cache) for piece in inputs["target"].split(pieces, dim=1)
        ]
        assert_same(torch.cat(found, dim=1), theirs_of(theirs, inputs, inside))


def test_encoder_alone(tmp_path: Path) -> None:
    theirs = transformers.T5EncoderModel(transformers.T5Config(**SMALL))
    loaded = brought_over(theirs, tmp_path)
    inputs, inside = texts()
    tokens = inputs["source"]
    wanted = theirs(tokens, attention_mask=inside.long()).last_hidden_state
    assert_same(loaded.model.hidden(tokens, inside), wanted)
    back = written_back(loaded, type(theirs), tmp_path)
    assert_same(back(tokens, attention_mask=inside.long()).last_hidden_state, wanted)
    assert_same_gradients(loaded, theirs, loaded.model.hidden(tokens, inside), wanted, tmp_path)
    with torch.no_grad():
        rows = [states[real].mean(dim=0) for states, real in zip(wanted, inside, strict=True)]
        assert_same(loaded.model(tokens, inside), torch.stack(rows))


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 10), (4, 20), (64, 1000)])
def test_distances_fall_into_the_same_buckets(both_ways: bool, buckets: int, distance: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    ahead = torch.arange(-1500, 1500)
    wanted = T5Attention._relative_position_bucket(ahead, both_ways, buckets, distance)
    assert torch.equal(bucket(ahead, both_ways, buckets, distance), wanted)
