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
    "regress": [
        {"mean": 5.0, "std": 2.0, "log": False},
        {"mean": 1.5, "std": 0.5, "log": True},
        {"mean": 5.0, "std": 2.0, "log": False, "head": "quantile"},
        {"mean": 1.5, "std": 0.5, "log": True, "head": "gaussian"},
    ],
    "language": [{"vocabulary": 9, "mask": 2}],
    "translate": [{"vocabulary": 9}],
    "pair": [{"width": 6}],
}
CASES = [
    pytest.param(module, spec, id=f"{name}-{number}")
    for name, module in EVERY.items()
    for number, spec in enumerate(SPECS[module.TASK])
]
# What makes one prediction for a row may make several, one by each member.
OF_ROWS = [case for case in CASES if case.values[0].TASK in ("classify", "regress")]
WITH_INTERVALS = [
    case for case in OF_ROWS if hasattr(case.values[0], "interval") and case.values[0].makes_interval(case.values[1])
]
OF_TOKENS = ("language", "translate")
ROWS, LENGTH = 24, 8


class Given(nn.Module):
    """A model whose outputs are its inputs: the objective sees just what the test says."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


class Reader(nn.Module):
    """Tokens [B, T] → logits [B, T, V], out of each token and of all of its row."""

    def __init__(self, vocabulary: int, scale: float = 1.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16)
        self.head = nn.Linear(16, vocabulary)
        self.scale = scale

    def forward(self, tokens: Tensor) -> Tensor:
        known = self.embed(tokens)
        return self.scale * self.head(known + known.mean(dim=1, keepdim=True))


class Towers(nn.Module):
    """Two kinds of inputs [B, 3] → their vectors [B, 2, D], as long as the objective allows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.photo, self.caption = nn.Linear(3, width), nn.Linear(3, width)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        vectors = torch.stack([self.photo(inputs["photo"]), self.caption(inputs["caption"])], dim=1)
        return 5 * nn.functional.normalize(vectors, dim=-1)


def targets_of(module: ModuleType, spec: Mapping[str, Any], signal: Tensor) -> Any:
    """Targets that follow from a signal [N] about N(0, 1)."""
    if module.TASK == "pair":
        return torch.arange(len(signal))
    if module.TASK == "regress":
        numbers = signal * spec["std"] + spec["mean"]
        return torch.expm1(numbers) if spec["log"] else numbers
    classes = torch.bucketize(signal, torch.linspace(-1, 1, len(spec["classes"]) + 1)[1:-1])
    if not hasattr(module, "TARGETS"):
        return classes
    taught = 0.8 * nn.functional.one_hot(classes, len(spec["classes"])) + 0.2 / len(spec["classes"])
    return dict(zip(module.TARGETS, (classes, taught), strict=True))


def batch_of(
    module: ModuleType, spec: Mapping[str, Any], *, members: int = 0, scale: float = 1.0
) -> tuple[nn.Module, Any]:
    """A model and a batch; for what predicts rows the inputs are the outputs, so that a test can say them."""
    torch.manual_seed(0)
    if module.TASK in OF_TOKENS:
        tokens = torch.randint(3, module.outputs(spec), (ROWS, LENGTH))
        return Reader(module.outputs(spec), scale), (tokens, tokens.roll(-1, 1))
    sides = (2,) if module.TASK == "pair" else (members,) if members else ()
    raw = scale * torch.randn(ROWS, *sides, module.outputs(spec))
    return Given(), (raw, targets_of(module, spec, torch.randn(ROWS)))


def piece(value: Any, first: int, last: int) -> Any:
    if isinstance(value, dict):
        return {name: one[first:last] for name, one in value.items()}
    return value[first:last]


def cost(objective: Any, model: nn.Module, batch: Any) -> Loss:
    """What a batch costs; what is left to chance is the same each time."""
    torch.manual_seed(7)
    (loss,) = objective.losses(model, batch)
    return loss


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
    """The sum may change where the file says why (CUT_CHANGES), and then it does."""
    objective = module.build(spec)
    model, batch = batch_of(module, spec, members=members)
    whole = cost(objective, model, batch)
    assert whole.count == objective.count(batch)
    assert whole.count == ROWS or module.TASK in OF_TOKENS
    pieces = [
        cost(objective, model, tuple(piece(part, first, last) for part in batch))
        for first, last in ((0, 1), (1, 8), (8, ROWS))
    ]
    assert sum(one.count for one in pieces) == whole.count
    cut_is_the_same = torch.allclose(torch.stack([one.total for one in pieces]).sum(), whole.total, rtol=1e-5)
    assert cut_is_the_same is not bool(getattr(module, "CUT_CHANGES", ""))


