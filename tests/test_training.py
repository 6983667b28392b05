"""Training: best weights kept, patience, the clock's corrections repeated exactly, a restored training going on."""

from __future__ import annotations

import itertools
import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fathom.batches import Batches, Tensors
from fathom.data import Examples, Ragged
from fathom.objectives.classify import Classify
from fathom.optimizers.average import AveragedWeights
from fathom.optimizers.schedule import SHAPES, Pace
from fathom.recipe import TrainRecipe
from fathom.run import RunFolder
from fathom.states import load_checkpoint, save_checkpoint
from fathom.training import Checkpoint, Epoch, Trainer

CPU = torch.device("cpu")


def recipe(**changes: object) -> TrainRecipe:
    settings = {
        "epochs": 6, "batch_size": 16, "learning_rate": 0.01, "weight_decay": 0.01, "schedule": "cosine",
        "average": 0.5, "precision": "fp32",
    }  # fmt: skip
    return TrainRecipe(**(settings | changes))  # type: ignore[arg-type]


def examples(rows: int = 200) -> tuple[Examples, torch.Tensor]:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(rows, 6)).astype(np.float32)
    targets = torch.tensor((numbers[:, 0] + numbers[:, 1] > 0).astype(np.int64))
    return Examples({"numbers": numbers}, {"numbers": {"form": "numbers"}}, {}, rows), targets


