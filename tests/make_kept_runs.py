"""Make the small run folders that every later version must open: tables, texts, pictures, a language.

    python tests/make_kept_runs.py format-2

writes tests/kept_runs/format-2/NAME/run and NAME/answers.json. What a reader would get wrong: they are made once, with
the version that has that format, and never again; `test_kept_runs.py` reads them with the code of today. Only what no
command reads is taken out of them: states of training and the report.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import fathom

HERE = Path(__file__).parent / "kept_runs"
QUICK: dict[str, Any] = {"threads": 1, "quiet": True, "train__precision": "fp32", "split__folds": 1, "explain_rows": 30}
TREES = {"trees": 12, "leaves": 7}
JOBS = ["clerk", "cook", "pilot"]
WORDS = ["good", "fine", "warm", "bright", "dull", "cold", "grey", "slow", "the", "film", "book", "and", "it", "was"]


def people(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Numbers with missing cells, a category, a date, and two targets."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        age, job, day = int(random.integers(18, 80)), int(random.integers(3)), int(random.integers(700))
        pay = 900 + 30 * age + 400 * job + 0.3 * day + 50 * random.normal()
        found.append(
            {
                "age": None if random.random() < 0.05 else age,
                "job": JOBS[job],
                "since": str(np.datetime64("2020-01-01") + day),
                "rich": "yes" if pay > 2900 else "no",
                "pay": round(pay, 1),
            }
        )
    return found


def sentences(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        label = int(random.integers(2))
        chosen = [*random.choice(WORDS[8:], 6), *random.choice(WORDS[4 * label : 4 * label + 4], 2)]
        found.append({"text": " ".join(random.permutation(chosen)), "liked": ["yes", "no"][label]})
    return found


def shapes(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [N, 8, 8] of a bright upper or lower half, and which."""
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=rows)
    pictures = random.integers(0, 120, (rows, 8, 8))
    pictures[np.arange(rows)[:, None], np.arange(4) + 4 * labels[:, None]] += 100
    return pictures.astype(np.uint8), np.array(["up", "down"], object)[labels]


def csv(folder: Path, rows: list[dict[str, Any]], without: str = "") -> Path:
    names = [name for name in rows[0] if name != without]
    lines = [",".join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
    path = folder / "data.csv"
    path.write_text("\n".join([",".join(names), *lines]) + "\n")
    return path


def classes(folder: Path) -> tuple[fathom.Run, list[Any]]:
    baselines = {"constant": {}, "linear": {}, "boosted_trees": TREES}
    options = QUICK | {"baselines": baselines, "model": "mlp", "model__width": 16, "train__epochs": 4}
    run = fathom.fit(csv(folder, people(240), "pay"), target="rich", out=folder / "run", **options)
    return run, [{k: v for k, v in row.items() if k not in ("rich", "pay")} for row in people(5, seed=1)]


def numbers(folder: Path) -> tuple[fathom.Run, list[Any]]:
    baselines = {"constant": {}, "linear": {}, "boosted_trees": TREES}
    options = QUICK | {"baselines": baselines, "model": "ft_transformer", "model__width": 16, "model__depth": 1}
    options |= {"train__epochs": 3, "train__head": "quantile"}
    run = fathom.fit(csv(folder, people(240), "rich"), target="pay", out=folder / "run", **options)
    return run, [{k: v for k, v in row.items() if k not in ("rich", "pay")} for row in people(5, seed=1)]


def texts(folder: Path) -> tuple[fathom.Run, list[Any]]:
    options = QUICK | {"baselines": {"tfidf": {}}, "model": "transformer", "model__width": 16, "model__depth": 1}
    run = fathom.fit(csv(folder, sentences(240)), target="liked", out=folder / "run", train__epochs=4, **options)
    return run, [row["text"] for row in sentences(5, seed=1)]


def pictures(folder: Path) -> tuple[fathom.Run, list[Any]]:
    options = QUICK | {"baselines": {"linear": {}}, "model": "resnet", "model__width": 4, "train__epochs": 3}
    run = fathom.fit(shapes(150), out=folder / "run", **options)
    return run, shapes(5, seed=1)[0].tolist()


def language(folder: Path) -> tuple[fathom.Run, list[Any]]:
    (folder / "book.txt").write_text("\n".join(row["text"] for row in sentences(300)) + "\n")
    options = QUICK | {"baselines": {"ngram": {}}, "model": "gpt2", "model__width": 16, "model__depth": 1}
    options |= {"text__unit": "characters", "text__context": 16, "train__epochs": 2}
    run = fathom.fit(folder / "book.txt", task="language", out=folder / "run", **options)
    return run, ["it was a good film"]


RUNS = {"classes": classes, "numbers": numbers, "texts": texts, "pictures": pictures, "language": language}


def given(rows: list[Any]) -> Any:
    """The rows of answers.json as `predict` takes them: pictures are arrays."""
    return np.array(rows, np.uint8) if isinstance(rows[0], list) else rows


def answered(run: fathom.Run, rows: list[Any]) -> dict[str, dict[str, Any]]:
    """What each candidate says of the rows: every column of its predictions but where the row is from."""
    found = {}
    for name in run.metrics["test"]:
        columns = run.predict(given(rows), candidate=name).columns
        found[name] = {column: values.tolist() for column, values in columns.items() if column != "row"}
    return found


def main() -> None:
    for name, make in RUNS.items():
        place = HERE / sys.argv[1] / name
        with tempfile.TemporaryDirectory() as folder:
            run, rows = make(Path(folder))
            shutil.rmtree(run.path / "last", ignore_errors=True)
            for taken_out in ("report.html", "lock"):
                (run.path / taken_out).unlink(missing_ok=True)
            answers = {"rows": rows, "answers": answered(run, rows)}
            shutil.copytree(run.path, place / "run")
        (place / "answers.json").write_text(json.dumps(answers) + "\n")
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        print(name, f"{size:,} bytes:", *answers["answers"])


if __name__ == "__main__":
    main()
