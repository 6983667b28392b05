"""What Python users call: `fit`, `load`, `resume`, and the `Run` they give back.

The workflows (fit, predict, explain, report) meet only here and in the run folder; none of them knows another.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom import limits
from fathom import recipe as recipes
from fathom.errors import UserError
from fathom.recipe import Recipe
from fathom.run import RunFolder, reading

# Predictions that explaining takes of each row: repeats for a column, patches of a picture, words of a text.
REPEATS, PATCHES, WORDS = 5, 100, 20
LEAST_ROWS_TO_EXPLAIN, MORE_ROWS = 20, 100

if TYPE_CHECKING:
    from fathom.checkup import Checkup
    from fathom.console import Console
    from fathom.data import Examples
    from fathom.doctor.finding import Finding
    from fathom.fitting import Outcome
    from fathom.ship.predict import Model, Predictions


class Run:
    """A finished run: predict, evaluate, report. Everything is read from its folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._model: Model | None = None

    def __repr__(self) -> str:
        return f"Run('{self.folder.path}')"

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def metrics(self) -> dict[str, Any]:
        """The verdict and every number of it, as metrics.json holds them."""
        found: dict[str, Any] = self.folder.read_json("metrics.json")
        return found

    @property
    def advised(self) -> str:
        """Name of the candidate that the referee advises."""
        return str(self.metrics["advised"])

    @property
    def recipe(self) -> Recipe:
        return recipes.load(self.folder.inside("recipe.yaml"))

    @property
    def model(self) -> Model:
        """The run opened for prediction; loaded once."""
        if self._model is None:
            from fathom.ship.predict import Model

            self._model = Model(self.folder)
        return self._model

    def predict(self, data: Any, *, candidate: str | None = None) -> Predictions:
        """Predictions for a path, a folder, a frame, arrays, a dict (one row), a text or a picture.

        `candidate` names another model of the run than the advised one.
        """
        return self.model.predict(data, candidate=candidate)

    def predict_proba(self, data: Any, *, candidate: str | None = None) -> Any:
        """Probabilities [N, C] in the order of the run's classes; for classification only."""
        found = self.predict(data, candidate=candidate).probabilities
        if found is None:
            raise UserError(f"{self.path} predicts numbers: it has no probabilities. Use predict().")
        return found

    def generate(self, prompt: str = "", *, new_tokens: int = 300, **options: Any) -> str:
        """The prompt and what a language model writes after it; for runs of a language.

        Options are `temperature` (0.8; 0 takes the most probable token), `top_k`, `top_p`, `seed` and `candidate`.
        """
        from fathom.ship.generate import write_on

        return prompt + "".join(write_on(self.model, prompt, new_tokens=new_tokens, **options))

    def match(self, pictures: Any, texts: str | Sequence[str], *, candidate: str | None = None) -> Any:
        """Cosines of each picture with each text, float64 [N, M]; for runs of pictures and captions.

        `match(pictures, ["a cat", "a dog"]).argmax(axis=1)` tells cats from dogs, whether or not a caption named them.
        """
        from fathom.ship.match import similarities

        return similarities(self.model, pictures, texts, candidate=candidate).values

    def evaluate(self, data: Any, *, candidate: str | None = None) -> dict[str, Any]:
        """Measures with 95 % intervals on labelled data."""
        return self.model.evaluate(data, candidate=candidate)

    def export(self, out: str | Path | None = None, *, format: str = "onnx", **options: Any) -> Path:
        """The model as a folder that needs neither Fathom nor PyTorch; see `fathom.export`."""
        return export(self, out, format=format, **options)

    def report(self) -> Path:
        """Write report.html again from the plain files of the run; the path comes back."""
        from fathom import mistakes
        from fathom.report.mistaken import Mistaken
        from fathom.report.page import write

        with reading(self.folder.inside(mistakes.NAME)):
            kept = [
                Mistaken(**entry | {"sure": float("nan") if entry["sure"] is None else entry["sure"]})
                for entry in mistakes.read(self.folder)
            ]
        return write(self.path, examples=kept)


def fit(
    data: Any = None,
    *,
    target: str | int | None = None,
    budget: str | float | None = None,
    memory: str | float | None = None,
    test: str | Path | None = None,
    task: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    group: str | None = None,
    time: str | None = None,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    quiet: bool = False,
    **keys: Any,
) -> Run:
    """Raw data → a run: a trained, compared and explained model in a folder.

    `data` is a path (table, folder or archive of class folders, IDX, .npz), the name of a sample ("digits"), a pandas
    or polars frame, or arrays. `budget` is in seconds or written "5m", `memory` in bytes or written "2GB". Further
    keys are the recipe's, with `__` for the dot: `model__depth=14`, `train__epochs=20`. Raises `fathom.UserError` with
    the remedy for whatever is wrong.

        run = fathom.fit("people.csv", target="income", budget="5m")
    """
    from fathom.console import Console

    values = _values_of(recipe)
    given: dict[str, Any] = {"target": target, "task": task, "seed": seed, "test": None if test is None else str(test)}
    values |= {key: value for key, value in given.items() if value is not None}
    if budget is not None:
        values["budget"] = seconds(budget)
    if memory is not None:
        values["memory"] = limits.size(memory)
    for key, value in {"group": group, "time": time}.items():
        if value is not None:
            values.setdefault("split", {})[key] = value
    for key, value in keys.items():
        recipes.put(values, key.replace("__", "."), value)
    if isinstance(data, str | Path):
        values["data"] = str(data)
        data = None
    return make(recipes.from_mapping(values), data, out=out, console=Console(quiet=quiet))


