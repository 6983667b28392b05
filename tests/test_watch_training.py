"""The doctor during a training: what goes wrong on the way is found, and what only looks like it is left in peace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fathom
from fathom import networks
from fathom.doctor.finding import Finding
from fathom.doctor.parts.family import Moment
from fathom.doctor.parts.graph import Graph, loss_terms
from fathom.doctor.parts.losses import LossHistory
from fathom.doctor.parts.row_losses import Constant, can_read, losses, of_each_row
from fathom.doctor.parts.schedule import Schedule
from fathom.doctor.spikes import Spikes
from fathom.doctor.watch import Watch

ROWS, FEATURES, CLASSES = 32, 6, 3
Batch = tuple[Tensor, Tensor]


def batches(steps: int, seed: int = 0, rows: int = ROWS) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(rows, FEATURES, generator=generator)
        yield x, x[:, :CLASSES].argmax(dim=1)


def mlp(*, seed: int = 0, depth: int = 2, outputs: int = CLASSES, activation: type[nn.Module] = nn.ReLU) -> Any:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Linear(FEATURES if index == 0 else 32, 32), activation()]
    return nn.Sequential(*layers, nn.Linear(32, outputs))


def trained(
    model: nn.Module,
    data: Any,
    *,
    rate: float = 3e-3,
    sgd: bool = False,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    rate_at: Callable[[int], float] = lambda step: 1.0,
    clip: float | None = None,
    between: Callable[[Watch, int], Any] = lambda doctor, step: None,
    **meant: Any,
) -> Watch:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, rate) if sgd else torch.optim.Adam(parameters, rate)
    with fathom.watch(model, optimizer, **{"say": None, "stop": False} | meant) as doctor:
        for step, (x, y) in enumerate(data):
            optimizer.param_groups[0]["lr"] = rate * rate_at(step)
            optimizer.zero_grad()
            loss(model(x), y).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            between(doctor, step)
    return doctor


def found(doctor: Watch, id_: str) -> Finding:
    (one,) = (one for one in doctor.findings if one.id == id_)
    return one


def ids(doctor: Watch) -> list[str]:
    return [one.id for one in doctor.findings]


# Losses that run away (T1) or jump (T2)


@pytest.mark.parametrize("seed", range(4))
def test_a_loss_that_runs_away_is_told_with_what_it_was_before(seed: int) -> None:
    doctor = trained(mlp(seed=seed), batches(90, seed), rate_at=lambda step: 300.0 if step >= 70 else 1.0)
    one = found(doctor, "T1")
    assert one.evidence["kind"] == "diverged" and one.step is not None and 72 <= one.step <= 85
    assert one.evidence["rate"] == pytest.approx(0.9) and one.evidence["losses"][-1][0] == one.step
    assert "T2" not in ids(doctor)


def test_a_training_that_runs_away_from_the_first_step_is_told() -> None:
    assert found(trained(mlp(depth=3), batches(60), rate=3.0), "T1").step == 12


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_make_a_loss_jump_are_named(seed: int) -> None:
    data = list(batches(110, seed))
    data[80][0][[5, 9]] = -300 * data[80][0][[5, 9]]
    doctor = trained(mlp(seed=seed), data, rate=1e-3, sgd=False, clip=0.1)
    one = found(doctor, "T2")
    assert one.step == 81 and one.evidence["kind"] == "rows" and set(one.evidence["rows"]) <= {5, 9}
    assert one.evidence["has_ids"] is False and "T1" not in ids(doctor)


class Reading(nn.Module):
    """Reads batches that are dicts, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = mlp()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.inside(batch["x"])


