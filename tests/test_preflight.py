"""Experiments on copies before the first step: gross faults are found, plain healthy nets are left in peace."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fathom
from fathom.doctor.first_loss import find_first_loss
from fathom.doctor.one_batch import find_cannot_learn
from fathom.doctor.parts.chance import ErrorBudget, p_of_mean_above
from fathom.doctor.parts.trial import Trial, some_batches

FEATURES, CLASSES = 8, 3
Batch = tuple[Tensor, Tensor]


def rows(count: int = 640, size: int = 64, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=generator)
    y = (x[:, :CLASSES] + 0.3 * torch.randn(count, CLASSES, generator=generator)).argmax(dim=1)
    return list(zip(x.split(size), y.split(size), strict=True))


def mlp(depth: int = 2, *, norm: bool = False, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = FEATURES
    for _ in range(depth):
        layers += [nn.Linear(width, 32), *([nn.BatchNorm1d(32)] if norm else []), activation()]
        width = 32
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def found(
    model: nn.Module, data: list[Batch] | None = None, *, rate: float = 3e-3, make: Any = torch.optim.AdamW
) -> list[fathom.doctor.finding.Finding]:
    doctor = fathom.watch(
        model, make(model.parameters(), lr=rate), data=rows() if data is None else data, loss=loss, say=None
    )
    doctor.close()
    return doctor.report()


def ids(findings: list[Any]) -> list[str]:
    return [one.id for one in findings]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (lambda: mlp(), {}),
        (lambda: mlp(1, activation=nn.Tanh), {"rate": 1e-2}),
        (lambda: mlp(4, norm=True), {}),
        (lambda: mlp(3, activation=nn.GELU), {"rate": 0.5, "make": torch.optim.SGD}),
        (lambda: nn.Linear(FEATURES, CLASSES), {"rate": 0.01}),
    ],
)
def test_healthy_nets_are_left_in_peace(model: Callable[[], nn.Module], options: dict[str, Any]) -> None:
    assert found(model(), **options) == []


def test_a_rate_out_of_range_is_named_with_one_that_learns() -> None:
    (high,) = found(mlp(), rate=30.0)
    assert high.id == "F10" and "too high" in high.cause and high.evidence["suggested"] <= 3.0
    (low,) = found(mlp(), rate=1e-7)
    assert low.id == "F10" and "too low" in low.cause and low.evidence["suggested"] >= 1e-5


def test_inputs_of_odd_scales_are_named_where_it_matters() -> None:
    factors = 10 ** torch.linspace(-2, 2, FEATURES)
    odd = [(20 * factors + x * factors, y) for x, y in rows()]
    findings = found(mlp(), odd)
    assert findings[0].id == "F3" and "F10" not in ids(findings)
    assert found(nn.Sequential(nn.BatchNorm1d(FEATURES), mlp()), odd) == [], "a batch norm in front takes care of it"


def test_bad_starts_are_named() -> None:
    model = mlp(8)
    with torch.no_grad():
        for part in model:
            if isinstance(part, nn.Linear):
                part.weight.mul_(0.2)
    assert "F8" in ids(found(model))
    equal = mlp(2)
    nn.init.constant_(equal[2].weight, 0.1)
    findings = found(equal)
    assert findings[0].id == "F8" and findings[0].by == "exact" and findings[0].evidence["layers"] == ["2"]


def test_a_first_loss_far_too_high_is_named() -> None:
    model = mlp()
    with torch.no_grad():
        model[-1].weight.mul_(100)
    assert "F2" in ids(found(model))


def test_rows_without_an_answer_are_left_out_of_the_first_loss() -> None:
    data = [(x, torch.where(torch.arange(len(y)) % 3 == 0, -100, y)) for x, y in rows()]
    assert found(mlp(), data) == []
    model = mlp()
    with torch.no_grad():
        model[-1].weight.mul_(100)
    assert "F2" in ids(found(model, data))


def test_an_error_of_the_loss_is_no_finding() -> None:
    def wrong(model: nn.Module, batch: Batch) -> Tensor:
        raise ValueError("the loss itself is wrong")

    model = mlp(norm=True)
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match="the loss itself"):
        fathom.watch(model, optimizer, data=rows(), loss=wrong, say=None)
    alone = [(x[:1], y[:1]) for x, y in rows()]
    assert ids(found(mlp(norm=True), alone)) == ["F7"], "no step can be made of one row"


def test_tiny_batches_before_a_batch_norm_are_named() -> None:
    assert "F7" in ids(found(mlp(3, norm=True), rows(size=4)))
    assert "F7" not in ids(found(mlp(3, norm=True), rows(size=64)))


class Deaf(nn.Module):
    """It does not look at its input."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x * 0)


