"""Mamba-3: its recurrence against complex numbers, against Mamba-2's and in chunks; padding, caches and sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.generation import generate
from fathom.models import mamba3
from fathom.models.parts.cache import Cache
from fathom.models.parts.rotary import rotate
from fathom.models.parts.ssd import ssd_step_by_step
from fathom.models.parts.trapezoid import Inputs, State, trapezoid, trapezoid_step_by_step
from fathom.optimizer import adamw

STREAM = {"text": {"form": "stream", "vocabulary": 20, "length": 16}}
TOKENS = {"text": {"form": "tokens", "vocabulary": 20, "length": 16}}


def inputs(*, rows: int = 2, length: int = 11, heads: int = 2, rank: int = 1, turning: int = 2) -> Inputs:
    """Random inputs of 3 channels and a state of 6, in float64."""
    torch.manual_seed(0)
    places = (rows, length, heads)
    x, B, C = (torch.randn(*places, rank, size, dtype=torch.float64) for size in (3, 6, 6))
    dt, blend = torch.rand(*places, dtype=torch.float64), torch.rand(*places, dtype=torch.float64)
    angles = 2 * torch.randn(*places, turning, dtype=torch.float64)
    return Inputs(x, B, C, dt, -dt * torch.rand(*places, dtype=torch.float64), blend, angles)


def small(about: dict[str, Any] = STREAM, outputs: int = 20, **options: Any) -> nn.Module:
    """A model in float64 whose every parameter is away from its first value: a factor of 1 hides mistakes."""
    torch.manual_seed(0)
    model = mamba3.build(about, outputs, **{"depth": 2, "width": 8, "state": 6, "head_width": 4, "chunk": 4, **options})
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.double().eval()


def close(found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_recurrence_is_that_of_a_complex_state() -> None:
    """Eq. 24 of the paper with complex numbers, one head, all of its state turning."""
    given = inputs(rows=1, heads=1, turning=3)
    x, dt, blend, angles = given.x[0, :, 0, 0], given.dt[0, :, 0], given.blend[0, :, 0], given.angles[0, :, 0]
    B = torch.complex(given.B[0, :, 0, 0, :3], given.B[0, :, 0, 0, 3:])
    C = torch.complex(given.C[0, :, 0, 0, :3], -given.C[0, :, 0, 0, 3:])
    state = torch.zeros(3, 3, dtype=torch.complex128)
    y = trapezoid_step_by_step(given)[0][0, :, 0, 0]
    for t in range(len(x)):
        kept = torch.exp(torch.complex(given.decay[0, t, 0].expand(3), angles[t]))
        state = state * kept + blend[t] * dt[t] * torch.outer(x[t] + 0j, B[t])
        if t > 0:
            state = state + (1 - blend[t]) * dt[t] * kept * torch.outer(x[t - 1] + 0j, B[t - 1])
        close(y[t], (state @ C[t]).real)


def test_without_turning_and_blend_it_is_mamba_2() -> None:
    given = inputs(turning=0)
    A = -torch.tensor([0.3, 2.0], dtype=torch.float64)
    given = given._replace(blend=torch.ones_like(given.dt), decay=given.dt * A)
    y, state = trapezoid(given, chunk=4)
    expected, last = ssd_step_by_step(given.x[:, :, :, 0], given.dt, A, given.B[:, :, :, 0], given.C[:, :, :, 0])
    close(y[:, :, :, 0], expected)
    close(state.sum, last.transpose(2, 3))


@pytest.mark.parametrize("form", [trapezoid, trapezoid_step_by_step])
def test_a_state_that_turns_knows_the_parity_of_bits(form: Any) -> None:
    """One input at the beginning, no decay, half a turn at each 1: its sign tells whether the ones so far are odd."""
    bits = torch.randint(2, (200,), generator=torch.Generator().manual_seed(0)).double()
    bits[0] = 0
    ones, zeros = (torch.full((1, 200, 1), number, dtype=torch.float64) for number in (1, 0))
    dt = zeros.clone()
    dt[0, 0] = 1
    channel = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1, 200, 1, 1, 2)
    given = Inputs(ones[..., None, None], channel, channel, dt, zeros, ones, math.pi * bits[None, :, None, None])
    close(form(given)[0].flatten(), (-1) ** bits.cumsum(0))
    still = form(given._replace(angles=torch.zeros_like(given.angles)))[0]
    close(still, torch.ones_like(still))


def test_outputs_of_a_higher_rank_are_sums_of_single_ones() -> None:
    """Eq. 12 to 14: output i is the sum over j of what B and x of j and C of i give alone."""
    given = inputs(rank=3)
    whole = trapezoid(given)[0]
    for i in range(3):
        single = [
            trapezoid(given._replace(x=given.x[:, :, :, [j]], B=given.B[:, :, :, [j]], C=given.C[:, :, :, [i]]))[0]
            for j in range(3)
        ]
        close(whole[:, :, :, [i]], torch.stack(single).sum(dim=0))


@pytest.mark.parametrize(("blend", "gain"), [(1.0, 2), (0.5, 4)])
def test_a_blend_of_a_half_is_second_order(blend: float, gain: float) -> None:
    """Half the step, a quarter of the error in y' = -y + cos t (remark 3); at a blend of 1 half of it (Mamba-2)."""
    errors = []
    for steps in (200, 400):
        time = torch.linspace(0, 4, steps + 1, dtype=torch.float64)
        dt = torch.full((1, steps, 1), 4 / steps, dtype=torch.float64)
        ones = torch.ones(1, steps, 1, 1, 1, dtype=torch.float64)
        cosines, no_angles = ones * time[1:, None, None, None].cos(), dt.new_zeros(1, steps, 1, 0)
        given = Inputs(cosines, ones, ones, dt, -dt, torch.full_like(dt, blend), no_angles)
        before = State(ones[:, 0] * 0, ones[:, 0], ones[:, 0])  # at time 0: no state, and an input of cos 0
        exact = (math.cos(4) + math.sin(4) - math.exp(-4)) / 2
        errors.append(abs(float(trapezoid(given, before)[0][0, -1]) - exact))
    assert errors[0] / errors[1] == pytest.approx(gain, rel=0.05)


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("chunk", [None, 1, 4, 11])
def test_chunks_equal_the_recurrence_forward_and_backward(rank: int, chunk: int | None) -> None:
    given = Inputs(*(tensor.requires_grad_() for tensor in inputs(rank=rank)))
    other = trapezoid(inputs(rank=rank, length=3))[1]
    before = State(*(tensor.clone().requires_grad_() for tensor in other))
    found, expected = trapezoid(given, before, chunk=chunk), trapezoid_step_by_step(given, before)
    close(found, expected)
    outcomes = []
    for y, state in (found, expected):
        loss = (y * torch.arange(y.numel()).view_as(y).sin()).sum() + sum(part.square().sum() for part in state)
        outcomes.append(torch.autograd.grad(loss, [*given, *before]))
    close(*outcomes)


