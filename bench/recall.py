"""Who remembers what: an RNN, an LSTM, a GPT and a Mamba on three tasks that ask for nothing but memory.

    python bench/recall.py --length 512 --seeds 2

The tasks are in bench/tasks.py: copying ten symbols over a gap, adding two marked numbers, recalling values by their
keys. Every model has about the same number of parameters and reads the same rows in the same order; training ends early
where the task is solved. What a reader would get wrong: who fails here has not learned it from so few rows, which is
not the same as being unable to.

Results go to bench/records/recall.jsonl after each training, and those that are there are not measured again.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from fathom.loop import train
from fathom.network import build
from fathom.optimizers.schedule import cosine
from journal import RECORDS, Journal, table, told
from tasks import MAKERS, VOCABULARY, Answers, Batch, judged

PLAIN = {"dropout": 0.0, "drop_tokens": 0.0}
# About 70 to 100 thousand parameters each.
MODELS: dict[str, dict[str, Any]] = {
    "rnn": {"width": 128, "depth": 2, "start": "orthogonal", **PLAIN},
    "lstm": {"width": 64, "depth": 2, "forget_bias": 1.0, **PLAIN},
    "gpt2": {
        "width": 64,
        "depth": 2,
        "heads": 2,
        "hidden": 128,
        "dropout": 0.0,
        "drop_embedding": 0.0,
        "drop_attention": 0.0,
    },
    "mamba": {"width": 64, "depth": 2},
}
# The same for every task and length; the best of three tried on copying and adding at 512.
RATES = {"rnn": 1e-3, "lstm": 3e-3, "gpt2": 3e-3, "mamba": 3e-3}
SOLVED = {"copying": 0.99, "adding": 0.005, "recall": 0.99}  # the share right, or the mean squared error
CLIP = 1.0
EVERY = 25  # steps between looks at rows kept aside
KEPT, TEST = 64, 256  # rows kept aside to see whether to stop, and rows of the score


class Numbers(nn.Module):
    """In the place of a model's table of vectors: numbers [B, T, F] → vectors [B, T, width] by one matrix.

    `masked` also says that all positions are real, as the embedding of recurrent nets does.
    """

    def __init__(self, numbers: int, width: int, *, masked: bool) -> None:
        super().__init__()
        self.project = nn.Linear(numbers, width)
        self.masked = masked

    @property
    def weight(self) -> Tensor:
        return self.project.weight

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        vectors = self.project(x)
        return (vectors, torch.ones(x.shape[:2], dtype=torch.bool)) if self.masked else vectors


def model_for(task: str, name: str, length: int) -> nn.Module:
    """A model of a running text, an answer at each position: ids, or one number where numbers are added."""
    adds = task == "adding"
    about = {"text": {"form": "stream", "vocabulary": VOCABULARY.get(task, 2), "length": length}}
    model = build(name, about, 1 if adds else VOCABULARY[task], MODELS[name])
    if adds:
        model.embed = Numbers(2, MODELS[name]["width"], masked=name in ("rnn", "lstm"))
    return model


def rows_of(task: str, length: int, rows: int, seed: int) -> Iterator[Batch]:
    generator = Generator().manual_seed(seed)
    while True:
        yield MAKERS[task](length, rows, generator)


def is_solved(task: str, score: float) -> bool:
    return score <= SOLVED[task] if task == "adding" else score >= SOLVED[task]


def measured(task: str, name: str, *, length: int, seed: int, steps: int, rows: int) -> dict[str, Any]:
    """Train until it is solved or `steps` are done; then the score on rows that nothing has seen."""
    torch.manual_seed(seed)
    model = model_for(task, name, length)
    kept, test = (next(rows_of(task, length, n, 1_000_000 + n)) for n in (KEPT, TEST))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATES[name], weight_decay=0.0)
    begun, scores, solved = time.process_time(), [], None
    for step in train(
        model,
        Answers(),
        rows_of(task, length, rows, seed),
        optimizer,
        clip=CLIP,
        schedule=lambda index: cosine(index / steps, warm_up=0.1),
    ):
        assert not step.refused, f"a loss that is not finite at step {step.index}"
        if step.index % EVERY == 0:
            scores.append(round(judged(model, kept), 4))
            solved = step.index if is_solved(task, scores[-1]) else None
        if solved or step.index == steps:
            break
    seconds = time.process_time() - begun
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "score": judged(model, test),
        "solved_at": solved,
        "scores": scores,
        "seconds": round(seconds, 1),
    }


Results = dict[tuple[int, str], dict[str, list[dict[str, Any]]]]  # by length and task, then by model


def shown(results: Results) -> str:
    """A row for each task and length, a column for each model."""
    rows = [
        [task, f"{length:,}", *(cell(task, by_model.get(name, [])) for name in MODELS)]
        for (length, task), by_model in results.items()
    ]
    return table(["task", "length", *MODELS], rows)


def cell(task: str, found: list[dict[str, Any]]) -> str:
    """Each seed's score, and after how many steps it was solved.

    >>> cell("copying", [{"score": 0.998, "solved_at": 175}, {"score": 0.131, "solved_at": None}])
    '99.8 % (175), 13.1 %'
    """
    scores = (f"{one['score']:.4f}" if task == "adding" else f"{one['score']:.1%}".replace("%", " %") for one in found)
    steps = (f" ({one['solved_at']:,})" if one["solved_at"] else "" for one in found)
    return ", ".join(score + step for score, step in zip(scores, steps, strict=True)) or "not run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, nargs="+", default=[512])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=16, help="new rows in each step")
    parser.add_argument("--tasks", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--out", type=Path, default=RECORDS / "recall.jsonl")
    given = parser.parse_args()
    torch.set_num_threads(1)
    journal = Journal(given.out)
    results: Results = {(length, task): {} for length in given.length for task in given.tasks}
    for length, seed in itertools.product(given.length, range(given.seeds)):
        for task, name in itertools.product(given.tasks, given.models):
            of = {"length": length, "seed": seed, "steps": given.steps, "rows": given.rows}
            settings = {"task": task, "model": name, "options": MODELS[name], "rate": RATES[name], **of}
            found = journal.result(settings, functools.partial(measured, task, name, **of))
            results[length, task].setdefault(name, []).append(found)
            print(f"{task}, {length}, {name}, seed {seed}: {cell(task, [found])}", flush=True)
    print(f"\n{shown(results)}\n\nAt most {given.steps} steps of {given.rows} rows.")
    print(told(journal.lines[-1]["conditions"]))


if __name__ == "__main__":
    main()
