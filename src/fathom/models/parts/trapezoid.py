"""The recurrence of Mamba-3: a state that decays and turns, and reads each input at both ends of a time step.

    state_t = exp(decay_t) turn_t(state_{t-1} + (1 - blend_t) dt_t x_{t-1} B_{t-1}ᵀ) + blend_t dt_t x_t B_tᵀ
    y_t = state_t C_t

Lahoti et al. 2026, arXiv:2603.15569: eq. 5 for the two terms of input, with blend for their λ and decay for Δ A; eq. 25
for the turning; eq. 12 to 14 for several inputs and outputs of a head, whose products x Bᵀ are summed. A real state
whose pairs of channels turn by an angle is a complex state (proposition 2). Two forms that agree:
`trapezoid_step_by_step`, the recurrence as it is written, and `trapezoid`, products of matrices over chunks of
positions. There the state does not turn inside a chunk: B and C are turned back by the angles summed since the chunk's
beginning (proposition 4), and the decays and both terms of input make one mask for C Bᵀ (eq. 7).

What a reader would get wrong: angles are summed over one chunk and never over the whole text, so they stay small and
exact however long it is; therefore a state is as eq. 25 has it, and no angle has to be remembered with it. In the
authors' code angles have the opposite sign (what is learned changes its sign, nothing else), and pairs are channels
(2i, 2i + 1), for a rank above 1 (i, i + N/2); here a pair is (i, i + S), and of N channels the last N - 2S do not turn.

Shapes: R rows, T positions, H heads, M inputs and outputs of a head (its rank), P channels of each, N numbers
remembered for each channel, S pairs of them that turn; K chunks of Q positions.

    >>> x, B, C = torch.randn(2, 7, 4, 2, 3), torch.randn(2, 7, 4, 2, 6), torch.randn(2, 7, 4, 2, 6)
    >>> dt, blend, angles = torch.rand(2, 7, 4), torch.rand(2, 7, 4), torch.randn(2, 7, 4, 2)
    >>> given = Inputs(x, B, C, dt, -dt, blend, angles)
    >>> y, state = trapezoid(given, chunk=3)
    >>> y.shape, state.sum.shape
    (torch.Size([2, 7, 4, 2, 3]), torch.Size([2, 4, 3, 6]))
    >>> torch.allclose(y, trapezoid_step_by_step(given)[0], atol=1e-5)
    True
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.models.parts.rotary import rotate

CHUNK = 64  # positions times rank: section 3.3 of the paper divides the chunk by the rank


class Inputs(NamedTuple):
    """What the recurrence reads, with `dt` ≥ 0, `decay` ≤ 0 and `blend` from 0 to 1."""

    x: Tensor  # [R, T, H, M, P]
    B: Tensor  # [R, T, H, M, N]
    C: Tensor  # [R, T, H, M, N]
    dt: Tensor  # [R, T, H]
    decay: Tensor  # [R, T, H], the logarithm of what is kept
    blend: Tensor  # [R, T, H], the share of the position's own input in the step; 1 is Mamba-2's rule
    angles: Tensor  # [R, T, H, S], by which pairs of the state turn


class State(NamedTuple):
    """What a text leaves behind. Its last input is kept too: the next step takes its share of it."""

    sum: Tensor  # [R, H, P, N]
    B: Tensor  # [R, H, M, N]
    x: Tensor  # [R, H, M, P]


def trapezoid(
    given: Inputs, state: State | None = None, *, inside: Tensor | None = None, chunk: int | None = None
) -> tuple[Tensor, State]:
    """y [R, T, H, M, P] and the state after the last position.

    `state` is what came before the first position, nothing if left out. `inside` [R, T] is True for real positions;
    others change no state wherever they stand, and their y means nothing. Sums are float32 at least; y has the type
    of x. A `chunk` left out is CHUNK / M positions.
    """
    rank, length = given.x.shape[3], given.x.shape[1]
    if length == 1:
        return trapezoid_step_by_step(given, state, inside=inside)
    Q = min(chunk or max(1, CHUNK // rank), length)
    type_of_x = given.x.dtype
    given, state = _prepared(given, state, inside)
    own, later, first = _weights(given, inside)
    x, B, C = (_chunks(tensor, Q).movedim(-2, -3) for tensor in (given.x, given.B, given.C))  # [R, K, H, M, Q, ..]
    own, weight, decay = (_chunks(tensor, Q) for tensor in (own, own + later, given.decay))  # [R, K, H, Q]
    angles, decay = _chunks(given.angles, Q).cumsum(dim=3), decay.cumsum(dim=3)
    cosine, sine = angles.cos(), angles.sin()
    back = cosine.unsqueeze(3), -sine.unsqueeze(3)
    B, C = rotate(B, *back), rotate(C, *back)
    start = state.sum + first[:, :, None, None] * (state.x.transpose(2, 3) @ state.B)
    before, last = _hand_on(x, B, weight, decay, (cosine[:, :, :, -1:], sine[:, :, :, -1:]), start)
    y = _inside_chunks(x, B, C, own, weight, decay)
    y = y + (C.flatten(3, 4) @ before.transpose(3, 4)).unflatten(3, (rank, Q)) * decay.exp()[:, :, :, None, :, None]
    y = y.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)[:, :length]
    return y.to(type_of_x), State(last, *_last_input(given, state, inside))


def trapezoid_step_by_step(
    given: Inputs, state: State | None = None, *, inside: Tensor | None = None
) -> tuple[Tensor, State]:
    """As `trapezoid`, one position after the other: the recurrence as it is written."""
    type_of_x = given.x.dtype
    given, state = _prepared(given, state, inside)
    outputs = []
    for t in range(given.x.shape[1]):
        x, B, C, dt, decay, blend, angles = (tensor[:, t] for tensor in given)
        dt, decay, blend = dt[..., None, None], decay[..., None, None], blend[..., None, None]
        past = state.sum + (1 - blend) * dt * (state.x.transpose(2, 3) @ state.B)
        past = rotate(past, angles.cos().unsqueeze(2), angles.sin().unsqueeze(2))
        now = decay.exp() * past + blend * dt * (x.transpose(2, 3) @ B)
        outputs.append(C @ now.transpose(2, 3))
        if inside is None:
            state = State(now, B, x)
        else:
            real = inside[:, t, None, None, None]
            state = State(*(torch.where(real, new, old) for new, old in zip((now, B, x), state, strict=True)))
    return torch.stack(outputs, dim=1).to(type_of_x), state


def _prepared(given: Inputs, state: State | None, inside: Tensor | None) -> tuple[Inputs, State]:
    """In float32 at least, no step taken at padding, and a state of zeros where there was none."""
    kind = torch.promote_types(given.x.dtype, torch.float32)
    given = Inputs(*(tensor.to(kind) for tensor in given))
    if inside is not None:
        real = inside.unsqueeze(-1)
        dt, decay, angles = given.dt * real, given.decay * real, given.angles * real.unsqueeze(-1)
        given = given._replace(dt=dt, decay=decay, angles=angles)
    if state is None:
        x, B = torch.zeros_like(given.x[:, 0]), torch.zeros_like(given.B[:, 0])
        return given, State(x.new_zeros(*x.shape[:2], x.shape[3], B.shape[3]), B, x)
    return given, State(*(tensor.to(kind) for tensor in state))


def _weights(given: Inputs, inside: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Of a position's input, what its own step takes and what the next real one takes: [R, T, H] each.

    And [R, H], what the first real position takes of the last input before these.
    """
    own, earlier = given.blend * given.dt, F.pad((1 - given.blend) * given.dt, (0, 0, 0, 1))
    if inside is None:
        return own, earlier[:, 1:], earlier[:, 0]
    length = inside.shape[1]
    place = torch.arange(length, device=inside.device).where(inside, length)
    place = F.pad(place, (0, 1), value=length)
    following = place.flip(1).cummin(dim=1).values.flip(1)  # of each place the first real one from there on
    earlier = earlier.gather(1, following.unsqueeze(-1).expand_as(earlier))
    return own, earlier[:, 1:] * inside.unsqueeze(-1), earlier[:, 0]


