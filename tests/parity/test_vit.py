"""ViT computes what `transformers` computes with the same weights, and has the published sizes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models import vit
from fathom.models.parts.patching import resize_positions, resized
from fathom.models.parts.stochastic_depth import StochasticDepth
from fathom.network import build
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.weights import vit as weights
from fathom.weights.parts.blueprint import Blueprint
from tests.parity.common import assert_same, assert_same_gradients, brought_over, randomise, written_back


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def config(transformers: Any, **changes: Any) -> Any:
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return transformers.ViTConfig(**{**small, "image_size": 8, "patch_size": 4, "num_labels": 5, **changes})


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def theirs_of(pictures: Tensor) -> Tensor:
    """As their picture processor leaves them: from -1 to 1."""
    return (pictures.float() / 255 - 0.5) / 0.5


def photo(height: int, width: int, channels: int = 3) -> dict[str, dict[str, Any]]:
    half = [0.5] * channels
    about = {"form": "pixels", "height": height, "width": width, "channels": channels, "mean": half, "std": half}
    return {"photo": about}


SETTINGS = [
    {},
    {"image_size": [8, 12], "num_channels": 1, "hidden_act": "gelu_new"},
    {"layer_norm_eps": 1e-3, "num_labels": 2, "num_attention_heads": 4},
]


@pytest.mark.parametrize("changes", SETTINGS)
def test_classifier_gives_the_same_answers_states_and_gradients_both_ways(
    transformers: Any, changes: dict[str, Any], tmp_path: Path
) -> None:
    theirs = transformers.ViTForImageClassification(config(transformers, **changes))
    loaded = brought_over(theirs, tmp_path)
    about = loaded.blueprint.inputs["photo"]
    given = pixels(3, about["channels"], about["height"], about["width"])
    ours, wanted = loaded.model(given), theirs(theirs_of(given), output_hidden_states=True)
    assert_same(ours, wanted.logits)
    assert_same(loaded.model.hidden(given), theirs.vit(theirs_of(given)).last_hidden_state)
    assert_same_gradients(loaded, theirs, ours, wanted.logits, tmp_path)
    back = written_back(loaded, transformers.ViTForImageClassification, tmp_path)
    assert_same(back(theirs_of(given)).logits, ours)


def test_base_model_answers_with_its_pooler(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers.ViTModel(config(transformers, pooler_output_size=20))
    loaded = brought_over(theirs, tmp_path)
    given = pixels(3, 3, 8, 8)
    ours, wanted = loaded.model(given), theirs(theirs_of(given))
    assert_same(ours, wanted.pooler_output)
    assert_same(loaded.model.hidden(given), wanted.last_hidden_state)
    assert_same_gradients(loaded, theirs, ours, wanted.pooler_output, tmp_path)
    back = written_back(loaded, transformers.ViTModel, tmp_path)
    assert_same(back(theirs_of(given)).pooler_output, ours)


def test_base_model_without_pooler_is_refused_until_its_config_says_so(transformers: Any, tmp_path: Path) -> None:
    theirs = randomise(transformers.ViTModel(config(transformers), add_pooling_layer=False))
    theirs.save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match=r"pooler\.dense"):
        from_pretrained(tmp_path / "bare")
    path = tmp_path / "bare" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_pooling_layer": False}))
    loaded = from_pretrained(tmp_path / "bare")
    given = pixels(3, 3, 8, 8)
    assert_same(loaded.model(given), theirs(theirs_of(given)).last_hidden_state[:, 0])
    back = written_back(loaded, transformers.ViTModel, tmp_path, not_ours=["*pooler*"])
    assert_same(back(theirs_of(given)).last_hidden_state[:, 0], loaded.model(given))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"qkv_bias": False}, "qkv_bias"),
        ({"pooler_act": "relu"}, "pooler_act"),
        ({"patch_size": [4, 2]}, "patch_size"),
        ({"image_size": 10}, "image_size"),
        ({"hidden_act": "mish"}, "mish"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "ViTForMaskedImageModeling"),
    ],
)
def test_settings_that_ours_lacks_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        weights.read({**weights.write(weights.EXAMPLES[0]), **changes})


@pytest.mark.parametrize("changes", [{"pool": "mean"}, {"head": False, "tanh": True, "outputs": 16}])
def test_what_their_layout_lacks_is_not_written(changes: dict[str, Any], tmp_path: Path) -> None:
    options = weights.SMALL | changes
    outputs = options.pop("outputs", 5)
    model = build("vit", photo(8, 8), outputs, options)
    with pytest.raises(UserError, match="layout"):
        save_pretrained(model, Blueprint("vit", photo(8, 8), outputs, options), tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_positions_interpolated_for_larger_pictures_are_theirs(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers.ViTForImageClassification(config(transformers, image_size=16))
    loaded = brought_over(theirs, tmp_path)
    given = pixels(3, 3, 24, 20)
    with pytest.raises(UserError, match="24 x 20"):
        loaded.model(given)
    wanted = theirs(theirs_of(given), interpolate_pos_encoding=True).logits
    assert_same(resized(loaded.model, 24, 20)(given), wanted)
    assert loaded.model.patches.grid == (4, 4), "the model itself is left as it was"


def test_the_same_size_keeps_the_positions() -> None:
    positions = torch.randn(1, 1 + 6, 4)
    assert resize_positions(positions, (2, 3), (2, 3)) is positions
    model = randomise(vit.build(photo(8, 12), 3))
    given = pixels(2, 3, 8, 12)
    assert torch.equal(resized(model, 8, 12)(given), model(given))


def test_a_model_without_patches_cannot_be_resized() -> None:
    with pytest.raises(UserError, match="patches"):
        resized(nn.Linear(2, 2), 8, 8)


# Of 1000 classes at 224 x 224: Touvron et al. 2021, Table 1, and Dosovitskiy et al. 2021, Table 1, to the last one.
@pytest.mark.parametrize(
    ("size", "patch", "count"),
    [
        ("tiny", 16, 5_717_416),
        ("small", 16, 22_050_664),
        ("base", 16, 86_567_656),
        ("base", 32, 88_224_232),
        ("large", 16, 304_326_632),
        ("huge", 14, 632_045_800),
    ],
)
def test_published_sizes(size: str, patch: int, count: int) -> None:
    usual = {"huge": 14}.get(size, 16)
    with torch.device("meta"):
        model = vit.build(photo(224, 224), 1000, size=size, patch=None if patch == usual else patch)
    assert model.patches.patch == patch
    assert sum(p.numel() for p in model.parameters()) == count


def test_on_small_pictures_a_named_size_has_their_patch() -> None:
    with torch.device("meta"):
        assert vit.build(photo(32, 32), 10, size="huge").patches.patch == 4


@pytest.mark.parametrize(("height", "width", "grid"), [(4, 4, (2, 2)), (28, 28, (7, 7)), (30, 45, (4, 6))])
@pytest.mark.parametrize("pool", ["class", "mean"])
def test_pictures_of_any_sides_are_taken(height: int, width: int, grid: tuple[int, int], pool: str) -> None:
    model = vit.build(photo(height, width, 1), 3, pool=pool)
    assert model.patches.grid == grid
    assert model.positions.shape[1] == grid[0] * grid[1] + (pool == "class")
    assert model(pixels(2, 1, height, width)).shape == (2, 3)


def test_what_is_padded_looks_like_the_mean_colour() -> None:
    """The mean of 0.4 is the pixel 102: a picture of it, padded, equals a larger one."""
    about = photo(6, 8, 1)["photo"] | {"mean": [0.4]}
    small = randomise(vit.build({"photo": about}, 3, patch=4))
    large = vit.build({"photo": about | {"height": 8}}, 3, patch=4)
    large.load_state_dict(small.state_dict())
    given = pixels(2, 1, 6, 8)
    filled = torch.cat([given, torch.full((2, 1, 2, 8), 102, dtype=torch.uint8)], dim=2)
    assert_same(small(given), large.eval()(filled))


def test_without_a_class_token_rows_are_kept_apart_and_exported_too() -> None:
    """As the contract of models says it of the other pool."""
    model = randomise(vit.build(photo(8, 8), 3, pool="mean"))
    given = pixels(6, 3, 8, 8)
    whole = model(given)
    assert len(whole.unique(dim=0)) == 6
    assert_same(model(given[2:4]), whole[2:4])
    exported = torch.export.export(model, (given,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},)).module()
    assert_same(exported(given[:3]), whole[:3])


def test_mean_pooling_reads_every_patch_alike() -> None:
    model = randomise(vit.build(photo(8, 8), 3, pool="mean"))
    given = pixels(2, 3, 8, 8)
    assert_same(model.features(given), model.hidden(given).mean(dim=1))
    assert model.no_decay() == [model.positions]


def test_matrices_start_by_their_size_and_patches_as_faint_as_positions() -> None:
    torch.manual_seed(0)
    model = vit.build(photo(32, 32), 10, width=128)
    assert not model(pixels(2, 3, 32, 32)).any(), "the head is zero"
    for vectors in (model.patches.project.weight, model.positions):
        assert float(vectors.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not model.patches.project.bias.any()
    assert not model.class_token.any()
    for part in model.blocks.modules():
        if isinstance(part, nn.Linear):
            assert float(part.weight.detach().abs().max()) == pytest.approx(
                math.sqrt(6 / sum(part.weight.shape)), rel=0.01
            )
            assert not part.bias.any()


def test_stochastic_depth_leaves_whole_branches_out_and_more_of_the_late_ones() -> None:
    model = vit.build(photo(8, 8), 3, depth=3, drop_path=0.5)
    assert [block.drop_path.share for block in model.blocks] == [0.0, 0.25, 0.5]
    torch.manual_seed(0)
    layer = StochasticDepth(0.25)
    rows = layer(torch.ones(4000, 3, 2))
    assert (rows == rows[:, :1, :1]).all()
    assert abs(float(rows.mean()) - 1) < 0.05
    model = randomise(model)
    given = pixels(4, 3, 8, 8)
    assert torch.equal(model(given), model(given))
    model.train()
    assert not torch.equal(model(given), model(given))


@pytest.mark.parametrize("share", ["dropout", "drop_attention"])
def test_dropout_is_for_training_only(share: str) -> None:
    model = randomise(vit.build(photo(8, 8), 3, **{share: 0.5}))
    given = pixels(4, 3, 8, 8)
    assert torch.equal(model(given), model(given))
    model.train()
    assert not torch.equal(model(given), model(given))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "bsae"}, "Did you mean 'base'"),
        ({"pool": "max"}, "Known: class, mean"),
        ({"width": 0}, "model.width=0"),
        ({"depth": 0}, "model.depth=0"),
        ({"width": 64, "heads": 5}, "Type model.heads=4"),
        ({"hidden": 0}, "model.hidden=0"),
        ({"norm_eps": -1.0}, "model.norm_eps=-1.0"),
        ({"patch": 9}, "Type model.patch=2"),
        ({"patch": 0}, "model.patch=0"),
        ({"activation": "gellu"}, "Did you mean 'gelu'"),
        ({"drop_path": 1.0}, "model.drop_path=1.0"),
        ({"dropout": -0.1}, "model.dropout=-0.1"),
        ({"head": False}, "64 features"),
    ],
)
def test_bad_options_are_refused_with_what_to_type(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        vit.build(photo(8, 8), 3, **options)