def test_rows_are_named_by_the_ids_that_a_batch_carries() -> None:
    data = list(batches(110))
    data[80][0][[5, 9]] = -300 * data[80][0][[5, 9]]
    carrying = [({"x": x, "rows": torch.arange(ROWS) + 1000 * step}, y) for step, (x, y) in enumerate(data)]
    one = found(trained(Reading(), carrying, rate=1e-3, clip=0.1), "T2")
    assert set(one.evidence["rows"]) <= {80_005, 80_009} and one.evidence["has_ids"] and "80005" in one.text + "80005"
    told = found(trained(mlp(), data, rate=1e-3, clip=0.1, rows_of=lambda x: range(500, 532)), "T2")
    assert set(told.evidence["rows"]) <= {505, 509} and told.evidence["has_ids"]
    data[80][0][[5, 9]] = float("nan")
    root = found(trained(mlp(), data[:81], rows_of=lambda x: range(500, 532)), "T1")
    assert root.evidence["rows"] == [505, 509] and root.evidence["positions"] == [5, 9] and "rows 505, 509" in root.text
    assert "of the batch" not in root.text


def test_what_only_stands_under_the_name_of_ids_is_no_row() -> None:
    data = list(batches(110))
    data[80][0][[5, 9]] = -300 * data[80][0][[5, 9]]
    for ids_of in (["a"] * ROWS, [[0, 1]] * ROWS, torch.zeros(ROWS, 4), torch.rand(ROWS)):
        carrying = [({"x": x, "ids": ids_of}, y) for x, y in data]
        one = found(trained(Reading(), carrying, rate=1e-3, clip=0.1), "T2")
        assert set(one.evidence["rows"]) <= {5, 9} and not one.evidence["has_ids"]


def test_sparse_gradients_are_watched_without_harm() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(50, 8, sparse=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.words(x).mean(dim=1))

    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(50, (32, 6), generator=generator) for _ in range(80)]
    doctor = trained(Words(), [(x, x[:, 0] % 3) for x in texts], rate=0.1, sgd=True)
    assert "F6" not in ids(doctor) and doctor.step == 80


def test_one_step_that_went_wrong_is_told_from_a_bad_batch() -> None:
    doctor = trained(mlp(), batches(110), rate=0.05, sgd=True, rate_at=lambda step: 1000.0 if step == 80 else 1.0)
    assert "T1" in ids(doctor) or found(doctor, "T2").evidence["kind"] == "state"


@pytest.mark.parametrize("seed", range(3))
def test_hard_and_rare_rows_are_no_spike(seed: int) -> None:
    data = list(batches(150, seed))
    for step in (70, 100, 130):  # rows that are hard, and answered as never before
        data[step][1][:4] = (data[step][1][:4] + 1) % CLASSES
    generator = torch.Generator().manual_seed(seed)
    noisy = [(x, torch.where(torch.rand(ROWS, generator=generator) < 0.1, (y + 1) % CLASSES, y)) for x, y in data]
    assert ids(trained(mlp(seed=seed), noisy)) == []


def test_a_net_that_is_certain_pays_for_one_row_without_an_alarm() -> None:
    for usual, jump, is_told in ((1e-5, 7.5, False), (0.1, 7.5, True), (1e-5, 50.0, True)):
        moment, spikes, found = Moment(), Spikes(), []
        for step in range(80):
            moment.step = step + 1
            calm = max(usual, 1.1 * 0.8**step)
            if moment.history.add(jump if step == 70 else calm, moment.step):
                found += list(spikes.on_loss(moment))
        assert bool(found) == is_told


def test_a_loss_below_zero_is_followed_too() -> None:
    history = LossHistory()
    random = np.random.default_rng(0)
    calm = [history.add(float(1.0 - 0.05 * step + random.normal(scale=0.1)), step) for step in range(60)]
    assert not any(calm) and history.add(30.0, 60) and history.stands_out
    assert history.add(-2.0, 61) and not history.stands_out, "the few after it are followed as well"


def test_a_new_level_is_taken_for_usual_in_the_end() -> None:
    history = LossHistory()
    for step in range(200):
        history.add(1.0 if step < 100 else 50.0, step)
    assert not history.stands_out and history.usual == 50.0


# Layers that get nothing back (T3)