def _chunks(tensor: Tensor, Q: int) -> Tensor:
    """[R, T, H, ..] → [R, K, H, Q, ..]. The last chunk is filled up with zeros: a step of 0 changes no state."""
    fill = -tensor.shape[1] % Q
    padded = F.pad(tensor, (0, 0) * (tensor.dim() - 2) + (0, fill)) if fill else tensor
    return padded.unflatten(1, (-1, Q)).transpose(2, 3)


def _hand_on(
    x: Tensor, B: Tensor, weight: Tensor, decay: Tensor, turn: tuple[Tensor, Tensor], start: Tensor
) -> tuple[Tensor, Tensor]:
    """The state before each chunk [R, K, H, P, N] and the one after the last.

    These states hold what the step after them takes of the last input, so each input is written once.
    """
    left = weight * (decay[..., -1:] - decay).exp()
    new = (x * left[:, :, :, None, :, None]).flatten(3, 4).transpose(3, 4) @ B.flatten(3, 4)
    kept = decay[..., -1].exp()[..., None, None]
    now, before = start, []
    for share, more, cosine, sine in zip(*(tensor.unbind(1) for tensor in (kept, new, *turn)), strict=True):
        before.append(now)
        now = rotate(share * now + more, cosine, sine)
    return torch.stack(before, dim=1), now


def _inside_chunks(x: Tensor, B: Tensor, C: Tensor, own: Tensor, weight: Tensor, decay: Tensor) -> Tensor:
    """What a position reads of those of its own chunk: [R, K, H, M, Q, P]."""
    M, Q = x.shape[3:5]
    later = torch.ones(Q, Q, dtype=torch.bool, device=x.device).triu()
    # Masked before the exponential: what is infinite after it would be NaN in the gradient.
    kept = (decay.unsqueeze(-1) - decay.unsqueeze(-2)).masked_fill(later, float("-inf")).exp()
    # A position reads both shares of earlier inputs, of its own only the first: the other is for the next step.
    mask = kept * weight.unsqueeze(-2) + torch.diag_embed(own)
    scores = (C.flatten(3, 4) @ B.flatten(3, 4).transpose(3, 4)).unflatten(4, (M, Q)).unflatten(3, (M, Q))
    masked = (scores * mask[:, :, :, None, :, None]).flatten(5, 6).flatten(3, 4)
    return (masked @ x.flatten(3, 4)).unflatten(3, (M, Q))


def _last_input(given: Inputs, state: State, inside: Tensor | None) -> tuple[Tensor, Tensor]:
    """B and x of each row's last real position."""
    if inside is None:
        return given.B[:, -1], given.x[:, -1]
    place = inside * torch.arange(1, inside.shape[1] + 1, device=inside.device)
    last = place.amax(dim=1)  # counted from 1; 0 if there is none
    row, any_real = torch.arange(last.shape[0], device=last.device), (last > 0)[:, None, None, None]
    B, x = (tensor[row, (last - 1).clamp(min=0)] for tensor in (given.B, given.x))
    return torch.where(any_real, B, state.B), torch.where(any_real, x, state.x)
