"""State-space duality: a recurrence with one decay for a whole head, computed as products of matrices.

    state_t = exp(dt_t A) state_{t-1} + dt_t B_t x_tᵀ        y_t = C_tᵀ state_t

Dao & Gu 2024, arXiv:2405.21060, section 6: positions are cut into chunks. Inside a chunk the answers are masked
attention, (C Bᵀ ∘ decay) x; from chunk to chunk only the state is handed on. What a reader would get wrong: the chunks
are handed on one after the other. The paper's code does that step by one more matrix of decays, chunks x chunks, whose
memory grows with the square of the length.

Shapes: R rows, T positions, H heads in G groups that share B and C, P channels of a head, N numbers remembered for each
channel; K chunks of Q positions, J heads of a group.

    >>> x, dt, A = torch.randn(2, 7, 4, 3), torch.rand(2, 7, 4), -torch.rand(4)
    >>> B, C = torch.randn(2, 7, 2, 5), torch.randn(2, 7, 2, 5)
    >>> y, state = ssd(x, dt, A, B, C, chunk=3)
    >>> y.shape, state.shape
    (torch.Size([2, 7, 4, 3]), torch.Size([2, 4, 5, 3]))
    >>> torch.allclose(y, ssd_step_by_step(x, dt, A, B, C)[0], atol=1e-5)
    True
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64  # 32 to 64 is fastest on a processor, 64 to 256 on a graphics card


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None, *, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """x [R, T, H, P], dt [R, T, H], A [H], B and C [R, T, G, N] → y [R, T, H, P] and the last state [R, H, N, P].

    `state` is what came before the first position, nothing if left out. Decays and states are float32 at least; y has
    the type of x.
    """
    length, heads = x.shape[1], (B.shape[2], -1)
    Q = min(chunk, length)
    kind = torch.promote_types(x.dtype, torch.float32)
    B, C = (_chunks(tensor.to(kind), Q) for tensor in (B, C))  # [R, K, G, Q, N]
    steps = _chunks(dt.to(kind).unflatten(2, heads), Q)  # [R, K, G, Q, J]
    decay = (steps * A.to(kind).unflatten(0, heads).unsqueeze(1)).cumsum(dim=3)  # its logarithm, since the chunk began
    written = _chunks(x.to(kind).unflatten(2, heads), Q) * steps.unsqueeze(-1)  # [R, K, G, Q, J, P]
    before, last = _hand_on(B, written, decay, state)
    y = (C @ before.flatten(-2)).unflatten(-1, before.shape[-2:]) * decay.exp().unsqueeze(-1)
    y = y + _inside_chunks(B, C, written, decay)
    y = y.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :length]
    return y.to(x.dtype), last.transpose(2, 3).flatten(1, 2)


def _chunks(tensor: Tensor, Q: int) -> Tensor:
    """[R, T, G, ..] → [R, K, G, Q, ..]. The last chunk is filled up with zeros: a step of 0 changes no state."""
    fill = -tensor.shape[1] % Q
    return F.pad(tensor, (0, 0) * (tensor.dim() - 2) + (0, fill)).unflatten(1, (-1, Q)).transpose(2, 3)


def _inside_chunks(B: Tensor, C: Tensor, written: Tensor, decay: Tensor) -> Tensor:
    """What a position reads of those of its own chunk: [R, K, G, Q, J, P]."""
    decay = decay.transpose(-1, -2)  # [R, K, G, J, Q]
    later = torch.ones(decay.shape[-1], decay.shape[-1], dtype=torch.bool, device=decay.device).triu(1)
    # Masked before the exponential: what is infinite after it would be NaN in the gradient.
    shares = (decay.unsqueeze(-1) - decay.unsqueeze(-2)).masked_fill(later, float("-inf")).exp()
    scores = (C @ B.transpose(-1, -2)).unsqueeze(3)
    return ((scores * shares) @ written.transpose(3, 4)).transpose(3, 4)


def _hand_on(B: Tensor, written: Tensor, decay: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """The state before each chunk [R, K, G, N, J, P], and the one after the last [R, G, N, J, P]."""
    left = (decay[:, :, :, -1:] - decay).exp().unsqueeze(-1)  # of what is written, at the chunk's end
    new = (B.transpose(-1, -2) @ (written * left).flatten(-2)).unflatten(-1, written.shape[-2:])
    kept = decay[:, :, :, -1].exp()[:, :, :, None, :, None]
    if state is None:
        now = torch.zeros_like(new[:, 0])
    else:
        now = state.to(new.dtype).unflatten(1, (new.shape[2], -1)).transpose(2, 3)
    before = []
    for share, more in zip(kept.unbind(1), new.unbind(1), strict=True):
        before.append(now)
        now = share * now + more
    return torch.stack(before, dim=1), now


def ssd_step_by_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `ssd`, one position after the other: the recurrence as it is written."""
    each = x.shape[2] // B.shape[2]
    B, C = B.repeat_interleave(each, dim=2), C.repeat_interleave(each, dim=2)
    if state is None:
        state = x.new_zeros(x.shape[0], x.shape[2], B.shape[3], x.shape[3])
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        kept = torch.exp(dt_t * A)[..., None, None]
        state = kept * state + B_t.unsqueeze(3) * (dt_t.unsqueeze(2) * x_t).unsqueeze(2)
        outputs.append((C_t.unsqueeze(2) @ state).squeeze(2))
    return torch.stack(outputs, dim=1), state
