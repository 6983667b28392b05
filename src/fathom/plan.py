"""Choose what the recipe leaves open: which network, how large, how long, how precise. Each choice has its reason.

Sizes and epochs follow from the rows and from seconds measured on this machine; what was measured decides once, goes
into the recipe, and is not measured again when the recipe is run again.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, replace
from typing import Any

import torch

from fathom import rooms
from fathom.batches import Tensors
from fathom.compute import choose_precision, is_busy, num_cores, pick_device, seconds_per_call, set_threads
from fathom.contest import Contest
from fathom.course import network_config, tensors_of
from fathom.forecast import Forecast, announce
from fathom.language import refuse_foresight
from fathom.memory import peak_bytes, resident_bytes
from fathom.network import build
from fathom.probe import Probe
from fathom.recipe import Recipe, TrainRecipe
from fathom.styles import Size, Style, style_of
from fathom.training_memory import JUDGING, keep_within, refuse_too_little

# Time that is not spent in steps: validation, averaging, waiting.
STEP_SHARE = 0.85
# Share of the budget that must be left for a network on a sample, and share of the rows that it must get to see.
LEAST_LEFT, LEAST_SEEN = 0.12, 0.1
MUCH_SLOWER = 3.0  # than a step on one thread: then one step on all is enough to see it
# Seconds for intervals, importance and the report.
FINISHING = 3.0
# Copies of the weights that a training holds besides those it was timed with: the average, the best, and all that a
# checkpoint keeps, once as tensors and once as the bytes of its file.
STATES = 12


def default_budget(recipe: Recipe, rows: int, continues: bool) -> float:
    """Seconds for a run without --budget: enough for small data to end by itself, five minutes at most."""
    # A piece of a long text is a thousand tokens.
    per_row, what = (0.25, "pieces") if continues else (0.01, "rows")
    seconds = min(300.0, 30.0 + per_row * rows)
    told = f"30 s and {1e3 * per_row:.0f} ms for each of {rows:,} {what}, 300 s at most"
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
        f"{what} {recipe.why(what)}"
        for what in ("model", "threads", "precision", "size", "batch", "epochs")
        if recipe.why(what)
    ]
    for number, line in enumerate(told):
        contest.console.stage("" if number else "Planning", line)
    if contest.forecast is not None:
        announce(contest.forecast, contest.folder, contest.console)


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


def refuse_small_memory(contest: Contest) -> None:
    """Raise UserError where the recipe's memory is too small for anything, with the least that would work."""
    trial = replace(contest, recipe=copy.deepcopy(contest.recipe))
    model = trial.recipe.model
    model.name = model.name or choose_model(trial)[0]
    if trial.recipe.memory is None or trial.recipe.resolved or model.name == "none":
        return
    style = _style(trial)
    _fill_in(trial.recipe.train, style)
    refuse_too_little(trial, style.sizes[-1])


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
    return contest.num_trained(0)


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
    _fill_in(settings, style)
    device = pick_device(recipe.device)
    tensors = tensors_of(contest, device)
    refuse_too_little(contest, style.sizes[-1])
    if recipe.threads is None:
        recipe.threads = _choose_threads(contest, style.sizes[-1], tensors, device)
    seconds = contest.budget.share(STEP_SHARE, reserve=contest.reserve) / len(contest.divided.folds)
    probe, per_step, epochs = _largest_that_fits(contest, style, tensors, device, seconds)
    size = probe.size
    validating = 0.0
    if contest.task.kind != "pair":
        judging, validating = probe.seconds_to_judge()
        contest.judging += judging + validating
        seconds = contest.budget.share(STEP_SHARE, reserve=contest.reserve) / len(contest.divided.folds)
        epochs = _affordable(probe, per_step, seconds)
    if settings.precision is None:
        choice = choose_precision(probe.forward_backward, device, seconds=_to_time(contest))
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
    contest.forecast = _forecast(contest, probe, per_step, validating, seconds)


def _forecast(contest: Contest, probe: Probe, per_step: float, validating: float, seconds: float) -> Forecast:
    """What the training will take, from what was measured."""
    settings, folds = contest.recipe.train, len(contest.divided.folds)
    assert settings.epochs is not None
    an_epoch = per_step * probe.per_epoch + validating
    epochs = min(float(settings.epochs), max(seconds / STEP_SHARE / an_epoch, 1 / probe.per_epoch))
    weights = sum(one.numel() * one.element_size() for one in probe.model.parameters())
    return Forecast(
        seconds_per_epoch=an_epoch,
        epochs=epochs,
        steps_per_epoch=math.ceil(probe.per_epoch / settings.accumulate),
        folds=folds,
        seconds=contest.budget.spent + folds * epochs * an_epoch + contest.judging + FINISHING,
        memory=max(peak_bytes(), resident_bytes() + STATES * weights + JUDGING),
    )


