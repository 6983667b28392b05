"""Raw data → run folder: the whole story on one page, one statement for each stage.

    read → prepare → split → encode → baselines → plan → networks → referee → keep

Everything a stage decides goes into the recipe with its reason; the saved recipe repeats the run to the last bit.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathom.afford import Stock, choose_sample, survey
from fathom.checkup import affordable_rows, check
from fathom.compute import Budget, is_busy, num_cores, pick_device, set_threads
from fathom.console import Console
from fathom.contest import Contest, choose_baselines, fit_baselines
from fathom.data import Examples, Table
from fathom.divide import divide
from fathom.errors import UserError
from fathom.further import further_store
from fathom.interrupts import telling
from fathom.keep import begin_folder, keep_result
from fathom.learn import Learned, learn
from fathom.lock import held
from fathom.manifest import refuse_changed
from fathom.networks import fit_networks
from fathom.plan import choose_model, default_budget, plan, refuse_misfit, refuse_small_memory
from fathom.prediction import refuse_unfit
from fathom.prepare import prepare
from fathom.prepared import Prepared
from fathom.recipe import Recipe
from fathom.rooms import check_options, check_ranges, find
from fathom.run import RunFolder, create_free, free_path, refuse_existing
from fathom.task import chosen_metric
from fathom.teacher import soft_targets
from fathom.tracking import refuse_missing, tracking


def fit(
    recipe: Recipe,
    data: Any = None,
    *,
    out: str | Path | None = None,
    console: Console | None = None,
    budget: Budget | None = None,
    resume: RunFolder | None = None,
) -> Outcome:
    """Make a run. `data` may be anything a source opens; without it the recipe's own path is read.

    Raises UserError for whatever is wrong with the data or the recipe: before anything is written, wherever it can be
    told without fitting.
    """
    console = console or Console()
    recipe = copy.deepcopy(recipe)
    if data is not None:
        recipe.data = None  # or the run taken up again would learn from what lies at that path
    if out is not None and resume is None:
        refuse_existing(out)
    _check_parts(recipe)
    budget = budget or Budget(recipe.budget)
    stock, table = _read(recipe, recipe.data if data is None else data, budget, console, resume)
    _set_up_compute(recipe)
    prepared = prepare(table, recipe, console.stage)
    recipe.metric = chosen_metric(prepared.task, recipe)
    divided = divide(prepared, recipe, console.stage)
    learned = learn(prepared, recipe, divided.fitting)
    for note in learned.notes:
        console.more(note)
    refuse_unfit(recipe, prepared.task, learned.examples.about)
    taught = soft_targets(recipe, prepared, divided, console.stage)
    contest = Contest(
        recipe=recipe,
        task=prepared.task,
        targets=learned.targets,
        target=learned.target,
        specs=learned.specs,
        examples=learned.examples,
        divided=divided,
        budget=budget,
        console=console,
        folder=resume or RunFolder(Path(out or free_path(table.name))),
        taught=taught,
    )
    _check_candidates(contest)
    refuse_small_memory(contest)
    if resume is None:
        contest.folder = create_free(table.name) if out is None else RunFolder.create(out)
    with held(contest.folder.path), telling(contest.folder.path):
        prepared = _examined(contest, prepared, learned)
        begin_folder(contest, table, prepared, learned.specs)
        _compete(contest, stock, table, prepared)
    test = contest.examples.take(divided.test)
    return Outcome(contest.folder, test, contest.targets[divided.test], contest.history)


class Outcome(NamedTuple):
    """The run folder, the encoded test rows for whoever explains the model, and how the training went."""

    folder: RunFolder
    test: Examples
    targets: np.ndarray
    epochs: list[list[Any]]  # rows of metrics.csv


def _read(recipe: Recipe, data: Any, budget: Budget, console: Console, resume: RunFolder | None) -> tuple[Stock, Table]:
    """What there is, and the rows of it that time and memory allow."""
    stock = survey(recipe, data)
    # Taken up again, a fold that nothing was decided for yet has a clock as it had before.
    has_default = budget.seconds is None and (resume is not None or not recipe.resolved)
    if has_default:
        budget.seconds = default_budget(recipe, stock.num_rows, stock.continues)
    choose_sample(stock, recipe, budget)
    table = stock.read(recipe)
    console.stage("Reading", f"{recipe.data or table.name} → {table.summary}")
    recipe.data, recipe.test = _lasting(recipe.data), _lasting(recipe.test)
    recipe.train.teacher = _lasting(recipe.train.teacher)
    for note in [*table.notes, *([recipe.why("sample")] if recipe.why("sample") else [])]:
        console.more(note)
    if resume is not None:
        refuse_changed(resume, table)
    if has_default:
        console.stage("Budget", recipe.why("budget"))
    return stock, table


def _compete(contest: Contest, stock: Stock, table: Table, prepared: Prepared) -> None:
    """Fit every candidate, and let the referee judge."""
    with tracking(contest.folder, contest.recipe, len(contest.divided.folds)) as contest.tracking:
        baselines = fit_baselines(contest)
        with further_store(contest, stock, table, prepared) as contest.store:
            plan(contest)
            networks = fit_networks(contest)
        keep_result(contest, prepared, [*baselines, *networks])
        contest.tracking.finish(contest.recipe)


def _examined(contest: Contest, prepared: Prepared, learned: Learned) -> Prepared:
    """What the doctor finds in the data, told and kept. It changes nothing that is fitted."""
    rows = affordable_rows(learned, contest.budget.seconds)
    checked = check(prepared, contest.divided, learned, contest.recipe, rows=rows)
    for finding in checked.findings:
        if finding not in prepared.findings:
            contest.console.stage("Doctor", finding.text)
    return replace(prepared, findings=checked.findings, looked_for=checked.looked_for)


def _lasting(path: str | None) -> str | None:
    """A path that means the same from another folder, for whoever takes the run up again."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def _set_up_compute(recipe: Recipe) -> None:
    try:
        pick_device(recipe.device)  # refused now rather than after the baselines
    except ValueError as error:
        raise UserError(str(error)) from None
    set_threads(recipe.threads or (1 if is_busy() else num_cores()))


def _check_parts(recipe: Recipe) -> None:
    """Names of models, baselines and trackers and their options are refused now rather than after the baselines."""
    refuse_missing(recipe.log)
    if recipe.model.name not in (None, "none"):
        part = find("models", str(recipe.model.name))
        check_options(part.build, recipe.model.options, f"model {recipe.model.name}")
    elif recipe.model.options:
        raise UserError("Options of a model were given without its name. Add model=NAME; `fathom models` lists them.")
    for name, options in (recipe.baselines or {}).items():
        part = find("baselines", name)
        for one in options if isinstance(options, list) else [options or {}]:
            if not isinstance(one, dict):
                raise UserError(
                    f"baselines.{name} is {options!r}; expected its options, baselines.{name}={{}} for the usual ones, "
                    "or a list of options, one for each fold."
                )
            check_options(part.fit, one, f"baseline {name}")
            check_ranges(getattr(part, "RANGES", {}), one, f"baselines.{name}", getattr(part, "MOST", {}))


def _check_candidates(contest: Contest) -> None:
    """What is to be fitted must be able to read the data: asked before anything is written."""
    recipe = contest.recipe
    recipe.baselines = choose_baselines(contest)
    if recipe.model.name not in (None, "none"):
        refuse_misfit(contest)
    elif not recipe.baselines and (recipe.model.name or choose_model(contest)[0]) == "none":
        raise UserError("There is nothing to fit: no baseline is made for this data, and model=none. Name a model.")
