"""Choose what the recipe leaves open: which network, how large, how long, how precise. Each choice has its reason.

Sizes and epochs follow from the rows and from seconds measured on this machine; what was measured decides once, goes
into the recipe, and is not measured again when the recipe is run again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

import torch

from fathom import rooms
from fathom.batches import Batch, Tensors
from fathom.compute import choose_precision, num_cores, pick_device, seconds_per_call, set_threads
from fathom.contest import Contest
from fathom.course import course, network_config
from fathom.data import Table
from fathom.language import refuse_foresight
from fathom.loop import train
from fathom.network import build
from fathom.optimizer import make_optimizer
from fathom.recipe import Recipe
from fathom.store import as_network
from fathom.styles import Size, Style, style_of

# Time that is not spent in steps: validation, averaging, waiting.
STEP_SHARE = 0.85
ROWS_TO_TIME = 16


def default_budget(recipe: Recipe, table: Table) -> float:
    """Seconds for a run without --budget: enough for small data to end by itself, five minutes at most."""
    # A piece of a long text is a thousand tokens.
    per_row, what = (0.25, "pieces") if table.continues else (0.01, "rows")
    seconds = min(300.0, 30.0 + per_row * len(table))
    told = f"30 s and {1e3 * per_row:.0f} ms for each of {len(table):,} {what}, 300 s at most"
    recipe.explain("budget", f"{seconds:.0f} s", told)
    return seconds


def plan(contest: Contest) -> None:
    """Resolve `recipe.model` and `recipe.train` in place. A resolved recipe is left as it is."""
    recipe = contest.recipe
    if recipe.resolved:
        return
    if recipe.model.name is None:
        recipe.model.name, why = choose_model(contest)
        recipe.explain("model", recipe.model.name, why)
    if recipe.model.name != "none":
        _settle(contest, _style(contest))
    recipe.resolved = True
    contest.save_recipe()
    told = [
        f"{what} {recipe.why(what)}" for what in ("model", "threads", "precision", "size", "epochs") if recipe.why(what)
    ]
    for number, line in enumerate(told):
        contest.console.stage("" if number else "Planning", line)


def refuse_misfit(contest: Contest) -> None:
    """Raise UserError where the model that the recipe names cannot read the inputs, or not with the options given.

    Built without memory for weights, so that it takes no time; a language model is built and asked to look ahead.
    """
    recipe, config = contest.recipe, network_config(contest)
    if not rooms.find("models", config["name"]).claims(config["about"]):
        _build_empty(config, recipe.model.options)  # it says itself what it reads
    tried = [recipe.model.options] if recipe.resolved else [size.options for size in _style(contest).sizes]
    for options in tried:
        _build_empty(config, options)
    if config["objective"] == "next_token":
        (about,) = config["about"].values()
        model = build(config["name"], config["about"], config["outputs"], tried[-1])
        refuse_foresight(model, config["name"], about["vocabulary"], about["length"])


def _build_empty(config: dict[str, Any], options: dict[str, Any]) -> None:
    given = config["name"], config["about"], config["outputs"], options
    try:
        with torch.device("meta"):
            build(*given)
    except (RuntimeError, TypeError):
        # A model that computes with its weights while it is built needs real ones.
        build(*given)


def _style(contest: Contest) -> Style:
    """How the chosen model is trained, and its sizes with all options."""
    name, options = contest.recipe.model.name, contest.recipe.model.options
    assert name is not None
    about = network_config(contest)["about"]
    return _as_asked(style_of(name, contest.task)(about, _rows(contest), contest.task), options)


def _as_asked(style: Style, options: dict[str, Any]) -> Style:
    """The style's options beside those that were given; where a published size was asked for, it is the only one."""
    sizes = style.sizes
    if options.get("size") is not None:
        sizes = (replace(style.sizes[0], options={}, why="as asked"),)
    return replace(style, sizes=tuple(replace(size, options=size.options | style.options | options) for size in sizes))


def _rows(contest: Contest) -> int:
    return len(contest.divided.folds[0].train)


def choose_model(contest: Contest) -> tuple[str, str]:
    """The first network that is made for these inputs, in the order of preference, and why; "none" where none is."""
    config = network_config(contest)
    about = config["about"]
    preferred = ("bert",) if config["objective"] == "masked_token" else PREFERENCE[contest.task.kind]
    # Of all networks that take a picture and a text only the preferred answer with a vector for each.
    others = [] if contest.task.kind == "pair" else [n for n in rooms.names("models") if n not in preferred]
    order = [*preferred, *others]
    for name in order:
        why = rooms.find("models", name).claims(about)
        if why:
            return name, f"the data is {why}"
    return "none", f"no network takes inputs of the forms {', '.join(sorted({a['form'] for a in about.values()}))}"


