"""What is special to EfficientNet. The checks that every model passes are in contracts/, equal numbers in parity/."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fathom.errors import UserError
from fathom.models import efficientnet


def about(height: int, width: int, channels: int = 3) -> dict[str, dict[str, Any]]:
    form = {"form": "pixels", "height": height, "width": width, "channels": channels}
    return {"picture": {**form, "mean": [0.3] * channels, "std": [0.25] * channels, "mirror": False}}


def on_meta(side: int, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return efficientnet.build(about(side, side), 1000, **options)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("b0", 5_288_548),
        ("b1", 7_794_184),
        ("b2", 9_109_994),
        ("b3", 12_233_232),
        ("b4", 19_341_616),
        ("b5", 30_389_784),
        ("b6", 43_040_704),
        ("b7", 66_347_960),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size: str, parameters: int) -> None:
    assert sum(p.numel() for p in on_meta(224, size=size).parameters()) == parameters


def test_scaling_is_two_multipliers() -> None:
    named, spelt = on_meta(32, size="b2"), on_meta(32, size="b0", width=1.1, depth=1.2)
    assert [p.shape for p in named.parameters()] == [p.shape for p in spelt.parameters()]


@pytest.mark.parametrize(("side", "last"), [(4, 4), (8, 4), (28, 4), (32, 4), (96, 6), (97, 4), (224, 7), (600, 19)])
def test_small_pictures_are_halved_less_often(side: int, last: int) -> None:
    model = on_meta(side).eval()
    found = model.blocks(model.stem(torch.zeros(1, 3, side, side, device="meta")))
    assert found.shape[-2:] == (last, last)
    model = on_meta(side, all_strides=True).eval()
    found = model.blocks(model.stem(torch.zeros(1, 3, side, side, device="meta")))
    assert found.shape[-1] == -(-side // 32)


def test_the_squeezed_width_is_a_quarter_of_what_comes_into_the_block() -> None:
    model = on_meta(224, size="b0")
    assert [block.excite.reduce.out_channels for block in model.blocks][:4] == [8, 4, 6, 6]


def test_the_first_block_of_a_stage_adds_nothing_and_branches_are_left_out_more_often_the_deeper() -> None:
    model = on_meta(224, size="b0")
    assert [block.has_shortcut for block in model.blocks][:6] == [False, False, True, False, True, False]
    shares = [block.drop_path.share for block in model.blocks]
    assert shares == pytest.approx([0.2 * place / 16 for place in range(16)])


def test_rows_lose_branches_each_on_its_own_and_in_training_only() -> None:
    torch.manual_seed(0)
    model = efficientnet.build(about(8, 8), 3, size="b0", width=0.1, dropout=0.0, drop_path=0.9)
    x = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8).expand(16, -1, -1, -1)
    assert len({tuple(row.tolist()) for row in model(x)}) > 1
    assert len({tuple(row.tolist()) for row in model.eval()(x)}) == 1


def test_dropout_grows_with_the_size_unless_it_is_given() -> None:
    assert [on_meta(32, size=size, width=0.1, depth=0.1).dropout.p for size in ("b0", "b4", "b7")] == [0.2, 0.4, 0.5]
    assert on_meta(32, size="b7", width=0.1, depth=0.1, dropout=0.0).dropout.p == 0


def test_settings_of_the_norms_reach_every_norm() -> None:
    model = on_meta(32, norm_eps=0.01, norm_momentum=0.02)
    assert {(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {(0.01, 0.02)}


def test_tensorflow_padding_looks_one_pixel_further() -> None:
    torch.manual_seed(0)
    model = efficientnet.build(about(32, 32), 3, padding="tensorflow").eval()
    torch.manual_seed(0)
    other = efficientnet.build(about(32, 32), 3).eval()
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert model.features(x).shape == other.features(x).shape
    assert not torch.allclose(model(x), other(x))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "b9"}, r"model\.size=b9.*Did you mean"),
        ({"padding": "same"}, r"model\.padding=same"),
        ({"width": 0.0}, r"model\.width=0"),
        ({"depth": -1.0}, r"model\.depth=-1"),
        ({"norm_eps": 0.0}, r"model\.norm_eps=0"),
        ({"norm_momentum": 0.0}, r"model\.norm_momentum=0"),
        ({"dropout": 1.0}, r"model\.dropout=1"),
        ({"drop_path": -0.1}, r"model\.drop_path=-0.1"),
        ({"head": False}, "640 features"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        efficientnet.build(about(32, 32), 3, **options)
