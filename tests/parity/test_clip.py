"""CLIP computes what `transformers` computes with the same weights, and has the published sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models import clip
from fathom.models.parts.patching import resized
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.weights import clip as weights
from fathom.weights.parts.blueprint import Blueprint
from tests.parity.common import (
    assert_same,
    assert_same_gradients,
    brought_over,
    inside_of,
    randomise,
    token_ids,
    written_back,
)

END, PAD, VOCABULARY, LENGTH = 38, 37, 40, 10


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def config(transformers: Any, *, both: dict[str, Any] | None = None, end: int = END) -> Any:
    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    vision |= {"image_size": 8, "patch_size": 4, "projection_dim": 6, **(both or {})}
    text = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    text |= {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "projection_dim": 6, **(both or {})}
    text |= {"eos_token_id": end, "bos_token_id": 36, "pad_token_id": PAD}
    return transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=6)


def pixels(rows: int, side: int = 8) -> Tensor:
    return torch.randint(0, 256, (rows, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def theirs_of(pictures: Tensor) -> Tensor:
    """As their picture processor leaves them."""
    mean, std = torch.tensor(weights.MEAN)[:, None, None], torch.tensor(weights.STD)[:, None, None]
    return (pictures.float() / 255 - mean) / std


def texts(lengths: list[int], *, pad: int, end: int = END, left: bool = False) -> tuple[Tensor, Tensor]:
    """Ids that end with `end`, padded, and where they are real."""
    inside = inside_of(lengths, LENGTH, left=left)
    ids = token_ids(rows=len(lengths), length=LENGTH, vocabulary=PAD)
    for row, length in enumerate(lengths):
        ids[row, -1 if left else length - 1] = end
    return ids.masked_fill(~inside, pad), inside


SETTINGS = [
    ({}, END, END),
    ({"hidden_act": "gelu", "layer_norm_eps": 1e-3}, END, PAD),
    ({}, weights.HIGHEST_ID, 0),
]


@pytest.mark.parametrize(("both", "end", "pad"), SETTINGS)
def test_vectors_similarities_and_gradients_are_the_same_both_ways(
    transformers: Any, both: dict[str, Any], end: int, pad: int, tmp_path: Path
) -> None:
    theirs = transformers.CLIPModel(config(transformers, both=both, end=end))
    loaded = brought_over(theirs, tmp_path)
    given, (tokens, inside) = pixels(3), texts([10, 4, 7, 2], pad=pad)
    wanted = theirs(pixel_values=theirs_of(given), input_ids=tokens, attention_mask=inside.long())
    assert_same(loaded.model.encode_pictures(given), wanted.image_embeds)
    for mask in (None, inside):  # padding on the right needs no mask
        assert_same(loaded.model.encode_texts(tokens, mask), wanted.text_embeds)
        assert_same(loaded.model.similarity(given, tokens, mask), wanted.logits_per_image)
    ours = loaded.model.similarity(given, tokens)
    assert_same_gradients(loaded, theirs, ours, wanted.logits_per_image, tmp_path)
    back = written_back(loaded, transformers.CLIPModel, tmp_path)
    again = back(pixel_values=theirs_of(given), input_ids=tokens, attention_mask=inside.long())
    assert_same(again.logits_per_image, ours)


def test_texts_padded_on_the_left_need_the_mask(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers.CLIPModel(config(transformers))
    loaded = brought_over(theirs, tmp_path)
    tokens, inside = texts([10, 4, 7], pad=PAD, left=True)
    wanted = theirs(pixel_values=theirs_of(pixels(3)), input_ids=tokens, attention_mask=inside.long())
    assert_same(loaded.model.encode_texts(tokens, inside), wanted.text_embeds)
    assert not torch.allclose(loaded.model.encode_texts(tokens)[1:], wanted.text_embeds[1:], atol=1e-3)


def test_states_of_the_texts_are_the_same(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers.CLIPModel(config(transformers))
    loaded = brought_over(theirs, tmp_path)
    tokens, _ = texts([10, 10], pad=PAD)
    assert_same(loaded.model.text.hidden(tokens), theirs.text_model(tokens).last_hidden_state)


def test_positions_interpolated_for_larger_pictures_are_theirs(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers.CLIPModel(config(transformers))
    loaded = brought_over(theirs, tmp_path)
    given = pixels(3, side=12)
    wanted = theirs.get_image_features(theirs_of(given), interpolate_pos_encoding=True).pooler_output
    assert_same(resized(loaded.model, 12, 12).encode_pictures(given), F.normalize(wanted, dim=-1))


def test_old_files_are_read(transformers: Any, tmp_path: Path) -> None:
    """They hold the numbers of the positions, and settings twice, of which those under _dict count."""
    theirs = randomise(transformers.CLIPModel(config(transformers)))
    theirs.save_pretrained(tmp_path / "old")
    path, places = tmp_path / "old" / "model.safetensors", torch.arange(5)[None]
    save_file({**load_file(path), "vision_model.embeddings.position_ids": places}, path)
    path = tmp_path / "old" / "config.json"
    settings = json.loads(path.read_text())
    settings |= {"text_config_dict": settings["text_config"], "text_config": {"hidden_size": 999}}
    path.write_text(json.dumps(settings))
    given, (tokens, _) = pixels(3), texts([10, 4, 7], pad=END)
    wanted = theirs(pixel_values=theirs_of(given), input_ids=tokens).logits_per_image
    assert_same(from_pretrained(tmp_path / "old").model.similarity(given, tokens), wanted)


@pytest.mark.parametrize(
    ("part", "changes", "named"),
    [
        (None, {"architectures": ["CLIPTextModel"]}, "architectures"),
        ("text_config", {"hidden_act": "relu"}, "hidden_act"),
        ("text_config", {"is_causal": False}, "is_causal"),
        ("vision_config", {"layer_norm_eps": 1e-3}, "layer_norm_eps"),
        ("vision_config", {"image_size": 10}, "image_size"),
        ("vision_config", {"patch_size": [4, 4]}, "patch_size"),
        ("vision_config", {"num_channels": 1}, "num_channels"),
        ("text_config", {"eos_token_id": [3, 4]}, "eos_token_id"),
    ],
)
def test_settings_that_ours_lacks_are_refused_by_name(part: str | None, changes: dict[str, Any], named: str) -> None:
    settings = weights.write(weights.EXAMPLES[0])
    settings |= changes if part is None else {part: settings[part] | changes}
    with pytest.raises(UserError, match=named):
        weights.read(settings)


def test_what_config_json_leaves_out_is_as_the_original() -> None:
    blueprint = weights.read({"model_type": "clip", "text_config": {}, "vision_config": None})
    assert (blueprint.outputs, blueprint.options["text_heads"], blueprint.options["patch"]) == (512, 8, 32)
    assert blueprint.inputs["caption"] == {"form": "tokens", "vocabulary": 49408, "length": 77}


def test_what_their_layout_lacks_is_not_written(tmp_path: Path) -> None:
    about = inputs()
    about["photo"] |= {"width": 12}
    options = weights.SMALL
    with pytest.raises(UserError, match="no counterpart"):
        save_pretrained(clip.build(about, 6, **options), Blueprint("clip", about, 6, options), tmp_path / "there")


def inputs(side: int = 8, vocabulary: int = VOCABULARY, length: int = LENGTH) -> dict[str, dict[str, Any]]:
    photo = {"form": "pixels", "height": side, "width": side, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    return {"photo": photo, "caption": {"form": "tokens", "vocabulary": vocabulary, "length": length}}


# As published weights have them; the first with its logit scale.
@pytest.mark.parametrize(
    ("size", "side", "outputs", "count"),
    [
        ("vit-b-32", 224, 512, 151_277_313),
        ("vit-b-16", 224, 512, 149_620_737),
        ("vit-l-14", 224, 768, 427_616_513),
        ("vit-l-14", 336, 768, 427_944_193),
    ],
)
def test_published_sizes(size: str, side: int, outputs: int, count: int) -> None:
    with torch.device("meta"):
        model = clip.build(inputs(side, 49408, 77), outputs, size=size)
    assert sum(p.numel() for p in model.parameters()) == count


def test_answers_multiply_to_the_scaled_similarity() -> None:
    model = randomise(clip.build(inputs(), 6))
    given, (tokens, _) = pixels(4), texts([10, 4, 7, 3], pad=0)
    pictures, captions = model({"photo": given, "caption": tokens}).unbind(dim=1)
    assert_same(pictures @ captions.T, model.similarity(given, tokens))
    assert_same(model.encode_texts(tokens).norm(dim=-1), torch.ones(4))
    assert_same(model.encode_pictures(given).norm(dim=-1), torch.ones(4))


def test_id_0_in_a_text_is_read() -> None:
    """It is "!" in CLIP's vocabulary."""
    model = randomise(clip.build(inputs(), 6))
    calm, loud = model.encode_texts(torch.tensor([[5, 6, 7, 39], [5, 0, 7, 39]]))
    assert not torch.allclose(calm, loud, atol=1e-3)


