"""Going back in our own trainings: one that runs away ends well, repeats itself exactly, and others do not notice."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

import fathom
from fathom import recipe as recipes
from fathom.interrupts import BetweenSteps
from fathom.run import RunFolder
from fathom.states import load_checkpoint, save_checkpoint
from fathom.training import Checkpoint, Epoch, Trainer

from .conftest import people, write_csv
from .test_training import equal, recipe, trainer, weights

WILD = 300.0  # a rate at which a net of sixteen units runs away


def wild(**more: Any) -> Trainer:
    return trainer(recipe(epochs=8, learning_rate=WILD, schedule="constant", average=0.0), **more)


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_a_rate_far_too_high_ends_with_a_usable_model(average: float) -> None:
    said: list[str] = []
    settings = {"epochs": 30, "learning_rate": WILD, "average": average}
    alone = trainer(recipe(**settings, mend=False)).run()
    sane = trainer(recipe(epochs=30, average=average)).run()
    progress = trainer(recipe(**settings), on_mend=said.append).run()
    assert progress.best_loss < 0.45 < alone.best_loss
    assert progress.best_loss < sane.best_loss + 0.25
    assert len(said) == len(progress.mended) > 0 and "validation rows" in said[0]
    factors = [factor for _, factor in progress.mended]
    assert factors == sorted(factors, reverse=True) and factors[0] == 0.5


def test_the_optimizer_goes_back_too() -> None:
    seen: list[tuple[str, bool]] = []
    made = wild()
    made.on_mend = lambda text: seen.append((text, bool(made.optimizer_tensors())))
    made.run()
    assert "those of step 0 again" in seen[0][0] and not seen[0][1], "at the beginning it has no state"


def test_a_training_that_went_back_repeats_to_the_last_bit() -> None:
    def wild_and_drawing(**more: Any) -> Trainer:
        made = wild(**more)
        validate = made.validate
        made.validate = lambda model: (validate(model)[0], float(torch.rand(())))  # as dropout in use would draw
        return made

    first = wild_and_drawing()
    progress = first.run()
    assert progress.mended
    again = wild_and_drawing()
    assert again.run().mended == progress.mended
    assert equal(weights(first.model), weights(again.model))
    # On another machine no judgement is made again: what was taken back is.
    replayed = wild_and_drawing(replay=(progress.corrections, progress.stopped), replay_mended=progress.mended)
    validated: list[int] = []
    validate = replayed.validate
    replayed.validate = lambda model: validated.append(1) or validate(model)  # type: ignore[func-returns-value]
    replayed.run()
    assert equal(weights(first.model), weights(replayed.model)) and len(validated) == progress.epoch


def test_a_training_taken_up_again_after_going_back_ends_as_if_never_interrupted() -> None:
    whole, kept = wild(), list[Checkpoint]()
    whole.keep = lambda one: kept.append(one.checkpoint())
    whole.run()
    for number in (1, 3):
        assert kept[number].progress.mended
        resumed = wild()
        torch.manual_seed(99)
        resumed.restore(kept[number])
        resumed.run()
        assert equal(weights(whole.model), weights(resumed.model))


def test_one_stopped_in_the_middle_of_a_stretch_ends_as_if_never_interrupted(tmp_path: Path) -> None:
    whole = wild()
    whole.run()
    folder = RunFolder.create(tmp_path / "run")
    for stop in (3, 17, 45):
        cut = wild()
        cut.is_asked_to_stop = lambda cut=cut, stop=stop: cut.progress.step == stop  # type: ignore[misc]
        with pytest.raises(BetweenSteps):
            cut.run()
        save_checkpoint(folder, 0, cut.checkpoint())
        resumed, saved = wild(), load_checkpoint(folder, 0)
        torch.manual_seed(99)
        assert saved is not None
        resumed.restore(saved)
        resumed.run()
        assert resumed.progress.mended == whole.progress.mended
        assert equal(weights(whole.model), weights(resumed.model))


def test_healthy_trainings_are_the_same_to_the_last_bit() -> None:
    for rate in (0.01, 0.1):
        one = trainer(recipe(learning_rate=rate))
        assert one.run().mended == []
        other = trainer(recipe(learning_rate=rate, mend=False))
        other.run()
        assert equal(weights(one.model), weights(other.model))


def test_losses_that_rise_while_validation_rows_do_not_are_left_alone() -> None:
    made = trainer(recipe(epochs=8, learning_rate=3.0, schedule="constant", average=0.0))
    assert made.run().mended != []
    made = trainer(recipe(epochs=8, learning_rate=3.0, schedule="constant", average=0.0))
    made.validate = lambda model: (0.5, 0.5)
    assert made.run().mended == []


def test_steps_that_are_refused_lower_the_rate() -> None:
    made = trainer(recipe(epochs=4))
    losses, calls = made.objective.losses, [0]

    def ruined(model: torch.nn.Module, batch: Any) -> Any:
        for loss in losses(model, batch):
            calls[0] += 1
            yield loss._replace(total=loss.total * float("nan")) if hasattr(loss, "_replace") else _nan(loss, calls[0])

    made.objective.losses = ruined  # type: ignore[method-assign]
    rates: list[float] = []
    made.on_epoch = lambda epoch: rates.append(epoch.learning_rate)
    progress = made.run()
    assert progress.refused == 10 and progress.mended == [[8.0, 0.5], [16.0, 0.125]]
    assert made.rescue is not None and made.rescue.factor == 0.125


def _nan(loss: Any, call: int) -> Any:
    return type(loss)(loss.total * (float("nan") if call <= 10 else 1.0), loss.count)


def test_heavy_tails_are_no_ruin() -> None:
    """A few rows far away: single batches cost a hundred times what others do, and nothing runs away."""
    for seed in range(3):
        made = trainer(recipe(epochs=6))
        losses = made.objective.losses
        random = torch.Generator().manual_seed(seed)

        def heavy(model: torch.nn.Module, batch: Any, losses: Any = losses, random: Any = random) -> Any:
            for loss in losses(model, batch):
                yield type(loss)(
                    loss.total * (100.0 if float(torch.rand((), generator=random)) < 0.2 else 1), loss.count
                )

        made.objective.losses = heavy  # type: ignore[method-assign]
        assert made.run().mended == []


def _fit(folder: Path, name: str, **more: Any) -> fathom.Run:
    data = write_csv(folder / "people.csv", people(), without=("wealth",))
    settings = {"train__epochs": 12, "train__precision": "fp32", "split__folds": 2, "threads": 1, "explain_rows": 0}
    settings |= {"model": "mlp", "baselines": {}, "quiet": True, "train__learning_rate": 50.0}
    return fathom.fit(data, target="rich", out=folder / name, **(settings | more))


def test_fit_with_a_wild_rate_says_what_it_did_and_its_recipe_repeats_it(tmp_path: Path) -> None:
    run = _fit(tmp_path, "run")
    train = run.recipe.train
    assert len(train.mended) == 2 and all(train.mended)
    log = (run.path / "log.txt").read_text()
    assert "Doctor" in log and "the learning rate is 0.5 times the planned one" in log
    again = fathom.fit(recipe=run.path / "recipe.yaml", out=tmp_path / "again", quiet=True)
    assert (again.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()
    assert recipes.dump(again.recipe) == recipes.dump(run.recipe)
    off = _fit(tmp_path, "off", train__mend=False)
    assert off.recipe.train.mended == [[], []]
    best = [_best_loss(one) for one in (run, off)]
    assert best[0] < 0.6 and best[0] < best[1]


def _best_loss(run: fathom.Run) -> float:
    with open(run.path / "metrics.csv", newline="") as file:
        return min(float(row["validate_loss"]) for row in csv.DictReader(file))


def test_epochs_tell_the_rate_that_was_used() -> None:
    seen: list[Epoch] = []
    made = wild(on_epoch=seen.append)
    made.run()
    assert seen[-1].learning_rate < WILD
