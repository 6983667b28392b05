"""BERT: its published sizes, how its weights start, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fathom.errors import UserError
from fathom.models import bert
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.weights.parts.blueprint import Blueprint

PUBLISHED = {"form": "tokens", "vocabulary": 30522, "length": 512}
TOKENS = {"text": {"form": "tokens", "vocabulary": 50, "length": 8}}
STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": 8}}


def build(inputs: dict[str, dict[str, Any]] = TOKENS, outputs: int = 3, **options: Any) -> bert.Bert:
    torch.manual_seed(0)
    return bert.build(inputs, outputs, **options).eval()


@pytest.mark.parametrize(
    ("size", "width", "count"),
    [
        ("base", 768, 109_482_240),
        ("large", 1024, 335_141_888),
        ("distilbert", 768, 66_362_880),
        ("minilm-l6", 384, 22_713_216),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size: str, width: int, count: int) -> None:
    with torch.device("meta"):
        model = bert.build({"text": PUBLISHED}, width, size=size, head=False)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_published_width_typed_again_keeps_the_published_heads() -> None:
    with torch.device("meta"):
        for width, heads in ((None, 12), (768, 12), (384, 12)):
            model = bert.build({"text": PUBLISHED}, 2, size="base", width=width)
            assert model.blocks[0].attention.heads == heads


def test_heads_have_the_published_number_of_parameters() -> None:
    stream = {"text": PUBLISHED | {"form": "stream"}}
    with torch.device("meta"):
        language_model = bert.build(stream, 30522, size="base")
        classifier = bert.build({"text": PUBLISHED}, 2, size="base")
    assert sum(parameter.numel() for parameter in language_model.parameters()) == 109_514_298
    assert sum(parameter.numel() for parameter in classifier.parameters()) == 109_483_778


def test_weights_start_as_published() -> None:
    model = build(outputs=3, width=128, depth=1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            assert parameter.abs().max() <= 0.04, name
        elif "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight")))), name
        else:
            assert not parameter.any(), name
    # Cut at two deviations, 0.02 become 0.88 times as much.
    assert model.blocks[0].perceptron.expand.weight.std().item() == pytest.approx(0.0176, rel=0.02)


def test_without_a_head_the_answers_are_what_the_head_would_see() -> None:
    tokens = torch.tensor([[5, 7, 9, 0, 0], [5, 6, 7, 8, 9]])
    of_rows = build(outputs=64, head=False)
    torch.testing.assert_close(of_rows(tokens), of_rows.pooler(of_rows.hidden(tokens)[:, 0]))
    of_positions = build(STREAM, 64, head=False)
    torch.testing.assert_close(of_positions(tokens), of_positions.hidden(tokens))


def test_segments_are_told_apart_and_count_as_the_first_when_not_given() -> None:
    model, tokens = build(), torch.tensor([[5, 7, 9, 11]])
    torch.testing.assert_close(model(tokens), model(tokens, segments=torch.zeros_like(tokens)))
    assert not torch.allclose(model(tokens), model(tokens, segments=torch.tensor([[0, 0, 1, 1]])))
    with pytest.raises(UserError, match=r"model\.segments=2"):
        build(segments=0)(tokens, segments=torch.zeros_like(tokens))


def test_both_sides_are_read() -> None:
    """No position is blind to what follows it, and the first token's place matters."""
    model = build(STREAM, 64, head=False)
    before, after = model(torch.tensor([[5, 7, 9, 11]])), model(torch.tensor([[5, 7, 9, 12]]))
    assert not torch.allclose(before[0, 0], after[0, 0])
    assert not torch.allclose(before[0, 0], model(torch.tensor([[7, 5, 9, 11]]))[0, 1])


def test_a_text_beyond_the_last_position_is_refused_and_padding_is_not() -> None:
    model, tokens = build(), torch.ones(1, 9, dtype=torch.long)
    with pytest.raises(UserError, match="8 tokens at most; found 9"):
        model(tokens)
    with pytest.raises(UserError, match="8 tokens at most"):
        build(STREAM)(tokens)
    tokens[0, 8] = 0
    torch.testing.assert_close(model(tokens), model(tokens[:, :8]))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "distlbert"}, "Did you mean 'distilbert'"),
        ({"heads": 5}, r"Type model\.heads=4"),
        ({"segments": -1}, r"model\.segments=2"),
        ({"pooler": "tan"}, "Did you mean 'tanh'"),
        ({"activation": "gleu"}, "Did you mean 'gelu'"),
        ({"depth": 0}, r"model\.depth=0"),
        ({"norm_eps": -1.0}, r"model\.norm_eps=-1\.0"),
        ({"dropout": 1.0}, r"model\.dropout=1\.0"),
        ({"drop_head": -0.1}, r"model\.drop_head=-0\.1"),
        ({"head": False}, r"model\.head=false answers with 64 numbers"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        build(**options)


NAMED = {"depth": 1, "width": 16, "heads": 2, "hidden": 20}


def test_a_model_of_ones_own_can_be_written_and_read(tmp_path: Any) -> None:
    """No class is named: it follows from the model, and so do all settings that were left out."""
    for number, (inputs, options) in enumerate(
        [(TOKENS, {}), (STREAM, {}), (STREAM, {"segments": 0}), (TOKENS, {"segments": 0, "pooler": "relu"})]
    ):
        blueprint = Blueprint("bert", inputs, 3, NAMED | options)
        model = build(inputs, 3, **blueprint.options)
        again = from_pretrained(save_pretrained(model, blueprint, tmp_path / str(number))).model
        tokens = torch.tensor([[5, 7, 9, 11]])
        torch.testing.assert_close(again(tokens), model(tokens), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pooler": "relu"}, "BertForSequenceClassification has the tanh"),
        ({"pooler": "tanh", "segments": 0}, "DistilBertForSequenceClassification has relu"),
        ({"norm_eps": 1e-5, "segments": 0, "pooler": "relu"}, "DistilBERT's layout knows 1e-12 only"),
    ],
)
def test_what_the_other_library_lacks_is_not_written(options: dict[str, Any], told: str, tmp_path: Any) -> None:
    blueprint = Blueprint("bert", TOKENS, 3, NAMED | options)
    with pytest.raises(UserError, match=told):
        save_pretrained(build(**blueprint.options), blueprint, tmp_path / "there")
