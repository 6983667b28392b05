"""Every file of objectives/ keeps the contract of an objective; a new file for a known task is found by itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom import rooms
from fathom.errors import UserError
from fathom.loop import Loss, train

EVERY = rooms.every("objectives")
# What an objective is told of the target, for each kind of task; a task may have several such.
SPECS: dict[str, list[dict[str, Any]]] = {
    "classify": [{"classes": ["a", "b"]}, {"classes": ["a", "b", "c", "d"]}],
    "regress": [{"mean": 5.0, "std": 2.0, "log": False}, {"mean": 1.5, "std": 0.5, "log": True}],
}
CASES = [
    pytest.param(module, spec, id=f"{name}-{number}")
    for name, module in EVERY.items()
    for number, spec in enumerate(SPECS[module.TASK])
]
ROWS = 24


class Given(nn.Module):
    """A model whose outputs are its inputs: the objective sees just what the test says."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


def targets_of(spec: Mapping[str, Any], signal: Tensor) -> Tensor:
    """Targets [N] that follow from a signal [N] about N(0, 1)."""
    if "classes" in spec:
        return torch.bucketize(signal, torch.linspace(-1, 1, len(spec["classes"]) + 1)[1:-1])
    numbers = signal * spec["std"] + spec["mean"]
    return torch.expm1(numbers) if spec["log"] else numbers


def total(objective: Any, raw: Tensor, targets: Tensor) -> Loss:
    (loss,) = objective.losses(Given(), (raw, targets))
    return loss


def batch_of(
    module: ModuleType, spec: dict[str, Any], *, members: int = 0, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    shape = (ROWS, members, module.outputs(spec)) if members else (ROWS, module.outputs(spec))
    return scale * torch.randn(shape), targets_of(spec, torch.randn(ROWS))


@pytest.mark.parametrize("name", EVERY)
def test_file_says_what_it_is_for(name: str) -> None:
    assert EVERY[name].TASK in SPECS
    assert EVERY[name].SOURCE
    first, *options = inspect.signature(EVERY[name].build).parameters.values()
    assert first.name == "spec"
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in options)


@pytest.mark.parametrize("name", EVERY)
def test_unknown_option_is_refused_with_the_nearest(name: str) -> None:
    known = next(iter(rooms.options(EVERY[name].build)))
    with pytest.raises(UserError, match=f"Did you mean '{known}'"):
        rooms.check_options(EVERY[name].build, {known + "x": 1}, name)


@pytest.mark.parametrize(("module", "spec"), CASES)
@pytest.mark.parametrize("members", [0, 3])
def test_sum_and_count_do_not_change_when_the_batch_is_cut(
    module: ModuleType, spec: dict[str, Any], members: int
) -> None:
    objective = module.build(spec)
    raw, targets = batch_of(module, spec, members=members)
    whole = total(objective, raw, targets)
    assert whole.count == objective.count((raw, targets)) == ROWS
    pieces = [total(objective, raw[a:b], targets[a:b]) for a, b in ((0, 1), (1, 8), (8, ROWS))]
    assert sum(piece.count for piece in pieces) == whole.count
    torch.testing.assert_close(sum(piece.total for piece in pieces), whole.total)


@pytest.mark.parametrize(("module", "spec"), CASES)
def test_members_that_agree_count_as_one(module: ModuleType, spec: dict[str, Any]) -> None:
    objective = module.build(spec)
    raw, targets = batch_of(module, spec)
    alike = raw[:, None].expand(-1, 3, -1)
    torch.testing.assert_close(total(objective, alike, targets).total, total(objective, raw, targets).total)
    torch.testing.assert_close(module.decode(alike, spec), module.decode(raw, spec))


@pytest.mark.parametrize(("module", "spec"), CASES)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_loss_and_gradient_are_finite_on_extremes(module: ModuleType, spec: dict[str, Any], scale: float) -> None:
    raw, targets = batch_of(module, spec, scale=scale)
    raw.requires_grad_(True)
    loss = total(module.build(spec), raw, targets)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize(("module", "spec"), CASES)
def test_falls_on_what_can_be_learned_and_decodes_to_it(module: ModuleType, spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    signal = torch.randn(256)
    batch = (torch.stack([signal, signal**2, signal**3], dim=1), targets_of(spec, signal))
    model = nn.Linear(3, module.outputs(spec))
    steps = list(train(model, module.build(spec), [batch] * 300, torch.optim.Adam(model.parameters(), lr=0.05)))
    assert float(steps[-1].loss) < 0.5 * float(steps[0].loss)
    with torch.no_grad():
        decoded = module.decode(model(batch[0]), spec)
    assert decoded.dtype == torch.float64
    if "classes" in spec:
        torch.testing.assert_close(decoded.sum(dim=1), torch.ones(256, dtype=torch.float64))
        assert float((decoded.argmax(dim=1) == batch[1]).double().mean()) > 0.8
    else:
        assert float((decoded - batch[1]).abs().median()) < 0.1 * float(batch[1].std())


@pytest.mark.parametrize(("module", "spec"), CASES)
def test_the_same_batch_costs_the_same_again(module: ModuleType, spec: dict[str, Any]) -> None:
    objective, (raw, targets) = module.build(spec), batch_of(module, spec)
    first = total(objective, raw, targets).total
    total(objective, 2 * raw, targets)
    assert torch.equal(total(objective, raw, targets).total, first)
    assert torch.equal(total(module.build(spec), raw, targets).total, first)
