"""The selective scan: a diagonal linear recurrence whose step, input and output weights depend on the position.

    state_t = exp(dt_t A) state_{t-1} + dt_t x_t B_t        y_t = C_t · state_t

Gu & Dao 2023, arXiv:2312.00752, algorithm 2; the input is weighted by dt B as in their code, not by the exact integral
of eq. 4. Three forms that agree: `scan`, a loop with a backward pass of its own; `scan_step_by_step`, the recurrence as
it is written, which is the reference; `scan_in_rounds` for exported graphs. What a reader would get wrong: the loop
over time is no oversight. A scan in log T rounds does more work in all, and is several times slower on a processor.

Shapes: R rows, T positions, D channels, N numbers remembered for each channel. A state is [R, N, D] and not the paper's
[R, D, N]: the many channels lie next to each other.

    >>> x, dt, A = torch.randn(2, 5, 3), torch.rand(2, 5, 3), -torch.rand(3, 4)
    >>> B, C = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    >>> y, state = scan(x, dt, A, B, C)
    >>> y.shape, state.shape
    (torch.Size([2, 5, 3]), torch.Size([2, 4, 3]))
    >>> torch.allclose(y, scan_step_by_step(x, dt, A, B, C)[0], atol=1e-6)
    True
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SEGMENT = 16  # positions whose states are held at once: they stay in the processor's cache, and memory stays small


def scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """x and dt [R, T, D], A [D, N], B and C [R, T, N] → y [R, T, D] and the last state [R, N, D].

    `state` is what came before the first position, nothing if left out. Computed in float32 at least; y has the type
    of x. It can be differentiated once.
    """
    kind = torch.promote_types(x.dtype, torch.float32)
    if state is None:
        state = torch.zeros(x.shape[0], A.shape[1], x.shape[2], dtype=kind, device=x.device)
    if torch.compiler.is_exporting():
        y, last = scan_in_rounds(*(tensor.to(kind) for tensor in (x, dt, A, B, C, state)))
    else:
        y, last = _scan(*(tensor.to(kind).contiguous() for tensor in (x, dt, A.T, B, C, state)))
    return y.to(x.dtype), last


def scan_step_by_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `scan`, in plain differentiable operations. Autograd keeps several [R, N, D] for each position."""
    if state is None:
        state = x.new_zeros(x.shape[0], A.shape[1], x.shape[2])
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        kept = torch.exp(dt_t[:, None] * A.T)
        state = kept * state + (dt_t * x_t)[:, None] * B_t[:, :, None]
        outputs.append((C_t[:, :, None] * state).sum(dim=1))
    return torch.stack(outputs, dim=1), state


