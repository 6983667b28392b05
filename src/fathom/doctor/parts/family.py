"""What a family of findings listens to while a training is watched, and what it is told of the moment.

A family overrides the methods that it needs, and is called for nothing else: what it does not listen to costs nothing.
What a reader would get wrong: only `on_loss` comes at any step, and only where the loss stands out; the rest comes at
the steps that are looked at (parts/schedule.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fathom.doctor.finding import Finding
from fathom.doctor.parts.graph import Graph
from fathom.doctor.parts.losses import LossHistory

IN_NATS = ("cross_entropy", "nll", "binary_cross_entropy", "binary_cross_entropy_with_logits")
SMALL = 0.25  # nats
SAMPLED = 4096  # numbers of a layer or a parameter that are looked at
NAMES_OF_IDS = ("rows", "ids", "index", "row_ids", "idx")  # under which a batch carries where its rows come from


@dataclass
class Moment:
    """What is known of the step that is being made."""

    history: LossHistory = field(default_factory=LossHistory)
    step: int = 1  # counted from 1
    plan: int | None = None  # steps of the whole training, where they were declared
    restores: bool = False  # whoever trains goes back to the best weights by itself
    window: int = 0  # number of the stretch of steps looked at one after the other; 0 outside of any
    graph: Graph | None = None  # of the loss that is about to be propagated back
    given: tuple[Any, Any] = ((), {})  # what the model was last called with
    rows_of: Callable[[Any], Sequence[int] | None] | None = None
    in_nats: bool = False  # the loss is a cross-entropy, alone

    @property
    def num_rows(self) -> int:
        return num_rows(self.given)

    @property
    def ids(self) -> list[int] | None:
        return self.ids_of(self.given)

    def ids_of(self, given: tuple[Any, Any]) -> list[int] | None:
        """Which rows a batch holds, if it tells."""
        args, kwargs = given
        if self.rows_of is not None and args and (told := self.rows_of(args[0])) is not None:
            return [int(row) for row in told]
        for carrier in (*args, kwargs):
            for name in NAMES_OF_IDS if isinstance(carrier, dict) else ():
                ids = carrier.get(name)
                ids = ids.tolist() if isinstance(ids, Tensor) and ids.dim() == 1 else ids
                # Words, masks of one number a token and the like stand under these names too.
                if isinstance(ids, list) and len(ids) == num_rows(given) and all(isinstance(i, Integral) for i in ids):
                    return [int(row) for row in ids]
        return None

    def see(self, loss: Tensor) -> None:
        """Read the graph of a loss that is about to be propagated back, unless it was read already."""
        if self.graph is None:
            self.graph = Graph(loss)
            terms = self.graph.terms
            self.in_nats |= len(terms) == 1 and terms[0].kind in IN_NATS

    def is_small(self, loss: float) -> bool:
        """Whether the loss is one in nats, and so low that whatever it was before, the answers are right."""
        return self.in_nats and 0 <= loss < SMALL

    def named(self, positions: Sequence[int]) -> list[int]:
        """Ids of rows at these positions of the batch, or the positions themselves where nothing tells ids."""
        ids = self.ids
        return (
            list(positions) if ids is None or len(ids) <= max(positions, default=0) else [ids[at] for at in positions]
        )


def num_rows(given: tuple[Any, Any]) -> int:
    """Rows of a batch: the first size of the first tensor that the model was given; 0 where there is none."""
    return next((len(one) for one in tree_leaves(given) if isinstance(one, Tensor) and one.dim() > 0), 0)


def sampled(values: Tensor) -> Tensor:
    """At most so many numbers of a tensor, always the same."""
    flat = values.detach().flatten()
    return flat[:: max(1, -(-len(flat) // SAMPLED))]


class Family:
    """Listens to nothing; each family overrides what it listens to."""

    def begin(self) -> Iterable[Finding]:
        """Before the first step."""
        return ()

    def on_loss(self, moment: Moment) -> Iterable[Finding]:
        """At a loss that stands out, and at the few after it; the graph is not freed yet."""
        return ()

    def before_backward(self, moment: Moment) -> Iterable[Finding]:
        """The graph of a loss, at steps that are looked at."""
        return ()

    def before_step(self, moment: Moment) -> Iterable[Finding]:
        """Gradients and weights before the optimizer's step, at steps that are looked at."""
        return ()

    def after_step(self, moment: Moment) -> Iterable[Finding]:
        """Weights after it."""
        return ()

    def judged(self, losses: np.ndarray, moment: Moment) -> Iterable[Finding]:
        """Losses [N] of rows that are judged by, always the same; one where only their mean is known."""
        return ()
