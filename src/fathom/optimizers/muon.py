"""Muon: the momentum of each matrix is made orthogonal before it is applied, so that all its directions move alike.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; weight decay: Liu et al. 2025, arXiv:2502.16982, section
2.2. What a reader would get wrong: it is for the matrices inside a network. Vectors of tokens, the output matrix,
biases, norms and filters are moved by AdamW, at a tenth of the rate, in the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.optimizer import Optimizer

MOMENTUM = 0.95
BETAS, EPS = (0.9, 0.95), 1e-8
# Coefficients of the polynomial that is applied five times; all singular values end between about 0.7 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
TIMES = 5
REST = 0.1  # rate of what AdamW moves, beside that of the matrices


class Muon(Optimizer):
    """Groups with "orthogonal" true hold matrices that are moved by Muon; all others are moved by AdamW."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None, "losses are computed by the loop"
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if group["orthogonal"]:
                for p in moved:
                    self._move_matrix(p, group["lr"], group["weight_decay"])
            elif moved:
                self._move_others(moved, group["lr"], group["weight_decay"])

    def _move_matrix(self, p: Tensor, rate: float, decay: float) -> None:
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
        update = orthogonal(p.grad.lerp(state["momentum"], MOMENTUM))
        # A matrix that widens must move more for its outputs to change as much.
        scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
        p.mul_(1 - rate * decay).add_(update, alpha=-rate * scale)

    def _move_others(self, moved: list[Tensor], rate: float, decay: float) -> None:
        for p in moved:
            if not self.state[p]:
                zeros = (torch.zeros_like(p) for _ in range(2))
                self.state[p] = dict(zip(("exp_avg", "exp_avg_sq"), zeros, strict=True))
                self.state[p]["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
        states = [self.state[p] for p in moved]
        adamw(
            moved,
            [p.grad for p in moved],  # type: ignore[misc]
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=decay,
            eps=EPS,
            maximize=False,
        )


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix [M, N] with all its singular values brought near 1, by a polynomial of odd powers (Newton–Schulz).

    >>> values = torch.linalg.svdvals(orthogonal(torch.randn(8, 5)))
    >>> bool(values.min() > 0.5) and bool(values.max() < 1.5)
    True
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(TIMES):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x
