"""What each candidate said of the test rows, as columns of predictions.parquet, for each kind of task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fathom.data import Examples, Task
from fathom.decision import Candidate
from fathom.evaluate import interval


def columns(
    task: Task,
    candidates: Sequence[Candidate],
    targets: np.ndarray,
    examples: Examples,
    conformal: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """ "truth" and for each candidate what it predicted; `conformal` holds the intervals' specs by candidate.

    Classes come with their probabilities, numbers with an interval, translations as they are. Of a language each row
    has what the text cost each candidate, in nats a token; of a pair the ranks of its caption and of its picture.
    """
    if task.kind == "classify":
        return _classes(task, candidates, targets)
    if task.kind == "language":
        return {"truth": examples.words[task.target]} | {c.name: -c.test / targets[:, 0] for c in candidates}
    if task.kind == "pair":
        sides = ("caption", "picture")
        ranks = {f"{c.name}:rank of its {side}": c.test[:, i] for c in candidates for i, side in enumerate(sides)}
        return {"truth": targets} | ranks
    found: dict[str, Any] = {"truth": targets}
    for one in candidates:
        found[one.name] = one.test
        if task.kind == "regress":
            found[f"{one.name}:low"], found[f"{one.name}:high"] = interval(one.test, conformal[one.name], one.test_ends)
    if task.kind == "translate":
        found["source"] = next(iter(examples.words.values()))
    return found


def _classes(task: Task, candidates: Sequence[Candidate], targets: np.ndarray) -> dict[str, Any]:
    classes = np.array(task.classes, object)
    found: dict[str, Any] = {"truth": classes[targets]}
    for one in candidates:
        found[one.name] = classes[one.test.argmax(axis=1)]
        found |= {f"{one.name}:{name}": one.test[:, i] for i, name in enumerate(task.classes)}
    return found
