"""A mixture of experts in the place of a perceptron: each position is read by the few experts that a router chooses.

Mixtral: Jiang et al. 2024, arXiv:2401.04088, section 2.1, a softmax over all experts whose largest shares are kept and
divided by their sum. Left to itself the router soon feeds a few experts only. The loss against that is of the Switch
Transformer, Fedus et al. 2021, arXiv:2101.03961, eq. 4 to 6. What a reader would get wrong: nothing adds that loss by
itself. In training each mixture keeps its own until it is asked for, and an objective adds them up:

    total = total + count * sum(part.auxiliary_loss() for part in model.modules() if hasattr(part, "auxiliary_loss"))

(times the count, since an objective gives sums and the loop divides). Departures: with several experts for a position
each choice counts, so an even load costs `balance` times their number; published code for Mixtral takes one loss over
the positions of all layers together, here as in the Switch paper each layer has its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.gated import GatedPerceptron


class MixtureOfExperts(nn.Module):
    """[B, T, width] → [B, T, width]: the weighted sum of `used` of the `experts`, chosen anew for each position.

    `balance` is the weight of the loss that keeps their loads even (the paper's alpha). The shares of those chosen are
    `divided` by their sum, or weigh as they are.

    >>> mixture = MixtureOfExperts(8, 20, experts=4, used=2).train()
    >>> mixture(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    >>> mixture.auxiliary_loss().shape
    torch.Size([])
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        experts: int,
        used: int,
        balance: float = 0.01,
        divided: bool = True,
        activation_name: str = "silu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= used <= experts:
            raise UserError(f"model.experts_used={used}: expected from 1 to model.experts={experts}.")
        self.used = used
        self.balance = balance
        self.divided = divided
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            GatedPerceptron(width, hidden, activation_name=activation_name, bias=bias) for _ in range(experts)
        )
        self._uneven: Tensor | None = None

    def forward(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        rows = x.flatten(0, -2)
        shares = self.router(rows).float().softmax(dim=-1)
        best, chosen = shares.topk(self.used, dim=-1)
        weights = (best / best.sum(dim=-1, keepdim=True) if self.divided else best).to(x.dtype)
        if self.training:
            self._uneven = unevenness(shares, chosen, None if inside is None else inside.flatten())
        mixed = torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            row, place = torch.where(chosen == number)
            answers = expert(rows[row]).to(x.dtype)  # under autocast they are narrower
            mixed = mixed.index_add(0, row, answers * weights[row, place, None])
        return mixed.unflatten(0, x.shape[:-1])

    def auxiliary_loss(self) -> Tensor:
        """What the last forward pass in training costs for its uneven load. To be asked once: it is then forgotten."""
        uneven, self._uneven = self._uneven, None
        return self.router.weight.new_zeros(()) if uneven is None else self.balance * uneven

    def __getstate__(self) -> dict[str, Any]:
        """A copy starts without the loss: it hangs on the graph of the pass that made it, which cannot be copied."""
        return {**self.__dict__, "_uneven": None}


def unevenness(shares: Tensor, chosen: Tensor, inside: Tensor | None = None) -> Tensor:
    """experts · Σ (fraction of positions sent to expert i) · (mean share of expert i), over real positions.

    `shares` [N, experts] are the router's, `chosen` [N, used] the experts taken. Least where all are alike: `used`.
    The fractions are counts and carry no gradient; the shares do.
    """
    experts = shares.shape[1]
    sent = F.one_hot(chosen, experts).sum(dim=1).to(shares.dtype)
    counted = torch.ones_like(shares[:, 0]) if inside is None else inside.to(shares.dtype)
    mean = counted / counted.sum().clamp(min=1)  # of padding alone the loss is 0
    return experts * ((mean @ sent) * (mean @ shares)).sum()
