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
from functools import cached_property, lru_cache
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
MOST_WALKED = 4000  # nodes looked at in search of activations
ACTIVATIONS = ("relu", "sigmoid", "tanh")
MATRICES = {"addmm", "mm", "bmm", "convolution", "linear"}  # layers that read an activation
CHANNELS_SECOND = {"convolution", "nativebatchnorm", "nativegroupnorm", "cudnnbatchnorm", "maxpool2dwithindices"}


@dataclass(frozen=True)
class LossTerm:
    """One loss function of a loss."""

    kind: str  # a value of LOSSES, or "cross_entropy": log_softmax and nll
    given: Tensor | None  # what entered it: of cross_entropy the log-probabilities
    target: Tensor | None
    made_by: tuple[str, ...]  # the operations that made what entered it, the last first, copies aside
    is_expanded: bool  # what entered it, or its target, was repeated to fit the other
    weight: Tensor | None = None  # of each class
    ignored: int = -100  # the class that is left out
    is_plain: bool = True  # nothing else weighs its rows


@dataclass(frozen=True)
class Activation:
    """What a non-linearity made of a batch."""

    kind: str  # of ACTIVATIONS
    result: Tensor
    axis: int  # of its units
    is_read_by_a_layer: bool  # of weights; a gate or the last activation is not


class Graph:
    """What the graph of one loss tells, read when somebody asks, once."""

    def __init__(self, loss: Tensor) -> None:
        self.loss = loss

    @cached_property
    def terms(self) -> list[LossTerm]:
        return loss_terms(self.loss)

    @cached_property
    def activations(self) -> list[Activation]:
        """In the order in which the walk from the loss meets them, which is the same at each step."""
        return list(_activations(self.loss))


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


def made_by(x: Tensor) -> tuple[str, ...]:
    """The operations that made a tensor, the last first, copies aside; none where no gradients are kept."""
    return tuple(name for name in map(operation, _chain(x.grad_fn)) if name not in COPIES)


def operation(node: Any) -> str:
    """'softmax' for SoftmaxBackward0."""
    return _named(node.name())


@lru_cache(maxsize=1024)
def _named(name: str) -> str:
    return re.sub(r"Backward\d*$", "", name).lower().replace("_", "")


def _term(node: Any, kind: str) -> LossTerm:
    (parent, *_) = [one for one, _ in node.next_functions] or [None]
    chain = list(_chain(parent))
    names = [operation(one) for one in chain]
    is_expanded = "expand" in names[: _first_maker(names)]
    made_by = tuple(name for name in names if name not in COPIES)
    if kind == "nll" and made_by[:1] == ("logsoftmax",):
        kind, made_by = "cross_entropy", made_by[1:]
    given, target = _saved(node, "_saved_self"), _saved(node, "_saved_target")
    weight, ignored = _saved(node, "_saved_weight"), int(getattr(node, "_saved_ignore_index", -100))
    is_plain = kind in ("nll", "cross_entropy") or (weight is None and _saved(node, "_saved_pos_weight") is None)
    # Kept as a number without a sign.
    ignored = ignored - 2**64 if ignored >= 2**63 else ignored
    return LossTerm(kind, given, target, made_by, is_expanded, weight, ignored, is_plain)


def _activations(loss: Tensor) -> Iterator[Activation]:
    waiting: list[tuple[Any, str]] = [(loss.grad_fn, "")]
    seen = {loss.grad_fn}
    walked = 0
    while waiting and walked < MOST_WALKED:
        node, reader = waiting.pop()
        if node is None:
            continue
        walked += 1
        name = operation(node)
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if name in ACTIVATIONS and (made := _saved(node, "_saved_result")) is not None and made.dim() > 1:
            yield Activation(name, made, _axis(made, parents), reader in MATRICES)
        if name not in COPIES and name != "nativedropout":
            reader = name
        for parent in parents:
            if parent not in seen:
                seen.add(parent)
                waiting.append((parent, reader))


def _axis(made: Tensor, parents: list[Any]) -> int:
    """Channels come second; of what a linear layer made of sequences units come last."""
    if made.dim() != 3 or not parents:
        return 1
    maker = next((name for name in map(operation, _chain(parents[0])) if name not in COPIES), "")
    return 1 if maker in CHANNELS_SECOND else 2


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
