"""The doctor beside anybody's loop: faults that are exact are found, and what only looks like one is left in peace."""

from __future__ import annotations

import copy
import gc
import json
import random
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fathom
from fathom.doctor.finding import CATALOGUE, Finding, in_order_of_blame
from fathom.doctor.parts.graph import loss_terms

Batch = tuple[Tensor, Tensor]
ROWS, FEATURES, CLASSES = 32, 6, 3


def batches(steps: int, *, classes: int = CLASSES) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x = torch.randn(ROWS, FEATURES, generator=generator)
        yield x, x[:, :classes].argmax(dim=1)


def mlp(*last: nn.Module, outputs: int = CLASSES) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, outputs), *last)


def norms() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, CLASSES)
    )


def watched(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    *,
    steps: int = 10,
    parameters: list[Tensor] | None = None,
    resets: bool = True,
    accumulate: int = 1,
    between: Callable[[int], Any] = lambda step: None,
    **meant: Any,
) -> list[Finding]:
    optimizer = torch.optim.SGD(model.parameters() if parameters is None else parameters, lr=0.05)
    with fathom.watch(model, optimizer, say=None, **meant) as doctor:
        for step, (x, y) in enumerate(batches(steps * accumulate)):
            loss(model(x), y).backward()
            if (step + 1) % accumulate == 0:
                optimizer.step()
                if resets:
                    optimizer.zero_grad()
                between(step)
    return doctor.report()


def ids(found: list[Finding]) -> list[str]:
    return [one.id for one in found]


# The loss and the last activation


def one_hot(outputs: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return loss(outputs, F.one_hot(y, CLASSES).float())


@pytest.mark.parametrize(
    ("last", "loss", "seen"),
    [
        ([nn.Softmax(dim=1)], F.cross_entropy, "softmax of it again"),
        ([nn.Softmax(dim=1)], lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1) / 2, "softmax of it again"),
        ([nn.Softmax(dim=1), nn.Flatten()], nn.CrossEntropyLoss(reduction="sum"), "softmax of it again"),
        ([nn.Sigmoid()], F.cross_entropy, "what a sigmoid has made"),
        ([nn.Softmax(dim=1)], F.nll_loss, "nll_loss gets probabilities, made by softmax"),
        ([], F.nll_loss, "no log-probabilities"),
        (
            [nn.Sigmoid()],
            lambda o, y: one_hot(o, y, F.binary_cross_entropy_with_logits),
            "takes a sigmoid of it again",
        ),
        ([nn.Sigmoid()], lambda o, y: F.mse_loss(o[:, 0], 40.0 + y), "100% of the targets lie beyond"),
        ([nn.ReLU()], lambda o, y: F.mse_loss(o[:, 0], y - 1.0), "0 and more"),
        ([nn.Tanh()], lambda o, y: F.huber_loss(o[:, 0], 3.0 * y), "last tanh"),
    ],
)
def test_a_loss_that_does_not_fit_is_named(last: list[nn.Module], loss: Any, seen: str) -> None:
    (found,) = watched(mlp(*last), loss)
    assert found.id == "F1" and seen in found.seen and found.by == "exact" and found.step == 1