@pytest.mark.parametrize("end", [None, END])
def test_nothing_after_the_end_is_seen(end: int | None) -> None:
    model = randomise(clip.build(inputs(), 6, end=end))
    first, second = model.encode_texts(torch.tensor([[5, 6, END, 0, 0, 0], [5, 6, END, 9, END, 3]]))
    assert_same(first, second)


@pytest.mark.parametrize("end", [None, END])
def test_an_end_token_that_pads_on_the_left_is_not_the_end(end: int | None) -> None:
    model = randomise(clip.build(inputs(), 6, end=end))
    tokens, inside = texts([4, 10], pad=END, left=True)
    last = model.text.project(model.text.hidden(tokens, inside)[:, -1])
    assert_same(model.encode_texts(tokens, inside), F.normalize(last, dim=-1))


def test_a_text_without_its_end_is_read_to_the_last_token() -> None:
    model = randomise(clip.build(inputs(), 6, end=END))
    cut = model.encode_texts(torch.tensor([[5, 6, 7, 0, 0]]))
    last = model.text.project(model.text.hidden(torch.tensor([[5, 6, 7]]))[:, -1])
    assert_same(cut, F.normalize(last, dim=-1))


def test_texts_longer_than_the_positions_are_refused_and_longer_padding_is_not() -> None:
    model = randomise(clip.build(inputs(), 6))
    tokens, _ = texts([10, 4], pad=0)
    assert_same(model.encode_texts(F.pad(tokens, (0, 3))), model.encode_texts(tokens))
    with pytest.raises(UserError, match="10 tokens"):
        model.encode_texts(F.pad(tokens, (0, 3), value=7))


