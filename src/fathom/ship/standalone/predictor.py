"""Predict with an exported model: rows, pictures or texts in, classes with probabilities or numbers with intervals out.

    python predictor.py rows.csv                     a table (.csv .tsv .jsonl), a text file, or pictures
    python predictor.py rows.csv --to answers.csv

    from predictor import Predictor
    Predictor().predict({"age": 39, "job": "cook"})

What a reader would get wrong: every column of the training data must be there, but its cells may be empty. Rows are
turned into numbers by the files in `reading/`, with what preprocessing.json holds.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fathom.data import Examples, Ragged
from fathom.encode import encode
from fathom.evaluate import interval
from fathom.rows import table_of
from fathom.sources.parts.columns import unique_names
from fathom.sources.parts.dialect import Dialect, rows_of

VERSION = 1
ROWS_AT_A_TIME = 256
SHORTEST = 2  # tokens: a graph that was made for any length may not hold for one
TABLES = (".csv", ".tsv", ".tab", ".txt", ".data", ".jsonl", ".ndjson")
TEXTS = (".txt", ".md", ".text")
NAMES = (*TABLES, *TEXTS, ".parquet", ".npz", ".gz", ".zip")  # endings of what is meant as a file
Run = Callable[[Examples], np.ndarray]


class Predictor:
    """An exported model, read from its folder (that of this file, unless another is given)."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder or Path(__file__).parent)
        self.about: dict[str, Any] = json.loads((self.folder / "preprocessing.json").read_text(encoding="utf-8"))
        if self.about["version"] != VERSION:
            raise ValueError(f"{self.folder} was written by another version of the exporter: {self.about['version']}.")
        self.classes: list[str] = self.about["task"]["classes"]
        self.fields: dict[str, dict[str, Any]] = self.about["fields"]
        self._models = [(float(model["weight"]), self._open(model)) for model in self.about["models"]]

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """One answer for each row: {"prediction": …} with "probabilities" by class, or with "low" and "high".

        `data` is a row as a dict, a list of them, or the path of a table. With a single column it may also be its
        value, or a list of values: a text, or a picture (path, bytes, PIL image, uint8 array [height, width, 3]).
        """
        rows = self.rows(data)
        return [answer for part in _parts(rows) for answer in self._answers(self.raw(self._examples(part)))]

    def outputs(self, data: Any) -> np.ndarray:
        """The same as numbers: probabilities [N, C] in the order of `classes`, or [N, 3]: number, low, high."""
        rows = self.rows(data)
        return np.concatenate([self._outputs(self.raw(self._examples(part))) for part in _parts(rows)])

    def rows(self, data: Any) -> list[dict[str, Any]]:
        """What was given, as one dict for each row. Raises ValueError for columns that are missing."""
        given = data if isinstance(data, list | tuple) else [data]
        rows: list[dict[str, Any]] = []
        for value in given:
            if isinstance(value, dict):
                rows.append(value)
            elif isinstance(value, str | Path) and self._is_table(value):
                rows += read_table(Path(value), self.about["reading"], self.fields)
            elif is_absent(value):
                raise ValueError(f"There is no {value}.")
            elif len(self.fields) == 1:
                rows.append({name: _content(value, spec["kind"]) for name, spec in self.fields.items()})
            else:
                raise ValueError(f"A row must be a dict of {', '.join(self.fields)}; found {type(value).__name__}.")
        if not rows:
            raise ValueError("There are no rows.")
        known = set().union(*rows)
        missing = [name for name in self.fields if name not in known]
        if missing:
            raise ValueError(f"Columns are missing: {', '.join(missing)}. Cells may be empty (None); columns may not.")
        return rows

    def _is_table(self, value: str | Path) -> bool:
        suffix = Path(value).suffix.lower() if len(str(value)) < 1000 else ""
        only_text = [spec["kind"] for spec in self.fields.values()] == ["text"]
        return suffix in TABLES and not (only_text and suffix in TEXTS) and Path(value).is_file()

    def _examples(self, rows: Sequence[dict[str, Any]]) -> Examples:
        return encode(table_of(rows, self.about), self.fields)

    def raw(self, examples: Examples) -> np.ndarray:
        """Of encoded rows: probabilities [N, C], numbers [N], or numbers with the model's own ends [N, 3]."""
        found = [weight * run(examples) for weight, run in self._models]
        return np.sum(found, axis=0)

    def _outputs(self, raw: np.ndarray) -> np.ndarray:
        if self.about["task"]["kind"] == "classify":
            return raw
        number, ends = (raw, None) if raw.ndim == 1 else (raw[:, 0], raw[:, 1:])
        return np.stack([number, *interval(number, self.about["interval"], ends)], axis=1)

    def _answers(self, raw: np.ndarray) -> Iterator[dict[str, Any]]:
        for row in self._outputs(raw).tolist():
            if self.classes:
                best = self.classes[int(np.argmax(row))]
                yield {"prediction": best, "probabilities": dict(zip(self.classes, row, strict=True))}
            else:
                yield dict(zip(("prediction", "low", "high"), row, strict=True))

    def _open(self, model: dict[str, Any]) -> Run:
        path = self.folder / model["file"]
        if path.suffix == ".json":
            found: Run = importlib.import_module(f"fathom.ship.standalone.{model['kind']}").load(path)
            return found
        run = _exported_program(path) if path.suffix == ".pt2" else _session(path)
        if model["reads"] == "features":
            return lambda examples: run(_features(examples))
        return lambda examples: run(_tensors(examples, whole=model["reads"] == "whole texts"))


