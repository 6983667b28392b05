"""The root of a number that is not finite: the first operation that made one out of finite ones, and where it stands.

The forward pass is made again on the weights that were there, with the random numbers it had, while every operation is
looked at; where its result is finite, the gradients are followed back node by node. What a reader would get wrong: the
operation is where it showed, not why. Why follows from what went in: rows that are not finite themselves, weights
that have grown, numbers on the edge of what the operation takes, or a precision that holds no larger ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fathom.compute import random_states, set_random_states
from fathom.doctor.parts.graph import operation

# Operations that make something infinite, or its slope, of numbers on the edge of what they take.
ON_THE_EDGE = {"log", "log2", "log10", "log1p", "logit", "div", "reciprocal", "sqrt", "rsqrt", "pow", "exp", "acos",
               "asin", "atanh", "norm", "linalgvectornorm", "std", "var", "softmax"}  # fmt: skip
# Operations that are told what to make, as masks of minus infinity are, or whose result is not made yet.
TOLD = {"masked_fill", "full", "full_like", "fill", "where", "scalar_tensor", "empty", "empty_like", "new_empty",
        "new_full", "empty_strided", "lift_fresh"}  # fmt: skip


@dataclass
class Root:
    """Where it showed first."""

    way: str  # "input", "weights", "forwards", "loss", "answers" or "backwards"
    module: str = ""  # its name in the model; "" is the model's own forward pass
    operation: str = ""  # 'log', 'div', 'sqrt'
    rows: list[int] = field(default_factory=list)  # of the batch
    least: float = 0.0  # of what went in
    greatest: float = 0.0
    call: Call | None = None  # the forward pass in which it did


class _Watched(TorchDispatchMode):
    """Remembers the first operation whose result is not finite though what went in was."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.root: Root | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0].strip("_")
        if self.root is None and name not in TOLD:
            given = [one for one in tree_leaves((args, kwargs)) if _is_number(one)]
            bad = [one for one in tree_leaves(out) if _is_number(one) and not _finite(one)]
            was_finite, had_numbers = all(map(_finite, given)), not any(bool(one.isnan().any()) for one in given)
            # Of a mask of minus infinity a softmax makes zeros, and NaN where nothing is left.
            if bad and (was_finite or (had_numbers and any(bool(one.isnan().any()) for one in bad))):
                values = torch.cat([one.detach().double().flatten() for one in given]) if given else torch.zeros(1)
                ends = float(values.min()), float(values.max())
                self.root = Root("forwards", self.stack[-1] if self.stack else "", name, _bad_rows(bad[0]), *ends)
        return out


@dataclass
class Call:
    """A forward pass from outside: what was called with what, and the gradient that came back to its answer."""

    part: nn.Module
    args: Any
    kwargs: Any
    random: dict[str, Tensor]  # torch's random numbers as they were; empty where nothing draws any
    autocast: torch.dtype | None = None  # of the CPU or of CUDA devices, where it was on
    made: Tensor | None = None  # its answer, which retains its gradient
    is_asked: bool = False  # because we asked it to

    @property
    def from_above(self) -> Tensor | None:
        return None if self.made is None or self.made.grad is None else self.made.grad.detach()

    def precision(self, *, is_left: bool = False) -> AbstractContextManager[Any]:
        """The types of numbers that the call was made in; with `is_left` those of its weights."""
        device = next((one.device.type for one in self.part.parameters()), "cpu")
        return torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None and not is_left)


