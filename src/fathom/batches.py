"""From encoded examples to batches of tensors, decoded once: in memory or in files, shuffled by seed and epoch.

The order of epoch e depends only on the seed and e, so a training can be taken up again in the middle of an epoch.
Batches of one input hold the tensor itself; batches of several hold a dict by input name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fathom.data import Examples, Ragged
from fathom.mix import Inputs, Mix, Targets
from fathom.stored import RowFiles, layout

# Texts of like length are batched together: this many batches' worth of rows are sorted at a time.
SORTED_BATCHES = 50
# Not 0: NumPy takes [3, 1, 0] for [3, 1], which the order of rows is drawn from.
MIXING = 1
TargetsOf = Callable[[np.ndarray], Tensor]  # row ids → their targets, where these are not held in memory
RECENT = 64  # batches whose rows are remembered: as many as gradients may be accumulated over


class Batch(NamedTuple):
    inputs: Inputs
    targets: Targets


class Tensors:
    """The rows of `Examples` as tensors on a device, and how to gather some of them."""

    def __init__(self, examples: Examples, device: torch.device, *, files: RowFiles | None = None) -> None:
        """`files` hold the same inputs with more rows after those of the examples, and are gathered from instead."""
        self.device = device
        self.about = examples.about
        self.files, self.names = files, list(examples.inputs)
        self.num_rows = len(examples) if files is None else files.num_rows
        self.fixed: dict[str, Tensor] = {}
        self.ragged: dict[str, tuple[Ragged, int]] = {}
        for name, values in examples.inputs.items():
            about = examples.about[name]
            if isinstance(values, Ragged):
                self.ragged[name] = (values, int(about["length"]))
            elif files is None:
                self.fixed[name] = torch.from_numpy(layout(values, about["form"])).to(device)

    def gather(self, rows: np.ndarray) -> Inputs:
        if self.files is not None:
            read = {name: self.files.gather(name, rows) for name in self.names if name not in self.ragged}
            inputs = {name: torch.from_numpy(values).to(self.device) for name, values in read.items()}
        else:
            index = torch.from_numpy(rows).to(self.device)
            # index_select is several times quicker than indexing on CPU.
            inputs = {name: values.index_select(0, index) for name, values in self.fixed.items()}
        for name, (values, longest) in self.ragged.items():
            inputs[name] = torch.from_numpy(values.padded(rows, longest).astype(np.int64)).to(self.device)
        if "categories" in inputs:
            inputs["categories"] = inputs["categories"].long()
        return next(iter(inputs.values())) if len(inputs) == 1 else inputs

    def lengths(self, rows: np.ndarray) -> np.ndarray | None:
        """Tokens in each row, over all texts; None where there is no text."""
        if not self.ragged:
            return None
        return sum(np.minimum(np.diff(v.starts)[rows], longest) for v, longest in self.ragged.values())


class Batches:
    """The training rows, epoch after epoch.

    `augment(pixels, generator)` changes the pictures of a batch, then `mix` mixes its rows in pairs, both by chance
    that follows from the seed, the epoch and the batch's number. `targets` are one tensor of all rows, or several by
    name. A last batch of fewer than two rows is dropped, since batch normalisation cannot use it; with `drop_last` any
    incomplete last batch is, unless it is the only one. `by_length` puts texts of like length into one batch.
    """

    def __init__(
        self,
        tensors: Tensors,
        targets: Targets | TargetsOf,
        rows: np.ndarray,
        size: int,
        *,
        seed: int = 0,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        mix: Mix | None = None,
        drop_last: bool = False,
        by_length: bool = True,
    ) -> None:
        if len(rows) == 0:
            raise ValueError("There are no rows to make batches from.")
        self.tensors, self.targets, self.rows = tensors, targets, rows
        self.size, self.seed, self.augment, self.mix = min(size, len(rows)), seed, augment, mix
        self.by_length = by_length
        whole, rest = divmod(len(rows), self.size)
        keeps_rest = rest > 1 and not drop_last
        self.per_epoch = whole + keeps_rest
        self._recent: deque[tuple[int, np.ndarray]] = deque(maxlen=RECENT)  # the identity of inputs, and their rows

    def rows_of(self, inputs: Inputs) -> np.ndarray | None:
        """The ids of the rows that one of the last batches holds, found by its inputs themselves."""
        return next((rows for of, rows in reversed(self._recent) if of == id(inputs)), None)

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, without the first `skip`."""
        order = self._order(np.random.default_rng([self.seed, number]))
        generator = torch.Generator(device=self.tensors.device)
        for index in range(skip, self.per_epoch):
            rows = order[index * self.size : (index + 1) * self.size]
            inputs = self.tensors.gather(rows)
            if self.augment is not None:
                generator.manual_seed(seed_of_batch(self.seed, number, index))
                inputs = self._augmented(inputs, generator)
            targets = self._targets(rows)
            if self.mix is not None:
                inputs, targets = self.mix(inputs, targets, np.random.default_rng([self.seed, number, index, MIXING]))
            self._recent.append((id(inputs), rows))
            yield Batch(inputs, targets)

    def _targets(self, rows: np.ndarray) -> Targets:
        if callable(self.targets):
            return self.targets(rows)
        index = torch.from_numpy(rows)
        if isinstance(self.targets, dict):
            return {name: values[index.to(values.device)] for name, values in self.targets.items()}
        return self.targets[index.to(self.targets.device)]

    def _order(self, random: np.random.Generator) -> np.ndarray:
        rows = random.permutation(self.rows)
        lengths = self.tensors.lengths(rows) if self.by_length else None
        if lengths is None:
            return rows
        # Sorted within chunks, then the batches shuffled: little padding, and still random enough.
        chunk = self.size * SORTED_BATCHES
        number = np.arange(len(rows)) // chunk
        rows = rows[np.lexsort((lengths, number))]
        whole = len(rows) // self.size * self.size
        shuffled = random.permutation(rows[:whole].reshape(-1, self.size)).reshape(-1)
        return np.concatenate([shuffled, rows[whole:]])

    def _augmented(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        assert self.augment is not None
        if isinstance(inputs, Tensor):
            return self.augment(inputs, generator)
        pictures = [name for name, about in self.tensors.about.items() if about["form"] == "pixels"]
        return inputs | {name: self.augment(inputs[name], generator) for name in pictures}


def seed_of_batch(*numbers: int) -> int:
    """A seed that follows from those of the training, the epoch and the batch."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def in_order(tensors: Tensors, rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, Inputs]]:
    """Rows for prediction, each with its ids; texts are taken by length so that little is padded."""
    lengths = tensors.lengths(rows)
    order = rows if lengths is None else rows[np.argsort(lengths, kind="stable")]
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield chosen, tensors.gather(chosen)
