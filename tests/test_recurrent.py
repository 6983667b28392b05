"""Recurrent nets: the equations are torch's kernels, lengths count as packing would, a kept state is the whole pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fathom import rooms
from fathom.errors import UserError
from fathom.generation import generate
from fathom.models import gru, lstm, rnn
from fathom.models.parts.cache import Cache
from fathom.models.parts.frames import real_frames
from fathom.models.parts.recurrent import Equations, start_orthogonal
from fathom.models.parts.recurrent_net import CELLS, BothWays

TEXT = {"form": "tokens", "vocabulary": 12, "length": 7}
STREAM = {"form": "stream", "vocabulary": 12, "length": 7}
FRAMES = {"form": "frames", "channels": 3, "length": 7}
KINDS = {"rnn": rnn, "lstm": lstm, "gru": gru}
QUIET = {"dropout": 0.0, "drop_tokens": 0.0}
LENGTHS = torch.tensor([7, 1, 4])
INSIDE = torch.arange(7) < LENGTHS[:, None]


def both(kind: str, width_in: int = 6, width: int = 5) -> tuple[Equations, nn.RNNBase]:
    """Our layer and torch's with the same weights."""
    torch.manual_seed(0)
    mine, theirs = Equations(kind, width_in, width), CELLS[kind](width_in, width, batch_first=True)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


