"""What would have helped against a number that is not finite: the same pass made again with one thing changed.

In 64 bits, or without the rows that made it; on copies of weights and buffers, with the random numbers it had. What a
reader would get wrong: this says that the step would have been finite, not that it would have been right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from fathom.compute import random_states, set_random_states
from fathom.doctor.parts.family import num_rows
from fathom.doctor.parts.roots import Call, Root

MOST_WEIGHTS = 100_000_000  # copied


def rehearse(model: nn.Module, calls: Sequence[Call], root: Root) -> list[dict[str, Any]]:
    """Each with "fix" and "is_finite", or with "why" where it could not be tried. Nothing is left changed."""
    if root.way in ("weights", "answers") or sum(p.numel() for p in model.parameters()) > MOST_WEIGHTS:
        return []
    found = []
    if root.way in ("forwards", "backwards"):
        found.append(_tried("float64", calls, root, wide=True, left_out=[]))
    if root.way != "loss" and 0 < len(root.rows) < max(map(_num_rows, calls), default=0):
        found.append(_tried("rows left out", calls, root, wide=False, left_out=root.rows))
    return found


def _tried(fix: str, calls: Sequence[Call], root: Root, *, wide: bool, left_out: list[int]) -> dict[str, Any]:
    kept = random_states()
    try:
        return {"fix": fix, "is_finite": all(_is_finite(call, root, wide, left_out) for call in calls)}
    except (
        RuntimeError,
        TypeError,
        ValueError,
        IndexError,
    ) as error:  # code that takes one type of number only, as much does
        return {"fix": fix, "why": str(error).splitlines()[0]}
    finally:
        set_random_states(kept)


def _is_finite(call: Call, root: Root, wide: bool, left_out: list[int]) -> bool:
    """Whether the answer is, and the gradients where it is they that were not."""
    batch = _num_rows(call)
    rows = torch.tensor([row for row in range(batch) if row not in set(left_out)])

    def changed(value: Any, *, is_weight: bool = False) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach()
        if left_out and not is_weight and value.dim() and len(value) == batch:
            value = value.index_select(0, rows.to(value.device))
        if wide and value.is_floating_point():
            value = value.double()
        return value.clone() if is_weight else value

    state = {name: changed(value, is_weight=True) for name, value in _state(call.part)}
    weights = [state[name].requires_grad_() for name, p in call.part.named_parameters() if p.requires_grad]
    args, kwargs = tree_map(changed, (call.args, call.kwargs))
    if call.random:
        set_random_states(call.random)
    with torch.enable_grad(), call.precision(is_left=wide):
        answer = functional_call(call.part, state, args, kwargs)
    made = [one for one in tree_leaves(answer) if isinstance(one, Tensor) and one.is_floating_point()]
    if not all(bool(torch.isfinite(one).all()) for one in made):
        return False
    above = None if call.from_above is None else changed(call.from_above)
    if root.way != "backwards" or above is None:
        return True
    out = next(one for one in made if one.shape == above.shape)
    gradients = torch.autograd.grad(out, weights, above, allow_unused=True)
    return all(one is None or bool(torch.isfinite(one).all()) for one in gradients)


def _num_rows(call: Call) -> int:
    return num_rows((call.args, call.kwargs))


def _state(part: nn.Module) -> list[tuple[str, Tensor]]:
    return [*part.named_parameters(), *part.named_buffers()]
