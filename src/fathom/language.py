"""A language model's part of a fit: which text, in which units, and the stream of tokens that it is trained on.

What a reader would get wrong: a row (a piece of the text, or a document) is what is split, judged and shown; the model
is trained on windows of the stream that the rows make together, cut at another place in each epoch.

Shapes: B rows of a batch, T positions of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from fathom.batches import Batch
from fathom.data import Examples, LeftOut, Ragged, Table, Task
from fathom.errors import UserError
from fathom.fields import plain_text
from fathom.prepared import Prepared, tell_left_out
from fathom.recipe import Recipe
from fathom.rooms import nearest
from fathom.task import find_target

Say = Callable[[str, str], None]
SHARE = 0.1  # of a text to validate on, and as much to test
LEAST_CHARACTERS = 2_000
# An epoch ends after so many steps at most, for somebody is waiting to see how it goes.
MOST_STEPS = 1_000


def prepare(table: Table, recipe: Recipe, say: Say) -> Prepared:
    """The text column, empty rows left out. Raises UserError where there is none or too little of it."""
    name = _column(table, recipe)
    left_out = list(table.left_out)
    empty = plain_text.is_empty(table.columns[name]) if not table.continues else np.zeros(len(table), bool)
    left_out += [LeftOut(table.places[row], "it is empty") for row in np.flatnonzero(empty)]
    table = table.take(np.flatnonzero(~empty))
    size = sum(len(text) for text in plain_text.texts(table.columns[name]))
    if size < LEAST_CHARACTERS:
        raise UserError(f"Only {size:,} characters of text; at least {LEAST_CHARACTERS:,} are needed. Give more text.")
    why = "as asked" if recipe.task else "there is one text and nothing to predict from it"
    task = Task("language", name, (), why)
    share = recipe.text.masked
    how = f"{share:.0%} of the tokens hidden, told from both sides" if share else "each next token from those before"
    say("Task", f"learn the language of '{name}' ({why}): {how}")
    tell_left_out(left_out, say)
    if share and recipe.baselines is None:
        # What counts n-grams looks to one side only, and so at another task.
        recipe.baselines = {"constant": {}}
    for part in ("test", "validate"):
        if getattr(recipe.split, part) is None:
            setattr(recipe.split, part, SHARE)
    asked = recipe.text
    options = {"unit": asked.unit, "vocabulary": asked.vocabulary, "context": asked.context}
    options["continues"] = table.continues
    return Prepared(
        replace(table, columns={name: table.columns[name]}),
        task,
        np.array([len(text) for text in table.columns[name]], np.float64),
        {name: "plain_text"},
        {name: "a language is learned from it"},
        table.columns,
        left_out,
        [],
        {name: options},
    )


def _column(table: Table, recipe: Recipe) -> str:
    if recipe.target is not None:
        return find_target(table, recipe.target)[0]
    if len(table.columns) == 1:
        return next(iter(table.columns))
    raise UserError(f"Which column holds the text? Pass --target NAME. {nearest('text', table.columns)}")


def told_units(spec: dict[str, Any]) -> str:
    """'65 characters, context 128': what the tokens are."""
    size = spec["vocabulary"] - len(plain_text.SPECIAL)
    return f"{size:,} {spec['unit']}, {spec['length']} of them seen at once"


def sizes(examples: Examples) -> np.ndarray:
    """The tokens and the bytes of each row: float64 [N, 2]."""
    (name,) = examples.of_form("stream")
    stream = examples.inputs[name]
    assert isinstance(stream, Ragged)
    num_bytes = [len(text.encode("utf-8", "replace")) for text in examples.words[name]]
    return np.stack([np.diff(stream.starts), num_bytes], axis=1).astype(np.float64)


def stream_of(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """The rows as one stream that begins with a border [total + 1], and where each row's tokens start in it [N + 1]."""
    (name,) = examples.of_form("stream")
    rows = examples.inputs[name]
    assert isinstance(rows, Ragged)
    whole = rows.take(np.arange(len(examples)))
    return np.concatenate([[plain_text.BORDER], whole.values]).astype(np.int64), whole.starts + 1


def refuse_foresight(model: nn.Module, name: str, vocabulary: int, length: int) -> None:
    """Raise UserError for a model in which a later token changes the answer at an earlier one: it would see what it is
    to tell, and seem to know everything."""
    tokens = torch.randint(3, vocabulary, (1, min(length, 8)), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[0, -1] = 3 + (other[0, -1] - 2) % (vocabulary - 3)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        before, after = (model(one.to(next(model.parameters()).device))[0, :-1] for one in (tokens, other))
    model.train(was_training)
    if not torch.allclose(before, after, atol=1e-5):
        raise UserError(
            f"{name} sees both sides of each token, so that it cannot be trained to tell the next one. Add "
            "text.masked=0.15 to hide tokens from it, or take a model that looks back only: gpt2, llama, lstm, mamba."
        )


class Windows:
    """Batches of windows of a stream: inputs [B, T] and the tokens one further [B, T], int64.

    Each pass cuts the stream at another offset, so that a token is met with more and with less before it. A pass over a
    long stream is several epochs.
    """

    def __init__(self, stream: np.ndarray, context: int, size: int, *, seed: int, device: torch.device) -> None:
        self.context = min(context, len(stream) - 1)
        # One window less than fit, for the offset.
        self.num_windows = max(1, (len(stream) - 1) // self.context - 1)
        self.size = min(size, self.num_windows)
        steps = self.num_windows // self.size
        self.epochs_a_pass = -(-steps // MOST_STEPS)
        self.per_epoch = steps // self.epochs_a_pass
        self.stream, self.seed, self.device = torch.from_numpy(stream).to(device), seed, device

    @property
    def tokens_an_epoch(self) -> int:
        return self.per_epoch * self.size * self.context

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, without the first `skip`."""
        turn, part = divmod(number, self.epochs_a_pass)
        random = np.random.default_rng([self.seed, turn])
        room = len(self.stream) - 1 - self.num_windows * self.context
        offset = int(random.integers(0, room + 1))
        starts = offset + self.context * random.permutation(self.num_windows)
        starts = starts[part * self.per_epoch * self.size :]
        places = torch.arange(self.context + 1, device=self.device)
        for index in range(skip, self.per_epoch):
            chosen = torch.from_numpy(starts[index * self.size : (index + 1) * self.size]).to(self.device)
            window = self.stream[chosen[:, None] + places]
            yield Batch(window[:, :-1], window[:, 1:])