def test_a_text_in_two_parts_is_the_text() -> None:
    given = inputs(rank=2)
    whole = trapezoid(given, chunk=3)
    first, state = trapezoid(Inputs(*(tensor[:, :4] for tensor in given)), chunk=3)
    second, state = trapezoid(Inputs(*(tensor[:, 4:] for tensor in given)), state, chunk=3)
    close((torch.cat([first, second], dim=1), state), whole)


@pytest.mark.parametrize("form", [trapezoid, trapezoid_step_by_step])
@pytest.mark.parametrize("real", ["..xxx", "xxx..", ".x.xx..x", "....", "x...."])
def test_padding_anywhere_changes_nothing(form: Any, real: str) -> None:
    inside = torch.tensor([place == "x" for place in real]).expand(2, -1)
    before = trapezoid(inputs(length=3))[1]
    given = inputs(length=len(real))
    y, state = form(given, before, inside=inside)
    if not inside.any():
        return close(state, before)
    alone, expected = form(Inputs(*(tensor[:, inside[0]] for tensor in given)), before)
    close((y[:, inside[0]], state), (alone, expected))


def test_rows_are_padded_each_in_its_way() -> None:
    given = inputs(length=9)
    inside = torch.arange(9) < torch.tensor([[4], [9]])
    close(trapezoid(given, inside=inside, chunk=4)[1], trapezoid_step_by_step(given, inside=inside)[1])