def test_a_model_that_does_not_look_at_its_input_is_named() -> None:
    assert "F9" in ids(found(Deaf()))
    model = mlp()
    healthy = Trial(model, [torch.optim.AdamW(model.parameters(), lr=1e-2)], loss, rows()[:4])
    assert list(find_cannot_learn(healthy)) == []


def test_a_weight_decay_that_undoes_each_step_is_named_and_made_less() -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=300.0)
    doctor = fathom.watch(model, optimizer, data=rows(), loss=loss, say=None, fix=True)
    doctor.close()
    one = next(one for one in doctor.findings if one.id == "F9")
    assert "weight decay" in one.cause and one.evidence["loss_with_less_decay"] < 0.5 * one.evidence["loss"]
    assert [one.id for one in doctor.mended] == ["F9"] and optimizer.param_groups[0]["weight_decay"] == 3.0


def test_nothing_notices_the_experiments() -> None:
    class Loader:
        """Shuffled by a generator of its own, and noisy by torch's."""

        def __init__(self) -> None:
            self.generator = torch.Generator().manual_seed(3)

        def __iter__(self) -> Iterator[Batch]:
            data = rows()
            for at in torch.randperm(len(data), generator=self.generator).tolist():
                yield data[at][0] + 0.01 * torch.randn(64, FEATURES), data[at][1]

    def state(is_watched: bool) -> list[Any]:
        model, loader = mlp(2, norm=True), Loader()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        if is_watched:
            fathom.watch(model, optimizer, data=loader, loss=loss, say=None).close()
        first = next(iter(loader))[0]
        kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        return [first, kept, random.random(), np.random.rand(), torch.rand(3), model.training]  # noqa: NPY002

    plain, beside = state(False), state(True)
    assert torch.equal(plain[0], beside[0]) and plain[2:4] == beside[2:4] and torch.equal(plain[4], beside[4])
    assert all(torch.equal(value, beside[1][0][name]) for name, value in plain[1][0].items())
    assert str(plain[1][1]) == str(beside[1][1]) and plain[5] == beside[5]


def test_a_source_that_cannot_be_begun_again_is_not_touched() -> None:
    stream = iter(rows())
    assert some_batches(stream, 4) == []
    assert len(list(stream)) == 10


def test_a_loader_that_is_looked_into_draws_no_random_numbers() -> None:
    loader = torch.utils.data.DataLoader([(x, y) for x, y in rows(64, 1)], batch_size=4)  # its seed is torch's own
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert len(some_batches(loader, 4)) == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_weighted_classes_and_left_out_answers_have_first_losses_of_their_own() -> None:
    def weighted(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], weight=torch.tensor([1.0, 1.0, 60.0]))

    def left_out(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], ignore_index=0)

    def first(loss: Any) -> list[str]:
        model = mlp()
        with torch.no_grad():
            model[-1].bias.copy_(torch.tensor([-12.0, 0.0, 0.0]))  # wrong about the class that nobody asks for
        return [one.id for one in find_first_loss(Trial(model, [], loss, rows()[:8]), 1e-4)]

    assert first(loss) == ["F2"]
    assert first(weighted) == first(left_out) == []


def test_experiments_differ_in_nothing_but_what_was_changed() -> None:
    model = mlp()
    trial = Trial(model, [torch.optim.AdamW(model.parameters(), lr=1e-3)], loss, rows()[:4])
    same, again, slower = trial.run(12), trial.run(12), trial.run(12, rate=0.1)
    assert same.losses == again.losses and same.losses[0] == slower.losses[0] and same.losses[-1] < slower.losses[-1]
    assert not trial.run(30, rate=1e6).is_finite or trial.run(30, rate=1e6).last(5) > 10
    two = Trial(
        model, [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.SGD(model[2:].parameters(), 0.1)], loss, rows()
    )
    assert two.run(20).last(4) < two.losses().mean()


def test_the_error_budget_is_kept_over_any_number_of_looks() -> None:
    budget, generator = ErrorBudget(0.05, detectors=1), np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        alarms += any(p_of_mean_above(generator.normal(size=12)) < budget.level(look) for look in range(1, 21))
    assert alarms <= 0.05 * 400 + 3 * (0.05 * 0.95 * 400) ** 0.5
    assert p_of_mean_above(np.full(12, 1.0)) == 0.0 and p_of_mean_above(np.array([1.0, 2.0])) == 1.0