def trainer(settings: TrainRecipe, **more: object) -> Trainer:
    data, targets = examples()
    tensors = Tensors(data, CPU)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    held = np.arange(150, 200)

    def validate(judged: nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            logits = judged(tensors.gather(held))
        loss = nn.functional.cross_entropy(logits, targets[held])
        return float(loss), float((logits.argmax(1) == targets[held]).float().mean())

    batches = Batches(tensors, targets, np.arange(150), 16, seed=3)
    return Trainer(model, Classify(2), batches, validate, settings, CPU, **more)  # type: ignore[arg-type]


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_best_weights_come_back_not_the_last() -> None:
    seen: list[Epoch] = []
    made = trainer(recipe(epochs=12, learning_rate=0.3, average=0.0, schedule="constant"), on_epoch=seen.append)
    progress = made.run()
    best = min(seen, key=lambda epoch: epoch.validate_loss)
    assert progress.best_epoch == best.number
    assert made.validate(made.model)[0] == pytest.approx(best.validate_loss, abs=0)
    lowest = math.inf
    for epoch in seen:
        assert epoch.best == (epoch.validate_loss < lowest)
        lowest = min(lowest, epoch.validate_loss)


def test_a_first_epoch_without_a_loss_is_not_the_best_for_ever() -> None:
    made = trainer(recipe(epochs=3))
    said = iter([(math.nan, 0.0), (0.7, 0.5), (0.9, 0.5)])
    made.validate = lambda model: next(said)
    made.run()
    assert (made.progress.best_epoch, made.progress.best_loss) == (2, 0.7)


def test_a_checkpoint_cut_short_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, made = RunFolder.create(tmp_path / "run"), trainer(recipe(epochs=3))
    kept = []

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    def keep(trainer: Trainer) -> None:
        kept.append(trainer.checkpoint())
        if len(kept) == 3:  # after the tensors, before the position
            monkeypatch.setattr(RunFolder, "write_json", die)
        save_checkpoint(folder, 0, kept[-1])

    made.keep = keep
    with pytest.raises(Killed):
        made.run()
    monkeypatch.undo()
    found = load_checkpoint(folder, 0)
    assert found is not None
    assert found.progress.step == kept[1].progress.step
    assert all(torch.equal(value, kept[1].weights[name]) for name, value in found.weights.items())
    save_checkpoint(folder, 0, kept[2])
    assert len(list((folder.path / "last").glob("*.safetensors"))) == 2, "this state and the one before"


def test_patience_ends_a_training_that_no_longer_improves() -> None:
    made = trainer(recipe(epochs=500, patience=3, learning_rate=0.3, schedule="constant", average=0.0))
    progress = made.run()
    assert progress.epoch == progress.best_epoch + 3 < 500


def test_same_recipe_same_weights() -> None:
    one = trainer(recipe())
    one.run()
    other = trainer(recipe())
    other.run()
    assert equal(weights(one.model), weights(other.model))


def test_a_training_cut_by_the_clock_repeats_to_the_last_bit_without_it() -> None:
    cut = trainer(recipe(epochs=10_000), seconds=0.4)
    progress = cut.run()
    assert progress.step < 10_000 * 10
    assert progress.corrections or progress.stopped
    again = trainer(recipe(epochs=10_000), replay=(progress.corrections, progress.stopped), seconds=math.inf)
    repeated = again.run()
    assert (repeated.step, repeated.epoch) == (progress.step, progress.epoch)
    assert equal(weights(cut.model), weights(again.model))


def test_a_plan_that_was_too_short_is_lengthened_up_to_the_most_epochs() -> None:
    made = trainer(recipe(epochs=4, most_epochs=9), seconds=60.0)
    progress = made.run()
    assert progress.epoch == 9
    again = trainer(recipe(epochs=4, most_epochs=9), replay=(progress.corrections, progress.stopped))
    assert again.run().step == progress.step
    assert equal(weights(made.model), weights(again.model))


def test_rates_come_down_even_when_the_clock_shortens_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = itertools.count()  # a clock by which each step takes a millisecond, however busy the machine is
    monkeypatch.setattr("fathom.training.time", types.SimpleNamespace(monotonic=lambda: 1e-3 * next(readings)))
    rates: list[float] = []
    made = trainer(recipe(epochs=100_000, schedule="one_cycle"), seconds=0.6)
    made.on_epoch = lambda epoch: rates.append(epoch.learning_rate)
    made.run()
    assert max(rates) > 5e-3
    assert rates[-1] < 0.1 * max(rates)


def test_rates_come_down_within_an_epoch_that_the_clock_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = itertools.count()
    monkeypatch.setattr("fathom.training.time", types.SimpleNamespace(monotonic=lambda: 1e-3 * next(readings)))
    rates: list[float] = []

    def long() -> Trainer:
        made = trainer(recipe(epochs=1, schedule="one_cycle", average=0.0))
        made.batches = Batches(made.batches.tensors, made.batches.targets, np.resize(np.arange(150), 8000), 16, seed=3)  # type: ignore[attr-defined]
        made.__post_init__()
        return made

    made = long()
    made.seconds = 0.2
    made.on_step = lambda step, total: rates.append(step.learning_rate)
    progress = made.run()
    assert progress.epoch == 1
    assert 100 < progress.step < 300, "500 steps are an epoch"
    assert progress.corrections
    assert rates[-1] < 0.1 * max(rates)
    again = long()
    again.replay = (progress.corrections, progress.stopped)
    assert again.run().step == progress.step
    assert equal(weights(made.model), weights(again.model))


def test_restored_training_ends_like_one_never_interrupted() -> None:
    whole = trainer(recipe(epochs=6))
    kept: list[Checkpoint] = []
    whole.keep = lambda t: kept.append(t.checkpoint())
    whole.run()
    resumed = trainer(recipe(epochs=6))
    torch.manual_seed(99)  # whatever happened in between
    resumed.restore(kept[2])
    resumed.run()
    assert equal(weights(whole.model), weights(resumed.model))


def test_a_finished_training_is_not_begun_again() -> None:
    made = trainer(recipe(epochs=300, patience=2, learning_rate=0.3, schedule="constant", average=0.0))
    made.run()
    again = trainer(recipe(epochs=300, patience=2, learning_rate=0.3, schedule="constant", average=0.0))
    again.restore(made.checkpoint())
    assert again.run().step == made.progress.step
    assert equal(weights(made.model), weights(again.model))


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_schedules_warm_up_and_come_down(name: str) -> None:
    factors = [SHAPES[name](step / 100) for step in range(101)]
    assert max(factors) == pytest.approx(1.0, abs=0.02)
    assert 0 < factors[0] < 0.1
    assert all(factor >= 0 for factor in factors)
    if name != "constant":
        assert factors[-1] < 0.01


def test_corrected_pace_never_jumps_and_ends_at_the_new_total() -> None:
    pace = Pace(1000)
    before = pace.progress(300)
    pace.correct(300, 500)
    assert pace.progress(300) == before == 0.3
    assert pace.progress(400) == pytest.approx(0.65)
    assert pace.progress(500) == 1.0
    assert pace.progress(100) == 0.1
    assert Pace(1000, pace.corrections).progress(400) == pace.progress(400)


def test_average_forgets_its_start_and_follows_buffers() -> None:
    model = nn.BatchNorm1d(2)
    average = AveragedWeights(model, horizon=5)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(7.0)  # type: ignore[union-attr]
        model.num_batches_tracked.fill_(4)  # type: ignore[union-attr]
    for _ in range(60):
        average.update(model)
    assert torch.allclose(average.model.weight, torch.full((2,), 3.0), atol=1e-3)
    assert torch.allclose(average.model.running_mean, torch.full((2,), 7.0), atol=1e-3)
    assert int(average.model.num_batches_tracked) == 4


def test_every_row_comes_once_in_an_epoch_and_the_order_depends_on_seed_and_epoch_only() -> None:
    data, _ = examples(103)
    tensors = Tensors(data, CPU)
    batches = Batches(tensors, torch.arange(103), np.arange(103), 10, seed=1)
    first = torch.cat([batch.targets for batch in batches.epoch(0)])
    assert sorted(first.tolist()) == list(range(103))
    again = torch.cat([b.targets for b in Batches(tensors, torch.arange(103), np.arange(103), 10, seed=1).epoch(0)])
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.cat([batch.targets for batch in batches.epoch(1)]))
    skipped = torch.cat([batch.targets for batch in batches.epoch(0, skip=4)])
    assert torch.equal(first[40:], skipped)


def test_a_last_batch_of_one_row_is_dropped_for_batch_norm() -> None:
    data, targets = examples(101)
    batches = Batches(Tensors(data, CPU), targets, np.arange(101), 10)
    assert [len(b.targets) for b in batches.epoch(0)] == [10] * 10
    assert batches.per_epoch == 10


def test_texts_of_like_length_are_batched_together() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 60, 400)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ragged = Ragged(np.ones(starts[-1], np.int32), starts)
    data = Examples({"t": ragged}, {"t": {"form": "tokens", "length": 64}}, {}, 400)
    batches = Batches(Tensors(data, CPU), torch.zeros(400), np.arange(400), 16)
    padded = sum(b.inputs.numel() for b in batches.epoch(0))  # type: ignore[union-attr]
    assert padded < 1.15 * lengths.sum()
