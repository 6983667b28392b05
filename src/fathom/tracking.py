"""Tell a run's numbers to the trackers that the recipe names, as they are written to its plain files.

What a reader would get wrong: metrics.csv and metrics.json stay the truth. A run that is taken up again tells all of it
once more, from its kept state, in place of what the interrupted command had told.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from fathom.errors import UserError
from fathom.recipe import Recipe, to_mapping
from fathom.rooms import find
from fathom.run import METRIC_COLUMNS, RunFolder, writing

PER_EPOCH = ("train_loss", "validate_loss", "metric", "learning_rate")


class Tracker(Protocol):
    """One run at one tracker."""

    def scalars(self, values: Mapping[str, float], step: int) -> None: ...
    def finish(self, settings: Mapping[str, Any], results: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Tracking:
    """All trackers of a run; none is the usual case."""

    def __init__(self, folder: RunFolder, trackers: Sequence[Tracker], metric: str = "", folds: int = 1) -> None:
        self.folder, self.trackers, self.metric, self.folds = folder, trackers, metric, folds

    def epoch(self, line: Sequence[Any]) -> None:
        """Tell a line of metrics.csv."""
        row = dict(zip(METRIC_COLUMNS, line, strict=True))
        fold = f"fold {row['fold'] + 1}/" if self.folds > 1 else ""
        names = {"metric": f"validate_{self.metric}"}
        values = {f"{fold}{names.get(name, name)}": float(row[name]) for name in PER_EPOCH}
        with writing(self.folder.inside("trackers")):
            for tracker in self.trackers:
                tracker.scalars(values, int(row["step"]))

    def finish(self, recipe: Recipe) -> None:
        """Tell the recipe as it was resolved, and the measures of each candidate on test rows."""
        if not self.trackers:
            return
        settings = _flat(to_mapping(recipe))
        scores = self.folder.read_json("metrics.json")["test"]
        results = {
            f"test/{candidate}/{name}": float(value)
            for candidate, measured in scores.items()
            for name, value in measured.items()
            if isinstance(value, int | float)
        }
        with writing(self.folder.inside("trackers")):
            for tracker in self.trackers:
                tracker.finish(settings, results)


def refuse_missing(names: Sequence[str]) -> None:
    """Raise UserError for a tracker that there is not, or whose library is not installed."""
    for name in names:
        needs = find("trackers", name).NEEDS
        if importlib.util.find_spec(needs) is None:
            raise UserError(f"--log {name} needs the package {needs}. Type `pip install 'fathom-dl[{name}]'`.")


@contextmanager
def tracking(folder: RunFolder, recipe: Recipe, folds: int) -> Iterator[Tracking]:
    """Within, the numbers of the run are told; trackers are closed however it ends."""
    with ExitStack() as stack:
        trackers = []
        for name in dict.fromkeys(recipe.log):
            with writing(Path(folder.path) / "trackers"):
                trackers.append(find("trackers", name).open(folder.path, folder.run_id))
            stack.callback(trackers[-1].close)
        yield Tracking(folder, trackers, str(recipe.metric), folds)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.epochs": 20, …} of those settings that are one value; reasons and histories stay in the recipe."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float | bool):
            found[f"{prefix}{name}"] = value
    return found
