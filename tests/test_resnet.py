"""What is special to pictures. The checks that every model passes are in contracts/."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models import resnet
from fathom.models.parts.residual import BasicBlock, Bottleneck, padded, pooled, strided

SIZES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (17, 40, 3), (64, 64, 3), (128, 128, 3)]


def about(height: int, width: int, channels: int, mean: float = 0.3, std: float = 0.25) -> dict[str, dict[str, Any]]:
    form = {"form": "pixels", "height": height, "width": width, "channels": channels}
    return {"picture": {**form, "mean": [mean] * channels, "std": [std] * channels, "mirror": False}}


def pictures(height: int, width: int, channels: int, num: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, channels, height, width), dtype=torch.uint8, generator=generator)


def build(size: tuple[int, int, int], /, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return resnet.build(about(*size), 3, **{"width": 8, **options})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_gives_one_row_of_outputs_a_picture(size: tuple[int, int, int]) -> None:
    outputs = build(size)(pictures(*size))
    assert outputs.shape == (4, 3)
    assert outputs.dtype == torch.float32
    assert outputs.isfinite().all()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_parameter_learns(size: tuple[int, int, int]) -> None:
    model = build(size)
    model(pictures(*size)).square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_picture_is_small_but_not_gone_at_the_end(size: tuple[int, int, int]) -> None:
    model = build(size).eval()
    with torch.no_grad():
        last = model.stages(model.stem(pictures(*size).float()))
    assert 2 <= min(last.shape[-2:]) <= 6


def test_a_prediction_does_not_depend_on_its_neighbours_or_on_chance() -> None:
    model = build((28, 28, 1)).eval()
    x = pictures(28, 28, 1)
    assert torch.equal(model(x), model(x))
    torch.testing.assert_close(model(x[:1]), model(x)[:1], rtol=1e-4, atol=1e-5)


def test_saved_equals_loaded() -> None:
    model = build((32, 32, 3))
    model(pictures(32, 32, 3))  # moves the running statistics
    other = resnet.build(about(32, 32, 3, mean=0.9, std=0.9), 3, width=8)
    other.load_state_dict({name: value.contiguous().clone() for name, value in model.state_dict().items()})
    x = pictures(32, 32, 3)
    assert torch.equal(model.eval()(x), other.eval()(x))


def test_weights_are_contiguous_so_that_any_file_format_takes_them() -> None:
    model = build((28, 28, 1))
    model(pictures(28, 28, 1)).sum().backward()
    assert all(value.is_contiguous() for value in model.state_dict().values())


def test_bytes_and_floats_of_the_same_pixels_are_the_same_picture() -> None:
    model = build((28, 28, 1)).eval()
    x = pictures(28, 28, 1)
    torch.testing.assert_close(model(x), model(x.float()), rtol=1e-4, atol=1e-5)


def test_pixels_are_normalised_with_what_the_field_measured() -> None:
    model = resnet.build(about(8, 8, 1, mean=0.5, std=0.1), 2, width=8).eval()
    seen = {}
    model.stem.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    model(torch.full((1, 1, 8, 8), 153, dtype=torch.uint8))  # 153 / 255 = 0.6, one deviation above the mean
    torch.testing.assert_close(seen["x"], torch.ones(1, 1, 8, 8))


def test_one_batch_is_learnt_by_heart() -> None:
    model = build((28, 28, 1))
    x, y = pictures(28, 28, 1, num=12), torch.arange(12) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_depth_counts_layers_as_the_paper_does() -> None:
    def layers(model: nn.Module) -> int:
        kinds = (nn.Conv2d, nn.Linear)
        return sum(isinstance(m, kinds) for name, m in model.named_modules() if "shortcut" not in name)

    assert layers(build((28, 28, 1))) == 8
    assert layers(build((128, 128, 3), depth=18)) == 18
    assert [len(stage) for stage in build((224, 224, 3), depth=18, width=4).stages] == [2, 2, 2, 2]
    assert [len(stage) for stage in build((28, 28, 1), depth=10).stages] == [1, 2, 1]


def test_what_does_not_fit_is_refused_with_what_to_type() -> None:
    with pytest.raises(UserError, match=r"model\.depth=8"):
        build((28, 28, 1), depth=7)
    with pytest.raises(UserError, match="even number from 10"):
        build((128, 128, 3), depth=8)
    with pytest.raises(UserError, match=r"at least 4 x 4 pixels; found picture \(pixels, 3 x 28\)"):
        build((3, 28, 1))
    with pytest.raises(UserError, match=r"16 channels after 32; expected at least as many"):
        resnet.build(about(32, 32, 3), 2, size=20, channels="16,32,16,64")
    with pytest.raises(UserError, match="width=0"):
        build((28, 28, 1), width=0)
    with pytest.raises(UserError, match=r"numbers.*model="):
        resnet.build({"numbers": {"form": "numbers"}}, 2)


def test_it_claims_one_picture_and_nothing_else() -> None:
    one = about(8, 8, 1)
    assert resnet.claims(one) == "one picture"
    assert resnet.claims({**one, "other": one["picture"]}) is None
    assert resnet.claims({"numbers": {"form": "numbers"}}) is None
    assert resnet.claims(about(3, 20, 1)) is None, "what it claims it must take"


def test_fitted_nets_keep_the_names_and_order_that_run_folders_hold() -> None:
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    layers = [
        "stem.0",
        *(f"stages.{s}.0.{part}" for s in (0, 1) for part in ("first", "second", "shortcut.1")[: 2 + s]),
    ]
    expected = [f"{layer}.{end}" for layer in layers for end in ("0.weight", *(f"1.{name}" for name in norm))]
    assert list(build((8, 8, 1)).state_dict()) == ["mean", "std", *expected, "head.weight", "head.bias"]


def on_meta(size: tuple[int, int, int], outputs: int, /, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return resnet.build(about(*size), outputs, **options)


def num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("18", 11_689_512), ("34", 21_797_672), ("50", 25_557_032), ("101", 44_549_160), ("152", 60_192_808)],
)
def test_published_sizes_have_the_published_number_of_parameters(size: str, parameters: int) -> None:
    assert num_parameters(on_meta((224, 224, 3), 1000, size=size)) == parameters
    assert num_parameters(on_meta((224, 224, 3), 1000, size=int(size))) == parameters  # as yaml reads model.size=18


@pytest.mark.parametrize(("size", "millions"), [("20", 0.27), ("32", 0.46), ("44", 0.66), ("56", 0.85), ("110", 1.7)])
def test_sizes_for_small_pictures_are_those_of_section_4_2(size: str, millions: float) -> None:
    """Table 6 of the paper; one layer of each block and the head's weigh in with `size` in all."""
    model = on_meta((32, 32, 3), 10, size=size)
    assert num_parameters(model) == pytest.approx(1e6 * millions, rel=0.02)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == int(size)