def make(
    recipe: Recipe,
    data: Any = None,
    *,
    out: str | Path | None = None,
    console: Console | None = None,
    started: float | None = None,
    folder: RunFolder | None = None,
) -> Run:
    """Run a recipe: fit, explain, report. `started` is when the command began, by time.monotonic."""
    started = time.monotonic() if started is None else started
    from fathom.compare import keep_summary
    from fathom.compute import Budget
    from fathom.console import Console
    from fathom.fitting import fit as fit_run
    from fathom.forecast import compare
    from fathom.interrupts import telling
    from fathom.states import keep_last_only

    if data is None and recipe.data is None:
        raise UserError("Nothing to learn from was given. Type `fathom fit PATH`, or a sample: `fathom fit digits`.")
    console = console or Console()
    budget = Budget(recipe.budget, started)
    outcome = fit_run(recipe, data, out=out, console=console, budget=budget, resume=folder)
    run = Run(outcome.folder)
    with telling(run.path):
        explain(run, outcome, seconds=min(10.0, budget.share(0.5)))
        compare(run.folder, outcome.epochs, budget.spent, console)
        keep_last_only(run.folder)
        keep_summary(run.folder)
        run.folder.seal()
        next_steps(run, console)
        run.report()
    return run


def explain(run: Run, outcome: Outcome, *, seconds: float) -> None:
    """What the advised model looked at, on test rows; added to metrics.json.

    As many rows are used as the seconds allow, by what a prediction cost; their number goes into the recipe.
    """
    from fathom.data import jsonable
    from fathom.explain.permutation import importance
    from fathom.rooms import find

    metrics, recipe, specs = run.metrics, run.recipe, run.model.spec["fields"]
    if run.model.task.kind not in ("classify", "regress"):
        return  # a text that is written has no columns to look at
    if recipe.explain_rows is None:
        kinds = [spec["kind"] for spec in specs.values()]
        calls = REPEATS * len(kinds) + PATCHES * kinds.count("image") + WORDS * kinds.count("text")
        # A call takes time of its own, beside that for each row.
        few, more = (_seconds_to_answer(run, outcome.test, rows) for rows in (LEAST_ROWS_TO_EXPLAIN, MORE_ROWS))
        a_row = max(more - few, 1e-6) / (MORE_ROWS - LEAST_ROWS_TO_EXPLAIN)
        affordable = LEAST_ROWS_TO_EXPLAIN + (seconds / calls - few) / a_row
        recipe.explain_rows = int(max(0.0, min(2_000, affordable)))
        run.folder.write_text("recipe.yaml", recipes.dump(recipe))
    if recipe.explain_rows < LEAST_ROWS_TO_EXPLAIN:
        return
    found = importance(
        run.model.candidate().predict,
        outcome.test,
        outcome.targets,
        run.model.task,
        find("measures", metrics["metric"]),
        repeats=REPEATS,
        rows=recipe.explain_rows,
        seed=recipe.seed,
        seconds=float("inf"),
        columns=list(specs),
        encode=lambda column, texts: find("fields", "text").encode(texts, specs[column])["tokens"],
    )
    run.folder.write_json("metrics.json", jsonable(metrics | {"importance": found}))


def _seconds_to_answer(run: Run, examples: Examples, rows: int) -> float:
    """The second time, for the first makes ready what later ones find; of a copy, for features of pictures are kept."""
    import numpy as np

    for _ in range(2):
        some = examples.take(np.resize(np.arange(len(examples)), rows))
        begun = time.monotonic()
        run.model.candidate().predict(some)
    return time.monotonic() - begun


def next_steps(run: Run, console: Console) -> None:
    """The last lines of a run: where it is kept and what to type next."""
    console.stage("Kept in", f"{run.path}")
    kind = run.metrics["task"]
    use = f"generate {run.path} 'Once upon a time'" if kind == "language" else f"predict {run.path} NEW_DATA"
    console.more(f"next: fathom {use} · fathom report {run.path}")
    run.folder.write_text("log.txt", "\n".join(console.lines) + "\n")


def load(path: str | Path) -> Run:
    """Open a finished run. Raises UserError where there is none or where it is not finished."""
    return Run(RunFolder.open_finished(path))