def _session(path: Path) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda given: session.run(None, {name: given[name] for name in names})[0]


def _exported_program(path: Path) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    import torch

    model = torch.export.load(str(path)).module()
    return lambda given: model(*(torch.from_numpy(value) for value in given.values())).detach().numpy()


def _features(examples: Examples) -> dict[str, np.ndarray]:
    """What a classical model reads, by name: pictures stand beside the numbers, as features."""
    part = importlib.import_module("fathom.baselines.parts.table_features")
    numbers, categories = part.features(examples, np.arange(len(examples)))
    return {"numbers": numbers, "categories": categories.astype(np.int64)}


def input_names(examples: Examples) -> list[str]:
    """What the inputs are called in a graph, where a column's name could be anything: "numbers", "tokens_1"."""
    forms = [examples.about[name]["form"] for name in examples.inputs]
    return [form if form in ("numbers", "categories") else f"{form}_{place}" for place, form in enumerate(forms)]


def _tensors(examples: Examples, *, whole: bool) -> dict[str, np.ndarray]:
    """What a network reads, by name; where it asks for `whole` texts they are padded to the longest there may be."""
    found: dict[str, np.ndarray] = {}
    for called, (name, values) in zip(input_names(examples), examples.inputs.items(), strict=True):
        form = examples.about[name]["form"]
        if isinstance(values, Ragged):
            longest = int(examples.about[name]["length"])
            tokens = values.padded(np.arange(len(examples)), longest).astype(np.int64)
            least = longest if whole else SHORTEST
            found[called] = np.pad(tokens, ((0, 0), (0, max(0, least - tokens.shape[1]))))
        elif form == "pixels":
            found[called] = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        else:
            found[called] = values.astype(np.int64) if form == "categories" else values
    return found


def is_absent(value: Any) -> bool:
    """Whether this is called as a file is, and is none: a slip of the pen, and no text to answer."""
    if not isinstance(value, str | Path) or len(name := str(value)) > 1000 or len(name.split()) > 1:
        return False
    return Path(name).suffix.lower() in NAMES and not Path(name).exists()


def _parts(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        yield rows[start : start + ROWS_AT_A_TIME]


def _content(value: Any, kind: str) -> Any:
    """A text file's bytes in place of its name; whatever else as it is."""
    is_name = isinstance(value, str | Path) and kind == "text" and str(value).lower().endswith(TEXTS)
    return Path(value).read_bytes() if is_name and Path(value).is_file() else value


def read_table(path: Path, reading: dict[str, Any], fields: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a .jsonl file, or of a delimited one written as the training data was.

    Names of pictures are taken relative to the table.
    """
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        rows = _delimited(path, reading)
    for name in (name for name, spec in fields.items() if spec["kind"] == "image"):
        for row in rows:
            if isinstance(row.get(name), str) and row[name].strip() and (path.parent / row[name]).is_file():
                row[name] = str(path.parent / row[name])
    return rows


def _delimited(path: Path, reading: dict[str, Any]) -> list[dict[str, Any]]:
    csv.field_size_limit(1 << 27)
    dialect = Dialect(reading.get("delimiter") or ("\t" if path.suffix.lower() in (".tsv", ".tab") else ","))
    with open(path, newline="", encoding=reading.get("encoding") or "utf-8-sig") as file:
        lines = [(number, row) for number, row in rows_of(file, dialect) if row]
    order: list[str] = reading["order"]
    if reading.get("header", True) and lines:
        names, lines = unique_names(lines[0][1])[0], lines[1:]
    else:  # columns without names are known by their place; that of the target may be missing
        names = order if lines and len(lines[0][1]) == len(order) else [n for n in order if n != reading["target"]]
    for number, row in lines:
        if len(row) != len(names):
            raise ValueError(f"{path}:{number}: {len(row)} values where {len(names)} were expected.")
    return [{name: cell.strip() or None for name, cell in zip(names, row, strict=True)} for _, row in lines]


def main(words: Sequence[str] | None = None) -> None:
    """The command: answers as CSV, on the screen or in a file."""
    parser = argparse.ArgumentParser(description="Predict with an exported model.")
    parser.add_argument("data", nargs="+", help="a table (.csv .tsv .jsonl), pictures, text files, or a text")
    parser.add_argument("--to", help="write a .csv file instead of printing")
    given = parser.parse_args(words)
    try:
        predictor = Predictor()
        outputs = predictor.outputs(given.data)
        with open(given.to, "w", newline="", encoding="utf-8") if given.to else sys.stdout as file:
            _write(file, predictor.classes, outputs)
    except BrokenPipeError:
        sys.stderr.close()  # whoever reads has seen enough
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


def _write(file: TextIO, classes: Sequence[str], outputs: np.ndarray) -> None:
    writer = csv.writer(file, lineterminator="\n")
    names = [f"probability of {name}" for name in classes] or ["prediction", "low", "high"]
    writer.writerow(["prediction", *names] if classes else names)
    for row in outputs.tolist():
        best = [classes[int(np.argmax(row))]] if classes else []
        writer.writerow([*best, *row])


if __name__ == "__main__":
    main()