def test_measures_of_a_published_net_can_be_changed() -> None:
    model = on_meta((40, 40, 1), 7, size="50", blocks="1,2", channels="4,8,16", head=True)
    assert [len(stage) for stage in model.stages] == [1, 2]
    assert model.head.weight.shape == (7, 16)
    assert on_meta((40, 40, 1), 16, size="50", blocks="1,2", channels="4,8,16", head=False)(
        torch.zeros(2, 1, 40, 40, device="meta")
    ).shape == (2, 16)


def test_the_3x3_has_the_stride_unless_the_paper_is_followed_to_the_letter() -> None:
    def strides(model: nn.Module) -> list[int]:
        block = model.stages[1][0]
        return [part[0].stride[0] for part in (block.first, block.second, block.third)]

    assert strides(on_meta((224, 224, 3), 3, size="50")) == [1, 2, 1]
    assert strides(on_meta((224, 224, 3), 3, size="50", stride_first=True)) == [2, 1, 1]


def test_kernels_start_as_he_et_al_2015_say() -> None:
    kernel = resnet.build(about(32, 32, 3), 3, size="18").stages[3][0].first[0].weight  # 512 channels from 256
    assert float(kernel.detach().std()) == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_published_nets_keep_the_scaling_of_pixels_out_of_their_weights() -> None:
    options = {"blocks": "1", "channels": "4,4", "size": "18", "width": None}
    assert not {"mean", "std"} & set(build((32, 32, 3), **options).state_dict())
    assert {"mean", "std"} <= set(build((32, 32, 3)).state_dict())


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_without_residual_a_block_adds_nothing(block: type[nn.Module]) -> None:
    x = torch.rand(2, 8, 4, 4)
    for shortcut, kept in ((strided, x), (None, torch.zeros_like(x))):
        layer = block(8, 8, shortcut=shortcut).eval()
        last = layer.second if isinstance(layer, BasicBlock) else layer.third
        nn.init.zeros_(last[1].weight)  # the branch gives zeros
        torch.testing.assert_close(layer(x), kept)


@pytest.mark.parametrize(
    "options", [{"width": 16, "depth": 20}, {"size": "20", "width": None}, {"size": "18", "width": None}]
)
def test_plain_nets_have_the_same_layers_and_no_shortcuts(options: dict[str, Any]) -> None:
    with_them, plain = (build((28, 28, 1), residual=residual, **options) for residual in (True, False))
    assert [p.shape for name, p in with_them.named_parameters() if "shortcut" not in name] == [
        p.shape for p in plain.parameters()
    ]
    plain(pictures(28, 28, 1)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in plain.parameters())


@pytest.mark.parametrize("depth", [20, 56, 110])
def test_depth_on_small_pictures_is_shared_by_three_stages(depth: int) -> None:
    model = on_meta((32, 32, 3), 10, width=16, depth=depth, residual=False)
    assert [len(stage) for stage in model.stages] == [(depth - 2) // 6] * 3
    assert [stage[0].second[0].out_channels for stage in model.stages] == [16, 32, 64]


def test_a_pooled_shortcut_averages_real_pixels_alone() -> None:
    average = pooled(1, 2, 2)[0]
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert average(x)[0, 0].tolist() == [[2.0, 3.5], [6.5, 8.0]]


def test_a_padded_shortcut_takes_every_other_pixel_and_adds_empty_channels() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    found = padded(1, 2, 2)(x)
    assert found[0].tolist() == [[[0, 2], [6, 8]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "18", "width": 32}, r"model\.width=32 .*model\.size=18"),
        ({"size": "18", "depth": 18}, r"model\.depth=18 .*model\.size=18"),
        ({"blocks": "2,2"}, r"model\.blocks=2,2 .*model\.size=50"),
        ({"channels": "4,8"}, r"model\.channels=4,8 .*model\.size=50"),
        ({"stride_first": True}, r"stride_first.*model\.size=50"),
        ({"size": "18", "stride_first": True}, "stride_first"),
        ({"size": "51"}, r"model\.size=51.*Known: 18, 34, 50"),
        ({"size": "18", "blocks": "2,2"}, "2 stages"),
        ({"size": "18", "blocks": "2,x", "channels": "4,4,8"}, r"model\.blocks=2,x"),
        ({"size": "18", "head": False}, "512 features"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        resnet.build(about(32, 32, 3), 3, **options)
