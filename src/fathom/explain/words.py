"""The words a model answers by: each is taken out of the texts that have it, and the answer moves.

After "leave one out" in Li, Monroe and Jurafsky 2016, arXiv:1612.08220. Words that stand in fewer than three of the
texts are not told of: one text shows a chance, not a habit.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fathom.data import Examples, Ragged, Task

Encode = Callable[[str, np.ndarray], Ragged]  # (column, texts [N]) → token ids

WORD = re.compile(r"\w+(?:['’]\w+)*")
MOST_TEXTS = 200
LEAST_TEXTS = 3
MOST_WORDS = 100  # told of
TEXTS_AT_A_TIME = 256


def words(
    predict: Callable[[Examples], np.ndarray],
    examples: Examples,
    predictions: np.ndarray,
    task: Task,
    name: str,
    encode: Encode | None,
    seconds: float,
) -> list[dict[str, Any]]:
    """[{"word", "toward", "value", "count"}], the strongest first, from up to 200 texts of the column `name`.

    "toward" is the class that the word speaks for, and "value" how much its probability falls on average when the
    word is taken out. For numbers "toward" is "higher" or "lower" and "value" the change in the target's unit.
    After `seconds` the words so far are told.
    """
    deadline = time.monotonic() + seconds
    moves: dict[str, list[np.ndarray]] = {}
    pending = _without_each_word(examples.words[name][:MOST_TEXTS])
    for start in range(0, len(pending), TEXTS_AT_A_TIME):
        if start and time.monotonic() > deadline:
            break
        some = pending[start : start + TEXTS_AT_A_TIME]
        rows = np.array([row for row, _, _ in some])
        changed = _with_texts(examples.take(rows), name, [shorter for _, _, shorter in some], encode)
        for (row, word, _), after in zip(some, predict(changed), strict=True):
            moves.setdefault(word, []).append(np.atleast_1d(predictions[row] - after))
    told = {word: each for word, each in moves.items() if len(each) >= LEAST_TEXTS}
    found = [_entry(word, np.mean(each, axis=0), len(each), task) for word, each in told.items()]
    return sorted(found, key=lambda entry: -entry["value"])[:MOST_WORDS]


def _without_each_word(texts: np.ndarray) -> list[tuple[int, str, str]]:
    """(row, word, the text without it), word after word, so that what there is time for is done whole.

    The more frequent come first, but those of every fourth text ("the", "and") last: they seldom decide.
    """
    inside = [Counter(match.group().lower() for match in WORD.finditer(str(text))) for text in texts]
    counts = Counter(word for one in inside for word in one)
    ranked = [word for word, count in counts.most_common() if count >= LEAST_TEXTS]
    found = []
    for word in sorted(ranked, key=lambda word: counts[word] > max(len(texts) / 4, LEAST_TEXTS)):
        found += [(row, word, _without(str(texts[row]), word)) for row, one in enumerate(inside) if word in one]
    return found


def _without(text: str, word: str) -> str:
    kept = WORD.sub(lambda match: "" if match.group().lower() == word else match.group(), text)
    return " ".join(kept.split())


def _with_texts(examples: Examples, name: str, texts: list[str], encode: Encode | None) -> Examples:
    values = np.empty(len(texts), object)
    values[:] = texts
    inputs = dict(examples.inputs)
    if name in inputs:
        assert encode is not None, f"'{name}' is read as tokens, so changed texts must be encoded"
        inputs[name] = encode(name, values)
    return replace(examples, inputs=inputs, words={**examples.words, name: values})


def _entry(word: str, move: np.ndarray, count: int, task: Task) -> dict[str, Any]:
    if task.kind == "regress":
        toward, value = ("higher" if move[0] > 0 else "lower"), abs(float(move[0]))
    else:
        strongest = int(move.argmax())
        toward, value = task.classes[strongest], float(move[strongest])
    return {"word": word, "toward": toward, "value": value, "count": count}
