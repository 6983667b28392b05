"""Tasks that ask for nothing but memory: what stood at the beginning is asked for at the end.

Each maker draws rows anew from a generator, so no model sees a row twice. What a reader would get wrong: an answer is
never shown. Only positions where it is asked for count, and the inputs there and behind them do not tell it.

    >>> generator = torch.Generator().manual_seed(0)
    >>> batch = copying(30, 2, generator)
    >>> bool((batch.answers[:, -SYMBOLS:] == batch.inputs[:, :SYMBOLS]).all())
    True

Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from fathom.loop import Loss

NOT_ASKED = -100  # torch's own number for "no target"
SYMBOLS = 10  # to be copied
ALPHABET = 8
PAIRS, KEYS, VALUES = 8, 16, 16


class Batch(NamedTuple):
    inputs: Tensor  # ids int64 [B, T], or numbers [B, T, F]
    answers: Tensor  # ids int64 [B, T] with NOT_ASKED elsewhere, or numbers [B]


def copying(length: int, rows: int, generator: Generator) -> Batch:
    """Ten symbols, blanks, a delimiter, ten blanks; at the last ten the symbols are asked for, in their order.

    Arjovsky et al. 2016, arXiv:1511.06464, section 4.1, after Hochreiter & Schmidhuber 1997: symbols are 0 to 7, the
    blank 8 and the delimiter 9, `length` their T + 20. There blanks are to be answered too; here only symbols count.
    Without memory the best is one in eight and a loss of ln 8 = 2.079.
    """
    symbols = torch.randint(ALPHABET, (rows, SYMBOLS), generator=generator)
    inputs = torch.full((rows, length), ALPHABET)
    inputs[:, :SYMBOLS] = symbols
    inputs[:, -SYMBOLS - 1] = ALPHABET + 1
    answers = torch.full((rows, length), NOT_ASKED)
    answers[:, -SYMBOLS:] = symbols
    return Batch(inputs, answers)


def adding(length: int, rows: int, generator: Generator) -> Batch:
    """Numbers from 0 to 1, two of them marked, one in each half: their sum is asked for after the last.

    Hochreiter & Schmidhuber 1997, in the form of arXiv:1511.06464, section 4.2. Who answers 1 always has a mean squared
    error of 1/6 = 0.167, the variance of a sum of two such numbers.
    """
    numbers = torch.rand(rows, length, generator=generator)
    half = length // 2
    first = torch.randint(half, (rows, 1), generator=generator)
    second = torch.randint(half, length, (rows, 1), generator=generator)
    marks = torch.zeros(rows, length).scatter_(1, torch.cat([first, second], dim=1), 1.0)
    return Batch(torch.stack([numbers, marks], dim=-1), (numbers * marks).sum(dim=1))


def recalling(length: int, rows: int, generator: Generator) -> Batch:
    """Pairs of a key and its value; in the last quarter each key comes again, once, and its value is asked for.

    Multi-query associative recall, Arora et al. 2023, arXiv:2312.04927, section 3, in a simple form: 8 pairs (2 in 16
    positions, 4 in 32), 16 keys and as many values, blanks between, and queries anywhere in the last quarter where
    theirs favour the near. Without memory of which value belongs to which key the best is one in 8, any of the values
    seen.
    """
    pairs = min(PAIRS, length // 8)
    keys, values = (torch.rand(rows, n, generator=generator).argsort(dim=1)[:, :pairs] for n in (KEYS, VALUES))
    inputs = torch.zeros(rows, length, dtype=torch.int64)
    inputs[:, : 2 * pairs : 2] = 1 + keys
    inputs[:, 1 : 2 * pairs : 2] = 1 + KEYS + values
    quarter = length // 4
    asked = length - quarter + torch.rand(rows, quarter, generator=generator).argsort(dim=1)[:, :pairs]
    answers = torch.full((rows, length), NOT_ASKED).scatter_(1, asked, 1 + KEYS + values)
    return Batch(inputs.scatter_(1, asked, 1 + keys), answers)


MAKERS = {"copying": copying, "adding": adding, "recall": recalling}
VOCABULARY = {"copying": ALPHABET + 2, "recall": 1 + KEYS + VALUES}


class Answers:
    """Cross-entropy where an answer is asked for, or the squared error of what is said at the last position."""

    def count(self, batch: Batch) -> float:
        return float(len(batch.answers) if batch.answers.dim() == 1 else (batch.answers != NOT_ASKED).sum())

    def losses(self, model: nn.Module, batch: Batch) -> Iterator[Loss]:
        said = model(batch.inputs)
        if batch.answers.dim() == 1:
            total = F.mse_loss(said[:, -1, 0], batch.answers, reduction="sum")
        else:
            total = F.cross_entropy(said.flatten(0, 1), batch.answers.flatten(), reduction="sum")
        yield Loss(total, self.count(batch))


@torch.no_grad()
def judged(model: nn.Module, batch: Batch) -> float:
    """The share of answers that are right, or the mean squared error."""
    said = model(batch.inputs)
    if batch.answers.dim() == 1:
        return float(F.mse_loss(said[:, -1, 0], batch.answers))
    asked = batch.answers != NOT_ASKED
    return float((said.argmax(dim=-1) == batch.answers)[asked].float().mean())
