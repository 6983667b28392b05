"""Train one network: epochs of the one loop, validation after each, the best weights kept, the budget watched.

What a reader would get wrong: the clock may shorten a training, but it never changes a training silently. Every
correction it makes is returned, and a training given the same corrections ignores the clock and repeats itself to the
last bit.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from fathom.compute import autocast, random_states, set_random_states
from fathom.interrupts import BetweenSteps
from fathom.loop import Objective, Step, train
from fathom.optimizer import make_optimizer
from fathom.optimizers.average import AveragedWeights
from fathom.optimizers.schedule import SHAPES, Pace
from fathom.recipe import TrainRecipe
from fathom.rescue import Rescue

State = dict[str, Tensor]
FIRST_LOOK = 16  # steps after which the pace is first looked at


class Epochs(Protocol):
    """Batches, epoch after epoch; each in an order of its own, the same again for the same number."""

    @property
    def per_epoch(self) -> int: ...
    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Any]: ...


class Epoch(NamedTuple):
    """One line of the story of a training."""

    number: int  # from 1
    planned: int  # as things stand; the clock may correct it
    step: int
    train_loss: float
    validate_loss: float
    metric: float
    learning_rate: float
    seconds: float  # since the training began
    best: bool
    seconds_left: float  # expected for the rest of this training


@dataclass
class Progress:
    """Where a training stands: enough, with the tensors, to take it up again."""

    step: int = 0
    epoch: int = 0  # epochs finished
    best_loss: float = math.inf
    best_epoch: int = 0
    corrections: list[list[int]] = field(default_factory=list)
    stopped: int | None = None  # the step at which the clock ended it, where it did
    refused: int = 0  # steps whose loss or gradient was not finite
    first_loss: float | None = None  # of the first batch
    mended: list[list[float]] = field(default_factory=list)  # weights went back: [step, factor on the rate since]
    seconds: float = 0.0
    finished: bool = False
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # of an epoch under way: loss, rows, refused
    story: list[Epoch] = field(default_factory=list)  # what was told of each epoch
    findings: list[dict[str, Any]] | None = None  # of whoever watched it, once it is finished


class Checkpoint(NamedTuple):
    """All tensors of a training. `average` is empty where no average is kept."""

    progress: Progress
    weights: State
    average: State
    average_steps: int
    best: State
    optimizer: State
    random: State  # by device
    stretch: State  # of the rescue, where it was in the middle of one


@dataclass
class Trainer:
    """A network, its data and its recipe. `run()` trains and leaves the best weights in `model`."""

    model: nn.Module
    objective: Objective
    batches: Epochs
    validate: Callable[[nn.Module], tuple[float, float]]  # model → (loss, metric) on validation rows
    recipe: TrainRecipe
    device: torch.device
    seconds: float = math.inf  # from the first step, before an interruption too; ignored where `replay` is given
    replay: tuple[list[list[int]], int | None] | None = None  # corrections and stop of the run to be repeated
    replay_mended: list[list[float]] | None = None  # likewise, what was taken back in it
    on_step: Callable[[Step, int], None] | None = None
    on_mend: Callable[[str], None] | None = None  # told what is taken back and why
    on_epoch: Callable[[Epoch], None] | None = None
    keep: Callable[[Trainer], None] | None = None  # called after each epoch; may store `checkpoint()`
    is_asked_to_stop: Callable[[], bool] = lambda: False  # asked after each step; then BetweenSteps is raised

    def __post_init__(self) -> None:
        recipe = self.recipe
        assert recipe.epochs and recipe.learning_rate and recipe.schedule and recipe.precision
        self.progress = Progress()
        self.steps_per_epoch = math.ceil(self.batches.per_epoch / recipe.accumulate)
        self.pace = Pace(recipe.steps or recipe.epochs * self.steps_per_epoch)
        self.optimizer = make_optimizer(
            self.model, recipe.optimizer or "adamw", recipe.learning_rate, recipe.weight_decay or 0.0
        )
        horizon = (recipe.average or 0.0) * self.steps_per_epoch
        self.average = AveragedWeights(self.model, horizon) if horizon else None
        self.best: State = {}
        self.sums = torch.zeros(3, device=self.device)
        self.rescue = Rescue(self) if recipe.mend else None

    def run(self) -> Progress:
        """Train to the end, to patience's end, or to the clock's."""
        begun = time.monotonic() - self.progress.seconds
        recipe, progress = self.recipe, self.progress
        while not progress.finished:
            loss = self._epoch(begun)
            progress.seconds = time.monotonic() - begun
            self._judge(loss)
            self._keep_pace(begun)
            is_stale = bool(recipe.patience) and progress.epoch - progress.best_epoch >= (recipe.patience or 0)
            progress.finished = is_stale or progress.stopped is not None or progress.step >= self.pace.total
            if self.keep is not None:
                self.keep(self)
            if not progress.finished and self.is_asked_to_stop():
                raise BetweenSteps
        self.model.load_state_dict(self.best)
        self.model.eval()
        return progress

    def _epoch(self, begun: float) -> float:
        """One pass over the training rows, or what the clock leaves of it; the mean training loss comes back."""
        recipe, progress = self.recipe, self.progress
        assert recipe.schedule is not None and recipe.precision is not None
        shape = SHAPES[recipe.schedule]
        warm_up = {} if recipe.warm_up is None else {"warm_up": recipe.warm_up}
        done = progress.step - progress.epoch * self.steps_per_epoch
        self.sums = torch.tensor(progress.sums, device=self.device)
        total, rows, refused = self.sums  # views: what is added to them is added there
        self.model.train()
        for step in train(
            self.model,
            self.objective,
            self.batches.epoch(progress.epoch, skip=done * recipe.accumulate),
            self.optimizer,
            accumulate=recipe.accumulate,
            clip=recipe.clip,
            schedule=lambda index: self._rate_factor * shape(self.pace.progress(index), **warm_up),
            precision=autocast(self.device, recipe.precision),
            start=progress.step,
        ):
            progress.step = step.index
            refused += step.refused
            if self.average is not None:
                self.average.update(self.model)
            if self.rescue is not None:
                self.rescue.after_step(step)
            total += step.loss.masked_fill(step.refused, 0.0) * step.rows
            rows += step.rows * ~step.refused
            if self.on_step is not None:
                self.on_step(step, self.pace.total)
            if self._must_stop(begun):
                progress.stopped = step.index
                break
            if self._is_long_epoch and step.index >= FIRST_LOOK and step.index.bit_count() == 1:
                self._keep_pace(begun)
            if step.index >= self.pace.total:
                break
            # At the end of an epoch it is asked after the validation, which belongs to it.
            if step.index < (progress.epoch + 1) * self.steps_per_epoch and self.is_asked_to_stop():
                progress.seconds = time.monotonic() - begun
                raise BetweenSteps
        progress.epoch += 1
        progress.refused += int(refused)
        progress.sums, self.sums = [0.0, 0.0, 0.0], torch.zeros(3, device=self.device)
        return float(total / rows) if rows else math.nan

    @property
    def _is_long_epoch(self) -> bool:
        """Whether there will be no end of an epoch to keep the pace at: then it is kept at steps 16, 32, 64, …"""
        return self.pace.total <= self.steps_per_epoch

    @property
    def _rate_factor(self) -> float:
        return 1.0 if self.rescue is None else self.rescue.factor

    def _must_stop(self, begun: float) -> bool:
        if self.replay is not None:
            return self.progress.step == self.replay[1]
        return time.monotonic() - begun > self.seconds

    def _judge(self, train_loss: float) -> None:
        """Validate, and keep the weights if they are the best so far."""
        progress = self.progress
        judged = self.average.model if self.average is not None else self.model
        judged.eval()
        loss, metric = self.validate(judged)
        loss = math.inf if math.isnan(loss) else loss  # the worst there is, not the one that nothing is below
        better = loss < progress.best_loss or not self.best
        if better:
            progress.best_loss, progress.best_epoch = loss, progress.epoch
            self.best = _copied(judged.state_dict())
        told = Epoch(
            progress.epoch,
            math.ceil(self.pace.total / self.steps_per_epoch),
            progress.step,
            train_loss,
            loss,
            metric,
            float(self.optimizer.param_groups[0]["lr"]),
            progress.seconds,
            better,
            (self.pace.total - progress.step) * progress.seconds / max(progress.step, 1),
        )
        progress.story.append(told)
        if self.on_epoch is not None:
            self.on_epoch(told)

    def _keep_pace(self, begun: float) -> None:
        """Correct the plan when steps turn out slower or quicker than planned, so that the rates come down in time.

        It is lengthened in its first half only: later the rates have come down too far for more steps to pay.
        """
        progress = self.progress
        if self.replay is not None:
            for step, total in self.replay[0]:
                if step == progress.step:
                    self._correct(total)
            return
        spent = time.monotonic() - begun
        if not math.isfinite(self.seconds) or progress.step == 0:
            return
        affordable = int(progress.step * 0.98 * self.seconds / spent)
        most = self.recipe.steps or (self.recipe.most_epochs or 0) * self.steps_per_epoch
        wanted = min(affordable, most)
        if progress.step < self.pace.total and affordable < self.pace.total:
            self._correct(max(affordable, progress.step))
        elif wanted > 1.1 * self.pace.total and self.pace.progress(progress.step) < 0.5:
            self._correct(wanted)

    def _correct(self, total: int) -> None:
        self.pace.correct(self.progress.step, total)
        self.progress.corrections.append([self.progress.step, total])

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on from here: copies, which further training does not change."""
        self.progress.sums = self.sums.tolist()
        return Checkpoint(
            copy.deepcopy(self.progress),
            _copied(self.model.state_dict()),
            {} if self.average is None else _copied(self.average.model.state_dict()),
            0 if self.average is None else self.average.steps,
            _copied(self.best),
            _copied(self.optimizer_tensors()),
            random_states(),
            {} if self.rescue is None else _copied(self.rescue.state()),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint; call before `run()`."""
        self.progress = copy.deepcopy(saved.progress)
        self.model.load_state_dict(saved.weights)
        if self.average is not None:
            self.average.model.load_state_dict(saved.average)
            self.average.steps = saved.average_steps
        self.best = dict(saved.best)
        self.load_optimizer_tensors(saved.optimizer)
        self.pace = Pace(self.pace.first_total, [(step, total) for step, total in saved.progress.corrections])
        set_random_states(saved.random)
        if self.rescue is not None:
            self.rescue = Rescue(self)
            self.rescue.take_up(saved.stretch)

    def optimizer_tensors(self) -> State:
        """Optimizer state by parameter name: 'stem.weight/exp_avg'."""
        return {
            f"{name}/{key}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def load_optimizer_tensors(self, state: State) -> None:
        self.optimizer.state.clear()
        for name, parameter in self.model.named_parameters():
            mine = {key.rsplit("/", 1)[1]: value for key, value in state.items() if key.rsplit("/", 1)[0] == name}
            if mine:
                self.optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in mine.items()}


def _copied(state: Mapping[str, Tensor]) -> State:
    return {name: value.detach().clone() for name, value in state.items()}
