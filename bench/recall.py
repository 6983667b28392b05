"""Who remembers what: an RNN, an LSTM, a GPT and a Mamba on three tasks that ask for nothing but memory.

    python bench/recall.py --seeds 2

The tasks are in bench/tasks.py: copying ten symbols over a gap, adding two marked numbers, recalling values by their
keys. Every model has about as many parameters and reads the same rows in the same order. A training begins with short
rows; whenever the task is solved the next rows are twice as long, up to the longest asked for. The score at a length is
of rows that nothing has seen, taken when the task was solved there, or at the end of the training where it was not.

What a reader would get wrong: who fails here has not learned it from so many steps, which is not the same as being
unable to. A model that never saw rows of a length is judged there all the same.

Results go to bench/records/recall.jsonl after each training, and those that are there are not measured again.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from fathom.loop import train
from fathom.network import build
from journal import RECORDS, Journal, table, told
from tasks import MAKERS, VOCABULARY, Answers, Batch, judged

PLAIN = {"dropout": 0.0, "drop_tokens": 0.0}
# About 70 thousand parameters each, a GPT's vectors of 2,048 places aside.
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
RATES = {"rnn": 1e-3, "lstm": 1e-3, "gpt2": 1e-3, "mamba": 3e-3}
SOLVED = {"copying": 0.99, "adding": 0.005, "recall": 0.99}  # the share right, or the mean squared error
CLIP = 1.0
FIRST = {"copying": 32, "adding": 32, "recall": 16}  # positions of the first rows
TOKENS = 4096  # positions of a batch, whatever the length of its rows
WARM_UP = 50  # steps; then the rate stays
EVERY = 25  # steps between looks at rows kept aside
KEPT, TEST = 64, 256  # rows kept aside to see whether to go on, and rows of the score


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


def kept_rows(task: str, length: int, rows: int) -> Batch:
    """Rows that no training sees: the same for every model."""
    return MAKERS[task](length, rows, Generator().manual_seed(1_000_000 + rows))


def is_solved(task: str, score: float) -> bool:
    return score <= SOLVED[task] if task == "adding" else score >= SOLVED[task]


class Ladder:
    """Rows of one length until they are solved, then of twice the length; `lengths` are those to be judged."""

    def __init__(self, task: str, lengths: Sequence[int], seed: int) -> None:
        self.task, self.lengths = task, lengths
        self.generator = Generator().manual_seed(seed)
        self.length, self.is_done = FIRST[task], False
        self.scores: dict[str, dict[str, Any]] = {}
        self.kept = kept_rows(task, FIRST[task], KEPT)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield MAKERS[self.task](self.length, TOKENS // self.length, self.generator)

    def look(self, model: nn.Module, step: int) -> None:
        """Go on to longer rows where these are solved."""
        if not is_solved(self.task, judged(model, self.kept)):
            return
        self.judge(model, self.length, step)
        self.is_done = self.length >= max(self.lengths)
        self.length *= 2
        self.kept = kept_rows(self.task, self.length, KEPT)

    def judge(self, model: nn.Module, length: int, solved_at: int | None) -> None:
        batch = kept_rows(self.task, length, TEST)
        parts = zip(*(tensor.split(TEST // 8) for tensor in batch), strict=True)
        score = statistics.fmean(judged(model, Batch(*part)) for part in parts)
        self.scores[str(length)] = {"score": score, "solved_at": solved_at}


def measured(task: str, name: str, *, lengths: Sequence[int], seed: int, steps: int) -> dict[str, Any]:
    """Train until the longest rows are solved or `steps` are done, then judge at the lengths that were not reached."""
    torch.manual_seed(seed)
    model, ladder = model_for(task, name, max(lengths)), Ladder(task, lengths, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATES[name], weight_decay=0.0)
    begun = time.process_time()
    for step in train(
        model, Answers(), ladder, optimizer, clip=CLIP, schedule=lambda index: min(1.0, (index + 1) / WARM_UP)
    ):
        assert not step.refused, f"a loss that is not finite at step {step.index}"
        if step.index % EVERY == 0:
            ladder.look(model, step.index)
        if ladder.is_done or step.index == steps:
            break
    seconds = time.process_time() - begun
    for length in lengths:
        if str(length) not in ladder.scores:
            ladder.judge(model, length, None)
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "lengths": ladder.scores, "steps": step.index, "seconds": round(seconds, 1)}


Results = dict[str, dict[str, list[dict[str, Any]]]]  # by task, then by model: a result for each seed


def shown(results: Results, lengths: Sequence[int]) -> str:
    """A row for each task and length, a column for each model."""
    rows = [
        [
            task,
            f"{length:,}",
            *(cell(task, [one["lengths"][str(length)] for one in by_model[name]]) for name in by_model),
        ]
        for task, by_model in results.items()
        for length in lengths
    ]
    return table(["task", "length", *next(iter(results.values()))], rows)


def cell(task: str, found: Sequence[dict[str, Any]]) -> str:
    """Each seed's score, and after how many steps it was solved.

    >>> cell("copying", [{"score": 0.998, "solved_at": 175}, {"score": 0.131, "solved_at": None}])
    '99.8 % (175), 13.1 %'
    """
    scores = (f"{one['score']:.4f}" if task == "adding" else f"{one['score']:.1%}".replace("%", " %") for one in found)
    steps = (f" ({one['solved_at']:,})" if one["solved_at"] else "" for one in found)
    return ", ".join(score + step for score, step in zip(scores, steps, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000, help="at most, over all lengths")
    parser.add_argument("--tasks", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--out", type=Path, default=RECORDS / "recall.jsonl")
    given = parser.parse_args()
    torch.set_num_threads(1)
    journal = Journal(given.out)
    results: Results = {task: {name: [] for name in given.models} for task in given.tasks}
    for seed, task, name in itertools.product(range(given.seeds), given.tasks, given.models):
        of = {"lengths": given.lengths, "seed": seed, "steps": given.steps}
        settings = {"task": task, "model": name, "options": MODELS[name], "rate": RATES[name], "tokens": TOKENS, **of}
        found = journal.result(settings, functools.partial(measured, task, name, **of))
        results[task][name].append(found)
        told_lengths = ", ".join(f"{length}: {cell(task, [one])}" for length, one in found["lengths"].items())
        print(f"{task}, {name}, seed {seed}, {found['seconds']:.0f} s: {told_lengths}", flush=True)
    print(f"\n{shown(results, given.lengths)}\n\nAt most {given.steps:,} steps of {TOKENS:,} positions.")
    print(told(journal.lines[-1]["conditions"]))


if __name__ == "__main__":
    main()