def scan_in_rounds(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """As `scan`, in log2 T rounds: after each, a state holds what twice as many positions have written.

    Hillis & Steele 1986. A graph of it hardly grows with the length, where a loop would be written out T times.
    """
    kept = torch.exp(dt.unsqueeze(2) * A.T)
    states = (dt * x).unsqueeze(2) * B.unsqueeze(3)
    states = torch.cat([states[:, :1] + kept[:, :1] * state.unsqueeze(1), states[:, 1:]], dim=1)
    reach = 1
    while reach < x.shape[1]:
        states = states + kept * _shifted(states, reach)
        kept = kept * _shifted(kept, reach)
        reach *= 2
    return (C.unsqueeze(2) @ states).squeeze(2), states[:, -1]


def _shifted(tensor: Tensor, by: int) -> Tensor:
    """What stood `by` positions before, zeros at the beginning: [R, T, N, D]."""
    return F.pad(tensor[:, :-by], (0, 0, 0, 0, by, 0))


@torch.compiler.disable  # traced, each position would become operations of its own
def _scan(*given: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast(given[0].device.type, enabled=False):
        return SelectiveScan.apply(*given)


class Inputs(NamedTuple):
    """What the recurrence reads, time first: [T, R, D] and [T, R, N]; A is [N, D]. Gradients have the same form."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor

    def segment(self, first: int) -> Inputs:
        part = slice(first, first + SEGMENT)
        return Inputs(self.x[part], self.dt[part], self.A, self.B[part], self.C[part])


class SelectiveScan(torch.autograd.Function):
    """The recurrence in segments of positions, forwards and, reversed in time, backwards. A is [N, D] here.

    Kept for the backward pass are the inputs and one state for each segment; the states between are computed again.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        given, y = _time_first(x, dt, A, B, C), torch.empty_like(x)
        firsts = range(0, x.shape[1], SEGMENT)
        starts = x.new_empty(len(firsts) + 1, *state.shape)
        starts[0] = state
        room = _room(x, A)
        for index, first in enumerate(firsts):
            part = given.segment(first)
            states, _ = _states(part, starts[index], room)
            starts[index + 1] = states[-1]
            y.transpose(0, 1)[first : first + SEGMENT] = (part.C.unsqueeze(2) @ states).squeeze(2)
        ctx.save_for_backward(x, dt, A, B, C, starts)
        return y, starts[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, carried: Tensor) -> tuple[Tensor, ...]:
        *saved, starts = ctx.saved_tensors
        found = tuple(torch.zeros_like(tensor) for tensor in saved)
        given, gradients, dy = _time_first(*saved), _time_first(*found), dy.transpose(0, 1)
        room, more_room = _room(saved[0], saved[2]), _room(saved[0], saved[2])[0]
        for first in reversed(range(0, len(given.x), SEGMENT)):
            part, start = given.segment(first), starts[first // SEGMENT]
            now = dy[first : first + SEGMENT]
            states, kept = _states(part, start, room)
            dstates, carried = _gradient_of_states(part.C, now, kept, carried, more_room)
            dexponent = _of_exponent(kept, dstates, start, states)
            _write(gradients.segment(first), part, now, states, dstates, dexponent)
        return *found, carried


def _time_first(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Inputs:
    return Inputs(x.transpose(0, 1), dt.transpose(0, 1), A, B.transpose(0, 1), C.transpose(0, 1))


def _room(x: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """Memory for the states of a segment and for what is kept of them. Asking anew each time took half of the time."""
    shape = (min(SEGMENT, x.shape[1]), x.shape[0], *A.shape)
    return x.new_empty(shape), x.new_empty(shape)


def _states(given: Inputs, start: Tensor, room: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The state after each position, and the share of the one before it that was kept: both [T, R, N, D], in `room`."""
    states, kept = (tensor[: len(given.x)] for tensor in room)
    torch.mul(given.dt.unsqueeze(2), given.A, out=kept).exp_()
    torch.mul((given.dt * given.x).unsqueeze(2), given.B.unsqueeze(3), out=states)
    before = start
    for share, state in zip(kept.unbind(0), states.unbind(0), strict=True):
        before = state.addcmul_(share, before)
    return states, kept


def _gradient_of_states(C: Tensor, dy: Tensor, kept: Tensor, carried: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """Of each state in the segment, in `room`, and of the state before it.

    `carried` [R, N, D] is what comes to the segment's last state from all that follows.
    """
    dstates = torch.mul(C.unsqueeze(3), dy.unsqueeze(2), out=room[: len(dy)])
    each, shares = dstates.unbind(0), kept.unbind(0)
    each[-1].add_(carried)
    for t in reversed(range(len(each) - 1)):
        each[t].addcmul_(shares[t + 1], each[t + 1])
    return dstates, shares[0] * each[0]


def _of_exponent(kept: Tensor, dstates: Tensor, start: Tensor, states: Tensor) -> Tensor:
    """The gradient of dt A, over `kept`: share kept · gradient of the state · the state before."""
    dexponent = kept.mul_(dstates)
    dexponent[0] *= start
    dexponent[1:] *= states[:-1]
    return dexponent


def _write(gradients: Inputs, given: Inputs, dy: Tensor, states: Tensor, dstates: Tensor, dexponent: Tensor) -> None:
    """Put one segment's gradients in their places; that of A, which all segments share, is added."""
    gradients.C.copy_((states @ dy.unsqueeze(3)).squeeze(3))
    gradients.B.copy_((dstates @ (given.dt * given.x).unsqueeze(3)).squeeze(3))
    dwritten = (given.B.unsqueeze(2) @ dstates).squeeze(2)  # the gradient of dt x
    torch.mul(given.dt, dwritten, out=gradients.x)
    free = dstates  # its memory: nothing reads the gradient of the states after this
    torch.mul(dexponent, given.A, out=free)
    torch.add(free.sum(dim=2), dwritten * given.x, out=gradients.dt)
    gradients.A.add_(torch.mul(dexponent, given.dt.unsqueeze(2), out=free).sum(dim=(0, 1)))
