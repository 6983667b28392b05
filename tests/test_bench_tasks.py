"""The tasks of the long benches ask what they say they ask, and nothing gives their answers away."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

BENCH = Path(__file__).parent.parent / "bench"


def bench(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module(name)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Any:
    return bench("tasks", monkeypatch)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("task", ["copying", "adding", "recalling"])
def test_a_seed_gives_the_same_rows_and_another_gives_others(tasks: Any, task: str) -> None:
    make = getattr(tasks, task)
    first, again, other = make(96, 4, seeded()), make(96, 4, seeded()), make(96, 4, seeded(1))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first.inputs, other.inputs)


def test_copied_symbols_stand_only_at_the_beginning(tasks: Any) -> None:
    batch = tasks.copying(64, 8, seeded())
    assert batch.inputs.shape == (8, 64) and (batch.inputs[:, 10:] >= 8).all() and (batch.inputs[:, :10] < 8).all()
    assert (batch.inputs == 9).nonzero()[:, 1].tolist() == [53] * 8  # the delimiter, ten before the end
    assert torch.equal(batch.answers[:, -10:], batch.inputs[:, :10])
    assert (batch.answers[:, :-10] == tasks.NOT_ASKED).all()


def test_two_numbers_are_marked_one_in_each_half(tasks: Any) -> None:
    batch = tasks.adding(40, 500, seeded())
    numbers, marks = batch.inputs.unbind(-1)
    assert torch.equal(marks[:, :20].sum(dim=1), torch.ones(500)) and torch.equal(
        marks.sum(dim=1), torch.full((500,), 2.0)
    )
    torch.testing.assert_close(batch.answers, (numbers * marks).sum(dim=1))
    assert abs(float((batch.answers - 1).square().mean()) - 1 / 6) < 0.02  # the baseline that is shown beside


def test_every_key_is_asked_for_once_in_the_last_quarter(tasks: Any) -> None:
    batch = tasks.recalling(128, 8, seeded())
    for inputs, answers in zip(batch.inputs, batch.answers, strict=True):
        pairs = dict(inputs[:16].view(8, 2).tolist())
        assert len(pairs) == 8 and max(pairs) <= 16 < min(pairs.values())
        asked = (answers != tasks.NOT_ASKED).nonzero().flatten().tolist()
        assert len(asked) == 8 and min(asked) >= 96
        assert {int(inputs[t]): int(answers[t]) for t in asked} == pairs
        assert inputs[16:].count_nonzero() == 8


class Cheat(nn.Module):
    """Says the right answers, given as ids or as one number."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, inputs: Tensor) -> Tensor:
        if self.answers.dim() == 1:
            return self.answers[:, None, None].expand(-1, inputs.shape[1], 1)
        return 50.0 * nn.functional.one_hot(self.answers.clamp(min=0), 70)


@pytest.mark.parametrize(
    ("task", "best", "wrong"), [("copying", 1.0, 0.0), ("adding", 0.0, 1.0), ("recalling", 1.0, 0.0)]
)
def test_score_and_loss_read_only_where_an_answer_is_asked_for(
    tasks: Any, task: str, best: float, wrong: float
) -> None:
    batch = getattr(tasks, task)(96, 4, seeded())
    right, off = Cheat(batch.answers), Cheat(batch.answers + (batch.answers != tasks.NOT_ASKED).to(batch.answers.dtype))
    assert tasks.judged(right, batch) == best
    assert tasks.judged(off, batch) == pytest.approx(wrong)
    (loss,) = tasks.Answers().losses(right, batch)
    assert float(loss.total) == pytest.approx(0, abs=1e-6)
    assert loss.count == {"copying": 40, "adding": 4, "recalling": 32}[task]


@pytest.mark.parametrize("name", ["rnn", "lstm", "gpt2", "mamba"])
def test_models_have_about_as_many_parameters_and_answer_at_each_position(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recall, tasks = bench("recall", monkeypatch), bench("tasks", monkeypatch)
    for task, outputs in (("copying", 10), ("adding", 1), ("recall", 33)):
        model = recall.model_for(task, name, 512)
        assert 50_000 < sum(p.numel() for p in model.parameters()) < 150_000
        batch = tasks.MAKERS[task](64, 2, seeded())
        answers = model(batch.inputs)
        assert answers.shape == (2, 64, outputs)
        changed = batch.inputs.clone()
        changed[:, 40:] = changed[:, 40:].flip(0)
        torch.testing.assert_close(model(changed)[:, :40], answers[:, :40])  # nothing looks ahead


def test_rows_grow_longer_only_where_they_are_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    recall = bench("recall", monkeypatch)
    said = iter([0.9, 1.0, *[0.995] * 8, 0.2, 0.999, *[0.999] * 8])
    monkeypatch.setattr(recall, "judged", lambda model, batch: next(said))
    ladder = recall.Ladder("copying", [64], seed=0)
    lengths = []
    for step in (25, 50, 75, 100):
        lengths.append(next(iter(ladder)).inputs.shape)
        ladder.look(nn.Identity(), step)
    assert lengths == [(128, 32), (128, 32), (64, 64), (64, 64)]
    assert ladder.is_done
    assert {length: one["solved_at"] for length, one in ladder.scores.items()} == {"32": 50, "64": 100}
    assert ladder.scores["32"]["score"] == pytest.approx(0.995)


def test_a_result_is_measured_once_and_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = bench("journal", monkeypatch)
    path, asked = tmp_path / "new" / "kept.jsonl", []
    for seed in (0, 1, 0):
        found = journal.Journal(path).result({"seed": seed}, lambda s=seed: asked.append(s) or {"score": s})
        assert found == {"score": seed}
    assert asked == [0, 1]
    assert [json.loads(line)["settings"] for line in path.read_text().splitlines()] == [{"seed": 0}, {"seed": 1}]
