"""The command `fathom`. A user's mistake ends with one message and exit code 2, never with a traceback.

PyTorch is not imported here: `fathom --help`, `fathom runs` and every refusal of a wrong option answer at once.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fathom import __version__
from fathom.data import inert
from fathom.errors import UserError
from fathom.recipe import TASKS
from fathom.ship import command as exporting
from fathom.ship.serving import command as serving

LAYOUT = "\n\t"  # control characters that our own messages hold
EXAMPLES = """examples:
  fathom fit digits                                a built-in sample
  fathom fit people.csv --target income            a table
  fathom fit photos/ --budget 5m                   a folder of class folders
  fathom fit people.csv --target income model=mlp model.width=128 train.epochs=20
  fathom fit shakespeare.txt                       a text: learn its language
  fathom fit multi30k/ --target de                 two languages, line by line: translate
  fathom fit photos.csv --task pair                pictures with captions: match them
  fathom predict runs/people-1 new.csv --to predictions.csv
  fathom report runs/people-1
  fathom doctor people.csv --target income         what is wrong with the data
"""


class Parser(argparse.ArgumentParser):
    """Argument errors in the words of our other errors."""

    def error(self, message: str) -> Any:
        raise UserError(f"{message}. Type `{self.prog} --help`.")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the exit code comes back."""
    started = time.monotonic()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a sign shows its number
            stream.reconfigure(errors="backslashreplace")
    try:
        given, rest = _parser().parse_known_args(words)
        given.settings = _settings(given, rest)
        command: Callable[[argparse.Namespace, float], int] = given.run
        return command(given, started)
    except UserError as error:
        print(f"fathom: {inert(str(error), keep=LAYOUT)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\nfathom: {inert(str(stop)) or 'stopped.'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _parser() -> Parser:
    parser = Parser(
        prog="fathom",
        description="Raw data to a trained, checked, explained and usable model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fathom {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_fit(commands)
    _add_predict(commands)
    _add_generate(commands)
    _add_match(commands)
    _add_doctor(commands)
    evaluate = _command(commands, "evaluate", "measures with intervals on labelled data", _evaluate)
    evaluate.add_argument("folder", metavar="RUN", help="a run folder")
    evaluate.add_argument("data", metavar="DATA", help="labelled data of the same kind")
    evaluate.add_argument("--candidate", metavar="NAME", help="another model of the run than the advised one")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    exporting.add_options(_command(commands, "export", "a folder that predicts without Fathom", exporting.run))
    serving.add_options(_command(commands, "serve", "answer over HTTP what `predict` answers", serving.run))
    report = _command(commands, "report", "write the run's report page again", _report)
    report.add_argument("folder", metavar="RUN", help="a run folder")
    resume = _command(commands, "resume", "continue a run that was stopped", _resume)
    resume.add_argument("folder", metavar="RUN", help="a run folder")
    runs = _command(commands, "runs", "list runs, or compare some of them", _runs)
    runs.add_argument("folders", metavar="RUN", nargs="*", help="run folders to compare; none for every run")
    runs.add_argument("--in", dest="where", default="runs", metavar="FOLDER", help="where the runs are (runs/)")
    runs.add_argument("--json", action="store_true", help="print JSON")
    models = _command(commands, "models", "list the models and baselines, or tell all about one", _models)
    models.add_argument("name", nargs="?", metavar="NAME", help="a model or baseline; none for a list of all")
    models.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _command(commands: Any, name: str, text: str, run: Callable[[argparse.Namespace, float], int]) -> Parser:
    parser: Parser = commands.add_parser(
        name, allow_abbrev=False, help=text, description=text[0].upper() + text[1:] + "."
    )
    parser.set_defaults(run=run)
    return parser


def _settings(given: argparse.Namespace, rest: list[str]) -> list[str]:
    """The key=value words of `fit`, wherever they stand; any other word is refused."""
    settings = [word for word in rest if "=" in word and not word.startswith("-")]
    other = [word for word in rest if word not in settings]
    if other or (settings and given.command != "fit"):
        raise UserError(f"'{(other or settings)[0]}' was not understood. Type `fathom {given.command} --help`.")
    return settings


def _add_fit(commands: Any) -> None:
    fit = _command(commands, "fit", "make a model from raw data", _fit)
    fit.usage = "fathom fit DATA [options] [key=value …]"
    fit.epilog = "Any key of the recipe can be set as key=value: model=mlp model.width=128 train.epochs=20."
    fit.add_argument(
        "data", nargs="?", metavar="DATA", help="table, folder, archive, .npz, IDX files, or a sample's name"
    )
    fit.add_argument(
        "--target", metavar="COLUMN", help="what to predict: a column's name, or its number from 1 (in arrays from 0)"
    )
    fit.add_argument("--task", choices=TASKS, help="instead of the task guessed from the target")
    fit.add_argument("--test", metavar="DATA", help="a separate test set")
    fit.add_argument("--budget", metavar="TIME", help="for the whole command: 90, 90s, 5m, 1.5h")
    fit.add_argument("--memory", metavar="SIZE", help="for the whole command: 500MB, 2GB")
    fit.add_argument("--group", metavar="COLUMN", help="rows of one group stay on one side of the split")
    fit.add_argument("--time", metavar="COLUMN", help="split by time: the future is the test")
    fit.add_argument("--treat-as", metavar="COLUMN=KIND", action="append", default=[], help="override a column's kind")
    fit.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="leave a column out")
    fit.add_argument("--metric", metavar="NAME", help="the measure that decides")
    fit.add_argument("--seed", type=int, help="of everything random (0)")
    fit.add_argument("--out", metavar="FOLDER", help="the run folder to make (runs/NAME-N)")
    fit.add_argument("--recipe", metavar="FILE", help="a recipe in YAML, such as another run's recipe.yaml")
    fit.add_argument(
        "--log", metavar="TRACKER", action="append", default=[], help="tensorboard, mlflow, wandb: in files"
    )
    fit.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_predict(commands: Any) -> None:
    predict = _command(commands, "predict", "predict with a finished run", _predict)
    predict.add_argument("folder", metavar="RUN", help="a run folder")
    predict.add_argument("data", metavar="DATA", help="a file, a folder, a picture, a text, or a row as JSON")
    predict.add_argument("--to", metavar="FILE", help="write a .csv or .parquet file instead of printing")
    predict.add_argument("--candidate", metavar="NAME", help="another model of the run than the advised one")


def _add_generate(commands: Any) -> None:
    generate = _command(commands, "generate", "write on from a prompt with a language model", _generate)
    generate.add_argument("folder", metavar="RUN", help="a run folder of a language")
    generate.add_argument("prompt", nargs="?", default="", metavar="PROMPT", help="the beginning of the text")
    generate.add_argument("--tokens", type=int, default=300, metavar="N", help="tokens to write at most (300)")
    generate.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0 is always the likeliest (0.8)")
    generate.add_argument("--top-k", type=int, metavar="K", help="draw from the K most probable tokens only")
    generate.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest tokens of that probability")
    generate.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    generate.add_argument("--candidate", metavar="NAME", help="another model of the run than the advised one")


def _add_match(commands: Any) -> None:
    match = _command(commands, "match", "how well pictures fit texts, by a run of pictures and captions", _match)
    match.add_argument("folder", metavar="RUN", help="a run folder of --task pair")
    match.add_argument("pictures", metavar="PICTURES", help="a picture, a folder, or a table with the column")
    match.add_argument("texts", nargs="+", metavar="TEXT", help="texts to match them with")
    match.add_argument("--candidate", metavar="NAME", help="another model of the run than the advised one")


def _add_doctor(commands: Any) -> None:
    doctor = _command(commands, "doctor", "what is wrong with data before a training, or with a finished run", _doctor)
    doctor.add_argument("subject", metavar="SUBJECT", help="data as `fit` takes it, or a run folder")
    doctor.add_argument("--target", metavar="COLUMN", help="what is to be predicted: a column's name or number")
    doctor.add_argument("--task", choices=TASKS, help="instead of the task guessed from the target")
    doctor.add_argument("--test", metavar="DATA", help="a separate test set")
    doctor.add_argument("--group", metavar="COLUMN", help="rows of one group belong together")
    doctor.add_argument("--time", metavar="COLUMN", help="the future is the test")
    doctor.add_argument("--on", metavar="DATA", help="for a run: new data to examine it on")
    doctor.add_argument("--fix", action="store_true", help="for a run: mend what can be mended safely")
    doctor.add_argument("--json", metavar="FILE", help="write the findings to a file, too")
    doctor.add_argument("--strict", action="store_true", help="exit code 1 where anything was found")


def _doctor(given: argparse.Namespace, started: float) -> int:
    from fathom import api
    from fathom.console import Console, count
    from fathom.data import jsonable

    console = Console()
    options = {key: getattr(given, key) for key in ("target", "test", "group", "time") if getattr(given, key)}
    options |= {"task": given.task} if given.task else {}
    if (Path(given.subject) / "format.json").is_file() or given.on or given.fix:
        findings = api.examine(given.subject, on=given.on, fix=given.fix, say=console.stage, **options)
        beside = f", nor in {given.on} beside it" if given.on else ""
        last = count(len(findings), "finding") if findings else f"Nothing found in {given.subject}{beside}."
    else:
        checkup = api.checkup_of(given.subject, say=console.stage, **options)
        findings, last = checkup.findings, checkup.summary
    for finding in findings:
        told = finding.to_json()
        console.stage(finding.id, f"{finding.name}: {finding.seen}.")
        for label, key in (("", "meaning"), ("cause: ", "cause"), ("to do: ", "remedy"), ("more: ", "page")):
            console.more(f"{label}{told[key]}")
        for symptom in finding.symptoms:
            console.more(f"and so: {symptom.text}")
    console.line(last)
    if given.json:
        text = json.dumps(jsonable([finding.to_json() for finding in findings]), indent=1, ensure_ascii=False)
        try:
            Path(given.json).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{given.json} cannot be written: {error.strerror}. Pass another --json FILE.") from None
    return 1 if findings and given.strict else 0


def _match(given: argparse.Namespace, started: float) -> int:
    from fathom import api
    from fathom.ship.match import similarities

    model = api.load(given.folder).model
    values, places = similarities(model, given.pictures, given.texts, candidate=given.candidate)
    _print_row(["picture", *given.texts])
    for row, cosines in enumerate(values):
        _print_row([places[row], *(f"{cosine:.3f}" for cosine in cosines)])
    return 0


def _generate(given: argparse.Namespace, started: float) -> int:
    from fathom import api
    from fathom.ship.generate import write_on

    pieces = write_on(
        api.load(given.folder).model,
        given.prompt,
        new_tokens=given.tokens,
        temperature=given.temperature,
        top_k=given.top_k,
        top_p=given.top_p,
        seed=given.seed,
        candidate=given.candidate,
    )
    for piece in itertools.chain([given.prompt], pieces):
        print(inert(piece, keep=LAYOUT), end="", flush=True)
    print()
    return 0


def _fit(given: argparse.Namespace, started: float) -> int:
    from fathom import api, limits
    from fathom import recipe as recipes
    from fathom.console import Console

    if given.data is not None and "=" in given.data and not _exists(given.data):
        given.settings.insert(0, given.data)
        given.data = None
    values = recipes.to_mapping(recipes.load(given.recipe)) if given.recipe else {}
    for key in ("data", "target", "task", "test", "metric", "seed"):
        if getattr(given, key) is not None:
            values[key] = getattr(given, key)
    if given.budget is not None:
        values["budget"] = api.seconds(given.budget)
    if given.memory is not None:
        values["memory"] = limits.size(given.memory)
    for key in ("group", "time"):
        if getattr(given, key) is not None:
            recipes.put(values, f"split.{key}", getattr(given, key))
    if given.log:
        values["log"] = given.log
    if given.drop:
        values["drop"] = [*(values.get("drop") or []), *given.drop]
    for text in given.treat_as:
        column, equals, kind = text.rpartition("=")
        if not equals:
            raise UserError(f"--treat-as {text} was not understood. Expected COLUMN=KIND, such as zip=category.")
        values["treat_as"] = {**(values.get("treat_as") or {}), column: kind}
    recipe = recipes.from_mapping(recipes.override(values, given.settings))
    api.make(recipe, out=given.out, console=Console(quiet=given.quiet), started=started)
    return 0


def _predict(given: argparse.Namespace, started: float) -> int:
    from fathom import api

    run = api.load(given.folder)
    predictions = run.predict(_value(given.data), candidate=given.candidate)
    for note in predictions.notes:
        print(f"note: {inert(note)}", file=sys.stderr)
    if given.to:
        path = predictions.write(given.to)
        print(f"{len(predictions):,} predictions by {predictions.candidate} in {path}")
        return 0
    names = list(predictions.columns)
    _print_row(names)
    for row in zip(*predictions.columns.values(), strict=True):
        _print_row([f"{value:.6g}" if isinstance(value, float) else str(value) for value in row])
    return 0


def _print_row(cells: Sequence[str]) -> None:
    """Cells with tabs between them; one that holds a tab or a line end itself does not break the row."""
    print("\t".join(map(inert, cells)))


def _value(text: str) -> Any:
    """A row written as JSON becomes a dict; everything else is a path or a text."""
    if text.lstrip().startswith(("{", "[")) and not _exists(text):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f'The row is not valid JSON: {error}. Expected {{"column": value, …}}.') from None
    return text


