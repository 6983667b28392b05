"""Muon: matrices move along orthogonal directions, everything else by AdamW; a training is taken up again exactly."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from fathom.loop import train
from fathom.network import build
from fathom.objectives.next_token import build as next_token
from fathom.optimizer import adamw, make_optimizer, muon
from fathom.optimizers.muon import REST, Muon, orthogonal

TEXT = {"text": {"form": "stream", "vocabulary": 20, "length": 16}}


@pytest.mark.parametrize("shape", [(12, 12), (30, 8), (8, 30)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    found = orthogonal(matrix)
    values = torch.linalg.svdvals(found)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ found @ v.mT
    assert float((inner - torch.diag(inner.diag())).abs().max()) < 1e-9, "the same singular vectors"


def test_the_first_step_is_the_orthogonal_gradient_at_the_rate_of_the_shape() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 24, bias=False, dtype=torch.float64)
    before, gradient = layer.weight.detach().clone(), torch.randn(24, 6, dtype=torch.float64)
    optimizer = Muon([{"params": [layer.weight], "orthogonal": True, "weight_decay": 0.5}], lr=0.01)
    layer.weight.grad = gradient
    optimizer.step()
    wanted = before * (1 - 0.01 * 0.5) - 0.01 * 2.0 * orthogonal(gradient)  # 2 is the root of 24 / 6
    torch.testing.assert_close(layer.weight.detach(), wanted)


def test_momentum_is_nesterovs() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 5, bias=False, dtype=torch.float64)
    first, second = torch.randn(2, 5, 5, dtype=torch.float64)
    optimizer = Muon([{"params": [layer.weight], "orthogonal": True}], lr=0.1)
    layer.weight.grad = first
    optimizer.step()
    before = layer.weight.detach().clone()
    layer.weight.grad = second
    optimizer.step()
    momentum = 0.95 * 0.05 * first + 0.05 * second
    wanted = before - 0.1 * orthogonal(0.05 * second + 0.95 * momentum)
    torch.testing.assert_close(layer.weight.detach(), wanted)


def test_heads_vectors_and_norms_are_left_to_adamw_at_a_tenth() -> None:
    model = build("llama", TEXT, 20, {"depth": 1, "width": 16, "tied": False})
    optimizer = muon(model, 0.02, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    by_muon = {names[id(p)] for g in optimizer.param_groups if g["orthogonal"] for p in g["params"]}
    assert "blocks.0.attention.query.weight" in by_muon
    assert not any(word in name for name in by_muon for word in ("embed", "head", "norm"))
    assert len(names) == sum(len(group["params"]) for group in optimizer.param_groups)
    rates = {group["lr"] for group in optimizer.param_groups if not group["orthogonal"]}
    assert rates == {REST * 0.02}


def test_what_is_not_a_matrix_moves_as_by_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Embedding(7, 3), nn.Embedding(7, 3)
    theirs.load_state_dict(ours.state_dict())
    one = muon(ours, 0.1, 0.3)
    other = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.3)
    for _ in range(4):
        gradient = torch.randn(7, 3)
        for model, optimizer in ((ours, one), (theirs, other)):
            model.weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(0)
    starts = torch.randint(3, 20, (count, 4, 1), generator=random)
    windows = 3 + (starts + torch.arange(9)) % 17
    return [(window[:, :-1], window[:, 1:]) for window in windows]


def test_a_training_is_taken_up_again_to_the_last_bit() -> None:
    torch.manual_seed(0)
    model = build(
        "gpt2", TEXT, 20, {"depth": 1, "width": 16, "dropout": 0.0, "drop_embedding": 0.0, "drop_attention": 0.0}
    )
    optimizer = make_optimizer(model, "muon", 0.02, 0.0)
    for _ in train(model, next_token({"vocabulary": 20}), batches(3), optimizer):
        pass
    resumed = copy.deepcopy(model)
    again = make_optimizer(resumed, "muon", 0.02, 0.0)
    for (name, mine), theirs in zip(resumed.named_parameters(), model.parameters(), strict=True):
        assert optimizer.state[theirs], name
        again.state[mine] = {key: value.clone() for key, value in optimizer.state[theirs].items()}
    for net, moves in ((model, optimizer), (resumed, again)):
        for _ in train(net, next_token({"vocabulary": 20}), batches(5)[3:], moves):
            pass
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_learns_what_adamw_learns() -> None:
    losses = []
    for make in (adamw, muon):
        torch.manual_seed(0)
        model = build(
            "gpt2", TEXT, 20, {"depth": 1, "width": 32, "dropout": 0.0, "drop_embedding": 0.0, "drop_attention": 0.0}
        )
        rate = 2e-3 if make is adamw else 0.02
        steps = list(train(model, next_token({"vocabulary": 20}), batches(60), make(model, rate, 0.0)))
        losses.append(float(steps[-1].loss))
    assert losses[1] < losses[0] < 2.8
