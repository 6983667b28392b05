"""N-grams: how often each token followed the few before it, smoothed by modified Kneser-Ney.

What a reader would get wrong: how far back it looks is not guessed. The order grows until the validation rows say that
a longer memory no longer helps, or time is up, and is kept in `settings`.

Source: Chen and Goodman 1998, TR-10-98 (Harvard).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathom.baselines.parts.kept import reading
from fathom.baselines.parts.kneser_ney import KneserNey, Level, Reading, grow
from fathom.data import Examples, Ragged, Task
from fathom.errors import UserError

RANK = 1  # it counts
USE = "language"
NOUN = "the n-grams"  # in the verdict
SOURCE = "Chen & Goodman 1998, TR-10-98"
BORDER = 1  # ends each document and stands before the first token of the next
MOST_ORDER = 20
RANGES = {"order": (">=", 1)}
MOST = {"order": 50}


def claims(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    """A language of one stream of tokens, or None."""
    streams = [name for name, facts in about.items() if facts["form"] == "stream"]
    return "tokens of a text" if task.kind == "language" and len(streams) == 1 else None


def fit(
    examples: Examples,
    targets: np.ndarray,
    train: np.ndarray,
    validate: np.ndarray,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
    order: int | None = None,
) -> Fitted:
    """Count the n-grams of the `train` rows, up to the `order` at which the loss of the `validate` rows is least.

    Order 3 tells a token by the two before it. The seed changes nothing. `targets` are not read: a text is its own.
    Where rows continue one another, those that stand apart in `train` do not. Raises UserError where there is no token
    to learn from or, without an `order`, to choose it by.
    """
    end = float("inf") if seconds is None else time.monotonic() + seconds
    (name,) = examples.of_form("stream")
    vocabulary, continues = (examples.about[name][fact] for fact in ("vocabulary", "continues"))
    stream = examples.inputs[name]
    assert isinstance(stream, Ragged)
    # A piece of a text does not begin as texts do: before it stands what is met nowhere else, and so tells nothing.
    text = _text(stream, train, continues, vocabulary if continues else BORDER)
    if text.is_read.sum() == 0:
        raise UserError(f"There is not one token in {len(train):,} training rows: nothing to learn a language from.")
    held = _text(stream, validate, continues, BORDER)
    if order is None and held.is_read.sum() == 0:
        raise UserError("There is no token in the validation rows to choose the order by. Pass ngram.order=5, say.")
    grown = grow(text.tokens, text.begins, vocabulary)
    model = _of_order(grown, order) if order else _best(grown, held, end)
    return Fitted(model, name, continues)


class _Text(NamedTuple):
    """Rows as one array, each text with what stands before it."""

    tokens: np.ndarray  # int64 [T]
    begins: np.ndarray  # bool [T], where a text begins: with a token that is only there to be stood after
    rows: np.ndarray  # int64 [T], place of each token's row among the rows asked for

    @property
    def is_read(self) -> np.ndarray:
        return ~self.begins


def _text(stream: Ragged, rows: np.ndarray, continues: bool, before: int) -> _Text:
    """Tokens of the rows, in the text's own order where they continue one another; `before` stands before each text."""
    rows = np.sort(rows) if continues else rows
    kept = stream.take(rows)
    is_new = np.diff(rows, prepend=-2) != 1 if continues else np.ones(len(rows), bool)
    row_of = np.repeat(np.arange(len(rows)), np.diff(kept.starts))
    at = kept.starts[:-1][is_new]  # where a text begins among the tokens
    places = at + np.arange(len(at))
    tokens = np.insert(kept.values.astype(np.int64), at, before)
    begins = np.zeros(len(tokens), bool)
    begins[places] = True
    return _Text(tokens, begins, np.insert(row_of, at, np.flatnonzero(is_new)))


def _of_order(grown: Any, order: int) -> KneserNey:
    """The model of that order, or of the longest text."""
    for model, _ in grown:
        if model.order == order:
            break
    return model


def _best(grown: Any, held: _Text, end: float) -> KneserNey:
    """The model from which on a longer memory only costs, as told by held rows; the longest there was time for."""
    best, least = None, float("inf")
    reading: Reading | None = None
    below: Level
    begun = time.monotonic()
    for model, below in grown:
        reading = reading or Reading.of(held.tokens, held.begins, model)
        loss = -float(np.log(reading.deeper(model.levels[-1]).probabilities[held.is_read]).sum())
        if loss >= least:
            break
        best, least = model, loss
        now = time.monotonic()
        # The next order takes about as long as this one.
        if model.order == MOST_ORDER or now + (now - begun) > end:
            break
        reading, begun = reading.deeper(below), now
    assert best is not None
    return best


class Fitted:
    """A model of one stream; `settings` repeat it."""

    def __init__(self, model: KneserNey, name: str, continues: bool) -> None:
        self.model, self.name, self.continues = model, name, continues
        self.settings: dict[str, Any] = {"order": model.order}

    def predict(self, examples: Examples) -> np.ndarray:
        """Log-probability in nats of each row's tokens, float64 [N]; where rows continue one another, given those
        before it among these rows."""
        stream = examples.inputs[self.name]
        assert isinstance(stream, Ragged)
        text = _text(stream, np.arange(len(examples)), self.continues, BORDER)
        logs = np.log(self.model.probabilities(text.tokens, text.begins))
        return np.bincount(text.rows[text.is_read], weights=logs[text.is_read], minlength=len(examples))

    def next_probabilities(self, context: np.ndarray) -> np.ndarray:
        """What comes after these token ids: float64 [vocabulary], summing to 1. A document begins after token 1."""
        return self.model.following(np.asarray(context))

    def describe(self) -> str:
        total = sum(len(level.keys) for level in self.model.levels)
        return f"n-grams up to order {self.model.order}, {total:,} of them, modified Kneser-Ney"

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "ngram.npz", **self.model.arrays())  # type: ignore[arg-type]
        about = {"vocabulary": self.model.vocabulary, "name": self.name, "continues": self.continues}
        (folder / "ngram.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def load(folder: Path) -> Fitted:
    """A model saved by `Fitted.save`. Raises UserError where a file of it is missing or damaged."""
    with reading("The n-grams", folder):
        about = json.loads((folder / "ngram.json").read_text(encoding="utf-8"))
        with np.load(folder / "ngram.npz", allow_pickle=False) as file:
            model = KneserNey.from_arrays(about["vocabulary"], dict(file))
        return Fitted(model, about["name"], about["continues"])
