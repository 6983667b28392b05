"""What all candidates share, and the baselines: on the same folds as the network, within their share of the budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom import rooms
from fathom.candidates import Candidate, fit_baseline
from fathom.compute import Budget
from fathom.console import Console, duration
from fathom.data import Examples, Task
from fathom.divide import Divided
from fathom.encode import Specs
from fathom.errors import UserError
from fathom.forecast import Forecast
from fathom.recipe import Recipe, dump
from fathom.rooms import find
from fathom.run import RunFolder
from fathom.show import shown
from fathom.stored import Store
from fathom.tracking import Tracking

# Share of what is left that the baselines may take together.
BASELINE_SHARE = 0.15


@dataclass
class Contest:
    """Everything that the candidates share."""

    recipe: Recipe
    task: Task
    targets: np.ndarray  # [N]
    target: dict[str, Any]  # spec for the objective
    specs: Specs  # of the fields
    examples: Examples
    divided: Divided
    budget: Budget
    console: Console
    folder: RunFolder
    taught: list[np.ndarray] | None = None  # of each fold: a teacher's probabilities [N, C] for its training rows
    judging: float = 0.0  # seconds that predicting all validation and test rows will take
    store: Store | None = None  # the sample's rows and further ones for the network, where there are such
    forecast: Forecast | None = None  # of the network; None where the recipe was resolved before
    tracking: Tracking | None = None  # what is told of the run elsewhere
    history: list[list[Any]] = field(default_factory=list)  # rows of metrics.csv

    @property
    def metric(self) -> str:
        assert self.recipe.metric is not None
        return self.recipe.metric

    @property
    def reserve(self) -> float:
        """Seconds put aside for judging, predicting and writing."""
        if self.budget.seconds is None:
            return 0.0
        finishing = 4.0 * self.budget.slowness + 0.03 * self.budget.seconds
        return min(0.7 * self.budget.seconds, finishing + self.judging)

    def trained_on(self, number: int) -> np.ndarray:
        """Ids of the rows that the network of a fold learns from; those of the store come after the examples'."""
        train = self.divided.folds[number].train
        return train if self.store is None else np.concatenate([train.astype(self.store.id_type), self.store.further])

    def num_trained(self, number: int) -> int:
        """How many these are."""
        return len(self.divided.folds[number].train) + (0 if self.store is None else self.store.num_further)

    def add_epoch(self, line: list[Any]) -> None:
        """A row of metrics.csv, told to the trackers too."""
        self.history.append(line)
        if self.tracking is not None:
            self.tracking.epoch(line)

    def save_recipe(self) -> None:
        self.folder.write_text("recipe.yaml", dump(self.recipe))


def fit_baselines(contest: Contest) -> list[Candidate]:
    """Every baseline of the recipe on every fold."""
    recipe, console = contest.recipe, contest.console
    chosen = dict(recipe.baselines or {})
    candidates: list[Candidate] = []
    budget = contest.budget
    is_timed = budget.seconds is not None and not recipe.resolved
    end = budget.spent + budget.share(BASELINE_SHARE, reserve=contest.reserve) if is_timed else 0.0
    for place, name in enumerate(list(chosen)):
        if is_timed and recipe.sample.rows is not None and len(candidates) > 1 and budget.left < contest.reserve:
            del chosen[name]
            recipe.explain(name.replace("_", " "), "left out", "no time is left")
            console.stage("Baseline", f"{name} {recipe.why(name.replace('_', ' '))}; a longer --budget gives it")
            continue
        seconds = max(0.0, end - budget.spent) / (len(chosen) - place) if is_timed else None
        fitted = fit_baseline(
            name,
            contest.examples,
            contest.targets,
            contest.divided.folds,
            contest.task,
            contest.folder,
            seed=recipe.seed,
            seconds=seconds,
            options=chosen[name],
            say=console.stage,
        )
        candidate, chosen[name] = fitted.candidate, fitted.settings
        if fitted.why and not recipe.resolved:
            recipe.explain(name.replace("_", " "), candidate.about, fitted.why)
        begun = budget.spent
        score = shown_score(contest, candidate.held_out(contest.examples, contest.divided.folds))
        judged = len(contest.divided.judged)
        contest.judging += (
            (budget.spent - begun) * (judged + len(contest.divided.folds) * len(contest.divided.test)) / judged
        )
        console.stage("Baseline", f"{candidate.about:<62} {score:>9}   {duration(candidate.seconds):>7}")
        candidates.append(candidate)
    recipe.baselines = chosen
    return candidates


def choose_baselines(contest: Contest) -> dict[str, list[dict[str, Any]]]:
    """Name → options for each fold: every baseline that claims the data, or those that the recipe names.

    Raises UserError for one that cannot read the data, and for options of another number of folds.
    """
    about, task = contest.examples.about, contest.task
    num_folds = len(contest.divided.folds)
    able = [name for name, part in rooms.every("baselines").items() if part.claims(about, task)]
    given = contest.recipe.baselines
    chosen = {}
    for name, options in (dict.fromkeys(able) if given is None else given).items():
        if name not in able:
            forms = ", ".join(sorted({facts["form"] for facts in about.values()}))
            raise UserError(
                f"The baseline '{name}' is not made for this data (the task '{task.kind}', inputs: {forms}). "
                f"Name others, or none to have all that are: {', '.join(able) or 'there are none'}."
            )
        each = options if isinstance(options, list) else [options or {}] * num_folds
        if len(each) != num_folds:
            raise UserError(f"baselines.{name} has {len(each)} settings for {num_folds} folds.")
        chosen[name] = [dict(one) for one in each]
    return dict(sorted(chosen.items(), key=lambda item: find("baselines", item[0]).RANK))


def shown_score(contest: Contest, held_out: np.ndarray) -> str:
    """The metric of validation predictions as a person reads it."""
    measure = find("measures", contest.metric)
    return shown(measure, measure.measure(held_out, contest.targets[contest.divided.judged]))
