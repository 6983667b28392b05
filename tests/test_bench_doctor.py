"""The doctor's benchmark: every fault can be planted, its twin is the same training without it, worlds are whole."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

BENCH = Path(__file__).parent.parent / "bench" / "doctor"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return tuple(importlib.import_module(name) for name in ("worlds", "cases", "faults"))


def test_worlds_have_rows_to_train_to_judge_and_to_test(parts: Any) -> None:
    worlds, *_ = parts
    for name, make in worlds.WORLDS.items():
        one, again, other = make(0), make(0), make(1)
        assert torch.equal(one.train[0], again.train[0]) and not torch.equal(one.train[0], other.train[0]), name
        counts = [len(part[0]) for part in (one.train, one.judge, one.test)]
        assert counts[0] > 2 * min(counts[1:]) and all(len(part[0]) == len(part[1]) for part in (one.train, one.test))
        if one.kind == "classify":
            assert set(one.train[1].tolist()) == set(range(one.outputs))


def test_every_fault_is_planted_in_some_configuration_and_changes_the_training(parts: Any) -> None:
    _, cases, faults = parts
    left = set(faults.FAULTS)
    for seed in range(300):
        if not left:
            break
        one = replace(cases.healthy(seed), steps=2)
        for name in sorted(left):
            training = cases.assemble(one)
            if not faults.FAULTS[name].fits(one, training):
                continue
            try:
                faults.FAULTS[name].edit(training, 0.7, np.random.default_rng(0))
            except AssertionError:  # made for nets that are a sequence
                continue
            result, _ = cases.run(training)
            assert len(result.losses) >= 2, name
            left.discard(name)
    assert not left


def test_the_twin_of_a_fault_is_the_same_training(parts: Any) -> None:
    _, cases, _ = parts
    one = replace(cases.healthy(3), steps=5)
    first, again = (cases.run(cases.assemble(one))[0] for _ in range(2))
    assert first.losses == again.losses and first.score == again.score