def export(
    run: Run | str | Path,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    model: str | None = None,
    weights: str = "fp32",
    most_loss: float | None = None,
    rows: Any = None,
    quiet: bool = False,
) -> Path:
    """The advised model of a run, or another `model`, as a folder that predicts by itself; its path comes back.

    `format` is "onnx" or "torch", `out` a new folder (exports/RUN-FORMAT). `weights` ("fp16", "bf16", "int8") are
    refused where they cost more than `most_loss`, a share of the metric. `rows` are data to compare on where the run's
    own is gone. Raises UserError where an answer differs from the run's, with the worst row; then nothing is written.
    """
    from fathom.console import Console
    from fathom.ship.export import export as write

    opened = run if isinstance(run, Run) else load(run)
    given = {"format": format, "candidate": model, "weights": weights, "most_loss": most_loss, "rows": rows}
    return write(opened.model, out, say=Console(quiet=quiet).stage, **given).path


def resume(path: str | Path, *, console: Console | None = None) -> Run:
    """Continue a stopped run from its last whole state; of a finished one, make again what is damaged or missing."""
    from fathom.console import Console
    from fathom.lock import held
    from fathom.manifest import forget_damaged

    folder = RunFolder.open(path)
    damages = folder.damaged() if folder.is_finished else []
    if folder.is_finished and not damages:
        run = load(path)
        if not folder.has("report.html"):
            run.report()
        return run
    console = console or Console()
    for damage in damages:
        console.stage("Damaged", damage)
    with held(folder.path):
        recipe = recipes.load(folder.inside("recipe.yaml"))
        forget_damaged(folder, console.stage)
    if recipe.data is None:
        raise UserError(f"{path} was fitted on data in memory, which is gone. Fit again with the same data and seed.")
    return make(recipe, console=console, folder=folder)


def examine(
    subject: Any,
    target: str | int | None = None,
    *,
    test: str | Path | None = None,
    group: str | None = None,
    time: str | None = None,
    on: Any = None,
    fix: bool = False,
    say: Callable[[str, str], None] | None = None,
    **keys: Any,
) -> list[Finding]:
    """What is wrong with data before any training, or with a finished run: findings, causes first.

    `subject` is whatever `fit` takes, or a run folder. For data, `target`, `test`, `group`, `time` and further keys of
    the recipe say what they say to `fit`. For a run, `on` is new data to examine it on, and `fix` mends what can be
    mended safely. `say(label, text)` is told what is done. Raises UserError for whatever is wrong with what was given.

        for finding in fathom.examine("people.csv", target="income"):
            print(finding.text)
    """
    if _is_run(subject):
        from fathom.aftercare import examine_run

        path = subject.path if isinstance(subject, Run) else subject
        if target is not None or test is not None or group is not None or time is not None or keys:
            raise UserError(f"{path} is a run, which knows its target and split. Give new data to examine: --on DATA.")
        told = None if say is None else lambda text: say("Mending" if fix else "New data", text)
        return examine_run(path, on=on, fix=fix, say=told)
    if on is not None or fix:
        raise UserError(f"--on and --fix are for finished runs; {subject} is none. Fit first, then examine the run.")
    return checkup_of(subject, target, test=test, group=group, time=time, say=say, **keys).findings


def checkup_of(
    data: Any,
    target: str | int | None = None,
    *,
    test: str | Path | None = None,
    group: str | None = None,
    time: str | None = None,
    say: Callable[[str, str], None] | None = None,
    **keys: Any,
) -> Checkup:
    """The findings about data, with what was looked at; as `examine`."""
    from fathom.checkup import checkup

    values: dict[str, Any] = {"target": target, "test": None if test is None else str(test)}
    values = {key: value for key, value in values.items() if value is not None}
    values |= {"split": {key: name for key, name in (("group", group), ("time", time)) if name is not None}}
    for key, value in keys.items():
        recipes.put(values, key.replace("__", "."), value)
    if isinstance(data, str | Path):
        values["data"], data = str(data), None
    return checkup(recipes.from_mapping(values), data, say or (lambda label, text: None))


def _is_run(subject: Any) -> bool:
    return isinstance(subject, Run) or (isinstance(subject, str | Path) and (Path(subject) / "format.json").is_file())


def seconds(budget: str | float) -> float:
    """'90', '90s', '5m' or '1.5h' in seconds. Raises UserError for anything else and for nothing."""
    units = {"s": 1, "m": 60, "h": 3600}
    text = str(budget).strip().lower().removesuffix("in").removesuffix("ec")
    factor = units.get(text[-1:])
    try:
        found = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        raise UserError(f"The budget '{budget}' was not understood. Write seconds or 90s, 5m, 1.5h.") from None
    if not found > 0:
        raise UserError(f"The budget is {budget}; it must be more than 0, such as --budget 5m.")
    return found


def _values_of(recipe: str | Path | Mapping[str, Any] | Recipe | None) -> dict[str, Any]:
    if recipe is None:
        return {}
    if isinstance(recipe, str | Path):
        recipe = recipes.load(recipe)
    return recipes.to_mapping(recipe) if isinstance(recipe, Recipe) else copy.deepcopy(dict(recipe))