def test_shapes_that_are_repeated_are_named() -> None:
    with pytest.warns(UserWarning, match="target size"):
        (found,) = watched(mlp(outputs=1), lambda o, y: F.mse_loss(o, y.float()))
    assert found.id == "F1" and f"[{ROWS}, {ROWS}]" in found.seen
    (found,) = watched(mlp(outputs=1), lambda o, y: F.cross_entropy(o, torch.zeros_like(y)))
    assert found.id == "F1" and "one output" in found.seen
    assert ids(list(found.symptoms)) == ["F4"], "that no gradient comes is explained by it"


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        ([], F.cross_entropy),
        ([nn.LogSoftmax(dim=1)], F.nll_loss),
        ([nn.LogSoftmax(dim=1)], F.cross_entropy),
        ([nn.Softmax(dim=1)], lambda o, y: F.nll_loss(o.log(), y)),
        ([nn.Softmax(dim=1)], lambda o, y: F.nll_loss(o.bfloat16().log(), y)),
        ([], lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1) + 0.1 * o.square().mean()),
        ([], lambda o, y: F.cross_entropy(o, y, weight=torch.tensor([1.0, 2.0, 3.0]))),
        ([], lambda o, y: F.cross_entropy(o, F.one_hot(y, CLASSES) * 0.9 + 0.1 / CLASSES)),
        ([nn.Sigmoid()], lambda o, y: one_hot(o, y, F.binary_cross_entropy)),
        ([], lambda o, y: one_hot(o, y, F.binary_cross_entropy_with_logits)),
        ([nn.Sigmoid()], lambda o, y: F.mse_loss(o[:, 0], y / 2)),
        ([nn.ReLU()], lambda o, y: F.mse_loss(o[:, 0], y.float())),
        ([], lambda o, y: F.mse_loss(o[:, 0], 3.0 * y)),
        ([nn.Softmax(dim=1)], lambda o, y: F.kl_div(o.log(), F.one_hot(y, CLASSES) * 0.9 + 0.03, reduction="sum")),
        ([], lambda o, y: -o.log_softmax(1).gather(1, y[:, None]).mean()),
    ],
)
def test_a_loss_that_fits_is_left_in_peace(last: list[nn.Module], loss: Any) -> None:
    assert watched(mlp(*last), loss) == []


def test_pictures_and_half_precision_are_read_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Softmax(dim=1))
    x, y = torch.randn(2, 1, 5, 5), torch.zeros(2, 5, 5, dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (term,) = loss_terms(F.cross_entropy(model(x), y))
        (healthy,) = loss_terms(F.cross_entropy(model[0](x), y))
    assert (term.kind, term.made_by[0]) == ("cross_entropy", "softmax")
    assert healthy.made_by[0] == "convolution"


# What is never trained


class Detached(nn.Module):
    """Its first layer is cut off from the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = mlp(outputs=8), nn.Linear(8, CLASSES)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).detach())


def test_parameters_that_nothing_trains_are_named() -> None:
    (found,) = watched(Detached())
    assert found.id == "F4" and "no gradient at 6 steps" in found.seen
    assert found.evidence["parameters"][0] == "body.0.weight" and "unused.bias" in found.evidence["parameters"]
    model = mlp()
    (found,) = watched(model, parameters=list(model[2].parameters()))
    assert found.id == "F4" and "belong to no optimizer" in found.seen and found.step is None
    model[0].requires_grad_(False)
    (found,) = watched(model)
    assert found.id == "F4" and "requires_grad=False" in found.seen
    assert found.evidence["share"] == pytest.approx(16 * 7 / (16 * 7 + 17 * 3))
    assert watched(model, frozen=["0.*"]) == []


class Residual(nn.Module):
    """The last matrix of its branch starts at zero, so that what is before it has no gradient at first."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out, self.head = (nn.Linear(FEATURES, n) for n in (FEATURES, FEATURES, CLASSES))
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.out(self.inside(x).relu()))


def test_gradients_of_zero_by_construction_are_left_in_peace() -> None:
    assert watched(norms()) == [], "the bias before a batch norm"
    assert watched(Residual()) == []
    model = nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(4 * FEATURES, CLASSES))
    assert watched(nn.Sequential(Rounded(), model)) == [], "most rows of the embedding never come"


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs().round().long().clamp(max=3)


# Gradients that are never reset


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_that_are_never_reset_are_named(accumulate: int) -> None:
    (found,) = watched(mlp(), resets=False, accumulate=accumulate)
    assert found.id == "F5" and found.step is not None and found.step <= 4


@pytest.mark.parametrize("accumulate", [1, 4])
def test_accumulation_is_left_in_peace(accumulate: int) -> None:
    assert watched(mlp(), accumulate=accumulate) == []


def test_gradients_set_to_zero_or_clipped_are_left_in_peace() -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    with fathom.watch(model, optimizer, say=None) as doctor:
        for x, y in batches(10):
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
    assert doctor.report() == []


# Modes


def judge(model: nn.Module, *, mode: bool) -> None:
    model.train(mode)
    with torch.no_grad():
        for x, _ in batches(3):
            model(x)


def test_a_model_judged_in_training_mode_is_named() -> None:
    model = norms()
    (found,) = watched(model, between=lambda step: judge(model, mode=True) if step == 4 else None)
    assert found.id == "F6" and "1 (BatchNorm1d), 3 (Dropout) were in training mode" in found.seen and found.step == 5