@pytest.mark.parametrize("sgd", [True, False])
@pytest.mark.parametrize("depth", [8, 12])
def test_layers_that_get_nothing_back_are_named(depth: int, sgd: bool) -> None:
    model = mlp(depth=depth, activation=nn.Sigmoid)
    one = found(trained(model, batches(102), rate=0.1 if sgd else 1e-3, sgd=sgd), "T3")
    layers = one.evidence["layers"]
    assert layers[0]["name"] == "0.weight" and layers[0]["gradient"] < 1e-4 * layers[-1]["gradient"]
    assert all(layer["update"] > 0 for layer in layers[-2:])


class Branches(nn.Module):
    """Residual branches that start at zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(FEATURES, 32), nn.Linear(32, CLASSES)
        self.inside = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.out = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        for one in self.out:
            nn.init.zeros_(one.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for inside, out in zip(self.inside, self.out, strict=True):
            x = x + out(inside(x).relu())
        return self.last(x)


class Beside(nn.Module):
    """A first layer that hardly counts, beside others that learn."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weak, self.rest = nn.Linear(FEATURES, FEATURES), mlp(depth=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(x + 1e-6 * self.weak(x))


def test_deep_nets_that_learn_or_start_at_zero_are_left_in_peace() -> None:
    assert ids(trained(mlp(depth=6), batches(120))) == []
    assert ids(trained(Branches(), batches(120), rate=1e-6, sgd=True)) == []
    assert ids(trained(Beside(), batches(120), rate=1e-2)) == [], "it learns all the same"
    torch.manual_seed(0)
    layers = [part for _ in range(4) for part in (nn.LazyLinear(32), nn.BatchNorm1d(32), nn.Tanh())]
    normed = nn.Sequential(*layers, nn.LazyLinear(CLASSES))
    normed(next(batches(1))[0])
    assert ids(trained(normed, batches(120), rate=1e-4)) == [], "biases before batch norms have no gradient"


# Units that are dead or stuck (T4)


@pytest.mark.parametrize("seed", range(3))
def test_units_that_no_row_wakes_are_counted(seed: int) -> None:
    model = mlp(seed=seed)
    with torch.no_grad():
        model[0].bias[:28] -= 8.0
    one = found(trained(model, batches(140, seed), rate=1e-5), "T4")
    assert (one.evidence["dead"], one.evidence["units"], one.evidence["number"]) == (28, 32, 1)
    assert one.evidence["dead_at_start"] == 28 and "from the first step" in one.cause


def test_units_that_died_on_the_way_are_told_from_those_that_began_so() -> None:
    model = mlp()

    def kill(doctor: Watch, step: int) -> None:
        if step == 30:
            with torch.no_grad():
                model[2].bias[:24] -= 50.0

    one = found(trained(model, batches(240), rate=1e-5, between=kill), "T4")
    assert one.evidence["number"] == 2 and one.evidence["dead_at_start"] < 3 and "too large" in one.cause


def test_sigmoids_at_their_ends_are_counted() -> None:
    model = mlp(activation=nn.Sigmoid)
    with torch.no_grad():
        model[0].bias.fill_(30.0)
    one = found(trained(model, batches(140), rate=1e-5), "T4")
    assert one.evidence["activation"] == "sigmoid" and one.evidence["dead"] == 32


def test_sparse_units_gates_and_last_activations_are_left_in_peace() -> None:
    sparse = mlp()
    with torch.no_grad():
        sparse[0].bias -= 0.9  # each unit speaks for a few rows in a hundred
    assert ids(trained(sparse, batches(140), rate=1e-5)) == []
    gate = mlp(activation=nn.Sigmoid)
    gated = nn.Sequential(nn.Linear(FEATURES, 32), Gate(32), nn.Linear(32, FEATURES), gate)
    assert ids(trained(gated, batches(140), rate=1e-5)) == []