def _exists(path: str) -> bool:
    from fathom.sources.parts.files import is_file, is_folder

    return is_file(Path(path)) or is_folder(Path(path))


def _evaluate(given: argparse.Namespace, started: float) -> int:
    from fathom import api
    from fathom.data import jsonable
    from fathom.rooms import find
    from fathom.show import shown, shown_interval

    found = api.load(given.folder).evaluate(given.data, candidate=given.candidate)
    if given.json:
        print(json.dumps(jsonable(found), indent=1, allow_nan=False))
        return 0
    for note in found["notes"]:
        print(f"note: {inert(note)}", file=sys.stderr)
    left_out = f", {found['left_out']:,} without a known target left out" if found["left_out"] else ""
    groups = f", in groups by '{found['group']}'" if "group" in found else ""
    print(f"{found['rows']:,} rows{groups}{left_out}")
    if "among" in found:
        print("each among {captions:,} captions and {pictures:,} pictures".format(**found["among"]))
    for name, value in found["measures"].items():
        measure = find("measures", name)
        print(
            f"{measure.LABEL:<28} {shown(measure, value['value']):>12}   {shown_interval(measure, value['interval'])}"
        )
    if "coverage" in found:
        held = found["coverage"]
        low, high = held["interval"]
        print(
            f"{held['level']:.0%} intervals hold".ljust(28) + f" {held['value']:>12.1%}   {low:.1%} to {high:.1%}"
            f"; mean width {held['width']:.4g}"
        )
    return 0


def _report(given: argparse.Namespace, started: float) -> int:
    from fathom import api

    print(api.load(given.folder).report())
    return 0


def _resume(given: argparse.Namespace, started: float) -> int:
    from fathom import api
    from fathom.console import Console

    run = api.resume(given.folder, console=Console())
    print(f"finished: {run.path}")
    return 0


def _runs(given: argparse.Namespace, started: float) -> int:
    from fathom.compare import compare, table
    from fathom.run import RunFolder, every_run

    folders = [RunFolder.open(path) for path in given.folders] or list(every_run(given.where))
    found = compare(folders)
    print(json.dumps(found, indent=1) if given.json else inert(table(found, where=given.where), keep=LAYOUT))
    return 0


def _models(given: argparse.Namespace, started: float) -> int:
    from fathom import catalogue
    from fathom.catalogue_text import listing, whole

    found = catalogue.every() if given.name is None else catalogue.entry(given.name)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if given.json:
        text = json.dumps(found, indent=1)
    else:
        text = listing(found, width=width) if isinstance(found, list) else whole(found, width=width)
    print(text, flush=True)  # flushed here, where a closed pipe is expected
    return 0