def test_one_pass_is_a_judgement_where_it_is_told_as_one() -> None:
    def found(mode: bool, told: bool) -> list[str]:
        model = norms()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with fathom.watch(model, optimizer, say=None) as doctor:
            for x, y in batches(6):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                model.train(mode)
                with torch.no_grad():
                    losses = F.cross_entropy(model(x), y, reduction="none")
                if told:
                    doctor.judged(losses)
                model.train()
        return [one.seen for one in doctor.findings]

    (seen,) = found(mode=True, told=True)
    assert seen.startswith("A forward pass without gradients while 1 (BatchNorm1d), 3 (Dropout) were in training mode")
    assert found(mode=False, told=True) == found(mode=True, told=False) == []


def test_a_model_trained_in_evaluation_mode_is_named() -> None:
    model = norms()
    (found,) = watched(model, between=lambda step: judge(model, mode=False) if step == 2 else None)
    assert found.id == "F6" and "in evaluation mode" in found.seen


def test_a_model_left_in_evaluation_mode_long_after_the_first_steps_is_named() -> None:
    """Rows are judged each 25 steps, and steps are looked at one in fifty by then."""
    model = norms()
    found = watched(model, steps=60, between=lambda step: judge(model, mode=False) if step % 25 == 24 else None)
    assert [one.id for one in found] == ["F6"] and "in evaluation mode" in found[0].seen


def test_right_modes_and_what_is_meant_are_left_in_peace() -> None:
    model = norms()

    def judged(step: int) -> None:
        judge(model, mode=False)
        model.train()

    assert watched(model, between=judged) == []
    model.train()
    assert watched(model, between=lambda step: judge(model, mode=True), monte_carlo=True, frozen_norms=True)[1:] == []
    model = norms()
    model[1].eval()
    assert watched(model, frozen_norms=True) == []
    plain = nn.Sequential(mlp(), nn.LayerNorm(CLASSES), nn.Dropout(0.0))
    plain.eval()
    assert watched(plain, between=lambda step: judge(plain, mode=False)) == []


def test_another_player_that_is_trained_between_is_no_judgement() -> None:
    """A generator that makes five batches without gradients for the other player before each step of its own."""
    maker = norms()
    optimizer = torch.optim.SGD(maker.parameters(), lr=0.01)
    player = nn.Linear(CLASSES, 1)
    others = torch.optim.SGD(player.parameters(), lr=0.01)
    with fathom.watch(maker, optimizer, say=None) as doctor:
        for x, _ in batches(12):
            for _ in range(5):
                with torch.no_grad():
                    made = maker(x)
                player(made).mean().backward()
                others.step()
            optimizer.zero_grad()
            player(maker(x)).mean().backward()
            optimizer.step()
    assert doctor.report() == []


@pytest.mark.parametrize("last", ["player", "maker"])
def test_gradients_that_one_player_leaves_at_the_other_are_left_in_peace(last: str) -> None:
    """The maker's backward pass goes through the player, who resets what it finds before its own."""
    torch.manual_seed(0)
    both = nn.ModuleDict({"maker": mlp(outputs=2), "player": nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))})
    moved = {name: torch.optim.SGD(part.parameters(), lr=0.01) for name, part in both.items()}
    with fathom.watch(both, sorted(moved.values(), key=lambda one: one is moved[last]), say=None) as doctor:
        for x, _ in batches(12):
            moved["player"].zero_grad()
            F.softplus(both["player"](both["maker"](x).detach())).mean().backward()
            moved["player"].step()
            moved["maker"].zero_grad()
            F.softplus(-both["player"](both["maker"](x))).mean().backward()
            moved["maker"].step()
    assert doctor.report() == []


# The watch itself


def test_a_watched_training_is_the_same_to_the_last_bit() -> None:
    def trained(is_watched: bool) -> tuple[list[Tensor], list[Any]]:
        model = norms()
        optimizer = torch.optim.AdamW(model.parameters())
        doctor = fathom.watch(model, optimizer, say=None) if is_watched else None
        torch.manual_seed(1)
        for x, y in batches(30):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        if doctor is not None:
            doctor.close()
        state = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002
        return [value.clone() for value in model.state_dict().values()], state

    (plain, before), (watched_weights, after) = trained(False), trained(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched_weights, strict=True))
    assert before == after