class Gate(nn.Module):
    """Everything passes: a gate that is open for every row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, 6.0)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x).sigmoid()


def test_units_are_found_on_the_right_axis() -> None:
    x = torch.randn(4, 5, 6)
    (of_sequences,) = Graph(nn.Linear(6, 7)(x).relu().sum()).activations
    (of_signals,) = Graph(nn.Conv1d(5, 3, 3)(x).relu().sum()).activations
    assert (of_sequences.axis, of_sequences.result.shape[2]) == (2, 7)
    assert (of_signals.axis, of_signals.result.shape[1]) == (1, 3)


# Nothing is learned (T5)


def by_chance(steps: int, seed: int = 0) -> Iterator[Batch]:
    """Answers have nothing to do with the rows."""
    generator = torch.Generator().manual_seed(100 + seed)
    for x, _ in batches(steps, seed):
        yield x, torch.randint(CLASSES, (ROWS,), generator=generator)


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_do_not_belong_to_their_rows_teach_nothing(seed: int) -> None:
    one = found(trained(mlp(seed=seed), by_chance(150, seed), rate=1e-3, steps=150), "T5")
    assert one.step is not None and 100 < one.step <= 125
    assert one.evidence["constant"] == pytest.approx(np.log(3), abs=0.02) and one.evidence["gain_at_most"] < 0.05


def test_without_a_plan_it_waits_for_four_hundred_steps() -> None:
    doctor = trained(mlp(), by_chance(460), rate=1e-3)
    assert 400 < (found(doctor, "T5").step or 0) <= 455


def test_numbers_that_teach_nothing_are_told_too() -> None:
    generator = torch.Generator().manual_seed(0)
    data = [(x, torch.randn(ROWS, generator=generator)) for x, _ in batches(150)]
    doctor = trained(mlp(outputs=1), data, rate=1e-4, loss=lambda o, y: F.mse_loss(o[:, 0], y), steps=150)
    assert found(doctor, "T5").evidence["constant"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_what_begins_late_is_left_in_peace(seed: int) -> None:
    def late(step: int) -> float:
        return min(1.0, max(step - 45, 0) / 40)  # a warm-up over half of the plan

    assert ids(trained(mlp(seed=seed), batches(150, seed), rate=1e-2, rate_at=late, steps=150)) == []
    assert ids(trained(mlp(seed=seed), by_chance(150, seed), steps=150, curriculum=True)) == []
    assert ids(trained(mlp(seed=seed), by_chance(150, seed), steps=600)) == [], "the plan is four times as long"


def test_a_little_that_is_surely_learned_is_a_beginning() -> None:
    generator = torch.Generator().manual_seed(0)
    noisy = [
        (
            x,
            torch.where(
                torch.rand(len(y), generator=generator) < 0.22, y, y[torch.randperm(len(y), generator=generator)]
            ),
        )
        for x, y in batches(150, rows=256)
    ]
    assert ids(trained(mlp(), noisy, rate=1e-2, steps=150)) == []


def test_the_constant_is_that_of_weights_and_of_left_out_answers() -> None:
    torch.manual_seed(0)
    out, y = torch.randn(400, 3, requires_grad=True), torch.randint(3, (400,))
    y[:100], y[100:110] = 0, -100
    weight = torch.tensor([0.2, 1.0, 5.0])
    (term,) = loss_terms(F.cross_entropy(out, y, weight=weight))
    assert float(losses(term).sum()) == pytest.approx(
        float(F.cross_entropy(out, y, weight=weight, reduction="sum").detach()), rel=1e-5
    )
    share = torch.bincount(y[y >= 0], minlength=3) * weight
    best = F.cross_entropy((share / share.sum()).log().expand(400, 3), y, weight=weight, reduction="sum") / 400
    assert Constant().add(term) == pytest.approx(float(best), rel=1e-5)
    (term,) = loss_terms(F.cross_entropy(out, y.clamp(min=0), ignore_index=0))
    asked = torch.bincount(y[y > 0])[1:]
    best = -(asked * (asked / asked.sum()).log()).sum() / 400
    constant = Constant()
    assert constant.add(term) == pytest.approx(float(best), rel=1e-5), "of a class that is left out nothing is asked"
    assert constant.add(loss_terms(F.cross_entropy(out[:, :2], y[110:].clamp(max=1)[:0].new_ones(400)))[0]) == 0.0
    tokens = torch.randn(8, 5, 7, requires_grad=True)
    (term,) = loss_terms(F.cross_entropy(tokens.flatten(0, 1), torch.zeros(40, dtype=torch.long)))
    rows = of_each_row(term, 8)
    assert rows is not None and rows.shape == (8,) and of_each_row(term, 9) is None
    assert float(rows[2]) == pytest.approx(float(-tokens[2].log_softmax(-1)[:, 0].mean().detach()), rel=1e-5)
    (bits,) = loss_terms(F.binary_cross_entropy_with_logits(out, torch.ones_like(out), pos_weight=weight))
    assert not can_read(bits)


# Overfitting (T6)


def judging(model: nn.Module, rows: Batch, *, mean: bool = False, **more: Any) -> Callable[[Watch, int], None]:
    def judge(doctor: Watch, step: int) -> None:
        if step % 25 == 24:
            with torch.no_grad():
                each = F.cross_entropy(model(rows[0]), rows[1], reduction="none")
            doctor.judged(each.mean() if mean else each, **more)

    return judge


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_rows_learned_by_heart_are_seen_on_those_that_are_judged(seed: int, mean: bool) -> None:
    model, (few, many) = mlp(seed=seed), (next(batches(1, seed)), next(batches(1, seed + 50, rows=300)))
    wrong = few[0], torch.where(torch.arange(ROWS) < 12, (few[1] + 1) % CLASSES, few[1])
    doctor = trained(model, [wrong] * 400, rate=1e-2, between=judging(model, many, mean=mean))
    one = found(doctor, "T6")
    assert one.evidence["best_step"] <= 100 and one.evidence["now"] > one.evidence["best"]
    assert f"step {one.evidence['best_step']}" in one.remedy and one.evidence["advice"] is False


def test_overfitting_that_is_taken_care_of_is_a_note() -> None:
    model, (few, many) = mlp(), (next(batches(1)), next(batches(1, 50, rows=300)))
    wrong = few[0], torch.where(torch.arange(ROWS) < 12, (few[1] + 1) % CLASSES, few[1])
    one = found(trained(model, [wrong] * 400, rate=1e-2, between=judging(model, many, restores=True)), "T6")
    assert one.evidence["advice"] is True and one.remedy.startswith("Nothing")


@pytest.mark.parametrize("seed", range(3))
def test_a_training_that_goes_on_well_is_not_overfitting(seed: int) -> None:
    model, many = mlp(seed=seed), next(batches(1, seed + 50, rows=300))
    assert ids(trained(model, batches(300, seed), between=judging(model, many))) == []
    # Both losses rise: that is no learning by heart.
    worse = trained(mlp(seed=seed), batches(60, seed), between=lambda doctor, step: doctor.judged(1.0 + 0.0 * step))
    assert ids(worse) == []


def test_rows_known_by_heart_and_judged_rows_hardly_told_are_overfitting() -> None:
    # Losses of judged rows vary too much to be worse for certain than at their best.
    each = np.random.default_rng(0).exponential(0.9 * np.log(CLASSES), size=60)

    def judge(doctor: Watch, step: int) -> None:
        if step % 25 == 24:
            doctor.judged(each + 1e-3 * step)

    (few,) = batches(1)
    one = found(trained(mlp(), [few] * 300, rate=1e-2, between=judge), "T6")
    assert one.seen.startswith("Training rows cost") and one.evidence["trained"] < 0.1
    # One row of sixty that is surely wrong makes up a mean, and is no overfitting.
    lone = np.r_[np.full(59, 0.01), 60 * np.log(CLASSES)]
    assert ids(trained(mlp(), [few] * 300, rate=1e-2, between=lambda doctor, step: doctor.judged(lone))) == []
    # A net that was nearly right when it came is not: what judged rows cost is little, though more than at first.
    begun = mlp()
    trained(begun, [few] * 300, rate=1e-2)
    small = trained(begun, [few] * 300, rate=1e-2, between=lambda doctor, step: doctor.judged(0.02 + 0.0 * each))
    assert ids(small) == []


# Jumps (T2), by losses alone


@pytest.mark.parametrize(
    ("usual", "jump", "in_nats", "is_told"),
    [
        (0.02, 0.063, True, False),  # nats: whatever it was, the answers are right
        (0.02, 0.063, False, True),
        (0.65, 1.22, False, False),  # less than twice the largest of those before
        (0.65, 1.6, False, True),
    ],
)
def test_jumps_are_told_where_they_matter(usual: float, jump: float, in_nats: bool, is_told: bool) -> None:
    moment, family, told = Moment(in_nats=in_nats), Spikes(), []
    for step, loss in enumerate([usual, 1.01 * usual] * 20 + [jump] + [usual] * 10, start=1):
        moment.step = step
        if moment.history.add(loss, step):
            told += list(family.on_loss(moment))
    assert [one.id for one in told] == ["T2"] * is_told


# Rows that are not shuffled (T7)


def in_order(seed: int, *, of_numbers: bool) -> list[Batch]:
    x = torch.cat([x for x, _ in batches(20, seed)])
    y = x[:, 0] if of_numbers else x[:, :CLASSES].argmax(dim=1)
    order = (y + 0.3 * torch.randn(len(y), generator=torch.Generator().manual_seed(seed))).argsort()
    return list(zip(x[order].split(ROWS), y[order].split(ROWS), strict=True))


def squared(out: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(out[:, 0], y)


@pytest.mark.parametrize("seed", range(3))
def test_rows_in_the_order_of_their_answers_are_told(seed: int) -> None:
    one = found(trained(mlp(seed=seed), in_order(seed, of_numbers=False)), "T7")
    assert one.step in (8, 16) and one.evidence["share_between"] > 0.3
    numbers = trained(mlp(seed=seed, outputs=1), in_order(seed, of_numbers=True), loss=squared)
    assert "T7" in ids(numbers)
    assert "T7" not in ids(trained(mlp(seed=seed), in_order(seed, of_numbers=False), curriculum=True))


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_and_balanced_batches_are_left_in_peace(seed: int) -> None:
    assert ids(trained(mlp(seed=seed), batches(20, seed, rows=8))) == []
    even = [(x, torch.arange(ROWS) % CLASSES) for x, _ in batches(20, seed)]
    assert ids(trained(mlp(seed=seed), even)) == [], "classes as even as a sampler makes them"
    rare = [(x, (x[:, 0] > 2.2).long()) for x, _ in batches(20, seed)]
    assert ids(trained(mlp(seed=seed), rare)) == []


def test_words_of_a_text_are_alike_by_nature() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))
    texts = [torch.randint(20, (8, 1)).expand(8, 10) for _ in range(20)]  # each of one word
    data = [(text, text) for text in texts]
    assert ids(trained(model, data, loss=lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()))) == []


# Batches and the noise of the gradient (T8)


def test_batches_that_do_not_suit_the_noise_are_told_only_where_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    noisy = [tuple(torch.randn(ROWS, n, generator=generator).squeeze(1) for n in (2000, 1)) for _ in range(130)]
    model = nn.Linear(2000, 1)
    nn.init.zeros_(model.weight)
    told = trained(model, noisy, loss=squared, rate=1e-6, sgd=True, advice=True)
    one = found(told, "T8")
    assert one.evidence["advice"] is True and one.evidence["at_least"] > 20 * ROWS
    assert ids(trained(nn.Linear(2000, 1), noisy, loss=squared, rate=1e-6, sgd=True)) == []
    (x, _), model = next(batches(1)), nn.Linear(FEATURES, 1)
    same = [(x + 0.001 * torch.randn_like(x), torch.full((ROWS,), 9.0)) for _ in range(130)]
    assert found(trained(model, same, loss=squared, rate=1e-9, sgd=True, advice=True), "T8").evidence["at_most"] < 1.0


# What would have helped against numbers that are not finite


class Large(nn.Module):
    """Its numbers are too large for 32 bits, for some rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x) * x.abs().amax(dim=1, keepdim=True)
        return self.head(h * 1e-30)


