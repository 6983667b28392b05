"""The Conformer: its formulas written out, its published sizes, and padding that is seen by nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models import conformer
from fathom.models.parts.masked_norm import MaskedBatchNorm
from fathom.models.parts.relative_attention import RelativeAttention, shifted

SPEECH = {"speech": {"form": "frames", "channels": 80, "length": 400}}
SMALL = {"series": {"form": "frames", "channels": 5, "length": 12}}
MEASURES = conformer.Size(width=8, depth=1, heads=2, kernel=4)
LENGTHS = torch.tensor([6, 1, 4])
INSIDE = torch.arange(6) < LENGTHS[:, None]


def randomised(module: nn.Module) -> Any:
    """Every parameter and buffer away from its first value, in float64: a bias of 0 hides mistakes."""
    torch.manual_seed(1)
    for values in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
        values.data.copy_(0.3 * torch.randn_like(values).abs() + 0.2)
    for parameter in module.parameters():
        parameter.data.mul_(torch.randn_like(parameter).sign())
    return module.double()


def small(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return conformer.build(SMALL, 3, width=8, kernel=5, dropout=0.0, **options)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_shifted_scores_stand_at_their_distance(length: int) -> None:
    by_distance = torch.arange(length - 1, -length, -1).expand(2, 3, length, -1)
    place = torch.arange(length)
    expected = (place[:, None] - place).expand(2, 3, length, length)
    assert torch.equal(shifted(by_distance), expected)


def test_relative_attention_equals_its_formula() -> None:
    layer, width, heads = randomised(RelativeAttention(8, heads=2)), 8, 2
    x = torch.randn(3, 6, 8, dtype=torch.float64)
    mixed = torch.zeros(3, 6, 8, dtype=torch.float64)
    query, key, value = layer.project_in(x).chunk(3, dim=-1)
    for b in range(3):
        for h in range(heads):
            part = slice(4 * h, 4 * h + 4)
            u, v = layer.content_bias[h, 0], layer.distance_bias[h, 0]
            for i in range(6):
                scores = []
                for j in range(int(LENGTHS[b])):
                    angles = [(i - j) * 10_000 ** (-2 * c / width) for c in range(width // 2)]
                    wave = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
                    distance = layer.project_distance(wave)[part]
                    one = (query[b, i, part] + u) @ key[b, j, part] + (query[b, i, part] + v) @ distance
                    scores.append(one / math.sqrt(4))
                weights = torch.softmax(torch.stack(scores), dim=0)
                mixed[b, i, part] = weights @ value[b, : len(scores), part]
    # Distances are worked out in float32, whatever comes in.
    torch.testing.assert_close(layer(x, INSIDE), layer.project_out(mixed), atol=1e-6, rtol=1e-6)


def test_attention_knows_distances_and_not_places() -> None:
    layer = randomised(RelativeAttention(8, heads=2))
    x = torch.randn(1, 4, 8, dtype=torch.float64)
    later = F.pad(x, (0, 0, 3, 2), value=9.0)
    inside = torch.arange(9).sub(3).unsqueeze(0)
    moved = layer(later, (inside >= 0) & (inside < 4))[:, 3:7]
    torch.testing.assert_close(moved, layer(x, torch.ones(1, 4, dtype=torch.bool)), atol=1e-6, rtol=0)


def test_masked_norm_is_batch_norm_of_the_real_positions() -> None:
    mine, theirs = randomised(MaskedBatchNorm(8)), nn.BatchNorm1d(8).double()
    theirs.load_state_dict(mine.state_dict())
    x, weights = torch.randn(3, 6, 8, dtype=torch.float64), torch.randn(3, 6, 8, dtype=torch.float64)
    found = []
    for how in ("train", "train", "eval"):
        ours, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = getattr(mine, how)()(ours, INSIDE)[INSIDE], getattr(theirs, how)()(other[INSIDE])
        torch.testing.assert_close(out, expected)
        (out * weights[INSIDE]).sum().backward()
        (expected * weights[INSIDE]).sum().backward()
        torch.testing.assert_close(ours.grad, other.grad)
        found.append(out)
    assert not torch.allclose(found[1], found[2])
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value)


@pytest.mark.parametrize("kernel", [1, 4, 5])
def test_convolution_equals_torchs_own_layers(kernel: int) -> None:
    layer = randomised(conformer.Convolution(8, kernel, 0.0)).eval()
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    pointwise = nn.Conv1d(8, 16, 1).double()
    pointwise.weight.data.copy_(layer.expand.weight.unsqueeze(-1))
    pointwise.bias.data.copy_(layer.expand.bias)
    depthwise = nn.Conv1d(8, 8, kernel, groups=8, padding="same").double()
    depthwise.load_state_dict(layer.depthwise.state_dict())
    norm = nn.BatchNorm1d(8).double().eval()
    norm.load_state_dict(layer.batch_norm.state_dict())
    gated = F.glu(pointwise(layer.norm(x).transpose(1, 2)), dim=1)
    expected = layer.contract(F.silu(norm(depthwise(gated))).transpose(1, 2))
    torch.testing.assert_close(layer(x, torch.ones(1, 6, dtype=torch.bool)), expected)


def test_block_equals_its_formula() -> None:
    block = randomised(conformer.Block(MEASURES, 0.0)).eval()
    x = torch.randn(3, 6, 8, dtype=torch.float64)

    def perceptron(half: nn.Sequential, x: Tensor) -> Tensor:
        norm, expand, _, _, contract, _ = half
        hidden = F.layer_norm(x, (8,), norm.weight, norm.bias) @ expand.weight.T + expand.bias
        return (hidden * torch.sigmoid(hidden)) @ contract.weight.T + contract.bias

    first = x + 0.5 * perceptron(block.first_half, x)
    second = first + block.attention(block.attention_norm(first), INSIDE)
    third = second + block.convolution(second, INSIDE)
    expected = block.norm(third + 0.5 * perceptron(block.second_half, third))
    torch.testing.assert_close(block(x, INSIDE), expected)


@pytest.mark.parametrize("subsample", [1, 2, 4, 8])
@pytest.mark.parametrize("trains", [False, True])
def test_padding_is_seen_by_nothing(subsample: int, trains: bool) -> None:
    """More padding changes no answer, in training neither, where batch norm measures; nor what it keeps of that."""
    net, other = small(subsample=subsample).train(trains), small(subsample=subsample).train(trains)
    frames = torch.randn(3, 12, 5).masked_fill(
        torch.arange(12)[:, None] >= torch.tensor([9, 1, 6])[:, None, None], float("nan")
    )
    longer = F.pad(frames, (0, 0, 0, 11), value=float("nan"))
    torch.testing.assert_close(net(longer), other(frames[:, :9]), atol=1e-5, rtol=1e-5)
    for one, two in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_subsampling_equals_its_formula() -> None:
    """Two 3x3 convolutions with stride 2 over time and channels, each rectified, and a matrix."""
    layer = randomised(conformer.Subsampling(5, 8, 4))
    x = torch.randn(2, 9, 5, dtype=torch.float64)
    maps = x.unsqueeze(1)
    for conv in layer.convs:
        maps = F.conv2d(maps, conv.weight, conv.bias, stride=2, padding=1).clamp(min=0)  # [B, 8, T, F]
    rows = maps.transpose(1, 2).reshape(2, 3, 8 * 2)
    expected = rows @ layer.project.weight.T + layer.project.bias
    found, inside = layer(x, torch.ones(2, 9, dtype=torch.bool))
    torch.testing.assert_close(found, expected)
    assert inside.shape == (2, 3)


def test_dropout_is_everywhere_the_paper_has_it() -> None:
    """After the subsampling (fig. 1), in each part of a block (figs 2 to 4), and before the head, which is ours."""
    torch.manual_seed(0)
    net = conformer.build(SMALL, 3, width=8, dropout=0.25)
    block = net.blocks[0]
    drops = [net.dropout, block.dropout, block.convolution.dropout, net.head.dropout]
    drops += [part for half in (block.first_half, block.second_half) for part in half if isinstance(part, nn.Dropout)]
    assert [drop.p for drop in drops] == [0.25] * 8
    assert block.attention.dropout == 0.25
    zeroed: dict[str, float] = {}
    for name, part in (("block", block), ("head", net.head.project)):
        part.register_forward_pre_hook(
            lambda _, given, name=name: zeroed.update({name: float((given[0] == 0).float().mean())})
        )
    net(torch.randn(60, 40, 5))
    assert zeroed == pytest.approx({"block": 0.25, "head": 0.25}, abs=0.06)


def test_each_row_answers_as_it_would_alone() -> None:
    net = small(subsample=4).eval()
    frames = torch.randn(2, 11, 5)
    inside = torch.arange(11) < torch.tensor([[11], [5]])
    frames[1, 5:] = 1e4  # what is not inside may be anything
    torch.testing.assert_close(net(frames, inside)[1:], net(frames[1:, :5]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("length", "positions"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_four_frames_become_one_position_and_one_is_enough(length: int, positions: int) -> None:
    net = small(subsample=4).eval()
    states = net.hidden(torch.randn(2, length, 5))
    assert states.shape == (2, positions, 8)
    assert torch.isfinite(states).all()
    inside = torch.arange(9) < length
    assert int(inside[::4].sum()) == positions


def encoder_parameters(size: str) -> int:
    with torch.device("meta"):
        net = conformer.build(SPEECH, 1, size=size)
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith("head"))


@pytest.mark.parametrize(("size", "width", "depth", "heads"), [("S", 144, 16, 4), ("M", 256, 16, 4), ("L", 512, 17, 8)])
def test_published_sizes_have_the_measures_of_table_1(size: str, width: int, depth: int, heads: int) -> None:
    """Per block 24 width² in matrices, and 64 width in norms, biases, u, v and 32 taps for each channel."""
    block = 24 * width**2 + 64 * width
    in_front = (9 + 1) * width + (9 * width + 1) * width + (20 * width + 1) * width
    assert encoder_parameters(size) == depth * block + in_front
    assert conformer.SIZES[size].heads == heads  # on which no parameter depends


@pytest.mark.parametrize(("size", "millions", "units"), [("S", 10.3, 320), ("M", 30.7, 640), ("L", 118.8, 640)])
def test_published_counts_are_those_with_the_papers_decoder(size: str, millions: float, units: int) -> None:
    """Table 1 counts the transducer: one LSTM of so many units, an embedding of 1024 word pieces, a joint layer.

    The embedding's width is not published; 256 is assumed.
    """
    width = conformer.SIZES[size].width
    with torch.device("meta"):
        decoder = [nn.Embedding(1024, 256), nn.LSTM(256, units)]
        joint = [nn.Linear(width, units), nn.Linear(units, units), nn.Linear(units, 1024)]
    others = sum(p.numel() for part in (*decoder, *joint) for p in part.parameters())
    assert encoder_parameters(size) + others == pytest.approx(1e6 * millions, rel=0.03)


def test_lower_precision_agrees() -> None:
    net, frames = small(), torch.randn(3, 12, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = net(frames)
    torch.testing.assert_close(low.float(), net(frames), atol=0.1, rtol=0.1)


def test_norms_biases_and_vectors_are_told_apart_from_matrices() -> None:
    attention = small().blocks[0].attention
    assert {id(p) for p in attention.no_decay()} == {id(attention.content_bias), id(attention.distance_bias)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "XL"}, "Known: tiny, S, M, L"),
        ({"width": 30}, "model.width=24"),
        ({"heads": 0}, "model.heads=0"),
        ({"subsample": 3}, "model.subsample=3: expected 1, 2, 4 or 8"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        conformer.build(SMALL, 3, **options)
