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
from fathom.recipe import Recipe, dump
from fathom.rooms import find
from fathom.run import RunFolder
from fathom.show import shown

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
    judging: float = 0.0  # seconds that predicting all validation and test rows will take, where that is much
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
        return min(0.3 * self.budget.seconds, 4.0 + 0.03 * self.budget.seconds + self.judging)

    def save_recipe(self) -> None:
        self.folder.write_text("recipe.yaml", dump(self.recipe))


def fit_baselines(contest: Contest) -> list[Candidate]:
    """Every baseline of the recipe on every fold."""
    recipe, console = contest.recipe, contest.console
    chosen = dict(recipe.baselines or {})
    candidates = []
    budget = contest.budget
    is_timed = budget.seconds is not None and not recipe.resolved
    end = budget.spent + budget.share(BASELINE_SHARE, reserve=contest.reserve) if is_timed else 0.0
    for place, name in enumerate(chosen):
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
        )
        candidate, chosen[name] = fitted.candidate, fitted.settings
        if fitted.why and not recipe.resolved:
            recipe.explain(name.replace("_", " "), candidate.about, fitted.why)
        score = shown_score(contest, candidate.held_out(contest.examples, contest.divided.folds))
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