def rehearsed(one: Finding) -> dict[str, bool]:
    return {tried["fix"]: tried["is_finite"] for tried in one.evidence["rehearsed"]}


def test_what_would_have_helped_is_tried_out() -> None:
    torch.manual_seed(0)
    data = list(batches(3))
    data[2][0][[4, 7]] *= 1e25
    one = found(trained(Large(), data, rate=1e-3), "T1")
    assert one.evidence["blame"] == "precision" and "in 64 bits is finite" in one.remedy
    assert rehearsed(one) == {"float64": True, "rows left out": True} and one.evidence["rows"] == [4, 7]
    data = list(batches(3))
    data[2][0][4] = float("inf")
    one = found(trained(Large(), data, rate=1e-3), "T1")
    assert one.evidence["blame"] == "data" and "Without them the step is finite" in one.remedy


def test_a_step_in_half_precision_is_made_again_in_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES))
    with torch.no_grad():
        model[0].weight *= 3e4
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    (x, y) = next(batches(1))
    with fathom.watch(model, optimizer, say=None, stop=False) as doctor:
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(model(100 * x), y)
        loss.backward()
        optimizer.step()
    one = found(doctor, "T1")
    assert (one.evidence["module"], one.evidence["blame"]) == ("0", "precision") and rehearsed(one)["float64"]