@pytest.mark.parametrize(("module", "spec"), OF_ROWS)
def test_members_that_agree_count_as_one(module: ModuleType, spec: dict[str, Any]) -> None:
    objective = module.build(spec)
    model, (raw, targets) = batch_of(module, spec)
    alike = raw[:, None].expand(-1, 3, -1)
    torch.testing.assert_close(
        cost(objective, model, (alike, targets)).total, cost(objective, model, (raw, targets)).total
    )
    torch.testing.assert_close(module.decode(alike, spec), module.decode(raw, spec))
    if getattr(module, "makes_interval", lambda spec: False)(spec):
        torch.testing.assert_close(module.interval(alike, spec), module.interval(raw, spec))


@pytest.mark.parametrize(("module", "spec"), CASES)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_loss_and_gradient_are_finite_on_extremes(module: ModuleType, spec: dict[str, Any], scale: float) -> None:
    model, batch = batch_of(module, spec, scale=scale)
    moved = list(model.parameters()) or [batch[0].requires_grad_(True)]
    loss = cost(module.build(spec), model, batch)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in moved)


def solvable(module: ModuleType, spec: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """A model and a batch that it can learn."""
    torch.manual_seed(0)
    if module.TASK in OF_TOKENS:
        tokens = torch.randint(3, module.outputs(spec), (32, 1)).expand(-1, LENGTH)  # a row repeats one token
        return Reader(module.outputs(spec)), (tokens, tokens)
    signal = torch.randn(32 if module.TASK == "pair" else 256)
    features = torch.stack([signal, signal**2, signal**3], dim=1)
    if module.TASK == "pair":
        both = {"photo": torch.randn(32, 3), "caption": torch.zeros(32, 3)}
        both["caption"] = both["photo"].roll(1, 1)
        return Towers(module.outputs(spec)), (both, targets_of(module, spec, signal))
    return nn.Linear(3, module.outputs(spec)), (features, targets_of(module, spec, signal))


@pytest.mark.parametrize(("module", "spec"), CASES)
def test_falls_on_what_can_be_learned_and_decodes_to_it(module: ModuleType, spec: dict[str, Any]) -> None:
    model, batch = solvable(module, spec)
    steps = list(train(model, module.build(spec), [batch] * 300, torch.optim.Adam(model.parameters(), lr=0.05)))
    assert float(steps[-1].loss) < 0.5 * float(steps[0].loss)
    with torch.no_grad():
        decoded = module.decode(model(batch[0]), spec)
    assert decoded.dtype == torch.float64
    targets = batch[1]["truth"] if isinstance(batch[1], dict) else batch[1]
    if module.TASK == "regress":
        assert float((decoded - targets).abs().median()) < 0.1 * float(targets.std())
        return
    probabilities = decoded.exp() if module.TASK in OF_TOKENS else decoded
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(decoded.shape[:-1], dtype=torch.float64))
    assert float((decoded.argmax(dim=-1) == targets).double().mean()) > 0.8


@pytest.mark.parametrize(("module", "spec"), CASES)
def test_the_same_batch_costs_the_same_again(module: ModuleType, spec: dict[str, Any]) -> None:
    objective, (model, batch) = module.build(spec), batch_of(module, spec)
    first = cost(objective, model, batch).total
    cost(objective, model, tuple(piece(part, 3, 9) for part in batch))
    assert torch.equal(cost(objective, model, batch).total, first)
    assert torch.equal(cost(module.build(spec), model, batch).total, first)


class Uneven(nn.Module):
    """A model with a part that asks for something of its own, as a mixture of experts does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Any) -> Tensor:
        return self.model(inputs)

    def auxiliary_loss(self) -> Tensor:
        return torch.tensor(0.25)


@pytest.mark.parametrize(("module", "spec"), CASES)
def test_what_parts_of_the_model_ask_for_is_added_for_each_loss(module: ModuleType, spec: dict[str, Any]) -> None:
    objective, (model, batch) = module.build(spec), batch_of(module, spec)
    plain, uneven = cost(objective, model, batch), cost(objective, nn.Sequential(Uneven(model)), batch)
    torch.testing.assert_close(uneven.total, plain.total + 0.25 * plain.count)
    assert uneven.count == plain.count


@pytest.mark.parametrize(("module", "spec"), WITH_INTERVALS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_intervals_hold_their_number(module: ModuleType, spec: dict[str, Any], scale: float) -> None:
    _, (raw, _) = batch_of(module, spec, members=3, scale=scale)
    number, ends = module.decode(raw, spec), module.interval(raw, spec)
    assert ends.shape == (ROWS, 2)
    assert ends.dtype == torch.float64
    assert bool((ends[:, 0] <= number).all() and (number <= ends[:, 1]).all())