def parts(state: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def packed(layer: nn.RNNBase, x: Tensor, lengths: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    rows, state = layer(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(rows, batch_first=True, total_length=x.shape[1])[0], parts(state)


@pytest.mark.parametrize("kind", KINDS)
def test_equations_are_torchs_kernel_with_its_gradients(kind: str) -> None:
    mine, theirs = both(kind)
    x, weights = torch.randn(3, 7, 6), torch.randn(3, 7, 5)
    first = tuple(torch.randn(1, 3, 5) for _ in range(mine.num_states))
    found = []
    for layer in (mine, theirs):
        given = x.clone().requires_grad_()
        states, last = layer(given, first if len(first) == 2 else first[0])
        ((states * weights).sum() + sum(part.square().sum() for part in parts(last))).backward()
        found.append([states, *parts(last), given.grad, *(p.grad for _, p in sorted(layer.named_parameters()))])
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_read_the_state_stays_as_after_a_packed_sequence(kind: str) -> None:
    mine, theirs = both(kind)
    x = torch.randn(3, 7, 6)
    states, last = mine(x, inside=INSIDE)
    expected, expected_last = packed(theirs, x, LENGTHS)
    torch.testing.assert_close(states * INSIDE.unsqueeze(-1), expected, atol=1e-6, rtol=0)
    for ours, other in zip(parts(last), expected_last, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["equations", "kernels"])
def test_both_ways_are_a_packed_bidirectional_net_with_its_gradients(kind: str, how: str) -> None:
    torch.manual_seed(0)
    cell = partial(written, kind) if how == "equations" else CELLS[kind]
    mine, theirs = BothWays(cell, 6, 5), CELLS[kind](6, 5, batch_first=True, bidirectional=True)
    for name, parameter in mine.forwards.named_parameters():
        getattr(theirs, name).data.copy_(parameter)
        getattr(theirs, name + "_reverse").data.copy_(mine.backwards.get_parameter(name))
    x, weights = torch.randn(3, 7, 6), torch.randn(3, 7, 10) * INSIDE.unsqueeze(-1)
    ours, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    states, expected = mine(ours, INSIDE), packed(theirs, other, LENGTHS)[0]
    torch.testing.assert_close(states * INSIDE.unsqueeze(-1), expected, atol=1e-6, rtol=0)
    (states * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, other.grad, atol=1e-6, rtol=1e-5)
    for name, parameter in mine.forwards.named_parameters():
        torch.testing.assert_close(parameter.grad, getattr(theirs, name).grad, atol=1e-6, rtol=1e-5)
        back = mine.backwards.get_parameter(name).grad
        torch.testing.assert_close(back, getattr(theirs, name + "_reverse").grad, atol=1e-6, rtol=1e-5)


def written(kind: str, width_in: int, width: int, *, batch_first: bool) -> Equations:
    assert batch_first
    return Equations(kind, width_in, width)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(kind: str, x: list[float], w: list[float], u: list[float], b: list[float]) -> float:
    """One unit that reads one number at a time, in Python's own arithmetic. Gates stand in torch's order."""
    h = c = 0.0
    for value in x:
        i = [w[g] * value + b[g] for g in range(len(w))]
        s = [u[g] * h for g in range(len(w))]
        if kind == "rnn":
            h = math.tanh(i[0] + s[0])
        elif kind == "lstm":
            c = sigmoid(i[1] + s[1]) * c + sigmoid(i[0] + s[0]) * math.tanh(i[2] + s[2])
            h = sigmoid(i[3] + s[3]) * math.tanh(c)
        else:
            keep = sigmoid(i[1] + s[1])
            h = keep * h + (1 - keep) * math.tanh(i[2] + sigmoid(i[0] + s[0]) * s[2])
    return h


@pytest.mark.parametrize("kind", KINDS)
def test_equations_by_hand(kind: str) -> None:
    torch.manual_seed(0)
    layer = Equations(kind, 1, 1).double()
    layer.bias_hh_l0.data.zero_()
    x = torch.randn(1, 6, 1, dtype=torch.float64)
    w, u, b = (p.flatten().tolist() for p in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0))
    assert layer(x)[0][0, -1, 0].item() == pytest.approx(by_hand(kind, x.flatten().tolist(), w, u, b), abs=1e-12)


@pytest.mark.parametrize("module", KINDS.values(), ids=KINDS)
def test_a_running_text_is_not_read_ahead(module: ModuleType) -> None:
    torch.manual_seed(0)
    net = module.build({"t": STREAM}, 4, depth=2, width=6).eval()
    tokens = torch.randint(12, (1, 7))
    other = tokens.clone()
    other[0, 4] = (tokens[0, 4] + 1) % 12
    same = (net(tokens) == net(other)).all(dim=-1)[0]
    assert same.tolist() == [True] * 4 + [False] * 3


@pytest.mark.parametrize("module", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_of_different_lengths_go_on_together(module: ModuleType, side: str) -> None:
    """Each row's next answers are those it would give alone, wherever its padding stands."""
    torch.manual_seed(0)
    net = module.build({"t": STREAM}, 4, depth=2, width=6).eval()
    tokens, further, cache = torch.randint(12, (3, 7)), torch.randint(12, (3, 2)), Cache()
    inside = INSIDE if side == "right" else INSIDE.flip(1)
    start, then = net(tokens, inside, cache=cache), net(further, cache=cache)
    for row, length in enumerate(LENGTHS.tolist()):
        real = tokens[row][inside[row]]
        alone = net(torch.cat([real, further[row]])[None])[0]
        torch.testing.assert_close(start[row][inside[row]], alone[:length], atol=1e-6, rtol=0)
        torch.testing.assert_close(then[row], alone[length:], atol=1e-6, rtol=0)
    torch.testing.assert_close(net(tokens, inside)[inside], start[inside], atol=1e-6, rtol=0)


@pytest.mark.parametrize("module", KINDS.values(), ids=KINDS)
def test_a_piece_in_which_a_row_has_ended_leaves_its_state(module: ModuleType) -> None:
    torch.manual_seed(0)
    net = module.build({"t": STREAM}, 4, depth=2, width=6).eval()
    tokens = torch.randint(12, (2, 9))
    inside = torch.tensor([[True] * 9, [True] * 3 + [False] * 3 + [True] * 3])
    for lengths in ([3, 3, 3], [1, 2, 3, 3]):
        cache, parts = Cache(), zip(tokens.split(lengths, dim=1), inside.split(lengths, dim=1), strict=True)
        found = torch.cat([net(part, mask, cache=cache) for part, mask in parts], dim=1)
        torch.testing.assert_close(found[0], net(tokens[:1])[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(found[1][inside[1]], net(tokens[1:, inside[1]])[0], atol=1e-6, rtol=0)
    late = Cache()
    net(tokens[:, :3], torch.tensor([[True] * 3, [False] * 3]), cache=late)
    torch.testing.assert_close(net(tokens[1:, :2]), net(tokens[:, :2], cache=late)[1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("module", KINDS.values(), ids=KINDS)
def test_an_id_of_0_before_the_last_other_one_is_read(module: ModuleType) -> None:
    """Only the end is padding where no mask says more."""
    torch.manual_seed(0)
    net = module.build({"t": TEXT}, 2, width=6).eval()
    tokens = torch.tensor([[0, 5, 6, 0], [5, 0, 6, 0]])
    torch.testing.assert_close(net(tokens), net(tokens[:, :3], torch.ones(2, 3, dtype=torch.bool)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("module", KINDS.values(), ids=KINDS)
def test_they_write_on_from_a_padded_start(module: ModuleType) -> None:
    torch.manual_seed(0)
    net = module.build({"t": STREAM}, 12, depth=2, width=6).eval()
    tokens, inside = torch.randint(12, (3, 7)), INSIDE.flip(1)
    written = generate(net, tokens, new_tokens=4, inside=inside)[:, 7:]
    for row in range(3):
        alone = tokens[row][inside[row]][None]
        for _ in range(4):  # the whole text again for each token
            alone = torch.cat([alone, net(alone)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
        assert torch.equal(written[row], alone[0, -4:])


@pytest.mark.parametrize("module", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("form", ["tokens", "frames"])
def test_padding_may_stand_anywhere_if_told(module: ModuleType, form: str) -> None:
    torch.manual_seed(0)
    net = module.build({"t": TEXT if form == "tokens" else FRAMES}, 4, width=6).eval()
    values = torch.randint(1, 12, (3, 7)) if form == "tokens" else torch.randn(3, 7, 3)
    inside = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0, 1]], dtype=torch.bool)
    answers, states = net(values, inside), net.hidden(values, inside)
    for row in range(3):
        alone = values[row][inside[row]][None]
        torch.testing.assert_close(answers[row], net(alone)[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(states[row][inside[row]], net.hidden(alone)[0], atol=1e-6, rtol=0)


def test_frames_end_where_no_number_follows() -> None:
    nan = float("nan")
    frames = torch.tensor([[[1.0, nan], [nan, nan], [nan, 2.0], [nan, nan]], [[nan, nan]] * 4])
    assert real_frames(frames).tolist() == [[True, True, True, False], [True, False, False, False]]
    torch.manual_seed(0)
    net = gru.build({"s": {"form": "frames", "channels": 2, "length": 4}}, 3, **QUIET)
    torch.testing.assert_close(net(frames[:1]), net(frames[:1, :3].nan_to_num(0.0)))
    net(frames).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize(("about", "values"), [(FRAMES, torch.ones(100, 7, 3)), (TEXT, torch.full((100, 7), 5))])
def test_dropped_positions_are_zeroed_in_training_only_and_never_the_first(
    about: dict[str, Any], values: Tensor
) -> None:
    torch.manual_seed(0)
    net = lstm.build({"s": about}, 2, dropout=0.0, drop_tokens=0.5)
    dropped = (net.embed(values)[0] == 0).all(dim=-1)
    assert not dropped[:, 0].any()
    assert 0.4 < float(dropped[:, 1:].float().mean()) < 0.6
    assert not (net.eval().embed(values)[0] == 0).any()


@pytest.mark.parametrize("module", KINDS.values(), ids=KINDS)
def test_dropout_stands_before_each_layer_and_the_head(module: ModuleType) -> None:
    torch.manual_seed(0)
    net = module.build({"t": TEXT}, 4, depth=3, width=32, dropout=0.25, drop_tokens=0.0)
    zeroed = []
    for part in (*net.layers, net.head):
        part.register_forward_pre_hook(lambda _, given: zeroed.append(float((given[0] == 0).float().mean())))
    net(torch.randint(1, 12, (50, 7)))
    assert zeroed == pytest.approx([1 - 0.75**2, 0.25, 0.25, 0.25], abs=0.04)  # the first: after the embedding's own
    zeroed.clear()
    net.eval()(torch.randint(1, 12, (50, 7)))
    assert zeroed == [0.0] * 4


def test_a_row_is_read_as_its_maximum_beside_its_mean() -> None:
    """In this order: the weights of old runs stand in it."""
    torch.manual_seed(0)
    net = gru.build({"t": TEXT}, 3, width=6, **QUIET)
    tokens = torch.randint(1, 12, (2, 7))
    states = net.hidden(tokens)
    torch.testing.assert_close(net(tokens), net.head(torch.cat([states.amax(dim=1), states.mean(dim=1)], dim=1)))


@pytest.mark.parametrize("make", [CELLS["lstm"], partial(written, "lstm")], ids=["kernels", "equations"])
def test_orthogonal_start_is_gate_by_gate(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    layer = make(7, 5, batch_first=True)
    start_orthogonal(layer)
    for gate in layer.weight_hh_l0.split(5):
        torch.testing.assert_close(gate @ gate.T, torch.eye(5), atol=1e-6, rtol=0)
    largest = layer.weight_ih_l0.abs().max().item()
    assert 0.9 * math.sqrt(6 / 12) < largest <= math.sqrt(6 / 12)
    assert not layer.bias_ih_l0.any() and not layer.bias_hh_l0.any()


@pytest.mark.parametrize("module", KINDS.values(), ids=KINDS)
def test_depth_and_start_reach_every_layer(module: ModuleType) -> None:
    net = module.build({"t": TEXT}, 2, width=4, depth=3, start="orthogonal")
    assert len(net.layers) == 3
    for layer in net.layers:
        for matrix in (*layer.forwards.weight_hh_l0.split(4), *layer.backwards.weight_hh_l0.split(4)):
            torch.testing.assert_close(matrix @ matrix.T, torch.eye(4), atol=1e-6, rtol=0)


def test_forget_bias_moves_that_gate_alone() -> None:
    def biases(**options: Any) -> Tensor:
        torch.manual_seed(0)
        layer = lstm.build({"t": TEXT}, 2, width=4, **options).layers[0].backwards
        return (layer.bias_ih_l0 + layer.bias_hh_l0).detach().view(4, 4)

    plain, moved = biases(), biases(forget_bias=1.0)
    assert (moved[1] == 1.0).all() and (plain[1] != 1.0).all()
    assert torch.equal(moved[[0, 2, 3]], plain[[0, 2, 3]])
    assert (biases(forget_bias=1.0, start="orthogonal")[[0, 2, 3]] == 0).all()


def test_the_same_seed_gives_the_same_lstm_as_ever() -> None:
    """Recipes of old runs must give the same weights: names, and the order in which they are drawn."""
    net = seeded(lstm.build, {"t": TEXT}, 3, width=4)
    torch.manual_seed(0)
    embed = nn.Embedding(12, 8)
    nn.init.normal_(embed.weight, std=0.02)
    forwards, backwards, head = nn.LSTM(8, 4), nn.LSTM(8, 4), nn.Linear(16, 3)
    expected = {"embed.vectors.weight": embed.weight}
    expected |= {f"layers.0.forwards.{name}": p for name, p in forwards.named_parameters()}
    expected |= {f"layers.0.backwards.{name}": p for name, p in backwards.named_parameters()}
    expected |= {f"head.{name}": p for name, p in head.named_parameters()}
    state = net.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_gru_and_the_lstms_cell_gru_are_one_network() -> None:
    one, other = seeded(gru.build, {"t": TEXT}, 3), seeded(lstm.build, {"t": TEXT}, 3, cell="gru")
    tokens = torch.randint(1, 12, (4, 7))
    assert torch.equal(one.eval()(tokens), other.eval()(tokens))
    assert {"rnn", "lstm", "gru"} <= set(rooms.names("models"))


def seeded(build: Callable[..., nn.Module], *given: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(*given, **options)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (rnn, {"width": 0}, "model.width=0"),
        (gru, {"start": "orthagonal"}, "Did you mean 'orthogonal'"),
        (gru, {"drop_tokens": 1.0}, "model.drop_tokens=1.0"),
        (lstm, {"cell": "rnn"}, "Known: lstm, gru"),
        (lstm, {"cell": "gru", "forget_bias": 1.0}, "no forget gate"),
    ],
)
def test_options_that_do_not_fit_are_refused(module: ModuleType, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module.build({"t": TEXT}, 2, **options)


def test_a_net_that_reads_both_ways_takes_no_cache() -> None:
    with pytest.raises(UserError, match="both directions"):
        lstm.build({"t": TEXT}, 2)(torch.ones(1, 3, dtype=torch.long), cache=Cache())
