"""Choose what the recipe leaves open: which network, how large, how long, how precise. Each choice has its reason.

Sizes and epochs follow from the rows and from seconds measured on this machine; what was measured decides once, goes
into the recipe, and is not measured again when the recipe is run again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from fathom import rooms
from fathom.batches import Batch, Batches, Tensors
from fathom.compute import choose_precision, num_cores, pick_device, seconds_per_call, set_threads
from fathom.contest import Contest
from fathom.data import Table
from fathom.loop import train
from fathom.network import build
from fathom.networks import make_objective
from fathom.recipe import Recipe
from fathom.styles import STYLES, Size, Style
from fathom.training import adamw

# Time that is not spent in steps: validation, averaging, waiting.
STEP_SHARE = 0.85


def default_budget(recipe: Recipe, table: Table) -> float:
    """Seconds for a run without --budget: enough for small data to end by itself, five minutes at most."""
    seconds = min(300.0, 30.0 + 0.01 * len(table))
    recipe.explain("budget", f"{seconds:.0f} s", f"30 s and 10 ms for each of {len(table):,} rows, 300 s at most")
    return seconds


def plan(contest: Contest) -> None:
    """Resolve `recipe.model` and `recipe.train` in place. A resolved recipe is left as it is."""
    recipe = contest.recipe
    if recipe.resolved:
        return
    if recipe.model.name is None:
        recipe.model.name, why = _choose_model(contest)
        recipe.explain("model", recipe.model.name, why)
    if recipe.model.name != "none":
        style = STYLES.get(recipe.model.name, STYLES["default"])(contest.examples.about, _rows(contest), contest.task)
        _settle(contest, style)
    recipe.resolved = True
    contest.save_recipe()
    told = [
        f"{what} {recipe.why(what)}" for what in ("model", "threads", "precision", "size", "epochs") if recipe.why(what)
    ]
    for number, line in enumerate(told):
        contest.console.stage("" if number else "Planning", line)


def _rows(contest: Contest) -> int:
    return len(contest.divided.folds[0].train)


def _choose_model(contest: Contest) -> tuple[str, str]:
    """The first network that is made for these inputs, in the order of preference."""
    about = contest.examples.about
    order = [*PREFERENCE, *(n for n in rooms.names("models") if n not in PREFERENCE)]
    for name in order:
        why = rooms.find("models", name).claims(about)
        if why:
            return name, f"the data is {why}"
    return "none", f"no network takes inputs of the forms {', '.join(sorted({a['form'] for a in about.values()}))}"


PREFERENCE = ("mlp", "resnet", "transformer", "lstm", "fused")


def _settle(contest: Contest, style: Style) -> None:
    """Size by what fits into the time, then everything else."""
    recipe, settings = contest.recipe, contest.recipe.train
    for name, value in dataclasses.asdict(style.train).items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    device = pick_device(recipe.device)
    tensors = Tensors(contest.examples, device)
    if recipe.threads is None:
        recipe.threads = _choose_threads(contest, style.sizes[-1], tensors, device)
    seconds = contest.budget.share(STEP_SHARE, reserve=contest.reserve) / len(contest.divided.folds)
    size, per_step, epochs = _largest_that_fits(contest, style, tensors, device, seconds)
    if settings.precision is None:
        probe = _Probe(contest, size, tensors, device)
        choice = choose_precision(probe.forward_backward, device)
        settings.precision = choice.precision
        recipe.explain("precision", choice.precision, choice.why)
        if choice.precision == "bf16":
            per_step *= choice.seconds["bf16"] / choice.seconds["fp32"]
            epochs = _affordable(contest, per_step, seconds)
    for name, value in size.options.items():
        recipe.model.options.setdefault(name, value)
    recipe.explain("size", _words(recipe.model.options), size.why)
    if settings.epochs is None:
        wanted = size.epochs
        settings.epochs = max(1, min(wanted, epochs))
        settings.most_epochs = wanted
        why = (
            f"{wanted} are enough for {_rows(contest):,} rows" if epochs >= wanted else f"{seconds:.0f} s allow no more"
        )
        recipe.explain("epochs", settings.epochs, f"{why}; a step takes {1e3 * per_step:.1f} ms")


def _choose_threads(contest: Contest, size: Size, tensors: Tensors, device: torch.device) -> int:
    """All cores, or one where a step of the smallest size is hardly quicker with all."""
    cores = num_cores()
    if cores == 1 or device.type != "cpu":
        return cores
    probe = _Probe(contest, size, tensors, device)
    seconds = {}
    for threads in (1, cores):
        set_threads(threads)
        seconds[threads] = seconds_per_call(probe.step, device)
    chosen = cores if seconds[cores] < 0.9 * seconds[1] else 1
    set_threads(chosen)
    why = f"a step takes {1e3 * seconds[1]:.1f} ms on one, {1e3 * seconds[cores]:.1f} ms on {cores}"
    contest.recipe.explain("threads", chosen, why)
    return chosen


def _words(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items()) or "as the model's own defaults"


def _largest_that_fits(
    contest: Contest, style: Style, tensors: Tensors, device: torch.device, seconds: float
) -> tuple[Size, float, int]:
    """From the largest size down, the first whose least number of epochs fits into the seconds; else the smallest."""
    assert style.sizes
    for size in style.sizes:
        per_step = seconds_per_call(_Probe(contest, size, tensors, device).step, device)
        epochs = _affordable(contest, per_step, seconds)
        if epochs >= size.least_epochs:
            break
    return size, per_step, epochs


def _affordable(contest: Contest, per_step: float, seconds: float) -> int:
    if not math.isfinite(seconds):
        return 10**6
    settings = contest.recipe.train
    assert settings.batch_size is not None
    per_epoch = max(1, _rows(contest) // settings.batch_size)
    return int(seconds / (per_step * per_epoch))


class _Probe:
    """A throw-away model of one size, to be timed on real batches."""

    def __init__(self, contest: Contest, size: Size, tensors: Tensors, device: torch.device) -> None:
        recipe, settings = contest.recipe, contest.recipe.train
        assert recipe.model.name is not None and settings.batch_size and settings.learning_rate
        torch.manual_seed(0)
        options = size.options | recipe.model.options
        objective = make_objective(contest)
        outputs = rooms.find("objectives", contest.task.kind).outputs(contest.target)
        self.model = build(recipe.model.name, contest.examples.about, outputs, options).to(device).train()
        self.objective = objective
        targets = torch.as_tensor(contest.targets, device=device)
        if contest.task.kind == "regress":
            targets = targets.float()
        batches = Batches(tensors, targets, contest.divided.folds[0].train, settings.batch_size)
        self.batches = [batch for batch, _ in zip(batches.epoch(0), range(4), strict=False)]
        self.optimizer = adamw(self.model, settings.learning_rate, 0.0)
        self.turn = 0

    def _next(self) -> Batch:
        self.turn += 1
        return self.batches[self.turn % len(self.batches)]

    def step(self) -> None:
        for _ in train(self.model, self.objective, [self._next()], self.optimizer):
            pass

    def forward_backward(self, context: Callable[[], AbstractContextManager[Any]]) -> None:
        for _ in train(self.model, self.objective, [self._next()], self.optimizer, precision=context):
            pass
