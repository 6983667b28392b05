"""What is special to ConvNeXt. The checks that every model passes are in contracts/, equal numbers in parity/."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fathom.errors import UserError
from fathom.models import convnext


def about(height: int, width: int, channels: int = 3) -> dict[str, dict[str, Any]]:
    form = {"form": "pixels", "height": height, "width": width, "channels": channels}
    return {"picture": {**form, "mean": [0.3] * channels, "std": [0.25] * channels, "mirror": False}}


def on_meta(side: int, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return convnext.build(about(side, side), 1000, **options)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("tiny", 28_589_128),
        ("small", 50_223_688),
        ("base", 88_591_464),
        ("large", 197_767_336),
        ("xlarge", 350_196_968),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size: str, parameters: int) -> None:
    assert sum(p.numel() for p in on_meta(224, size=size).parameters()) == parameters


def strides(model: nn.Module) -> list[int]:
    return [m.stride[0] for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]


@pytest.mark.parametrize(
    ("side", "found"), [(4, [2]), (8, [2]), (28, [2, 2, 2]), (32, [2, 2, 2]), (64, [4, 2, 2]), (224, [4, 2, 2, 2])]
)
def test_a_small_net_fits_itself_to_the_picture(side: int, found: list[int]) -> None:
    model = on_meta(side)
    assert strides(model) == found
    last = model.stages(model.stem(torch.zeros(1, 3, side, side, device="meta")))
    assert min(last.shape[-2:]) >= 2


def test_a_published_net_leaves_out_its_first_halvings_on_small_pictures() -> None:
    options = {"size": "tiny", "blocks": "1,1,1,1", "channels": "4,4,8,8"}
    assert strides(on_meta(224, **options)) == [4, 2, 2, 2]
    assert strides(on_meta(32, **options)) == [1, 2, 2, 2]
    assert strides(on_meta(8, **options)) == [1, 1, 1, 2]
    assert strides(on_meta(32, **options, all_strides=True)) == [4, 2, 2, 2]


def test_layer_scale_starts_where_depth_asks_for_it() -> None:
    few = {"size": "tiny", "blocks": "1,1", "channels": "4,8"}

    def starts(**options: Any) -> set[float]:
        model = convnext.build(about(32, 32), 3, **options)
        scales = [p.detach() for name, p in model.named_parameters() if name.endswith(".scale")]
        return {round(value, 7) for scale in scales for value in scale.tolist()}

    assert starts() == {0.1}
    assert starts(**few) == {1e-6}
    assert starts(**few, layer_scale=0.5) == {0.5}
    assert starts(layer_scale=0.0) == set()


def test_branches_are_left_out_more_often_the_deeper_and_in_training_only() -> None:
    torch.manual_seed(0)
    model = convnext.build(about(32, 32), 3, width=8, depth=2, layer_scale=1.0, drop_path=0.5)
    shares = [m.drop_path.share for m in model.modules() if isinstance(m, convnext.Block)]
    assert shares == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    x = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8).expand(16, -1, -1, -1)
    assert len({tuple(row.tolist()) for row in model(x)}) > 1  # rows are left out each on its own
    assert len({tuple(row.tolist()) for row in model.eval()(x)}) == 1


def test_a_branch_is_left_out_whole_or_scaled_up_and_what_came_in_stays() -> None:
    torch.manual_seed(0)
    block = convnext.Block(4, 1.0, 0.5).eval()
    x = torch.randn(40, 4, 8, 8)
    with torch.no_grad():
        branch, added = block(x) - x, block.train()(x) - x
    for row in range(40):
        expected = 2 * branch[row] if added[row].any() else torch.zeros_like(x[row])
        torch.testing.assert_close(added[row], expected, rtol=1e-4, atol=1e-5)
    assert 10 < sum(bool(row.any()) for row in added) < 30


def test_first_weights_have_a_deviation_of_two_hundredths() -> None:
    torch.manual_seed(0)
    model = convnext.build(about(32, 32), 100, width=64)
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Linear) and part.weight.numel() > 2000:
            assert float(part.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
            assert part.bias is not None and not part.bias.any()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "tiny", "width": 32}, r"model\.width=32 .*model\.size=tiny"),
        ({"size": "tiny", "depth": 3}, r"model\.depth=3 .*model\.size=tiny"),
        ({"blocks": "1,1"}, r"model\.blocks=1,1 .*model\.size=tiny"),
        ({"channels": "8,8"}, r"model\.channels=8,8 .*model\.size=tiny"),
        ({"all_strides": True}, r"all_strides.*model\.size=tiny"),
        ({"size": "tinny"}, "Did you mean 'tiny'"),
        ({"size": "tiny", "blocks": "1,1"}, "2 stages"),
        ({"size": "tiny", "all_strides": True}, "divides the sides by 32"),
        ({"width": 0}, "width=0"),
        ({"depth": 0}, "depth=0"),
        ({"drop_path": 1.0}, "drop_path=1"),
        ({"layer_scale": -1.0}, "layer_scale=-1"),
        ({"norm_eps": 0.0}, "norm_eps=0"),
        ({"head": False}, "128 features"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        convnext.build(about(24, 31), 3, **options)
    with pytest.raises(UserError, match="at least 4 x 4"):
        convnext.build(about(3, 31), 3)