def _fill_in(settings: TrainRecipe, style: Style) -> None:
    """What the recipe leaves open, as the style has it."""
    for name, value in asdict(style.train).items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)


def rows_in_time(contest: Contest) -> float:
    """Training rows that the smallest size of the network may look at in the time that is left; infinity without a
    clock. More than these need not be made ready: told by the quickest step, and twice as many as it says, for coarser
    numbers may be quicker still.
    """
    if contest.recipe.resolved or contest.budget.seconds is None:
        return math.inf
    trial = replace(contest, recipe=copy.deepcopy(contest.recipe))
    model, settings = trial.recipe.model, trial.recipe.train
    model.name = model.name or choose_model(trial)[0]
    if model.name == "none":
        return 0.0
    style = _style(trial)
    _fill_in(settings, style)
    assert settings.batch_size
    device = pick_device(trial.recipe.device)
    keep_within(trial, style.sizes[-1])
    probe = Probe(trial, style.sizes[-1], tensors_of(trial, device), device)
    seconds_per_call(probe.step, device, seconds=_to_time(contest))
    per_step = min(probe.seconds_once() for _ in range(3))
    return 2 * contest.budget.share(STEP_SHARE, reserve=contest.reserve) / per_step * settings.batch_size


def spare_the_network(contest: Contest, rows: float | None = None) -> None:
    """Where a sample was needed and the time is nearly up all the same, no network is trained: it would learn nothing.

    Asked first by the seconds left, then by the `rows` that it would look at. One that was named is trained.
    """
    recipe, budget = contest.recipe, contest.budget
    if recipe.resolved or recipe.sample.rows is None or recipe.model.name is not None or budget.seconds is None:
        return
    if not recipe.baselines:
        return
    left, why = budget.left - contest.reserve, ""
    if left < LEAST_LEFT * budget.seconds:
        why = f"{max(0.0, left):.0f} s are left for it"
    elif rows is not None and rows < LEAST_SEEN * contest.num_trained(0):
        why = f"in the time that is left it would look at {rows:,.0f} rows of {contest.num_trained(0):,}"
    if why:
        recipe.model.name = "none"
        recipe.explain("model", "none", f"{why}; a longer --budget gives one")


def _to_time(contest: Contest) -> float:
    """Seconds that one measurement may take: half a second, less where little is left."""
    return min(0.5, max(0.02, 0.02 * contest.budget.left))


def _choose_threads(contest: Contest, size: Size, tensors: Tensors, device: torch.device) -> int:
    """All cores, or one where a step of the smallest size is hardly quicker with all."""
    cores = num_cores()
    if cores == 1 or device.type != "cpu":
        return cores
    if is_busy():
        contest.recipe.explain("threads", 1, "the machine is busy otherwise")
        return 1
    trial = replace(contest, recipe=copy.deepcopy(contest.recipe))
    keep_within(trial, size)
    probe = Probe(trial, size, tensors, device)
    seconds: dict[int, float] = {}
    for threads in (1, cores):
        set_threads(threads)
        if threads > 1 and (once := probe.seconds_once()) > max(MUCH_SLOWER * seconds[1], 0.2):
            # On a machine that is busy otherwise threads wait for each other, a hundred times as long as they work.
            seconds[threads] = once
            continue
        seconds[threads] = seconds_per_call(probe.step, device, seconds=_to_time(contest))
    chosen = cores if seconds[cores] < 0.9 * seconds[1] else 1
    set_threads(chosen)
    why = f"a step takes {1e3 * seconds[1]:.1f} ms on one, {1e3 * seconds[cores]:.1f} ms on {cores}"
    contest.recipe.explain("threads", chosen, why)
    return chosen


def _words(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items()) or "as the model's own defaults"


def _largest_that_fits(
    contest: Contest, style: Style, tensors: Tensors, device: torch.device, seconds: float
) -> tuple[Probe, float, int]:
    """From the largest size down, the first that fits into the memory and whose least number of epochs fits into the
    seconds; else the smallest."""
    assert style.sizes
    settings = contest.recipe.train
    whole = settings.batch_size, settings.accumulate
    for size in style.sizes:
        settings.batch_size, settings.accumulate = whole
        if not keep_within(contest, size) and size is not style.sizes[-1]:
            continue
        probe = Probe(contest, size, tensors, device)
        per_step = seconds_per_call(probe.step, device, seconds=_to_time(contest)) + probe.seconds_to_make
        epochs = _affordable(probe, per_step, seconds)
        if epochs >= size.least_epochs or size is style.sizes[-1]:
            return probe, per_step, epochs
        del probe  # its memory is free before the next is made
    raise AssertionError("the smallest size is taken as it is")


def _affordable(probe: Probe, per_step: float, seconds: float) -> int:
    if not math.isfinite(seconds):
        return 10**6
    return int(seconds / (per_step * probe.per_epoch))