def test_memory_grows_with_the_length_not_its_square() -> None:
    def kept(length: int) -> int:
        seen: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        given = Inputs(*(tensor.requires_grad_() for tensor in inputs(length=length, rank=2)))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            y = trapezoid(given, chunk=32)[0]
        assert y.requires_grad
        return sum(seen.values())

    assert kept(1024) / kept(512) < 2.2


def test_far_positions_are_as_exact_as_near_ones() -> None:
    """Summed over the whole text, 3 rad at each of 4,000 positions would cost float32 a thousandth of a radian."""
    torch.manual_seed(0)
    given = inputs(rows=1, heads=1, length=4000)
    given = given._replace(angles=given.angles.abs() + 3)
    found = trapezoid(Inputs(*(tensor.float() for tensor in given)))[0]
    expected = trapezoid(given)[0]
    assert (found - expected).abs().amax() < 2e-5 * expected.abs().amax()


def test_type_of_the_answer_is_that_of_the_question() -> None:
    y, state = trapezoid(Inputs(*(tensor.bfloat16() for tensor in inputs())))
    assert y.dtype == torch.bfloat16 and state.sum.dtype == torch.float32


def test_mixer_equals_its_formula() -> None:
    """Section 3.4 and appendix C, one head after the other; the recurrence itself is held to eq. 24 above."""
    heads, groups, rank, size, width = 4, 2, 2, 6, 4
    mixer = small(rank=rank, groups=groups, norm_eps=0.05).blocks[0].mixer
    x = torch.randn(3, 7, 8, dtype=torch.float64)
    inner, shared = heads * width, groups * rank * size
    gate, values, B, C, step, A, blend, angles = (
        x @ part.T for part in mixer.project_in.weight.split([inner, inner, shared, shared, *[heads] * 3, 1])
    )

    def normed(read: Tensor, norm: nn.Module, bias: Tensor, head: int, m: int) -> Tensor:
        first = size * (rank * (head // (heads // groups)) + m)
        of_one = read[..., first : first + size]
        return of_one / (of_one.square().mean(dim=-1, keepdim=True) + 0.05).sqrt() * norm.weight + bias[head, m]

    outputs = []
    for head in range(heads):
        part = slice(width * head, width * head + width)
        dt = (1 + (step[..., [head]] + mixer.step_bias[head]).exp()).log()
        slow = torch.where(A > 0, 1 + A, 1 / (1 - A))[..., [head]]
        given = Inputs(
            x=torch.stack([values[..., part] * mixer.ranks.of_input[head, m] for m in range(rank)], dim=2).unsqueeze(2),
            B=torch.stack([normed(B, mixer.B_norm, mixer.B_bias, head, m) for m in range(rank)], dim=2).unsqueeze(2),
            C=torch.stack([normed(C, mixer.C_norm, mixer.C_bias, head, m) for m in range(rank)], dim=2).unsqueeze(2),
            dt=dt,
            decay=-slow * dt,
            blend=torch.sigmoid(blend[..., [head]]),
            angles=math.pi * angles.tanh().unsqueeze(2) * dt.unsqueeze(-1),
        )
        y = trapezoid_step_by_step(given)[0] + mixer.skip[head] * given.x
        gates = [gate[..., part] * mixer.ranks.of_gate[head, m] for m in range(rank)]
        gated = [y[:, :, 0, m] * gates[m] * torch.sigmoid(gates[m]) * mixer.ranks.of_output[head, m] for m in (0, 1)]
        outputs.append(sum(gated))
    close(mixer(x, None, None), mixer.project_out(torch.cat(outputs, dim=-1)))


def test_a_head_of_one_rank_is_gated_by_swish() -> None:
    mixer = small().blocks[0].mixer
    y, gate = torch.randn(2, 3, 4, 1, 5).double(), torch.randn(2, 3, 4, 5).double()
    close(mixer.ranks.join(y, gate), y[:, :, :, 0] * gate * torch.sigmoid(gate))


def test_no_memory_lasts_for_ever() -> None:
    """However low what is projected for A: it stays below -0.0001."""
    mixer = small().blocks[0].mixer
    first = sum(mixer.parts[:5])
    mixer.project_in.weight.data[first : first + mixer.parts[5]] = -1e9
    given = mixer.read(torch.ones(1, 2, 8, dtype=torch.float64))[1]
    close(given.decay, -1e-4 * given.dt)


def test_turning_keeps_lengths_and_the_channels_left_over() -> None:
    x, angles = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    there = rotate(x, angles.cos(), angles.sin())
    close(there.norm(dim=-1), x.norm(dim=-1))
    close(there[:, 4:], x[:, 4:])
    close(rotate(there, angles.cos(), -angles.sin()), x)


@pytest.mark.parametrize("options", [{"rank": 2, "groups": 2}, {"turning": 0.0}, {"decay": "softplus", "rank": 4}])
def test_written_one_by_one_it_is_read_as_a_whole(options: dict[str, Any]) -> None:
    model, tokens = small(**options), torch.randint(20, (3, 9))
    cache = Cache()
    with torch.no_grad():
        whole = model(tokens)
        steps = [model(tokens[:, :4], cache=cache), *(model(tokens[:, t : t + 1], cache=cache) for t in range(4, 9))]
    assert cache.length == 9
    close(torch.cat(steps, dim=1), whole)


@torch.no_grad()
def test_padding_is_seen_by_nothing_whatever_side_it_stands_on() -> None:
    model, tokens = small(), torch.randint(1, 20, (1, 5))
    alone = model.hidden(tokens)
    for left, right in ((3, 0), (0, 3), (2, 2)):
        padded, inside = F.pad(tokens, (left, right)), F.pad(torch.ones(1, 5, dtype=torch.bool), (left, right))
        cache = Cache()
        close(model.hidden(padded, inside, cache)[:, left : left + 5], alone)
        close(model(tokens[:, :1], cache=cache), model(torch.cat([tokens, tokens[:, :1]], dim=1))[:, -1:])


@torch.no_grad()
def test_one_answer_a_row_comes_from_the_last_real_position() -> None:
    model = small(TOKENS, 3)
    tokens = torch.tensor([[5, 9, 4, 0, 0], [5, 9, 4, 7, 3]])
    answers = model(tokens)
    close(answers[:1], model(tokens[:1, :3]))
    close(answers, model.head.project(model.hidden(tokens)[[0, 1], [2, 4]]))


def test_rows_of_different_lengths_are_written_on_as_each_alone() -> None:
    model = small()
    tokens = torch.tensor([[0, 0, 7, 3], [4, 8, 1, 2]])
    inside = torch.tensor([[False, False, True, True], [True] * 4])
    both = generate(model, tokens, new_tokens=5, inside=inside)
    assert torch.equal(both[0, 4:], generate(model, tokens[:1, 2:], new_tokens=5)[0, 2:])


def test_half_precision_is_near_the_whole() -> None:
    model, tokens = small().float(), torch.randint(20, (3, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(tokens)
    rough.square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    exact = model(tokens)
    assert (rough.float() - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize(("size", "millions"), [("180m", 186), ("440m", 443), ("880m", 893), ("1.5b", 1495)])
def test_published_sizes_have_their_parameters(size: str, millions: int) -> None:
    """With Llama 3.1's vocabulary; at rank 4 as many to 1 %, as appendix C says."""
    llama = {"text": {"form": "stream", "vocabulary": 128_256, "length": 2048}}
    counts = []
    with torch.device("meta"):
        for rank in (1, 4):
            model = mamba3.build(llama, 128_256, size=size, rank=rank)
            counts.append(sum(parameter.numel() for parameter in model.parameters()))
    assert round(counts[0] / 1e6) == millions
    assert counts[1] == pytest.approx(counts[0], rel=0.01)


def test_mixer_has_about_six_times_the_square_of_its_width() -> None:
    with torch.device("meta"):
        model = mamba3.build(STREAM, 20, width=2048, depth=1, state=128)
    count = sum(parameter.numel() for parameter in model.blocks[0].mixer.parameters())
    assert 6 * 2048**2 < count < 6.3 * 2048**2


def test_start_is_the_published_one() -> None:
    torch.manual_seed(0)
    model = mamba3.build(STREAM, 20, depth=4, rank=2)
    mixer = model.blocks[0].mixer
    steps = F.softplus(mixer.step_bias)
    assert steps.min() >= 1e-3 and steps.max() <= 0.1
    assert (mixer.B_bias == 1).all() and (mixer.C_bias == 1).all() and (mixer.skip == 1).all()
    assert (mixer.ranks.of_input == 0.5).all() and (mixer.ranks.of_output == 0.5).all()
    # Kaiming's uniform range for torch's matrices is 1 / sqrt(columns), here over sqrt(2 · depth) as well.
    assert float(mixer.project_out.weight.detach().abs().max()) == pytest.approx(1 / math.sqrt(512 * 8), rel=0.01)
    assert float(model.embed.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_what_starts_at_one_is_not_decayed() -> None:
    model = mamba3.build(STREAM, 20, depth=1, rank=2)
    decays = {id(p): group["weight_decay"] for group in adamw(model, 1e-3, 0.1).param_groups for p in group["params"]}
    kept = [name for name, p in model.named_parameters() if p.dim() > 1 and not decays[id(p)]]
    mixer = "blocks.0.mixer."
    ranks = [f"{mixer}ranks.{name}" for name in ("of_input", "of_gate", "of_output")]
    assert kept == [f"{mixer}B_bias", f"{mixer}C_bias", *ranks]


def test_state_never_grows_by_itself() -> None:
    for decay in ("softplus", "heavy_tail"):
        mixer = mamba3.build(STREAM, 20, decay=decay).blocks[0].mixer
        assert (mixer.read(torch.randn(2, 5, 128))[1].decay < 0).all()
        assert (mixer.read(100 * torch.randn(2, 5, 128))[1].decay <= 0).all()
    assert mamba3.DECAYS["heavy_tail"](torch.tensor([-3.0, 0.0, 2.0])).tolist() == [0.25, 1.0, 3.0]
    assert small().blocks[0].mixer.layout.pairs == 1  # half of 6 channels, in pairs


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"head_width": 48}, "Type model.head_width=32"),
        ({"groups": 3}, "Type model.groups=2"),
        ({"norm_eps": -1.0}, "model.norm_eps=-1.0"),
        ({"turning": 1.5}, "a share from 0 to 1"),
        ({"decay": "heavytail"}, "heavy_tail"),
        ({"size": "440"}, "440m"),
        ({"rank": 0}, "model.rank=0"),
        ({"chunk": 0}, "model.chunk=0"),
        ({"head": False}, "answers with 128 numbers"),
    ],
)
def test_bad_options_are_refused_with_what_to_type(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        mamba3.build(STREAM, 20, **options)
