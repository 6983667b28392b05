"""A translator's part of a fit: which two columns, their tokens, and the pairs that it is trained on.

Both texts are cut into subwords by one tokenizer, learned from the training rows of both, so that names and numbers are
the same token on both sides and one embedding serves (Vaswani et al. 2017, arXiv:1706.03762, section 5.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathom.batches import Batch, Batches, Tensors
from fathom.data import Examples, LeftOut, Ragged, Table, Task
from fathom.encode import Specs, about
from fathom.errors import UserError
from fathom.fields import text
from fathom.prepared import Prepared, tell_left_out
from fathom.recipe import Recipe
from fathom.rooms import nearest

Say = Callable[[str, str], None]
VOCABULARY = 8_000
LONGEST = 256  # tokens of a text
END = 1  # the id that begins a text also ends it


def prepare(table: Table, target: str, recipe: Recipe, say: Say, why: str) -> Prepared:
    """The two text columns; pairs with an empty side are left out. Raises UserError where the source is not clear."""
    columns = {name: values for name, values in table.columns.items() if name not in recipe.drop}
    source = _source(columns, target)
    left_out = list(table.left_out)
    texts = {name: text.texts(columns[name]) for name in (source, target)}
    is_empty = (texts[source] == "") | (texts[target] == "")
    for row in np.flatnonzero(is_empty):
        without = " and ".join(f"'{name}'" for name, values in texts.items() if values[row] == "")
        left_out.append(LeftOut(table.places[row], f"no text in {without}"))
    keep = np.flatnonzero(~is_empty)
    if len(keep) < 20:
        raise UserError(f"Only {len(keep):,} pairs of texts; at least 20 are needed, and thousands to learn much.")
    table = table.take(keep)
    say("Task", f"translate '{source}' into '{target}' ({why})")
    tell_left_out(left_out, say)
    return Prepared(
        replace(table, columns={source: table.columns[source]}),
        Task("translate", target, (), why),
        texts[target][keep],
        {source: "text"},
        {source: f"it is translated into '{target}'"},
        table.columns,
        left_out,
        [],
        {},
    )


def _source(columns: dict[str, np.ndarray], target: str) -> str:
    if target not in columns:
        raise UserError(f"There is no column '{target}' to translate into. {nearest(target, columns)}")
    others = [name for name, values in columns.items() if name != target and _holds_texts(values)]
    if len(others) != 1:
        found = f"{len(others)} could be meant ({', '.join(others)})" if others else "no other column holds texts"
        remedy = f" Leave out what is not meant: --drop {others[-1]}." if others else ""
        raise UserError(f"Which column is translated into '{target}'? {found}.{remedy}")
    return others[0]


def _holds_texts(values: np.ndarray) -> bool:
    # Without letters too: a date may be what is put into words.
    return values.dtype == object and all(value is None or isinstance(value, str) for value in values[:200])


def fit_texts(prepared: Prepared, rows: np.ndarray, vocabulary: int | None) -> tuple[Specs, dict[str, Any]]:
    """The specs of the source and of the target, with one tokenizer learned from the given rows of both."""
    (source,) = prepared.kinds
    both = np.concatenate([prepared.table.columns[source][rows], prepared.targets[rows]])
    joint = text.fit(both, vocabulary=vocabulary or VOCABULARY, lower=False, longest=LONGEST)
    joint |= {"length": LONGEST}
    why = prepared.whys[source]
    return {source: joint | {"name": source, "why": why}}, joint | {"name": prepared.task.target}


def told_cut(prepared: Prepared, target: dict[str, Any]) -> list[str]:
    """How many pairs have a text of more tokens than are read, if any."""
    (source,) = prepared.kinds
    is_cut = np.zeros(len(prepared.table), bool)
    for texts in (text.texts(prepared.table.columns[source]), prepared.targets):
        # A token has a byte at least.
        rows = np.flatnonzero([len(one.encode("utf-8", "replace")) >= LONGEST for one in texts])
        is_cut[rows] |= np.diff(text.encode(texts[rows], target)["tokens"].starts) >= LONGEST
    count = int(is_cut.sum())
    return [f"{count:,} pairs have a text of more than {LONGEST} tokens, and are read up to there"] if count else []


def about_pair(specs: Specs, target: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a model must know of both texts: the one it reads and the one it writes."""
    written = {"form": "stream", "vocabulary": target["vocabulary"], "length": target["length"]}
    return about(specs) | {target["name"]: written}


class Pairs:
    """Batches of ({source: [B, S], target so far: [B, T]}, the target's tokens [B, T]), int64, 0 where padded."""

    def __init__(
        self,
        examples: Examples,
        references: np.ndarray,
        target: dict[str, Any],
        rows: np.ndarray,
        size: int,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.target = str(target["name"])
        both = with_target(examples, references, target)
        self.batches = Batches(Tensors(both, device), torch.zeros(len(both), device=device), rows, size, seed=seed)

    @property
    def per_epoch(self) -> int:
        return self.batches.per_epoch

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        for batch in self.batches.epoch(number, skip=skip):
            yield Batch(*taught(batch.inputs, self.target))


def taught(inputs: Any, target: str) -> tuple[dict[str, Tensor], Tensor]:
    """A batch for teacher forcing: the target as it stands before each of its tokens, and these tokens."""
    whole = inputs[target]
    return inputs | {target: whole[:, :-1]}, whole[:, 1:]


def with_target(examples: Examples, references: np.ndarray, target: dict[str, Any]) -> Examples:
    """The examples with the target's tokens as one more input; it begins with END, and ends so if it is whole."""
    tokens: Ragged = text.encode(references, target)["tokens"]
    lengths = np.diff(tokens.starts)
    # A text that was cut does not end there, and nobody is to learn that it did.
    is_whole = lengths < target["length"]
    ends = np.insert(tokens.values, tokens.starts[1:][is_whole], END)
    lengths = lengths + is_whole
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    form = {"form": "stream", "vocabulary": target["vocabulary"], "length": target["length"] + 1}
    name = str(target["name"])
    return replace(examples, inputs=examples.inputs | {name: Ragged(ends, starts)}, about=examples.about | {name: form})
