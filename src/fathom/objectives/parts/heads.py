"""How a network says how sure it is of a number: three quantiles, or a mean and a variance.

All numbers here are of the standardised target, and the first output is always the number itself. What a reader would
get wrong: these intervals are only as honest as the training; whoever shows them measures and widens them on rows that
trained nothing.

Shapes: B rows, K members; outputs [B, n] or [B, K, n].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Variances stay within exp(-10) and exp(10): no row can be given infinite weight, nor none.
LOG_VARIANCE_BOUND = 10.0


def pinball(errors: Tensor, level: float) -> Tensor:
    """The loss that is least at the quantile of that level; `errors` are targets less predictions.

    Koenker and Bassett 1978, Econometrica 46, eq. 3.2.
    """
    return torch.maximum(level * errors, (level - 1) * errors)


def levels_of(level: float) -> tuple[float, float, float]:
    """The quantiles of an interval: median, lower end, upper end."""
    return 0.5, (1 - level) / 2, (1 + level) / 2


def quantiles(raw: Tensor) -> Tensor:
    """Outputs [.., 3] → median, lower and upper end [.., 3]: the distances of the ends are positive, so none cross."""
    middle, below, above = raw.unbind(dim=-1)
    return torch.stack([middle, middle - F.softplus(below), middle + F.softplus(above)], dim=-1)


def quantile_loss(found: Tensor, targets: Tensor, level: float) -> Tensor:
    """Pinball losses of the three quantiles of each row, summed: [.., 3] and [..] → [..]."""
    errors = (targets[..., None] - found).unbind(dim=-1)
    losses = [pinball(error, one) for error, one in zip(errors, levels_of(level), strict=True)]
    return losses[0] + losses[1] + losses[2]


def mean_and_log_variance(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs [.., 2] → mean and logarithm of the variance [..], softly bounded."""
    mean, spread = raw.unbind(dim=-1)
    return mean, LOG_VARIANCE_BOUND * torch.tanh(spread / LOG_VARIANCE_BOUND)


def gaussian_loss(mean: Tensor, log_variance: Tensor, targets: Tensor, *, beta: float = 0.0) -> Tensor:
    """Negative log-likelihood of each row in nats, without its constant log(2π)/2: Nix and Weigend 1994, eq. 5.

    With `beta` each row is weighted by its own variance to that power, which carries no slope, so that rows that are
    hard to predict are not given up early: Seitzer et al. 2022, arXiv:2203.09168, eq. 5.
    """
    losses = 0.5 * (log_variance + (targets - mean) ** 2 * torch.exp(-log_variance))
    return losses * torch.exp(beta * log_variance.detach()) if beta else losses


def mixed(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [B] of the mixture of K Gaussians [B, K], each as likely as the other.

    Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4: where members disagree the mixture is wider.
    """
    middle = mean.mean(dim=1)
    variance = (log_variance.exp() + mean**2).mean(dim=1) - middle**2
    return middle, variance.clamp_min(math.exp(-LOG_VARIANCE_BOUND)).sqrt()


def deviations(level: float) -> float:
    """How many standard deviations on each side hold that share of a Gaussian: 1.645 for 90 %."""
    return math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
