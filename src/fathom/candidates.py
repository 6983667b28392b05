"""The models that the referee compares: each is one member for every fold, and predicts their mean.

With one fold that is a single model; with several, every row outside the test was once held out, so that all of them
can be judged by, and none is wasted.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from fathom.checksums import checksum
from fathom.data import Examples, Task
from fathom.errors import UserError
from fathom.rooms import find
from fathom.run import RunFolder, reading, seen, writing

SLOW = 1.0  # seconds
Say = Callable[[str, str], None]


class Predictor(Protocol):
    """Anything that was fitted: a baseline or a network."""

    def predict(self, examples: Examples) -> np.ndarray: ...


@runtime_checkable
class WithEnds(Protocol):
    """A predictor of numbers that may give intervals of its own, [N, 2]."""

    def ends(self, examples: Examples) -> np.ndarray | None: ...


class Fold(NamedTuple):
    """Row ids that one member is trained on, and those it is judged by."""

    train: np.ndarray
    validate: np.ndarray


@dataclass
class Candidate:
    """One of the models in the comparison."""

    name: str
    members: Sequence[Predictor]
    about: str  # one line: "boosted trees, 212 trees of 31 leaves"
    seconds: float = 0.0  # that fitting took
    is_network: bool = False

    def predict(self, examples: Examples) -> np.ndarray:
        """Mean of the members' probabilities [N, C] or numbers [N]; of a single member whatever it says."""
        if len(self.members) == 1:
            return self.members[0].predict(examples)
        return np.mean([member.predict(examples) for member in self.members], axis=0)

    def held_out(self, examples: Examples, folds: Sequence[Fold]) -> np.ndarray:
        """Predictions for the validation rows of all folds, in fold order, each by the member that did not see it."""
        return np.concatenate(
            [member.predict(examples.take(fold.validate)) for member, fold in zip(self.members, folds, strict=True)]
        )

    def ends(self, examples: Examples) -> np.ndarray | None:
        """Mean of the members' own intervals [N, 2]; None where they give none."""
        found = [member.ends(examples) for member in self.members if isinstance(member, WithEnds)]
        given = [ends for ends in found if ends is not None]
        return np.mean(given, axis=0) if given and len(given) == len(self.members) else None

    def held_out_ends(self, examples: Examples, folds: Sequence[Fold]) -> np.ndarray | None:
        """As `held_out`, the members' own intervals."""
        found = [
            member.ends(examples.take(fold.validate))
            for member, fold in zip(self.members, folds, strict=True)
            if isinstance(member, WithEnds)
        ]
        given = [ends for ends in found if ends is not None]
        return np.concatenate(given) if given and len(given) == len(self.members) else None


class FittedBaseline(NamedTuple):
    candidate: Candidate
    settings: list[dict[str, Any]]  # of each fold: as options they give the same again
    why: str  # why it became what it is, where it says: "time was up"


def fit_baseline(
    name: str,
    examples: Examples,
    targets: np.ndarray,
    folds: Sequence[Fold],
    task: Task,
    folder: RunFolder,
    *,
    seed: int,
    seconds: float | None,
    options: Sequence[dict[str, Any]],
    say: Say = lambda label, text: None,
) -> FittedBaseline:
    """Fit one baseline on every fold, or read the folds that are in the folder already; with its resolved settings.

    Folds that are damaged there are told of, and fitted again.
    """
    part = find("baselines", name)
    begun = time.monotonic()
    members, settings, whys = [], [], []
    for number, fold in enumerate(folds):
        at = f"baseline/{name}/{number}"
        place = folder.inside(at)
        if not _is_kept(folder, at, say):
            left = None if seconds is None else max(0.0, seconds - (time.monotonic() - begun)) / (len(folds) - number)
            fitted = part.fit(
                examples, targets, fold.train, fold.validate, task, seed=seed + number, seconds=left, **options[number]
            )
            with writing(place):
                shutil.rmtree(place, ignore_errors=True)  # what is there is half written, or damaged
                place.mkdir(parents=True)
                fitted.save(place)
            done = {"about": fitted.describe(), "settings": fitted.settings, "why": getattr(fitted, "why", "")}
            done |= {"run": folder.run_id, "files": {p.name: checksum(p.read_bytes()) for p in sorted(place.iterdir())}}
            folder.write_record(f"{at}/done.json", done)  # last: it says that the other files are whole
        # Read back rather than kept: what is judged is what will be used.
        members.append(part.load(place))
        done = folder.read_json(f"{at}/done.json")
        settings.append(done["settings"])
        whys.append(done.get("why", ""))
    why = "; ".join(dict.fromkeys(one for one in whys if one))
    return FittedBaseline(Candidate(name, members, members[0].describe(), time.monotonic() - begun), settings, why)


def _is_kept(folder: RunFolder, at: str, say: Say) -> bool:
    """Whether that fold of a baseline is there and whole."""
    if not folder.has(f"{at}/done.json"):
        return False
    try:
        if "files" not in folder.read_json(f"{at}/done.json"):
            say("Resuming", f"{folder.inside(at)} was fitted by an earlier Fathom, without checksums: fitted again")
            return False
        if folder.read_record(f"{at}/done.json").get("run") != folder.run_id:
            raise UserError(f"{folder.inside(at)} is of another run.")
        verify_baseline(folder, at)
    except UserError as error:
        say("Damaged", f"{seen(error)} It is fitted again.")
        return False
    return True


def verify_baseline(folder: RunFolder, at: str) -> None:
    """Raise UserError where a file of that fold is not as it was written. Those of format 1 have no checksums."""
    kept = folder.read_json(f"{at}/done.json").get("files", {})
    for name in kept.keys() & {path.name for path in folder.inside(at).iterdir()}:
        folder.verify(f"{at}/{name}", kept[name])
    if gone := [name for name in kept if not folder.has(f"{at}/{name}")]:
        raise UserError(f"{folder.inside(at)} is damaged: {gone[0]} is missing.")


def load_baseline(folder: RunFolder, name: str) -> Candidate:
    """A baseline of a finished run."""
    part = find("baselines", name)
    done = folder.inside(f"baseline/{name}").glob("*/done.json")
    places = sorted((p.parent for p in done if p.parent.name.isdecimal()), key=_number)
    if not places:
        raise UserError(f"{folder.inside(f'baseline/{name}')} holds no done.json: the run folder was changed.")
    for place in places:
        verify_baseline(folder, f"baseline/{name}/{place.name}")
    members = [part.load(place) for place in places]
    with reading(folder.inside(f"baseline/{name}")):
        about = members[0].describe()
    return Candidate(name, members, about)


def _number(place: Path) -> int:
    return int(place.name)


@dataclass
class Ensemble:
    """A weighted mean of candidates. It costs what its members cost together."""

    candidates: Sequence[Candidate]
    weights: Sequence[float]

    def predict(self, examples: Examples) -> np.ndarray:
        return sum(w * c.predict(examples) for c, w in zip(self.candidates, self.weights, strict=True))  # type: ignore[return-value]


def seconds_per_row(predictor: Predictor, examples: Examples, *, rows: int = 256) -> float:
    """Wall-clock seconds that a prediction takes for each row, in a batch of `rows`: the best of three, or the first
    where that alone took longer than SLOW."""
    some = examples.take(np.arange(min(rows, len(examples))))
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        predictor.predict(some)
        times.append(time.perf_counter() - begun)
        if times[0] > SLOW:
            break
    return min(times) / max(len(some), 1)