def test_contrastive_loss_falls_and_reaches_the_scale() -> None:
    torch.manual_seed(0)
    model = clip.build(inputs(), 8, width=32, depth=1, text_width=32, text_depth=1)
    given, (tokens, _) = pixels(6), texts([10, 4, 7, 3, 9, 5], pad=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    pairs, seen = torch.arange(6), []
    for _ in range(25):
        scores = model.similarity(given, tokens)
        loss = F.cross_entropy(scores, pairs) + F.cross_entropy(scores.T, pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.2 * seen[0]
    assert float(model.logit_scale.detach()) != pytest.approx(clip.START_SCALE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "vit-b-33"}, "Did you mean 'vit-b-32'"),
        ({"size": "vit-b-32"}, "model.patch=32"),
        ({"text_width": 0}, "model.text_width=0"),
        ({"text_width": 64, "text_heads": 5}, "Type model.text_heads=4"),
        ({"depth": 0}, "model.depth=0"),
        ({"norm_eps": -1.0}, "model.norm_eps=-1.0"),
        ({"activation": "gellu"}, "Did you mean"),
        ({"drop_attention": 1.0}, "model.drop_attention=1.0"),
    ],
)
def test_bad_options_are_refused_with_what_to_type(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        clip.build(inputs(), 6, **options)