def test_a_watch_takes_all_its_hooks_off() -> None:
    original = torch.autograd.backward
    model = norms()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hooks = copy.copy((model._forward_pre_hooks, optimizer._optimizer_step_pre_hooks))
    one, other = fathom.watch(model, optimizer, say=None), fathom.watch(model, optimizer, say=None)
    assert torch.autograd.backward is not original
    one.close()
    assert torch.autograd.backward is not original, "the other still watches"
    with pytest.raises(RuntimeError, match="stop"), other:
        raise RuntimeError("stop")
    assert torch.autograd.backward is original
    assert (model._forward_pre_hooks, optimizer._optimizer_step_pre_hooks) == hooks
    assert not any(p._post_accumulate_grad_hooks or p._backward_hooks for p in model.parameters())


def test_findings_are_told_once_and_written_with_their_meaning(tmp_path: Path) -> None:
    said: list[str] = []
    model = mlp(nn.Softmax(dim=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fathom.watch(model, optimizer, say=said.append) as doctor:
        for x, y in batches(20):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert len(said) == 2 and said[0].startswith("F1 loss and last activation do not fit: The cross-entropy")
    assert ids(doctor.report(tmp_path / "findings.json")) == ["F1", "F5"]
    written = json.loads((tmp_path / "findings.json").read_text())
    assert [one["id"] for one in written] == ["F1", "F5"]
    assert written[0]["meaning"] == CATALOGUE["F1"].meaning and written[0]["evidence"]["floor"] == pytest.approx(
        0.551, abs=1e-3
    )


def test_findings_are_json_that_every_reader_takes(tmp_path: Path) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    model = mlp()
    with fathom.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), say=None) as doctor:
        doctor.findings.append(Finding("T1", "", "", "", "exact", evidence={"losses": [[1, float("nan")]]}))
    doctor.report(tmp_path / "findings.json")
    (one,) = json.loads((tmp_path / "findings.json").read_text(), parse_constant=no_constant)
    assert one["evidence"]["losses"] == [[1, None]]


def test_several_optimizers_and_fathoms_own_loop_are_watched() -> None:
    from fathom.loop import train
    from fathom.objectives.classify import Classify

    model = norms()
    optimizers = [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.SGD(model[1:].parameters(), 0.1)]
    with fathom.watch(model, optimizers, say=None) as doctor:
        for x, y in batches(10):
            F.cross_entropy(model(x), y).backward()
            for one in optimizers:
                one.step()
                one.zero_grad()
    assert doctor.report() == [] and doctor.step == 10
    ends_with_softmax = mlp(nn.Softmax(dim=1))
    optimizer = torch.optim.AdamW(ends_with_softmax.parameters())
    with fathom.watch(ends_with_softmax, optimizer, say=None) as doctor:
        list(train(ends_with_softmax, Classify(CLASSES), batches(10), optimizer, accumulate=2, clip=1.0))
    assert ids(doctor.report()) == ["F1"]


def test_a_fit_is_watched_and_its_findings_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fathom import networks

    x, y = next(batches(8))
    data = (torch.cat([x] * 8).numpy() + np.arange(256)[:, None] * 1e-3, np.tile(y.numpy(), 8))
    options = {"model": "mlp", "baselines": {}, "train__epochs": 1, "split__folds": 1, "threads": 1}
    healthy = fathom.fit(data, out=tmp_path / "healthy", **options)
    assert json.loads((healthy.path / "findings.json").read_text()) == []
    make = networks.make_trainer

    def made(*args: Any) -> Any:
        trainer = make(*args)
        trainer.model.eval()
        trainer.model.train = lambda mode=True: trainer.model  # a model that cannot be brought into training mode
        return trainer

    monkeypatch.setattr(networks, "make_trainer", made)
    capsys.readouterr()
    ill = fathom.fit(data, out=tmp_path / "ill", model__dropout=0.3, train__average=0.0, **options)
    assert "F6 training and evaluation mode" in capsys.readouterr().out
    (found,) = json.loads((ill.path / "findings.json").read_text())
    assert found["id"] == "F6" and found["fold"] == 0
    assert "training and evaluation mode are mixed up" in (ill.path / "report.html").read_text()


