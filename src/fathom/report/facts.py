"""What the page is made from: the plain files of a run folder, read once.

Nothing is computed by the models here. A file that a run does not have (curves of a run without a network) is an empty
value, but metrics.json and recipe.yaml must be there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fathom import recipe
from fathom.console import LABEL_WIDTH
from fathom.manifest import read_manifest
from fathom.recipe import Recipe
from fathom.report.numbers import Measured, measured
from fathom.run import RunFolder

MADE_WITH = frozenset({"fathom", "python", "platform", "processor", "libraries", "seed"})
NOT_MEASURES = frozenset({"interval", "seconds_per_row", "seconds", "about", "parameters", "conformal"})


@dataclass(frozen=True)
class Facts:
    """A finished run, as its files tell it."""

    path: Path
    metrics: dict[str, Any]
    recipe: Recipe
    spec: dict[str, Any]
    findings: list[dict[str, Any]]
    epochs: list[dict[str, str]]
    predictions: dict[str, np.ndarray]
    environment: dict[str, Any]
    left_out: list[dict[str, str]]
    log: str

    @classmethod
    def read(cls, path: Path) -> Facts:
        """Raises UserError where the folder is no run, the run did not finish, or a file is damaged."""
        folder = RunFolder.open(path)
        found = _optional(folder, "findings.json", [])
        return cls(
            path,
            folder.read_json("metrics.json"),
            recipe.load(folder.inside("recipe.yaml")),
            _optional(folder, "spec.json", {}),
            found.get("findings", []) if isinstance(found, dict) else found,
            folder.read_rows("metrics.csv") if folder.has("metrics.csv") else [],
            folder.read_table("predictions.parquet") if folder.has("predictions.parquet") else {},
            {key: value for key, value in read_manifest(folder).items() if key in MADE_WITH},
            folder.read_rows("left_out.csv") if folder.has("left_out.csv") else [],
            folder.inside("log.txt").read_text("utf-8", "replace") if folder.has("log.txt") else "",
        )

    @property
    def kind(self) -> str:
        """The kind of task: classify, regress, …"""
        return str(self.metrics["task"])

    @property
    def is_classify(self) -> bool:
        return self.kind == "classify"

    @property
    def target(self) -> str:
        known = self.spec.get("task", {})
        return str(self.metrics.get("target") or known.get("target") or self.recipe.target or "the target")

    @property
    def advised(self) -> str:
        return str(self.metrics["advised"])

    @property
    def test(self) -> dict[str, dict[str, Any]]:
        """Candidate → its measures on the test rows."""
        return self.metrics["test"]

    @property
    def validation(self) -> dict[str, dict[str, Any]]:
        return self.metrics.get("validation", {})

    @cached_property
    def metric(self) -> Measured:
        """The measure that decides."""
        return self.measure(self.metrics["metric"])

    def measure(self, name: str) -> Measured:
        return measured(name, [scores[name] for scores in self.test.values() if scores.get(name) is not None])

    def unit(self, of_shares: str) -> str:
        """The unit of the deciding measure: "%" for its values, "points" for its differences, or the target's name."""
        return {"%": of_shares, "target": self.target}.get(self.metric.unit, "")

    @property
    def interval_level(self) -> float | None:
        """What the intervals of single predictions promise to hold, such as 0.9."""
        conformal = self.validation.get(self.advised, {}).get("conformal") or {}
        return conformal.get("level")

    @cached_property
    def measures(self) -> list[Measured]:
        """Every measure that a candidate has on the test rows, the deciding one first."""
        seen = [self.metric.name]
        for scores in self.test.values():
            seen += [n for n, v in scores.items() if n not in seen and n not in NOT_MEASURES and _is_number(v)]
        return [self.measure(name) for name in seen]

    @cached_property
    def classes(self) -> list[str]:
        return [str(c) for c in self.metrics.get("classes") or self.spec.get("task", {}).get("classes", [])]

    @cached_property
    def truth(self) -> np.ndarray | None:
        """What was true of the test rows: class names or numbers [N]; None where no predictions were kept."""
        return self.predictions.get("truth")

    @cached_property
    def predicted(self) -> np.ndarray | None:
        return self.predictions.get(self.advised)

    @cached_property
    def probabilities(self) -> np.ndarray | None:
        """Of the advised model, [N, C] in the order of the classes."""
        columns = [self.predictions.get(f"{self.advised}:{name}") for name in self.classes]
        if not columns or any(column is None for column in columns):
            return None
        return np.stack([np.asarray(column, float) for column in columns], axis=1)

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """Test rows by true class (down) and predicted class (across), of the advised model."""
        if self.metrics.get("confusion"):
            return np.asarray(self.metrics["confusion"], int)
        if not self.is_classify or self.truth is None or self.predicted is None:
            return None
        place = {name: index for index, name in enumerate(self.classes)}
        counts = np.zeros((len(place), len(place)), int)
        for (true, given), number in Counter(zip(map(str, self.truth), map(str, self.predicted), strict=True)).items():
            counts[place[true], place[given]] += number
        return counts

    @cached_property
    def stages(self) -> dict[str, list[str]]:
        """The log by its labels: 'Reading' → its lines."""
        found: dict[str, list[str]] = {}
        current: list[str] = []
        for line in self.log.splitlines():
            label, rest = line[:LABEL_WIDTH].strip(), line[LABEL_WIDTH:].rstrip()
            if label:
                current = found.setdefault(label, [])
            if rest:
                current.append(rest)
        return found


def _optional(folder: RunFolder, name: str, otherwise: Any) -> Any:
    return folder.read_json(name) if folder.has(name) else otherwise


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
