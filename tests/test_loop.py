"""The one loop equals a hand-written PyTorch loop, to the last bit, and accumulation equals the whole batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom import loop
from fathom.loop import Loss, Step, train
from fathom.objectives import classify, regress

STEPS = 200


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )


def batches(count: int, size: int = 32, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, size, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 10, (count, size), generator=generator)
    return list(zip(pixels, labels, strict=True))


def made(make: type | object, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()  # type: ignore[operator]


def by_hand(model: nn.Module, data: list[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer) -> None:
    model.train()
    for inputs, targets in data:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("make", [mlp, cnn])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_weights_equal_a_hand_written_loop_to_the_last_bit(make: object, kind: str) -> None:
    data = batches(STEPS)
    ours, theirs = made(make), made(make)

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        if kind == "sgd":
            return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    by_hand(theirs, data, optimizer(theirs))
    steps = list(train(ours, classify.Classify(10), data, optimizer(ours)))
    assert len(steps) == STEPS
    for (name, mine), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name


@pytest.mark.parametrize("parts", [1, 2, 4, 7])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accumulation_gives_the_gradient_of_the_whole_batch(parts: int, smoothing: float) -> None:
    inputs, targets = batches(1, size=61)[0]  # 61 is prime: the pieces are never of equal size
    model = made(mlp).double()
    objective = classify.Classify(10, smoothing)

    def gradients(pieces: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        other = copy.deepcopy(model)
        optimizer = torch.optim.SGD(other.parameters(), lr=0.0)
        (step,) = train(other, objective, pieces, optimizer, accumulate=len(pieces))
        assert step.rows == 61
        return [p.grad for p in other.parameters() if p.grad is not None]

    whole = gradients([(inputs.double(), targets)])
    cut = gradients(list(zip(inputs.double().tensor_split(parts), targets.tensor_split(parts), strict=True)))
    for one, other in zip(whole, cut, strict=True):
        assert (one - other).norm() <= 1e-6 * one.norm()


def test_last_group_of_an_exhausted_source_is_used() -> None:
    model = made(mlp)
    steps = list(
        train(model, classify.Classify(10), batches(7), torch.optim.SGD(model.parameters(), 0.1), accumulate=3)
    )
    assert [step.rows for step in steps] == [96, 96, 32]


def test_caller_may_stop_between_steps_and_go_on_later() -> None:
    data = batches(10)
    whole, halves = made(mlp), made(mlp)
    list(train(whole, classify.Classify(10), data, torch.optim.SGD(whole.parameters(), 0.1, momentum=0.9)))
    optimizer = torch.optim.SGD(halves.parameters(), 0.1, momentum=0.9)
    for step in train(halves, classify.Classify(10), data, optimizer):
        if step.index == 4:
            break
    last = list(train(halves, classify.Classify(10), data[4:], optimizer, start=4))[-1]
    assert last.index == 10
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), halves.parameters(), strict=True))


def test_clipping_bounds_the_gradient_and_reports_the_norm_before() -> None:
    model = made(mlp)
    data = [(100 * inputs, targets) for inputs, targets in batches(3)]
    for step in train(model, classify.Classify(10), data, torch.optim.SGD(model.parameters(), 0.0), clip=0.5):
        assert float(step.gradient_norm) > 0.5
        after = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
        assert float(after) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_step_that_is_not_finite_moves_no_weight(clip: float | None) -> None:
    model = made(mlp)
    before = copy.deepcopy(model.state_dict())
    inputs, targets = batches(1)[0]
    inputs[0, 0, 0, 0] = float("nan")
    (step,) = train(
        model, classify.Classify(10), [(inputs, targets)], torch.optim.SGD(model.parameters(), 0.1), clip=clip
    )
    assert step.refused
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class InfiniteSlope:
    """A finite loss whose gradient is not: the root of 0."""

    def count(self, batch: Tensor) -> float:
        return float(len(batch))

    def losses(self, model: nn.Module, batch: Tensor) -> Iterator[Loss]:
        (weight,) = model.parameters()
        yield Loss((weight * batch).sum().sqrt(), len(batch))


@pytest.mark.parametrize("on_the_device", [False, True])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_infinite_gradient_moves_neither_weights_nor_the_optimizers_state(
    clip: float | None, on_the_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_the_device:  # as on a GPU, where nobody reads the answer; the CPU's fused AdamW skips a step in the same way
        monkeypatch.setattr(loop, "_is_skipped_on_the_device", lambda *_: True)
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, fused=True)
    rows = [torch.ones(4, 1), torch.zeros(4, 1), torch.ones(4, 1)]
    steps, seen = [], []
    for step in train(model, InfiniteSlope(), rows, optimizer, clip=clip):
        steps.append(bool(step.refused))
        seen.append(model.weight.item())
    assert steps == [False, True, False]
    assert seen[0] == seen[1] != seen[2]
    assert optimizer.state[model.weight]["step"] == 2
    without = nn.Linear(1, 1, bias=False)
    nn.init.ones_(without.weight)
    other = torch.optim.AdamW(without.parameters(), 0.1, fused=True)
    list(train(without, InfiniteSlope(), rows[::2], other, clip=clip))
    assert torch.equal(model.weight, without.weight)


def test_schedule_is_a_factor_on_each_group() -> None:
    model = made(mlp)
    optimizer = torch.optim.SGD([{"params": [p], "lr": 0.1 * (i + 1)} for i, p in enumerate(model.parameters())])
    steps = train(model, classify.Classify(10), batches(4), optimizer, schedule=lambda index: 1 / (1 + index))
    assert [step.learning_rate for step in steps] == pytest.approx([0.1, 0.05, 0.1 / 3, 0.025])
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.2 / 4)


class Adversary:
    """Two players on two scalars: the second loss must see what the first step did."""

    def __init__(self, seen: list[float]) -> None:
        self.seen = seen

    def count(self, batch: Tensor) -> float:
        return float(len(batch))

    def losses(self, model: nn.Module, batch: Tensor) -> Iterator[Loss]:
        yield Loss((model.a * batch).sum(), len(batch))
        self.seen.append(model.a.item())  # type: ignore[arg-type]
        yield Loss((model.b * batch).sum() + 0 * model.a, len(batch))


class Scalars(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))


def test_two_players_move_in_turn() -> None:
    model, seen = Scalars(), []
    players = [torch.optim.SGD([model.a], 1.0), torch.optim.SGD([model.b], 1.0)]
    steps = list(train(model, Adversary(seen), [torch.ones(4)] * 3, players))
    assert [(s.index, s.player) for s in steps] == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert seen == [-1.0, -2.0, -3.0]
    assert model.b.item() == -3.0


def test_regression_members_share_one_loss() -> None:
    objective = regress.Regress(mean=10.0, std=2.0)
    raw, targets = torch.zeros(3, 4, 1), torch.tensor([10.0, 12.0, 6.0])
    assert float(objective.total(raw, targets)) == pytest.approx(0.5 * (0 + 1 + 4))


def test_steps_carry_what_a_person_asks_for() -> None:
    model = made(mlp)
    (step,) = train(model, classify.Classify(10), batches(1), torch.optim.SGD(model.parameters(), 0.1))
    assert isinstance(step, Step)
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert float(step.gradient_norm) == pytest.approx(float(gradients.norm()))
    assert not step.refused
    assert 1.5 < float(step.loss) < 4.0
    assert not step.loss.requires_grad