def find_root(model: nn.Module, calls: Sequence[Call], of_loss: Sequence[str]) -> Root | None:
    """The root of a loss or of a gradient that is not finite; None where everything is finite this time.

    `calls` are those of the model and of its parts since the last step, `of_loss` the operations that made the loss out
    of the answers, the last first.
    """
    for call in calls:
        given = [one for one in tree_leaves((call.args, call.kwargs)) if _is_number(one)]
        # What another part of the model has made is not read from outside.
        if rows := sorted({row for one in given if one.grad_fn is None for row in _bad_rows(one)}):
            return Root("input", rows=rows, call=call)
    if bad := [name for name, p in model.named_parameters() if not _finite(p)]:
        return Root("weights", bad[0].rpartition(".")[0], bad[0].rpartition(".")[2])
    names = {part: name for name, part in model.named_modules()}
    kept = random_states()
    # Copies take the place of buffers: backpropagation, still to come, refuses originals that were written to.
    buffers = [(part, name, value) for part in model.modules() for name, value in part.named_buffers(recurse=False)]
    for part, name, value in buffers:
        setattr(part, name, value.clone())
    try:
        again = [_again(call, names) for call in calls]
        for call, (_, watched, _) in zip(calls, again, strict=True):
            if watched.root is not None:
                return replace(watched.root, call=call)
        for call in calls:
            if call.from_above is None or not _finite(call.from_above):
                on_edge = next((name for name in of_loss if name in ON_THE_EDGE), "")
                rows = [] if call.from_above is None else _bad_rows(call.from_above)
                return Root("loss", operation=on_edge, rows=rows, call=call)
        for call, (answer, _, owner) in zip(calls, again, strict=True):
            if (root := _backwards(call, answer, owner)) is not None:
                return replace(root, call=call)
        return None
    finally:
        set_random_states(kept)
        for part, name, value in buffers:
            setattr(part, name, value)


def _again(call: Call, names: dict[nn.Module, str]) -> tuple[Any, _Watched, dict[Any, str]]:
    """The same call, every operation watched: its answer, what was seen, and whose each node of its graph is."""
    watched, owner = _Watched(), dict[Any, str]()
    handles = [hook for part in call.part.modules() for hook in _follow(names[part], part, watched, owner)]
    args, kwargs = tree_map(_detached, (call.args, call.kwargs))
    try:
        if call.random:
            set_random_states(call.random)
        with torch.enable_grad(), call.precision(), watched:
            return call.part(*args, **kwargs), watched, owner
    finally:
        for handle in handles:
            handle.remove()


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _follow(name: str, part: nn.Module, watched: _Watched, owner: dict[Any, str]) -> list[Any]:
    """Keep the stack of modules while they run, and note whose each node of the graph is."""

    def claim(values: Any, of: str) -> None:
        waiting = [one.grad_fn for one in tree_leaves(values) if isinstance(one, Tensor) and one.grad_fn is not None]
        while waiting:
            node = waiting.pop()
            if node not in owner:
                owner[node] = of
                waiting += [parent for parent, _ in node.next_functions if parent is not None]

    def begins(part: nn.Module, given: Any) -> None:
        claim(given, watched.stack[-1] if watched.stack else name)
        watched.stack.append(name)

    def ends(part: nn.Module, given: Any, made: Any) -> None:
        claim(made, watched.stack.pop())

    return [part.register_forward_pre_hook(begins), part.register_forward_hook(ends)]


def _backwards(call: Call, answer: Any, owner: dict[Any, str]) -> Root | None:
    found: list[Root] = []
    from_above = call.from_above
    assert from_above is not None
    made = next(one for one in tree_leaves(answer) if isinstance(one, Tensor) and one.shape == from_above.shape)
    seen, waiting, handles = set(), [made.grad_fn], []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)

        def look(to_inputs: Any, to_outputs: Any, node: Any = node) -> None:
            before = [one for one in to_outputs if _is_number(one)]
            after = [one for one in to_inputs if _is_number(one)]
            if not found and all(map(_finite, before)) and not all(map(_finite, after)):
                bad = next(one for one in after if not _finite(one))
                found.append(Root("backwards", owner.get(node, ""), operation(node), _bad_rows(bad)))

        handles.append(node.register_hook(look))
        waiting += [parent for parent, _ in node.next_functions]
    weights = [p for p in call.part.parameters() if p.requires_grad]
    torch.autograd.grad(made, weights, from_above, allow_unused=True)
    for handle in handles:
        handle.remove()
    return found[0] if found else None


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 0


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _bad_rows(value: Tensor) -> list[int]:
    """Rows of a batch that hold a number that is not finite."""
    if value.dim() == 0:
        return []
    bad = ~torch.isfinite(value)
    return (
        bad.flatten(1).any(dim=1).nonzero().flatten().tolist() if value.dim() > 1 else bad.nonzero().flatten().tolist()
    )