@pytest.mark.parametrize("id_", sorted(CATALOGUE))
def test_each_finding_has_a_page(id_: str) -> None:
    page = Path(__file__).parent.parent / "docs" / "doctor" / f"{id_}.md"
    if not page.parent.exists():
        pytest.skip("the pages are not part of an installed package")
    assert page.read_text().startswith(f"# {id_}: {CATALOGUE[id_].name}")


# Numbers that are not finite


class Edge(nn.Module):
    """A layer, an operation that may be asked too much, and a head."""

    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.ask, self.head = nn.Linear(FEATURES, 8), Asking(ask), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.ask(self.first(x)))


class Asking(nn.Module):
    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ask = ask

    def forward(self, x: Tensor) -> Tensor:
        return self.ask(x)


def stopped(
    model: nn.Module, rows: list[Batch], rate: float = 0.01, loss: Any = F.cross_entropy
) -> tuple[Finding, str]:
    """The finding with which a training stops, and what the error says; the weights must be finite then."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)

    def train() -> None:
        for x, y in rows:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    with fathom.watch(model, optimizer, say=None) as doctor, pytest.raises(FloatingPointError, match="ruin") as error:
        train()
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    (found,) = (one for one in doctor.findings if one.id == "T1")
    return found, str(error.value)


@pytest.mark.parametrize(
    ("ask", "operation", "way"),
    [
        (lambda h: h.relu().log(), "log", "forwards"),
        (lambda h: h / h.relu(), "div", "forwards"),
        (lambda h: (300 * h).exp(), "exp", "forwards"),
        (lambda h: h.relu().rsqrt(), "rsqrt", "forwards"),
        (lambda h: h.pow(0.5), "pow", "forwards"),
        (lambda h: h.mul(0).sqrt(), "sqrt", "backwards"),
        (lambda h: h.mul(1e-30).square().reciprocal(), "reciprocal", "forwards"),
        (lambda h: h + h.mul(0).square().sum(dim=1, keepdim=True).sqrt(), "sqrt", "backwards"),
    ],
)
def test_the_root_of_a_number_that_is_not_finite_is_named(ask: Any, operation: str, way: str) -> None:
    found, told = stopped(Edge(ask), list(batches(3)))
    assert found.step == 1 and found.by == "exact"
    assert (found.evidence["module"], found.evidence["operation"], found.evidence["way"]) == ("ask", operation, way)
    assert found.evidence["blame"] == "edge" and "'ask'" in told


def test_the_batch_of_several_that_made_it_is_named() -> None:
    """Gradients of four batches are added up; those of the second are not finite."""
    model = Edge(lambda h: h.square().sum(dim=1, keepdim=True).sqrt() + h)
    nn.init.zeros_(model.first.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = list(batches(4))
    data[1][0][7] = 0.0

    def train() -> None:
        for x, y in data:
            F.cross_entropy(model(x), y).backward()
        optimizer.step()

    with fathom.watch(model, optimizer, say=None) as doctor, pytest.raises(FloatingPointError, match="ruin"):
        train()
    assert doctor.findings[-1].evidence["operation"] == "sqrt" and doctor.findings[-1].evidence["rows"] == [7]


class Between(nn.Module):
    """The operation stands in the model's own forward pass, before a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.head = nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x)).mul(0).sqrt())


def test_the_models_own_forward_pass_is_told_from_its_layers_and_buffers_stay() -> None:
    model, plain = Between(), Between()
    (x, y), *_ = batches(1)
    found, _ = stopped(model, [(x, y)])
    assert (found.evidence["module"], found.evidence["operation"]) == ("", "sqrt")
    plain(x)
    assert torch.equal(model.norm.running_mean, plain.norm.running_mean)  # the pass that was made again left no trace
    assert int(model.norm.num_batches_tracked) == 1


def test_a_pass_made_again_before_backpropagation_leaves_batch_norms_as_they_were() -> None:
    """The loss itself is not finite, so the gradients of the pass before are still to be made."""
    model = Edge(lambda h: h.relu().log())
    model.head = nn.Sequential(nn.BatchNorm1d(8), model.head)
    buffers = dict(model.named_buffers())
    found, _ = stopped(model, list(batches(3)))
    assert (found.step, found.evidence["module"], found.evidence["operation"]) == (1, "ask", "log")
    assert all(value is buffers[name] for name, value in model.named_buffers())


