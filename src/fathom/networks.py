"""Train the planned network on every fold, within the budget, and keep it as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fathom.batches import Tensors
from fathom.candidates import Candidate
from fathom.compute import pick_device
from fathom.console import clock
from fathom.contest import Contest
from fathom.course import course, network_config, seed_of, tensors_of
from fathom.doctor.watch import watch
from fathom.interrupts import BetweenSteps, gently
from fathom.loop import Step
from fathom.network import build
from fathom.recipe import Recipe
from fathom.rooms import find
from fathom.run import METRIC_COLUMNS, RunFolder
from fathom.show import shown
from fathom.states import load_checkpoint, save_checkpoint
from fathom.store import as_network, describe, save_networks
from fathom.training import Epoch, Progress, State, Trainer

SECONDS_BETWEEN_CHECKPOINTS = 20
MOST_PLACES = 20  # of rows, named in a finding


def fit_networks(contest: Contest) -> list[Candidate]:
    """The planned network, trained on every fold; nothing where the recipe says model=none."""
    recipe = contest.recipe
    if recipe.model.name in (None, "none"):
        return []
    device = pick_device(recipe.device)
    config = network_config(contest)
    tensors = tensors_of(contest, device)
    begun = time.monotonic()
    states: list[State] = []
    for number in range(len(contest.divided.folds)):
        states.append(_train_fold(contest, config, tensors, number, device))
        contest.save_recipe()
    save_networks(contest.folder, config, states)
    members = [as_network(_built(config, state, device), config, device) for state in states]
    name = str(config["name"])
    return [Candidate(name, members, describe(config, members[0]), time.monotonic() - begun, is_network=True)]


def _built(config: dict[str, Any], state: State, device: torch.device) -> nn.Module:
    model = build(config["name"], config["about"], config["outputs"], config["options"])
    model.load_state_dict(state)
    return model.to(device)


def _train_fold(contest: Contest, config: dict[str, Any], tensors: Tensors, number: int, device: torch.device) -> State:
    trainer = make_trainer(contest, config, tensors, number, device)
    _take_up(trainer, contest, number)

    def say(text: str) -> None:
        contest.console.stage("Doctor", text)

    # The loop itself refuses steps that would ruin the weights, and goes on.
    rows_of, planned = getattr(trainer.batches, "rows_of", None), trainer.pace.total
    with watch(trainer.model, trainer.optimizer, steps=planned, rows_of=rows_of, stop=False, say=say) as doctor:
        shown = trainer.on_epoch

        def judged(epoch: Epoch) -> None:
            if shown is not None:
                shown(epoch)
            doctor.judged(epoch.validate_loss, restores=True)

        trainer.on_epoch = judged
        progress = _run(trainer, contest, number)
    if progress.findings is None:  # else it was finished before, and nothing was watched now
        progress.findings = [_placed(contest.folder, one.to_json()) | {"fold": number} for one in doctor.report()]
    if progress.findings:
        contest.folder.write_json("findings.json", [*contest.folder.read_json("findings.json"), *progress.findings])
    save_checkpoint(contest.folder, number, trainer.checkpoint())
    _remember(contest, number, progress)
    if progress.refused:
        contest.console.stage("Doctor", f"{progress.refused} steps were refused: loss or gradient was not finite")
    return trainer.best


def _take_up(trainer: Trainer, contest: Contest, number: int) -> None:
    """Go on from the last state that is whole, where there is one, and say so."""
    damages: list[str] = []
    saved = load_checkpoint(contest.folder, number, damages.append)
    for damage in damages:
        contest.console.stage("Damaged", damage)
    if saved is not None:
        trainer.restore(saved)
        for epoch in saved.progress.story:
            contest.add_epoch(_line(contest, number, epoch))
        earlier = " the state before it:" if damages else ""
        at = f"step {saved.progress.step} (epoch {saved.progress.epoch + 1})"
        contest.console.stage("Resuming", f"fold {number + 1} after{earlier} {at}")
    elif damages:
        contest.console.stage("Resuming", f"fold {number + 1} from its beginning: no state of it is whole")


def _run(trainer: Trainer, contest: Contest, number: int) -> Progress:
    """Train; Ctrl-C keeps what was learned up to the step it came in."""
    with gently() as is_asked_to_stop:
        trainer.is_asked_to_stop = is_asked_to_stop
        try:
            return trainer.run()
        except BetweenSteps:
            save_checkpoint(contest.folder, number, trainer.checkpoint())
            raise


def _placed(folder: RunFolder, found: dict[str, Any]) -> dict[str, Any]:
    """A finding with the places of the rows that it names by id: "people.csv:212"."""
    evidence = found["evidence"]
    if evidence.get("has_ids"):
        split = folder.read_table("split.parquet")
        place = dict(zip(split["row"].tolist(), split["place"], strict=True))
        # Rows besides a sample stand in no file of the run.
        evidence["places"] = [place[row] for row in evidence["rows"][:MOST_PLACES] if row in place]
    return found | {"symptoms": [_placed(folder, one) for one in found["symptoms"]]}


def _remember(contest: Contest, number: int, progress: Progress) -> None:
    """What the clock did to this fold goes into the recipe, so that it can be repeated without the clock."""
    train = contest.recipe.train
    train.corrections = [*train.corrections[:number], progress.corrections, *train.corrections[number + 1 :]]
    train.stopped = [*train.stopped[:number], progress.stopped, *train.stopped[number + 1 :]]
    train.mended = [*train.mended[:number], progress.mended, *train.mended[number + 1 :]]


def make_trainer(
    contest: Contest, config: dict[str, Any], tensors: Tensors, number: int, device: torch.device
) -> Trainer:
    """The trainer of one fold, ready to run."""
    recipe = contest.recipe
    torch.manual_seed(seed_of(contest, number))
    model = build(config["name"], config["about"], config["outputs"], config["options"]).to(device)
    taken = course(contest, config, tensors, number, device)
    return Trainer(
        model,
        taken.objective,
        taken.batches,
        taken.validate,
        recipe.train,
        device,
        seconds=_fold_seconds(contest, number),
        replay=_replay(recipe, number),
        replay_mended=recipe.train.mended[number] if recipe.resolved and number < len(recipe.train.mended) else None,
        on_step=_show_step(contest, number),
        on_epoch=_show_epoch(contest, number),
        on_mend=lambda text: contest.console.stage("Doctor", f"{_label(contest, number)}{text}"),
        keep=_keeper(contest, number),
    )


def _fold_seconds(contest: Contest, number: int) -> float:
    """What is left, shared evenly with the folds still to come; no end where epochs or steps were asked for and no
    budget was."""
    recipe = contest.recipe
    is_asked = recipe.train.steps is not None or not recipe.why("epochs")
    if contest.budget.seconds is None or (recipe.budget is None and is_asked):
        return float("inf")
    return contest.budget.share(1 / (len(contest.divided.folds) - number), reserve=contest.reserve)


def _replay(recipe: Recipe, number: int) -> tuple[list[list[int]], int | None] | None:
    if not recipe.resolved or number >= len(recipe.train.corrections):
        return None
    return recipe.train.corrections[number], recipe.train.stopped[number]


def _label(contest: Contest, number: int) -> str:
    folds = len(contest.divided.folds)
    return f"fold {number + 1}/{folds}  " if folds > 1 else ""


def _show_step(contest: Contest, number: int) -> Callable[[Step, int], None] | None:
    if not contest.console.is_live:
        return None

    def show(step: Step, total: int) -> None:
        contest.console.bar(f"{_label(contest, number)}step {step.index}/{total}", step.index / max(total, 1))

    return show


def _show_epoch(contest: Contest, number: int) -> Callable[[Epoch], None]:
    measure = find("measures", contest.metric)

    def show(epoch: Epoch) -> None:
        mark = "best" if epoch.best else ""
        contest.console.more(
            f"{_label(contest, number)}epoch {epoch.number:>3}/{epoch.planned}  train {epoch.train_loss:.4f}  "
            f"validate {epoch.validate_loss:.4f}  {measure.LABEL} {shown(measure, epoch.metric):>8}  "
            f"{mark:4}  {clock(epoch.seconds_left)} left"
        )
        contest.add_epoch(_line(contest, number, epoch))
        contest.folder.write_rows("metrics.csv", METRIC_COLUMNS, contest.history)

    return show


def _line(contest: Contest, number: int, epoch: Epoch) -> list[Any]:
    """A line of metrics.csv."""
    return [
        contest.recipe.model.name,
        number,
        epoch.number,
        epoch.step,
        epoch.train_loss,
        epoch.validate_loss,
        epoch.metric,
        epoch.learning_rate,
        round(epoch.seconds, 3),
        int(epoch.best),
    ]


def _keeper(contest: Contest, number: int) -> Callable[[Trainer], None]:
    last = time.monotonic()

    def keep(trainer: Trainer) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_CHECKPOINTS:
            save_checkpoint(contest.folder, number, trainer.checkpoint())
            last = time.monotonic()

    return keep
