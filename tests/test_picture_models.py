"""AlexNet, SqueezeNet and the MobileNets are the published networks by name, and fit small pictures by one rule.

The checks that every model passes are in contracts/; trained weights are compared in parity/.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models import alexnet, mobilenet_v1, mobilenet_v3, squeezenet
from fathom.models.parts.depthwise import ConvNorm, pad_like_tensorflow
from fathom.models.parts.pictures import Standardise, is_one_picture, strides_for
from fathom.models.parts.squeeze_excite import SqueezeExcite

EVERY = [alexnet, squeezenet, mobilenet_v1, mobilenet_v3]
SIZES = [(4, 4, 1), (8, 8, 1), (28, 28, 1), (32, 32, 3), (17, 40, 3), (64, 64, 3), (96, 130, 3)]


def about(height: int, width: int, channels: int) -> dict[str, dict[str, Any]]:
    form = {"form": "pixels", "height": height, "width": width, "channels": channels, "mirror": False}
    return {"photo": {**form, "mean": [0.4] * channels, "std": [0.25] * channels}}


def pictures(height: int, width: int, channels: int, num: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, channels, height, width), dtype=torch.uint8, generator=random)


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def multiplications(model: nn.Module, side: int) -> float:
    """Millions for one picture, those of convolutions and linear layers."""
    found = []

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output[0].numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model.eval()(torch.empty(1, 3, side, side, device="meta"))
    return sum(found) / 1e6


# Parameters with 1000 classes; millions of multiplications where a paper says them.
# 1704.04861 tables 6 and 7, 1905.02244 table 3.
PUBLISHED = [
    pytest.param(alexnet, {"size": "2014"}, 61_100_840, None, id="alexnet 2014"),
    pytest.param(alexnet, {"size": "2012"}, 60_965_224, None, id="alexnet 2012"),
    pytest.param(squeezenet, {"size": "1.0"}, 1_248_424, None, id="squeezenet 1.0"),
    pytest.param(squeezenet, {"size": "1.1"}, 1_235_496, None, id="squeezenet 1.1"),
    pytest.param(mobilenet_v1, {"width": 1.0}, 4_231_976, 569, id="mobilenet v1"),
    pytest.param(mobilenet_v1, {"width": 0.75}, 2_585_560, 325, id="mobilenet v1 0.75"),
    pytest.param(mobilenet_v1, {"width": 0.5}, 1_331_592, 149, id="mobilenet v1 0.5"),
    pytest.param(mobilenet_v1, {"width": 0.25}, 470_072, 41, id="mobilenet v1 0.25"),
    pytest.param(mobilenet_v3, {"size": "small"}, 2_542_856, 56, id="mobilenet v3 small"),
    pytest.param(mobilenet_v3, {"size": "large"}, 5_483_032, 219, id="mobilenet v3 large"),
]


@pytest.mark.parametrize(("module", "options", "parameters", "millions"), PUBLISHED)
def test_named_sizes_are_the_published_ones(
    module: ModuleType, options: dict[str, Any], parameters: int, millions: int | None
) -> None:
    with torch.device("meta"):
        model = module.build(about(224, 224, 3), 1000, **options)
    assert num_parameters(model) == parameters
    if millions is not None:
        assert multiplications(model, 224) == pytest.approx(millions, rel=0.015)


@pytest.mark.parametrize(
    ("module", "size", "side", "maps"),
    [
        (alexnet, "2014", 224, (256, 6, 6)),
        (alexnet, "2012", 224, (256, 6, 6)),
        (squeezenet, "1.0", 224, (512, 13, 13)),
        (squeezenet, "1.1", 224, (512, 13, 13)),
        (mobilenet_v3, "large", 224, (160, 7, 7)),
        (mobilenet_v3, "small", 224, (96, 7, 7)),
    ],
)
def test_last_maps_of_large_pictures(module: ModuleType, size: str, side: int, maps: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        model = module.build(about(side, side, 3), 10, size=size).eval()
        body = {"alexnet": "convolutions", "squeezenet": "fires"}.get(module.__name__.split(".")[-1], "blocks")
        seen: list[tuple[int, ...]] = []
        getattr(model, body).register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
        model(torch.empty(1, 3, side, side))
    assert seen == [maps]


@pytest.mark.parametrize("module", EVERY, ids=lambda m: m.__name__.split(".")[-1])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_of_picture_gives_answers_and_every_parameter_learns(
    module: ModuleType, size: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    model = module.build(about(*size), 3, dropout=0.0)
    outputs = model(pictures(*size))
    assert outputs.shape == (3, 3)
    outputs.square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("module", EVERY, ids=lambda m: m.__name__.split(".")[-1])
def test_what_does_not_fit_is_refused(module: ModuleType) -> None:
    assert module.claims(about(3, 20, 1)) is None
    with pytest.raises(UserError, match="found photo \\(pixels, 3 x 20\\)"):
        module.build(about(3, 20, 1), 2)
    with pytest.raises(UserError, match="dropout"):
        module.build(about(8, 8, 1), 2, dropout=1.0)


@pytest.mark.parametrize(
    ("module", "options", "told"),
    [
        (alexnet, {"size": "2013"}, "Did you mean '201"),
        (squeezenet, {"size": "1.2"}, "Did you mean '1."),
        (squeezenet, {"border": -1}, "model.border=1"),
        (squeezenet, {"all_strides": True}, "at least 17 x 17"),
        (squeezenet, {"head": False}, "answers with 128 features"),
        (mobilenet_v1, {"width": 0.0}, "model.width=0.0: expected more than 0"),
        (mobilenet_v1, {"narrowest": 0}, "narrowest"),
        (mobilenet_v1, {"norm_eps": 0.0}, "norm_eps"),
        (mobilenet_v1, {"padding": "tensorflw"}, "Did you mean 'tensorflow'"),
        (mobilenet_v1, {"activation": "relu7"}, "Did you mean 'relu"),
        (mobilenet_v1, {"head": False}, "answers with 256 features"),
        (mobilenet_v3, {"size": "big"}, "Known: tiny, small, large"),
        (mobilenet_v3, {"width": -1.0}, "model.width=-1.0: expected more than 0"),
    ],
)
def test_bad_options_are_refused_with_what_to_type(module: ModuleType, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        module.build(about(16, 16, 3), 2, **options)


@pytest.mark.parametrize(
    ("side", "expected"),
    [(4, [1, 1, 1, 1, 1]), (8, [1, 1, 1, 1, 2]), (28, [1, 1, 2, 2, 2]), (96, [1, 2, 2, 2, 2]), (97, [2, 2, 2, 2, 2])],
)
def test_small_pictures_lose_the_first_halvings(side: int, expected: list[int]) -> None:
    assert strides_for(side, [2, 2, 2, 2, 2]) == expected
    between = strides_for(side, [2, 1, 2, 1, 2, 2, 2])
    assert [between[place] for place in (0, 2, 4, 5, 6)] == expected
    assert between[1] == between[3] == 1


def test_all_strides_are_kept_when_asked_for() -> None:
    strides = {
        keep: [layer.stride[0] for layer in _convolutions(mobilenet_v1.build(about(32, 32, 3), 2, all_strides=keep))]
        for keep in (False, True)
    }
    assert [strides[keep].count(2) for keep in (False, True)] == [3, 5]
    model = squeezenet.build(about(32, 32, 3), 2, all_strides=True)
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in model.modules()) == 3
    assert _convolutions(model)[0].stride == (2, 2)


def _convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def test_pixels_are_standardised_and_no_file_holds_how() -> None:
    (photo,) = about(4, 4, 3).values()
    layer = Standardise({**photo, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]})
    pixels = pictures(4, 4, 3)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    expected = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(layer(pixels), expected)
    assert layer(pixels).is_contiguous(memory_format=torch.channels_last)
    assert layer.to(torch.bfloat16)(pixels).dtype == torch.bfloat16
    assert not layer.state_dict()
    assert not is_one_picture({"photo": photo, "other": photo})


def test_squeeze_and_excitation_by_hand() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 3, 5)
    layer = SqueezeExcite(6, 2, activation="silu", gate="hardsigmoid")
    reduce, expand = layer.reduce.weight[:, :, 0, 0], layer.expand.weight[:, :, 0, 0]
    squeezed = F.silu(x.mean(dim=(2, 3)) @ reduce.T + layer.reduce.bias)
    share = ((squeezed @ expand.T + layer.expand.bias) / 6 + 0.5).clamp(0, 1)
    torch.testing.assert_close(layer(x), x * share[:, :, None, None])
    usual = SqueezeExcite(6, 2)
    usual.load_state_dict(layer.state_dict())
    squeezed = F.relu(x.mean(dim=(2, 3)) @ reduce.T + layer.reduce.bias)
    share = torch.sigmoid(squeezed @ expand.T + layer.expand.bias)
    torch.testing.assert_close(usual(x), x * share[:, :, None, None])
    with pytest.raises(UserError, match="Did you mean 'hardsigmoid'"):
        SqueezeExcite(6, 2, gate="hardsigmod")


def test_tensorflows_padding_is_at_the_end() -> None:
    x = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    padded = pad_like_tensorflow(x, 3, 2)
    assert torch.equal(padded[:, :, :4, :4], x)
    assert padded.shape == (1, 1, 5, 5)
    assert pad_like_tensorflow(x[:, :, :, :3], 3, 2).shape == (1, 1, 5, 5)  # an odd width: one on either side
    assert pad_like_tensorflow(x, 1, 2).shape == x.shape
    layer = ConvNorm(1, 1, 3, stride=2, padding="tensorflow").eval()
    with torch.no_grad():
        layer.conv.weight.zero_()[0, 0, 0, 0] = 1.0
    expected = x[:, :, ::2, ::2] / (1 + layer.norm.eps) ** 0.5
    torch.testing.assert_close(layer(x), expected)


def test_bottleneck_of_v3_by_hand() -> None:
    """Widened and filtered with the activation, weighed after it, narrowed without one, added."""
    torch.manual_seed(0)
    block = mobilenet_v3.Bottleneck(8, mobilenet_v3.Row(5, 48, 8, True, "hardswish", 1)).eval()
    assert block.excite.reduce.out_channels == 16  # a quarter of 48 is 12, and multiples of 8 are 16
    x = torch.randn(2, 8, 6, 6)
    scale = (1 + 1e-3) ** -0.5
    inner = F.hardswish(scale * F.conv2d(x, block.widen.conv.weight))
    inner = F.hardswish(scale * F.conv2d(inner, block.filter.conv.weight, padding=2, groups=48))
    squeezed = F.relu(block.excite.reduce(inner.mean(dim=(2, 3), keepdim=True)))
    inner = inner * (block.excite.expand(squeezed) / 6 + 0.5).clamp(0, 1)
    inner = scale * F.conv2d(inner, block.narrow.conv.weight)
    torch.testing.assert_close(block(x), x + inner)
    other = mobilenet_v3.Bottleneck(48, mobilenet_v3.Row(3, 48, 8, False, "relu", 2))
    assert isinstance(other.widen, nn.Identity)
    assert other(torch.randn(2, 48, 6, 6)).shape == (2, 8, 3, 3)


def test_response_norm_of_2012_is_the_papers() -> None:
    """Section 3.3: b = a / (2 + 1e-4 · the sum over five neighbouring channels of a²) ^ 0.75."""
    (norm,) = {layer for layer in [alexnet._norm(alexnet.SIZES["2012"])] if isinstance(layer, nn.LocalResponseNorm)}
    x = 100 * torch.rand(1, 9, 1, 1, generator=torch.Generator().manual_seed(0))
    around = torch.stack([x[:, max(0, c - 2) : c + 3].square().sum(dim=1) for c in range(9)], dim=1)
    torch.testing.assert_close(norm(x), x / (2 + 1e-4 * around) ** 0.75)


def test_alexnet_of_2012_has_two_towers_that_meet_in_the_third_convolution() -> None:
    with torch.device("meta"):
        model = alexnet.build(about(224, 224, 3), 10, size="2012")
    assert [layer.groups for layer in _convolutions(model)] == [1, 2, 1, 2, 2]
    assert sum(isinstance(layer, nn.LocalResponseNorm) for layer in model.modules()) == 2


def test_squeezenets_answers_are_averages_that_rectify_keeps_from_below_zero() -> None:
    size = (32, 32, 3)
    answers = {}
    for rectify in (False, True):
        torch.manual_seed(0)
        answers[rectify] = squeezenet.build(about(*size), 4, rectify=rectify).eval()(pictures(*size))
    assert (answers[False] < 0).any()
    assert (answers[True] >= 0).all()


def test_squeezenets_border_counts_in_the_average() -> None:
    torch.manual_seed(0)
    bare = squeezenet.build(about(8, 8, 1), 4).eval()
    bordered = squeezenet.build(about(8, 8, 1), 4, border=1).eval()
    with torch.no_grad():
        bare.head[0].bias.fill_(3.0)
    bordered.load_state_dict(bare.state_dict())
    with torch.no_grad():
        inner, outer = bare(pictures(8, 8, 1)), bordered(pictures(8, 8, 1))
    cells = bare.fires(torch.zeros(1, 16, 8, 8)).shape[-1]
    expected = (cells**2 * inner + ((cells + 2) ** 2 - cells**2) * 3.0) / (cells + 2) ** 2
    torch.testing.assert_close(outer, expected)


@pytest.mark.parametrize("module", EVERY, ids=lambda m: m.__name__.split(".")[-1])
def test_features_are_what_the_head_sees(module: ModuleType) -> None:
    torch.manual_seed(0)
    model = module.build(about(32, 32, 3), 5).eval()
    photos = pictures(32, 32, 3)
    features = model.features(photos)
    if module is squeezenet:
        kernel, bias = model.head[0].weight[:, :, 0, 0], model.head[0].bias
        torch.testing.assert_close(features @ kernel.T + bias, model(photos))
    else:
        torch.testing.assert_close(model.head(features), model(photos))