def test_batches_are_let_go_after_their_step() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fathom.watch(model, optimizer, say=None):
        x, y = next(batches(1))
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        is_kept = weakref.ref(x)
        del x
        gc.collect()
        assert is_kept() is None


class Parts(nn.Module):
    """Of which only parts are called, as by a training step of Lightning's."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = Edge(lambda h: h.log() if h.max() > 50 else h), nn.Linear(CLASSES, CLASSES)

    def training_step(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.head(self.body(batch[0])), batch[1])


def test_parts_that_are_called_by_themselves_are_followed() -> None:
    model, data = Parts(), list(batches(6))
    data[4][0][2] = 1e4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train() -> None:
        for batch in data:
            optimizer.zero_grad()
            model.training_step(batch).backward()
            optimizer.step()

    with fathom.watch(model, optimizer, say=None) as doctor, pytest.raises(FloatingPointError, match="ruin"):
        train()
    found = doctor.findings[-1]
    assert (found.step, found.evidence["module"], found.evidence["operation"]) == (5, "body.ask", "log")


class Attending(nn.Module):
    """Attention under a mask that leaves nothing to some rows from a step on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head, self.steps = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES), 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        scores = self.first(x)
        hidden = torch.zeros_like(scores, dtype=torch.bool)
        hidden[:, :2] = True
        hidden[5] = self.steps > 3
        return self.head(scores.masked_fill(hidden, float("-inf")).softmax(dim=1) * x)


def test_a_mask_of_minus_infinity_is_no_root_but_a_row_without_anything_left_is() -> None:
    found, _ = stopped(Attending(), list(batches(6)))
    assert found.step == 4 and found.evidence["operation"] == "softmax" and found.evidence["rows"] == [5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_named(bad: float) -> None:
    rows = list(batches(6))
    rows[4][0][[3, 17], 2] = bad
    found, _ = stopped(norms(), rows)
    assert found.step == 5 and found.evidence["blame"] == "data" and found.evidence["rows"] == [3, 17]


def test_a_rate_that_is_too_high_is_blamed() -> None:
    found, _ = stopped(mlp(outputs=1), list(batches(60)), rate=30.0, loss=lambda o, y: (o[:, 0] - y).square().mean())
    assert found.evidence["blame"] == "rate" and found.step is not None and found.step > 2


def test_a_loss_on_its_edge_is_named() -> None:
    found, _ = stopped(mlp(nn.ReLU()), list(batches(3)), loss=lambda o, y: -(o[:, 0] * 0).log().mean())
    assert (found.evidence["way"], found.evidence["operation"], found.evidence["blame"]) == ("loss", "log", "edge")


def test_a_loss_that_is_left_out_stops_nothing_and_buffers_are_those_without_a_watch() -> None:
    rows = list(batches(6))
    rows[2][0][0, 0] = float("nan")

    def trained(is_watched: bool) -> list[Tensor]:
        model = norms()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        doctor = fathom.watch(model, optimizer, say=None) if is_watched else None
        torch.manual_seed(1)
        for x, y in rows:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None):
                optimizer.step()
        if doctor is not None:
            assert ids(doctor.findings) == ["T1"]
            doctor.close()
        return [value.clone() for value in model.state_dict().values()]

    plain, beside = trained(False), trained(True)
    assert all(
        torch.equal(a, b) or bool(a.isnan().any() and b.isnan().any()) for a, b in zip(plain, beside, strict=True)
    )


def test_symptoms_stand_with_their_cause_whichever_comes_first() -> None:
    def finding(name: str, *symptom_of: str) -> Finding:
        return Finding(name, name, "", "", by="exact", symptom_of=symptom_of)

    # A layer without gradients (F4) is explained by its dead units (T4), and so is what follows from it.
    found = in_order_of_blame([finding("F4", "T4"), finding("T4", "F1"), finding("T5", "F4"), finding("F6")])
    assert [(one.id, [s.id for s in one.symptoms]) for one in found] == [("F6", []), ("T4", ["F4", "T5"])]
    # Of two that explain each other the first in the order of blame is the cause.
    found = in_order_of_blame([finding("F10", "F3"), finding("F3", "F10"), finding("T1", "F10")])
    assert [(one.id, [s.id for s in one.symptoms]) for one in found] == [("F3", ["F10", "T1"])]
