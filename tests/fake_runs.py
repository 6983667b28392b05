"""Run folders as a fit leaves them, with predictions of small scikit-learn models standing in for the candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fathom.console import Console
from fathom.data import Task
from fathom.mistakes import most_mistaken
from fathom.report.mistaken import Mistaken, picture_uri
from fathom.run import METRIC_COLUMNS, RunFolder


def classification(
    path: Path, predictions: dict[str, np.ndarray], truth: np.ndarray, task: Task, **more: Any
) -> RunFolder:
    """A finished run; the last candidate is the advised one."""
    scores = {name: _class_scores(p, truth, 1e-5 * 7**i) for i, (name, p) in enumerate(predictions.items())}
    columns: dict[str, Any] = {"row": np.arange(len(truth)), "place": [f"data.csv:{i + 2}" for i in range(len(truth))]}
    classes = np.array(task.classes, object)
    columns["truth"] = classes[truth]
    for name, p in predictions.items():
        columns[name] = classes[p.argmax(1)]
        columns |= {f"{name}:{c}": p[:, i] for i, c in enumerate(task.classes)}
    advised = list(predictions)[-1]
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, predictions[advised].argmax(1)), 1)
    more = {"classes": list(task.classes), "confusion": counts.tolist()} | more
    return finished(path, "accuracy", scores, columns, task, **more)


def _class_scores(p: np.ndarray, truth: np.ndarray, cost: float) -> dict[str, Any]:
    right = float((p.argmax(1) == truth).mean())
    half = 1.96 * np.sqrt(right * (1 - right) / len(truth)) + 0.002
    log_loss = float(-np.log(np.clip(p[np.arange(len(truth)), truth], 1e-6, 1)).mean())
    return {
        "accuracy": right, "interval": [right - half, min(1.0, right + half)], "log_loss": log_loss,
        "auc": float("nan") if right < 0.2 else 0.5 + right / 2.02, "seconds_per_row": cost,
    }  # fmt: skip


def regression(
    path: Path, predictions: dict[str, np.ndarray], truth: np.ndarray, target: str, **more: Any
) -> RunFolder:
    scores: dict[str, Any] = {}
    columns: dict[str, Any] = {
        "row": np.arange(len(truth)),
        "place": [f"row {i}" for i in range(len(truth))],
        "truth": truth,
    }
    for name, p in predictions.items():
        rmse = float(np.sqrt(((p - truth) ** 2).mean()))
        scores[name] = {
            "rmse": rmse,
            "interval": [rmse * 0.93, rmse * 1.08],
            "mae": rmse * 0.8,
            "seconds_per_row": 3e-6,
        }
        half = 1.64 * rmse
        columns |= {name: p, f"{name}:low": p - half, f"{name}:high": p + half}
    return finished(path, "rmse", scores, columns, Task("regress", target), **more)


def finished(
    path: Path,
    metric: str,
    scores: dict[str, Any],
    columns: dict[str, Any],
    task: Task,
    *,
    sentence: str,
    fields: dict[str, Any],
    log: list[tuple[str, str]],
    importance: list[Any] | None = None,
    folds: int = 1,
    **more: Any,
) -> RunFolder:
    folder = RunFolder.create(path)
    advised, other, simplest = list(scores)[-1], list(scores)[-2], next(iter(scores))
    gap, test = scores[advised][metric] - scores[other][metric], len(columns["row"])
    looks = [
        {"of": advised, "to": simplest, "gain": 3 * abs(gap), "interval": [abs(gap), 5 * abs(gap)], "beats": True},
        {"of": advised, "to": other, "gain": abs(gap), "interval": [-abs(gap), 3 * abs(gap)], "beats": False},
    ]  # fmt: skip
    ends = [gap - abs(gap) / 2, gap + abs(gap) / 2]
    metrics = {
        "version": 1,
        "task": task.kind,
        "target": task.target,
        "metric": metric,
        "advised": advised,
        "sentence": sentence,
        "validation": {n: {metric: s[metric] * 0.994, "conformal": {"level": 0.9}} for n, s in scores.items()},
        "test": scores,
        "difference": {"of": advised, "to": other, "measure": metric, "value": gap, "interval": ends, "p": 4e-4},
        "decision": {"rule": "the simplest that nothing beats", "metric": metric, "looks": looks, "rows": test},
        "rows": {"train": 5 * test, "validate": test, "test": test},
        "importance": importance or [],
        "about": {name: f"{name}, 212 parts" for name in scores},
        "seconds": {name: 0.2 + 11.3 * i for i, name in enumerate(scores)} | {"total": 55.5},
    }
    folder.write_json("metrics.json", metrics | more)
    spec = {"name": "data", "task": task.to_json(), "order": [*fields, task.target], "options": {}, "fields": fields}
    folder.write_json("spec.json", spec)
    folder.write_table("predictions.parquet", columns)
    folder.write_json("findings.json", [{"id": "D4", "name": "target leakage", "text": "'casual' adds up to 'count'."}])
    left_out = [(f"data.csv:{line}", "9 values where 12 were expected") for line in (7, 90)]
    folder.write_rows("left_out.csv", ["where", "why"], left_out)
    made = {"run": "0" * 32, "fathom": "0.1.0", "libraries": {"torch": "2.6", "numpy": "2.0"}}
    folder.write_record("manifest.json", made | {"data": {"rows": 1797, "columns": {}}})
    epochs = [row for fold in range(folds) for row in _epochs(fold, advised, scores, metric)]
    folder.write_rows("metrics.csv", METRIC_COLUMNS, epochs)
    recipe = {"data": "data.csv", "target": task.target, "resolved": True, "reasons": REASONS}
    folder.write_text("recipe.yaml", yaml.safe_dump(recipe))
    console = Console(quiet=True)
    for label, line in log:
        console.stage(label, line)
    folder.write_text("log.txt", "\n".join(console.lines) + "\n")
    return folder


REASONS = [
    {"what": "metric", "chosen": "accuracy", "why": "classes of similar size"},
    {"what": "batch size", "chosen": "64", "why": "16 steps an epoch at least"},
    {"what": "precision", "chosen": "fp32", "why": "a step takes 4.1 ms, and 16.8 ms in bf16"},
]


def _epochs(fold: int, model: str, scores: dict[str, Any], metric: str) -> list[list[Any]]:
    noise = np.random.default_rng(fold)
    rows, final, best = [], scores[model][metric], 14 + fold % 4
    for epoch in range(1, 21):
        loss = 2.1 * np.exp(-epoch / 3.5) + 0.05 + 0.01 * noise.standard_normal()
        validate = 2.0 * np.exp(-epoch / 3.2) + 0.16 + 0.006 * abs(epoch - best)
        value = final * (1 - 0.5 * np.exp(-epoch / 3.0)) if metric == "accuracy" else final * (1 + np.exp(-epoch / 4.0))
        rows.append([model, fold, epoch, epoch * 16, loss, validate, value, 0.001, epoch * 2.1, int(epoch == best)])
    return rows


def pictures(path: Path) -> tuple[RunFolder, list[Mistaken]]:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB

    data, target = load_digits(return_X_y=True)
    train, test = np.arange(300), np.arange(900, 1797)
    task = Task("classify", "label", tuple("0123456789"))
    constant = np.full((len(test), 10), 0.1)
    bayes = 0.7 * GaussianNB(var_smoothing=0.02).fit(data[train], target[train]).predict_proba(data[test]) + 0.03
    network = LogisticRegression(C=0.002, max_iter=200).fit(data[train], target[train]).predict_proba(data[test])
    pixels = (data.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    grid = pixels[train].std(axis=0)[::2, ::2] / 2000
    folder = classification(
        path, {"constant": constant, "boosted_trees": bayes, "resnet": network}, target[test], task, folds=5,
        sentence="use the network: +6.4 points (95 % interval 4.1 to 8.6); 0.49 ms a picture against 0.07",
        fields={"image": {"kind": "image", "height": 8, "width": 8}},
        log=[("Reading", "digits → 1,797 pictures of 8 × 8 in 10 classes"), ("Task", "tell 10 classes apart"),
             ("", "image: image, uint8 pictures"), ("Splitting", "1,257 train · 270 validate · 270 test, by class")],
        importance=[{"name": "image", "value": 0.8, "interval": [0.78, 0.82], "grid": grid.tolist(),
                     "average": picture_uri(pixels[train].mean(axis=0).astype(np.uint8))}],
    )  # fmt: skip
    worst = most_mistaken(network, target[test], task)
    sure = network.max(axis=1)
    examples = [
        Mistaken(
            f"digits/{test[i]}.png", str(target[test][i]), str(network[i].argmax()), float(sure[i]), pixels[test][i]
        )
        for i in worst
    ]
    return folder, examples


def texts(path: Path, label: str = "positive", column: str = "review") -> tuple[RunFolder, list[Mistaken]]:
    noise = np.random.default_rng(0)
    truth = (np.arange(600) % 2).astype(np.int64)
    logits = {"constant": 0.0, "tfidf": 1.2, "transformer": 1.35}
    predictions = {}
    for name, strength in logits.items():
        chance = 1 / (1 + np.exp(-(strength * (2 * truth - 1) + noise.standard_normal(600) * (strength > 0) * 1.2)))
        predictions[name] = np.stack([1 - chance, chance], axis=1)
    words = [("brilliant", 0.31, 1), ("moving", 0.22, 1), ("funny", 0.16, 1), ("warm", 0.11, 1), ("dull", 0.35, 0),
             ("mess", 0.28, 0), ("lacks", 0.21, 0), ("tedious", 0.19, 0), ("bad", 0.12, 0)]  # fmt: skip
    task = Task("classify", "label", ("negative", label))
    folder = classification(
        path, predictions, truth, task,
        sentence="use the TF-IDF model: the network is not better (+0.6 points, 95 % interval -1.4 to 2.6)",
        fields={column: {"kind": "text", "why": "on average 19 words"}},
        log=[("Reading", "reviews.csv → 4,200 rows of 2 columns"), ("", "delimiter ',', UTF-8, header")],
        importance=[{"name": column, "value": 0.34, "interval": [0.3, 0.38],
                     "words": [{"word": w, "value": v, "toward": task.classes[c], "count": 7} for w, v, c in words]}],
    )  # fmt: skip
    sentence = "It begins as a brilliant idea and, for all its warmth, never once finds anything to do with it. " * 3
    return folder, [Mistaken(f"reviews.csv:{i}", label, "negative", 0.97 - i / 50, text=sentence) for i in range(6)]


def table(path: Path) -> tuple[RunFolder, list[Mistaken]]:
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression

    data = load_breast_cancer()
    task = Task("classify", "diagnosis", ("malignant", "benign"))
    train, test = np.arange(0, 569, 2), np.arange(1, 569, 2)
    constant = np.tile([0.37, 0.63], (len(test), 1))
    linear = (
        LogisticRegression(C=1e-4, max_iter=5000)
        .fit(data.data[train], data.target[train])
        .predict_proba(data.data[test])
    )
    network = (
        LogisticRegression(C=1.0, max_iter=3000)
        .fit(data.data[train], data.target[train])
        .predict_proba(data.data[test])
    )
    names = [str(n) for n in data.feature_names]
    importance = [
        {"name": n, "value": 0.05 / (i + 1) - 0.001, "interval": [0.02 / (i + 1) - 0.004, 0.08 / (i + 1)]}
        for i, n in enumerate(names)
    ]
    folder = classification(
        path, {"constant": constant, "linear": linear, "mlp": network}, data.target[test], task, importance=importance,
        sentence="use the network: +3.5 points (95 % interval 1.1 to 5.9); 0.1 ms a row against 0.02", folds=2,
        fields={n: {"kind": "number"} for n in names},
        log=[("Reading", "breast-cancer → 569 rows of 31 columns"),
             *[("", f"{n}: number, 400 distinct values") for n in names],
             ("Splitting", "398 train · 85 validate · 86 test, by class")],
    )  # fmt: skip
    worst = most_mistaken(network, data.target[test], task)
    rows = [dict(zip(names, data.data[test][i], strict=True)) for i in worst]
    answers = [
        (task.classes[data.target[test][i]], task.classes[network[i].argmax()], float(network[i].max())) for i in worst
    ]
    return folder, [Mistaken(f"row {test[i]}", *a, row=r) for i, a, r in zip(worst, answers, rows, strict=True)]


def prices(path: Path) -> tuple[RunFolder, list[Mistaken]]:
    noise = np.random.default_rng(1)
    truth = np.exp(noise.normal(12.1, 0.45, 900)).round(-2)
    predictions = {
        "constant": np.full(900, truth.mean()),
        "mlp": truth * np.exp(noise.normal(0, 0.2, 900)),
        "boosted_trees": truth * np.exp(noise.normal(0.01, 0.17, 900)),
    }
    names = ["income", "latitude", "longitude", "rooms", "age", "population"]
    importance = [
        {"name": n, "value": 42000 / (i + 1) ** 1.4, "interval": [38000 / (i + 1) ** 1.4, 47000 / (i + 1) ** 1.4]}
        for i, n in enumerate(names)
    ]
    folder = regression(
        path, predictions, truth, "price", importance=importance,
        sentence="use the trees: the network is worse (+6,100 root mean squared error, 95 % interval 3,050 to 9,200)",
        fields={n: {"kind": "number", "why": "4,012 distinct numbers"} for n in names},
        log=[("Reading", "houses.csv → 6,300 rows of 7 columns"),
             ("Task", "predict the number 'price' (as asked): 3,842 distinct values")],
    )  # fmt: skip
    worst = most_mistaken(predictions["boosted_trees"], truth, Task("regress", "price"), 8)
    rows = [{"income": 3.21, "latitude": 37.88, "longitude": -122.23, "rooms": 6, "age": 1974, "population": 1213}] * 8
    pairs = [(float(truth[i]), float(predictions["boosted_trees"][i])) for i in worst]
    return folder, [
        Mistaken(f"houses.csv:{i + 2}", *pair, float("nan"), row=r)
        for i, pair, r in zip(worst, pairs, rows, strict=True)
    ]


RUNS = {"pictures": pictures, "texts": texts, "table": table, "prices": prices}
