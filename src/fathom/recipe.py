"""What a run is: one validated value, YAML in and out.

What is None is chosen from the data and the budget. The recipe saved with a run is *resolved*: everything that was
chosen or measured (sizes, epochs, precision, numbers of trees) stands in it, with the reason, so that running it again
gives the same run to the last bit, however fast the machine is.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fathom import plain_yaml
from fathom.errors import UserError
from fathom.optimizers.schedule import SHAPES
from fathom.rooms import nearest

VERSION = 1
TASKS = ("classify", "regress", "language", "translate", "pair")
# YAML 1.1 takes 1e-3 for a word: there a number with an exponent needs a point.
SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
LARGEST = 10**15  # of all numbers in a recipe; the seed has a bound of its own, LightGBM's
HEADS = ("number", "quantile", "gaussian")
AUGMENTATIONS = ("shift", "rotate", "scale", "erase")


@dataclass
class SplitRecipe:
    test: float | None = None  # share of rows; by default 0.15, and at most 20,000 rows
    validate: float | None = None  # likewise, and at most 6,000 rows
    group: str | None = None  # rows of one group stay on one side
    time: str | None = None  # the future is the test
    folds: int | None = None  # 1: one validation set; more: cross-validation over train and validate


@dataclass
class ModelRecipe:
    name: str | None = None  # a file of models/, or "none" for baselines only
    options: dict[str, Any] = field(default_factory=dict)  # keyword options of its build()


@dataclass
class TextRecipe:
    """For language models and translation."""

    unit: str | None = None  # characters, bytes or subwords
    vocabulary: int | None = None  # of subwords
    context: int | None = None  # tokens that a language model sees at once
    masked: float | None = None  # share of the tokens that are hidden, to be told from both sides, as BERT was trained


@dataclass
class TrainRecipe:
    epochs: int | None = None  # planned; the clock may shorten or, up to most_epochs, lengthen the training
    most_epochs: int | None = None
    steps: int | None = None  # instead of epochs: the training ends after so many
    batch_size: int | None = None
    accumulate: int = 1  # batches joined into one step
    optimizer: str | None = None  # adamw or muon
    learning_rate: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None  # cosine, one_cycle, linear, constant
    warm_up: float | None = None  # share of the training
    clip: float | None = None  # bound on the norm of the gradient
    average: float | None = None  # epochs that the weight average looks back; 0 for none
    patience: int | None = None  # epochs without a better validation loss before stopping
    label_smoothing: float | None = None
    class_weights: str | dict[str | int, float] | None = None  # "balanced", or class → weight; those not named weigh 1
    focal: float | None = None  # exponent of the focal loss: 0 for cross-entropy, 2 as published
    mixup: float | None = None  # of the Beta distribution of shares; 0 for none
    cutmix: float | None = None  # likewise, for rectangles of pictures
    huber: float | None = None
    head: str | None = None  # what a network makes of a number: number, quantile or gaussian
    teacher: str | None = None  # a finished run that teaches the network its probabilities
    teacher_candidate: str | None = None  # one of its candidates; by default the advised one
    teacher_share: float | None = None  # weight of what it says against the classes of the rows; 0.5
    temperature: float | None = None  # at which both are compared; 2
    augment: dict[str, float] | None = None  # strengths for pictures (shift, rotate, scale, erase); {} for none
    views: int | None = None  # predictions are averaged over views shifted by that many pixels; 0 for none
    predict_rows: int | None = None  # rows predicted at once, where memory is short
    precision: str | None = None  # fp32 or bf16
    mend: bool = True  # weights go back and the rate is lowered where a training runs away
    # What happened, written into the saved recipe: corrections of the number of steps, where a fold was stopped, and
    # where its weights went back, each with the factor on the rate from there on.
    corrections: list[list[list[int]]] = field(default_factory=list)
    stopped: list[int | None] = field(default_factory=list)
    mended: list[list[list[float]]] = field(default_factory=list)


@dataclass
class SampleRecipe:
    """Of data too large for the memory or the time: what all but the network learns from and is judged by."""

    rows: int | None = None  # drawn by the seed; None for all
    pieces: int | None = None  # of the file that they are drawn from, spread evenly; None for all
    further: int | None = None  # rows besides that the network learns from, at most; None for as many as time allows


@dataclass
class Recipe:
    data: str | None = None
    test: str | None = None
    target: str | int | None = None
    task: str | None = None  # classify, regress, language, translate or pair
    treat_as: dict[str, str] = field(default_factory=dict)  # column → kind of field
    drop: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)  # columns not to leave out, whatever was found
    options: dict[str, Any] = field(default_factory=dict)  # for the source: delimiter, encoding, header
    budget: float | None = None  # seconds for the whole command
    memory: float | None = None  # bytes for the whole command
    sample: SampleRecipe = field(default_factory=SampleRecipe)
    seed: int = 0
    metric: str | None = None
    device: str = "auto"
    threads: int | None = None
    split: SplitRecipe = field(default_factory=SplitRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    baselines: dict[str, Any] | None = None  # name → options, or a list of them, one for each fold; {} for none
    explain_rows: int | None = None  # test rows that importance is measured on
    log: list[str] = field(default_factory=list)  # trackers that are told besides: tensorboard, mlflow, wandb
    resolved: bool = False  # everything below was chosen: the budget decides nothing any more
    reasons: list[dict[str, str]] = field(default_factory=list)
    version: int = VERSION

    def explain(self, what: str, chosen: object, why: str) -> None:
        """Remember a choice and its reason, in place of an earlier reason for the same."""
        reasons = {reason["what"]: reason for reason in self.reasons}
        reasons[what] = {"what": what, "chosen": str(chosen), "why": why}
        self.reasons = list(reasons.values())

    def why(self, what: str) -> str:
        """'epochs 12: 12 are enough for 300 rows', a choice as one line; empty where it was not made here."""
        found = [f"{r['chosen']}: {r['why']}" for r in self.reasons if r["what"] == what]
        return found[0] if found else ""


def from_mapping(values: dict[str, Any]) -> Recipe:
    """A recipe from plain values; unknown keys and wrong types are refused by name."""
    recipe = typing.cast(Recipe, _build(Recipe, values, ""))
    if recipe.version > VERSION:
        raise UserError(
            f"The recipe has version {recipe.version}; this Fathom reads up to {VERSION}. Upgrade fathom-dl."
        )
    _check(recipe)
    return recipe


def to_mapping(recipe: Recipe) -> dict[str, Any]:
    return dataclasses.asdict(recipe)


def load(path: str | Path) -> Recipe:
    """Read a YAML recipe. Raises UserError naming file and line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"The recipe {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        values = plain_yaml.parse(text)
    except plain_yaml.PlainYamlError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise UserError(f"{where} is not valid YAML: {error}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no recipe: keys and values were expected, such as 'data: people.csv'.")
    try:
        return from_mapping(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def dump(recipe: Recipe) -> str:
    return yaml.safe_dump(to_mapping(recipe), sort_keys=False, allow_unicode=True, width=120)


def override(values: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply 'key=value' words, dotted for inner keys, to a mapping of recipe values.

    `model=resnet` is short for `model.name=resnet`, and `model.depth=14` for `model.options.depth=14`.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not re.fullmatch(r"[\w.-]+", key):
            raise UserError(f"'{assignment}' was not understood. Expected key=value, such as train.epochs=20.")
        try:
            value = plain_yaml.parse(text)
        except plain_yaml.PlainYamlError:
            value = text
        put(values, key, float(text) if SCIENTIFIC.fullmatch(text) else value)
    return values


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in a mapping of recipe values."""
    path = _full_path(key)
    for name in path[:-1]:
        if values.get(name) is None:
            values[name] = {}
        values = values[name]
        if not isinstance(values, dict):
            raise UserError(f"'{key}' cannot be set: '{name}' is a single value, not a group of keys.")
    values[path[-1]] = value


def _full_path(key: str) -> list[str]:
    path = key.split(".")
    if path == ["model"]:
        return ["model", "name"]
    if path[0] == "model" and len(path) == 2 and path[1] not in ("name", "options"):
        return ["model", "options", path[1]]
    return path


def _build(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise UserError(f"'{where}' is {values!r}; a group of keys was expected.")
    known = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{where}.{name}" if where else str(name)
        if name not in known:
            raise UserError(f"Unknown recipe key '{path}'. {nearest(str(name), known)}")
        hint = hints[name]
        given[name] = _build(hint, value, path) if dataclasses.is_dataclass(hint) else _converted(value, hint, path)  # type: ignore[arg-type]
    return kind(**given)


def _converted(value: Any, hint: Any, path: str) -> Any:
    """The value in the type that the recipe asks for. Only int → float is converted, and 1e-3, a word to YAML."""
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise UserError(f"'{path}' is too large or not finite; expected a number up to {LARGEST:,}.")
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for choice in choices:
        plain = typing.get_origin(choice) or choice
        if plain is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if plain is float and isinstance(value, str) and SCIENTIFIC.fullmatch(value):
            return float(value)
        if plain is Any or (plain is not type(None) and isinstance(value, plain) and type(value) is not bool):
            return _converted_inside(value, typing.get_args(choice), path)
        if (plain is bool and isinstance(value, bool)) or (plain is type(None) and value is None):
            return value
    expected = " or ".join("nothing" if c is type(None) else (typing.get_origin(c) or c).__name__ for c in choices)
    raise UserError(f"'{path}' is {value!r}; expected {expected}.")


def _converted_inside(value: Any, hints: tuple[Any, ...], path: str) -> Any:
    """The items of a list, or the names and values of a mapping, in the types that the recipe asks for."""
    if isinstance(value, list) and hints:
        return [_converted(item, hints[0], f"{path}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, dict) and hints:
        name, inner = hints
        whole = {f"{path}.{key}": (key, one) for key, one in value.items()}
        return {_converted(key, name, at): _converted(one, inner, at) for at, (key, one) in whole.items()}
    return value


def _check(recipe: Recipe) -> None:
    """Values that can be seen to be wrong without looking at the data."""
    if recipe.budget is not None and not recipe.budget > 0:
        raise UserError(f"The budget is {recipe.budget:g} seconds; it must be more than 0, such as --budget 5m.")
    if recipe.memory is not None and not recipe.memory > 0:
        raise UserError(f"The memory is {recipe.memory:g} bytes; it must be more than 0, such as --memory 2GB.")
    for name, least in (("rows", 20), ("pieces", 1), ("further", 0)):
        value = getattr(recipe.sample, name)
        if value is not None and value < least:
            raise UserError(f"sample.{name} is {value}; expected {least} or more.")
    if recipe.task is not None and recipe.task not in TASKS:
        raise UserError(f"The task '{recipe.task}' is not known. {nearest(recipe.task, TASKS)}")
    for name, least in (("vocabulary", 300), ("context", 2)):
        value = getattr(recipe.text, name)
        if value is not None and not least <= value <= 1_000_000:
            raise UserError(f"text.{name} is {value}; expected {least} to 1,000,000.")
    if recipe.text.masked is not None and not 0 < recipe.text.masked < 1:
        raise UserError(f"text.masked is {recipe.text.masked}; expected a share above 0 and below 1, such as 0.15.")
    for name in ("test", "validate"):
        share = getattr(recipe.split, name)
        if share is not None and not 0 < share < 0.9:
            raise UserError(f"split.{name} is {share}; expected a share between 0 and 0.9.")
    positive = {"epochs": 1, "steps": 1, "batch_size": 1, "accumulate": 1, "patience": 1, "views": 0,
                "predict_rows": 4}  # fmt: skip
    for name, least in positive.items():
        value = getattr(recipe.train, name)
        if value is not None and value < least:
            raise UserError(f"train.{name} is {value}; expected {least} or more.")
    for name in ("learning_rate", "clip"):
        value = getattr(recipe.train, name)
        if value is not None and not value > 0:
            raise UserError(f"train.{name} is {value}; expected a number above 0.")
    train = recipe.train
    for name, known in (("schedule", list(SHAPES)), ("precision", ["fp32", "bf16"]), ("optimizer", ["adamw", "muon"])):
        value = getattr(train, name)
        if value is not None and value not in known:
            raise UserError(f"train.{name} is '{value}'. {nearest(value, known)}")
    for name, strength in (train.augment or {}).items():
        if name not in AUGMENTATIONS:
            raise UserError(f"train.augment has no '{name}'. {nearest(name, AUGMENTATIONS)}")
        if not strength >= 0:
            raise UserError(f"train.augment.{name} is {strength:g}; expected 0 or more.")
    if train.label_smoothing is not None and not 0 <= train.label_smoothing < 1:
        raise UserError(f"train.label_smoothing is {train.label_smoothing}; expected a share from 0 to below 1.")
    for name in ("huber", "average", "weight_decay", "warm_up", "focal", "mixup", "cutmix"):
        value = getattr(train, name)
        if value is not None and value < 0:
            raise UserError(f"train.{name} is {value}; expected 0 or more.")
    _check_objective(train)
    if recipe.split.folds is not None and recipe.split.folds < 1:
        raise UserError(f"split.folds is {recipe.split.folds}; expected 1 or more.")
    for name, least, most in (("seed", 0, 2_000_000_000), ("threads", 1, 1024), ("explain_rows", 0, LARGEST)):
        value = getattr(recipe, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"{name} is {value}; expected {least} to {most:,}.")


def _check_objective(train: TrainRecipe) -> None:
    """What the network is trained for."""
    if train.head is not None and train.head not in HEADS:
        raise UserError(f"train.head is '{train.head}'. {nearest(train.head, HEADS)}")
    if train.huber and train.head not in (None, "number"):
        raise UserError(f"train.huber is for one number; train.head={train.head} has a loss of its own. Leave it out.")
    weights = train.class_weights
    if isinstance(weights, str) and weights != "balanced":
        raise UserError(f"train.class_weights is '{weights}'; expected balanced, or class: weight for some classes.")
    for name, weight in weights.items() if isinstance(weights, dict) else ():
        if not weight > 0:
            raise UserError(f"train.class_weights of '{name}' is {weight:g}; expected a number above 0.")
    for name in ("teacher_candidate", "teacher_share", "temperature"):
        if getattr(train, name) is not None and train.teacher is None:
            raise UserError(f"train.{name} needs a teacher: add train.teacher=RUN, a finished run.")
    if train.teacher_share is not None and not 0 <= train.teacher_share <= 1:
        raise UserError(f"train.teacher_share is {train.teacher_share}; expected a share from 0 to 1.")
    if train.temperature is not None and not train.temperature > 0:
        raise UserError(f"train.temperature is {train.temperature}; expected a number above 0, such as 2.")
