"""What the autograd graph of a loss tells: which loss functions it is made of, what entered them, and what made that.

PyTorch keeps, until backpropagation, what each operation needs to be undone: of a cross-entropy the log-probabilities
and the targets. So the graph says exactly what a training loop computes, however the loop is written. What a reader
would get wrong: it can be read before `backward` only, which frees it.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(dim=1))
    >>> loss = torch.nn.functional.cross_entropy(model(torch.randn(5, 4)), torch.zeros(5, dtype=torch.long))
    >>> (term,) = loss_terms(loss)
    >>> term.kind, term.made_by[:2]
    ('cross_entropy', ('softmax', 'addmm'))
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Nodes of loss functions by the field's name of them.
LOSSES = {
    "nllloss": "nll",
    "nllloss2d": "nll",
    "binarycrossentropy": "binary_cross_entropy",
    "binarycrossentropywithlogits": "binary_cross_entropy_with_logits",
    "mseloss": "squared_error",
    "smoothl1loss": "smooth_l1",
    "huberloss": "huber",
    "kldiv": "kl_divergence",
}
# Nodes that change neither what numbers mean nor their range.
COPIES = {"view", "unsafeview", "reshapealias", "tocopy", "clone", "squeeze", "unsqueeze", "permute", "transpose", "t",
          "select", "slice", "alias", "expand", "index", "contiguous", "detach"}  # fmt: skip
# Nodes between a loss and what backpropagation begins with.
SUMS = {"add", "sub", "mul", "div", "neg", "mean", "sum", "rsub", "stack", "cat", *COPIES}
MOST_NODES = 64  # looked at in search of losses
MOST_MADE_BY = 6  # operations told of what entered a loss


@dataclass(frozen=True)
class LossTerm:
    """One loss function of a loss."""

    kind: str  # a value of LOSSES, or "cross_entropy": log_softmax and nll
    given: Tensor | None  # what entered it: of cross_entropy the log-probabilities
    target: Tensor | None
    made_by: tuple[str, ...]  # the operations that made what entered it, the last first, copies aside
    is_expanded: bool  # what entered it, or its target, was repeated to fit the other


def loss_terms(loss: Tensor) -> list[LossTerm]:
    """The loss functions that a loss is the sum of; none where it is made by other operations."""
    found, seen = [], 0
    waiting = [loss.grad_fn]
    while waiting and seen < MOST_NODES:
        node = waiting.pop(0)
        if node is None:
            continue
        seen += 1
        name = operation(node)
        if name in LOSSES:
            found.append(_term(node, LOSSES[name]))
        elif name in SUMS:
            waiting += [parent for parent, _ in node.next_functions]
    return found


def operations(loss: Tensor) -> list[str]:
    """The operations that a loss was made by, the last first, as far back as losses are looked for."""
    found: list[str] = []
    waiting = [loss.grad_fn]
    while waiting and len(found) < MOST_NODES:
        node = waiting.pop(0)
        if node is not None:
            found.append(operation(node))
            waiting += [parent for parent, _ in node.next_functions]
    return found


def operation(node: Any) -> str:
    """'softmax' for SoftmaxBackward0."""
    return re.sub(r"Backward\d*$", "", node.name()).lower().replace("_", "")


def _term(node: Any, kind: str) -> LossTerm:
    (parent, *_) = [one for one, _ in node.next_functions] or [None]
    chain = list(_chain(parent))
    names = [operation(one) for one in chain]
    is_expanded = "expand" in names[: _first_maker(names)]
    made_by = tuple(name for name in names if name not in COPIES)
    if kind == "nll" and made_by[:1] == ("logsoftmax",):
        kind, made_by = "cross_entropy", made_by[1:]
    return LossTerm(kind, _saved(node, "_saved_self"), _saved(node, "_saved_target"), made_by, is_expanded)


def _first_maker(names: list[str]) -> int:
    return next((i for i, name in enumerate(names) if name not in COPIES), len(names))


def _chain(node: Any) -> Iterator[Any]:
    """The node and those before it, along the first input, as far as anybody is told of them."""
    makers = 0
    while node is not None and makers <= MOST_MADE_BY:
        yield node
        makers += operation(node) not in COPIES
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)


def _saved(node: Any, name: str) -> Tensor | None:
    """What autograd kept of it; nothing where it was freed already."""
    try:
        value = getattr(node, name, None)
    except RuntimeError:
        return None
    return value.detach() if isinstance(value, torch.Tensor) else None
