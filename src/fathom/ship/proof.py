"""Does an export answer as its run does? It is asked in a process of its own, where Fathom cannot be imported.

Probabilities may differ by TOLERANCE. A number may differ by that share of how far test targets lie from their mean;
far outside of them, of how far the number itself lies from it, for that is all that float32 can hold.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathom.errors import UserError
from fathom.ship.predict import Model
from fathom.ship.real_rows import Row

TOLERANCE = 1e-4
# What an exported model must not need, where its format does not.
BLOCKED = ("fathom", "torch", "sklearn", "lightgbm", "scipy", "pandas", "pyarrow", "safetensors", "transformers")
ASK = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[2])
import predictor
predictor.main([sys.argv[3], "--to", sys.argv[4]])
"""


class Proof(NamedTuple):
    """How an export compares with its run. `rows` and `edges` were compared; `worst` is the most different of all."""

    rows: int
    edges: int
    difference: float
    worst: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Without the values of the worst row, which may be anybody's."""
        told = {"real_rows": self.rows, "edge_rows": self.edges, "tolerance": TOLERANCE}
        worst = {key: value for key, value in self.worst.items() if key != "row"}
        return told | {"worst_difference": self.difference, "worst_row": worst}


def prove(
    model: Model, candidate: str, export: Path, rows: Sequence[Row], edges: Sequence[tuple[str, Row]], scratch: Path,
    *, allowed: Sequence[str] = (),
) -> Proof:  # fmt: skip
    """Ask the run and the export the same rows. `allowed` are modules that the export may import after all."""
    labels = [f"real row {number}" for number in range(1, len(rows) + 1)] + [what for what, _ in edges]
    asked = [*rows, *(row for _, row in edges)]
    expected = _of_run(model, candidate, asked)
    found = ask(export, asked, scratch, allowed=allowed)
    if found.shape != expected.shape:
        raise UserError(f"The export answers {found.shape} where the run answers {expected.shape}; it is not written.")
    differences = _differences(model, expected, found)
    worst = int(np.argmax(differences))
    told = {
        "what": labels[worst],
        "row": {name: _short(value) for name, value in asked[worst].items()},
        "run": expected[worst].tolist(),
        "export": found[worst].tolist(),
    }
    return Proof(len(rows), len(edges), float(differences[worst]), told)


def refuse_difference(proof: Proof) -> None:
    """Raise UserError with the worst row where any answer differs."""
    if proof.difference <= TOLERANCE:
        return
    worst = proof.worst
    raise UserError(
        f"The export was not written: it differs from the run by {proof.difference:.3g}, where {TOLERANCE:g} is "
        f"allowed. Worst of {proof.rows + proof.edges} rows is {worst['what']}: "
        f"{json.dumps(worst['row'], ensure_ascii=False)}. The run answers {_shown(worst['run'])}, "
        f"the export {_shown(worst['export'])}."
    )


def ask(export: Path, rows: Sequence[Row], scratch: Path, *, allowed: Sequence[str] = ()) -> np.ndarray:
    """What the export's own command answers: probabilities [N, C], or number, low and high [N, 3]."""
    given, answers = scratch / "rows.jsonl", scratch / "answers.csv"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    blocked = ",".join(name for name in BLOCKED if name not in allowed)
    words = [sys.executable, "-I", "-B", "-c", ASK, blocked, str(export.resolve()), str(given), str(answers)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise UserError(f"The export was not written: its predictor does not run.\n{last}")
    with open(answers, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    first = int(lines[0][1:2] != ["low"])  # the class comes before its probabilities
    return np.array([[float(cell) for cell in line[first:]] for line in lines[1:]], np.float64)


def _of_run(model: Model, candidate: str, rows: Sequence[Row]) -> np.ndarray:
    answers = model.predict(list(rows), candidate=candidate)
    if answers.probabilities is not None:
        return answers.probabilities
    assert answers.low is not None and answers.high is not None, "numbers have intervals"
    return np.stack([answers.values, answers.low, answers.high], axis=1).astype(np.float64)


def _differences(model: Model, expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """One difference of each row [N], infinite where one of two answers is no number."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(expected - found)
    if model.task.kind == "regress":
        truth = model.folder.read_table("predictions.parquet")["truth"]
        spread = max(float(np.std(truth)), float(np.finfo(np.float32).tiny))
        apart /= np.maximum(spread, np.abs(expected - np.mean(truth)))
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    return np.where(same, 0.0, np.nan_to_num(apart, nan=np.inf)).max(axis=1)


def _short(value: Any) -> Any:
    return f"{value[:60]}… ({len(value):,} characters)" if isinstance(value, str) and len(value) > 80 else value


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values[:10])