PREFERENCE: dict[str, tuple[str, ...]] = {
    "classify": ("mlp", "resnet", "transformer", "lstm", "fused"),
    "regress": ("mlp", "resnet", "transformer", "lstm", "fused"),
    "language": ("llama",),
    "translate": ("t5",),
    "pair": ("clip",),
}


def _settle(contest: Contest, style: Style) -> None:
    """Size by what fits into the time, then everything else."""
    recipe, settings = contest.recipe, contest.recipe.train
    for name, value in asdict(style.train).items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    device = pick_device(recipe.device)
    tensors = Tensors(contest.examples, device)
    if recipe.threads is None:
        recipe.threads = _choose_threads(contest, style.sizes[-1], tensors, device)
    seconds = contest.budget.share(STEP_SHARE, reserve=contest.reserve) / len(contest.divided.folds)
    probe, per_step, epochs = _largest_that_fits(contest, style, tensors, device, seconds)
    size = probe.size
    if contest.task.kind in ("language", "translate"):
        contest.judging = probe.seconds_to_judge()
        seconds = contest.budget.share(STEP_SHARE, reserve=contest.reserve)
        epochs = _affordable(probe, per_step, seconds)
    if settings.precision is None:
        choice = choose_precision(probe.forward_backward, device)
        settings.precision = choice.precision
        recipe.explain("precision", choice.precision, choice.why)
        if choice.precision == "bf16":
            per_step *= choice.seconds["bf16"] / choice.seconds["fp32"]
            epochs = _affordable(probe, per_step, seconds)
    recipe.model.options = size.options
    recipe.explain("size", _words(recipe.model.options), size.why)
    if settings.epochs is None and settings.steps is not None:
        settings.epochs = settings.most_epochs = math.ceil(
            settings.steps / math.ceil(probe.per_epoch / settings.accumulate)
        )
        each = 1e3 * per_step * settings.accumulate
        recipe.explain("epochs", settings.epochs, f"{settings.steps:,} steps as asked, {each:.1f} ms each")
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
) -> tuple[_Probe, float, int]:
    """From the largest size down, the first whose least number of epochs fits into the seconds; else the smallest."""
    assert style.sizes
    for size in style.sizes:
        probe = _Probe(contest, size, tensors, device)
        per_step = seconds_per_call(probe.step, device)
        epochs = _affordable(probe, per_step, seconds)
        if epochs >= size.least_epochs:
            break
    return probe, per_step, epochs


def _affordable(probe: _Probe, per_step: float, seconds: float) -> int:
    if not math.isfinite(seconds):
        return 10**6
    return int(seconds / (per_step * probe.per_epoch))


class _Probe:
    """A throw-away model of one size, to be timed on real batches."""

    def __init__(self, contest: Contest, size: Size, tensors: Tensors, device: torch.device) -> None:
        recipe, settings = contest.recipe, contest.recipe.train
        assert recipe.model.name is not None and settings.batch_size and settings.learning_rate
        torch.manual_seed(0)
        self.size, self.contest, self.device = size, contest, device
        config = self.config = network_config(contest)
        self.model = build(recipe.model.name, config["about"], config["outputs"], size.options).to(device).train()
        taken = course(contest, config, tensors, 0, device)
        self.objective, self.per_epoch = taken.objective, taken.batches.per_epoch
        self.batches = [batch for batch, _ in zip(taken.batches.epoch(0), range(4), strict=False)]
        self.optimizer = make_optimizer(self.model, settings.optimizer or "adamw", settings.learning_rate, 0.0)
        self.turn = 0

    def _next(self) -> Batch:
        self.turn += 1
        return self.batches[self.turn % len(self.batches)]

    def step(self) -> None:
        for _ in train(self.model, self.objective, [self._next()], self.optimizer):
            pass

    def seconds_to_judge(self) -> float:
        """What predicting all validation and test rows will take, from a few of them."""
        divided = self.contest.divided
        rows = len(divided.judged) + len(divided.test)
        some = self.contest.examples.take(divided.test[:ROWS_TO_TIME])
        begun = time.perf_counter()
        as_network(self.model, self.config, self.device).predict(some)
        self.model.train()
        # An untrained translator never ends a text; a trained one writes about half of what it may.
        share = 0.5 if self.contest.task.kind == "translate" else 1.0
        return share * rows * (time.perf_counter() - begun) / len(some)

    def forward_backward(self, context: Callable[[], AbstractContextManager[Any]]) -> None:
        for _ in train(self.model, self.objective, [self._next()], self.optimizer, precision=context):
            pass