# The watch itself


def test_a_fit_tells_where_a_bad_row_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An answer that became infinite on the way from the file to the network."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 2)).round(4)
    lines = [f"{a},{b},{a * b + a:.3f}" for a, b in x]
    (tmp_path / "people.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    made = networks.make_trainer

    def ruined(*args: Any) -> Any:
        trainer = made(*args)
        trainer.batches.targets[trainer.batches.rows[7]] = float("inf")
        return trainer

    networks.make_trainer, options = ruined, {"baselines": {}, "train__epochs": 1, "split__folds": 1, "threads": 1}
    try:
        run = fathom.fit(str(tmp_path / "people.csv"), target="y", model="mlp", out=tmp_path / "run", **options)
    finally:
        networks.make_trainer = made
    found = json.loads((run.path / "findings.json").read_text())
    (one,) = (one for one in found if one["id"] == "T1")
    assert one["evidence"]["way"] == "answers" and one["evidence"]["blame"] == "data"
    (row,), (place,) = one["evidence"]["rows"], one["evidence"]["places"]
    assert place.endswith(f"people.csv:{row + 2}")


def test_rows_of_fathoms_own_batches_are_known() -> None:
    from fathom.batches import Batches, Tensors
    from fathom.data import Examples

    about = {"numbers": {"form": "numbers", "names": ["a"]}}
    examples = Examples({"numbers": np.arange(40, dtype=np.float32)[:, None]}, about)
    made = Batches(Tensors(examples, torch.device("cpu")), torch.zeros(40), np.arange(10, 40), 8)
    group = [batch for _, batch in zip(range(3), made.epoch(0), strict=False)]
    for batch in group:
        assert made.rows_of(batch.inputs).tolist() == batch.inputs[:, 0].long().tolist()
    assert made.rows_of(torch.zeros(3)) is None


def test_looks_become_rare_and_stretches_follow_the_plan() -> None:
    moment = Moment(given=((torch.zeros(100, 2),), {}))
    schedule = Schedule(None)
    seen = [schedule.window(step, moment) for step in range(1000)]
    assert [seen.index(number) for number in (1, 2, 3, 4)] == [100, 200, 400, 800]
    assert sum(number > 0 for number in seen) == 4 * 12
    planned = Schedule(150)
    seen = [planned.window(step, Moment()) for step in range(150)]
    assert [(seen.index(number), seen.count(number)) for number in (1, 2, 3, 4)] == [
        (30, 15),
        (60, 15),
        (90, 15),
        (120, 15),
    ]


def test_answers_keep_no_gradient_that_was_not_asked_for() -> None:
    model, data = mlp(), list(batches(2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fathom.watch(model, optimizer, say=None):
        out = model(data[0][0])
        F.cross_entropy(out, data[0][1]).backward()
        optimizer.step()
        assert out.grad is None
        asked = model(data[1][0])
        asked.retain_grad()
        F.cross_entropy(asked, data[1][1]).backward()
        optimizer.step()
