"""T5: its published sizes, what its decoder sees, what a cache keeps, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fathom.errors import UserError
from fathom.models import t5
from fathom.models.parts.cache import Cache
from fathom.optimizer import adamw
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.weights.parts.blueprint import Blueprint

VOCABULARY = 40


def described(vocabulary: int = VOCABULARY) -> dict[str, dict[str, Any]]:
    text = {"vocabulary": vocabulary, "length": 16}
    return {"english": {"form": "tokens", **text}, "german": {"form": "stream", **text}}


def build(outputs: int = VOCABULARY, **options: Any) -> t5.T5:
    torch.manual_seed(0)
    model = t5.build(described(), outputs, **options)
    assert isinstance(model, t5.T5)
    return model.eval()


def texts(rows: int = 3) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    source = torch.randint(1, VOCABULARY, (rows, 9), generator=random)
    source[1, 5:] = 0
    source[2] = 0  # a missing text
    return {"english": source, "german": torch.randint(1, VOCABULARY, (rows, 6), generator=random)}


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("t5-small", 60_506_624),
        ("t5-base", 222_903_552),
        ("t5-large", 737_668_096),
        ("t5-3b", 2_851_598_336),
        ("t5-11b", 11_307_321_344),
        ("v1_1-small", 76_961_152),
        ("v1_1-base", 247_577_856),
        ("v1_1-large", 783_150_080),
        ("v1_1-xl", 2_849_757_184),
        ("v1_1-xxl", 11_135_332_352),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size: str, count: int) -> None:
    with torch.device("meta"):
        model = t5.build(described(32128), 32128, size=size)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_weights_start_as_published() -> None:
    model = build(width=64, heads=2, head_width=16, hidden=256, tied=False)
    block = model.decoder.blocks[0]
    for weight, wanted in [
        (model.embed.weight, 1.0),
        (model.head.weight, 64**-0.5),
        (block.cross.query.weight, (64 * 16) ** -0.5),
        (block.cross.key.weight, 64**-0.5),
        (block.attention.value.weight, 64**-0.5),
        (block.attention.project_out.weight, 32**-0.5),
        (block.perceptron.gate.weight, 64**-0.5),
        (block.perceptron.contract.weight, 256**-0.5),
    ]:
        assert weight.std().item() == pytest.approx(wanted, rel=0.05)
    assert model.encoder.bias.weights.weight.std().item() == pytest.approx(64**-0.5, rel=0.4)


def test_first_answers_have_the_same_size_with_a_tied_head_and_without() -> None:
    tied, own = (build(tied=tied)(texts()).std().item() for tied in (True, False))
    assert tied == pytest.approx(1.0, rel=0.3)
    assert own == pytest.approx(1.0, rel=0.3)


def test_a_head_is_tied_only_where_the_outputs_are_the_vocabulary() -> None:
    assert build().head is None
    assert build(tied=False).head is not None
    assert build(outputs=3).head is not None


def test_no_position_sees_what_comes_after_it() -> None:
    model, inputs = build(), texts()
    other = {**inputs, "german": inputs["german"].clone()}
    other["german"][:, 3:] = 1
    with torch.no_grad():
        before, after = model(inputs), model(other)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])


def test_each_position_sees_the_whole_source() -> None:
    model, inputs = build(), texts()
    other = {**inputs, "english": inputs["english"].clone()}
    other["english"][0, 8] = 1
    with torch.no_grad():
        changed = (model(other) - model(inputs)).abs().amax(dim=-1)
    assert (changed[0] > 1e-4).all()
    assert not changed[1:].any()


def test_a_cache_encodes_the_source_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = build(), texts()
    cache = Cache()
    with torch.no_grad():
        model({**inputs, "german": inputs["german"][:, :1]}, cache=cache)
        kept = dict(cache.keys)
        monkeypatch.setattr(model, "encode", lambda *_: pytest.fail("the source was encoded again"))
        model({**inputs, "german": inputs["german"][:, 1:2]}, cache=cache)
    same = [place for place in kept if cache.keys[place] is kept[place]]
    assert same == [-1, -2], "keys of the source stay what they are; those of the target grow"


def test_gradients_are_finite_where_sources_are_padded() -> None:
    model = build(dropout=0.1).train()
    model(texts()).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_half_precision_agrees_roughly() -> None:
    model, inputs = build(), texts()
    with torch.no_grad():
        whole = model(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(inputs)
        rounded = model.bfloat16()(inputs)
    assert mixed.dtype == rounded.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), whole, rtol=0, atol=0.15)
    torch.testing.assert_close(rounded.float(), whole, rtol=0, atol=0.15)


def test_two_vocabularies_need_two_embeddings() -> None:
    inputs = described()
    inputs["english"]["vocabulary"] = 70
    with pytest.raises(UserError, match=r"70 and 40 tokens. Type model\.shared=false"):
        t5.build(inputs, VOCABULARY)
    model = t5.build(inputs, VOCABULARY, shared=False)
    found = model({"english": torch.tensor([[69, 3]]), "german": torch.tensor([[39]])})
    assert found.shape == (1, 1, VOCABULARY)


@pytest.mark.parametrize("names", [["english"], ["english", "german"]])
def test_vectors_of_tokens_have_a_rate_of_their_size(names: list[str]) -> None:
    model = t5.build({name: described()[name] for name in names}, VOCABULARY, width=16)
    rates = {id(p): group["lr"] for group in adamw(model, 1e-3, 0.0).param_groups for p in group["params"]}
    assert rates[id(model.embed.weight)] == pytest.approx(4e-3)


def test_an_encoder_alone_averages_over_what_is_real() -> None:
    torch.manual_seed(0)
    encoder = t5.build({"english": described()["english"]}, 64, head=False).eval()
    tokens = texts()["english"]
    with torch.no_grad():
        torch.testing.assert_close(encoder(tokens)[1], encoder.hidden(tokens)[1, :5].mean(dim=0))
        everything = torch.ones_like(tokens, dtype=torch.bool)
        torch.testing.assert_close(encoder(tokens, everything)[1], encoder.hidden(tokens, everything)[1].mean(dim=0))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "t5-smal"}, "Did you mean 't5-small'"),
        ({"depth": 0}, r"model\.depth=0"),
        ({"norm_eps": -1.0}, r"model\.norm_eps=-1\.0"),
        ({"decoder_depth": 0}, r"model\.decoder_depth=0"),
        ({"heads": 0}, r"model\.heads=0"),
        ({"activation": "gleu"}, "Did you mean 'gelu'"),
        ({"buckets": 7}, r"model\.buckets=32"),
        ({"distance": 16}, r"model\.distance=128"),
        ({"dropout": 1.0}, r"model\.dropout=1\.0"),
        ({"head": False}, r"model\.head=false answers with 64 numbers"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        build(**options)


NAMED: dict[str, Any] = {"depth": 1, "width": 16, "heads": 2, "head_width": 8, "hidden": 20}
NAMED |= {"gated": True, "activation": "gelu_tanh", "tied": True}


def test_a_model_of_ones_own_can_be_written_and_read(tmp_path: Path) -> None:
    blueprint = Blueprint("t5", described(), VOCABULARY, NAMED)
    model = build(**NAMED)
    again = from_pretrained(save_pretrained(model, blueprint, tmp_path / "there")).model
    inputs = texts()
    theirs = {"source": inputs["english"], "target": inputs["german"]}
    torch.testing.assert_close(again(theirs), model(inputs), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("outputs", "options", "told"),
    [
        (3, {}, "one output for each token"),
        (VOCABULARY, {"shared": False}, r"model\.shared=false"),
        (VOCABULARY, {"activation": "gelu"}, "Train with gelu_tanh"),
    ],
)
def test_what_the_other_library_lacks_is_not_written(
    outputs: int, options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    blueprint = Blueprint("t5", described(), outputs, NAMED | options)
    with pytest.raises(UserError, match=told):
        save_pretrained(build(outputs, **blueprint.options), blueprint, tmp_path / "there")


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"tie_word_embeddings": False}, False),
        ({}, True),
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),
        ({"tie_word_embeddings": True, "scale_decoder_outputs": True}, True),
    ],
)
def test_old_and_new_folders_say_in_their_own_ways_whether_the_head_is_tied(config: dict[str, Any], tied: bool) -> None:
    from fathom.weights.t5 import read

    assert read({"model_type": "t5", **config}).options["tied"] is tied
