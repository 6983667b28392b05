"""The cross-entropy of classes in all its forms: targets as indices or probabilities, smoothed, weighted, focal.

One formula covers them: the sum over classes of v (1 - p)^focal (-log p), where v is the target: each class's share
times its weight, smoothed over all classes. It is linear in the target, so a row of two mixed classes costs what the
two rows would, and a class of weight 3 costs what three copies of its rows would, smoothing and all.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Where a class is certain, (1 - p)^focal has no slope for focal below 1.
LEAST_DOUBT = 1e-6


def as_probabilities(targets: Tensor, num_classes: int) -> Tensor:
    """Class indices int64 [B] → float32 [B, C]; probabilities [B, C] as they are.

    >>> as_probabilities(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    return F.one_hot(targets, num_classes).float() if targets.dim() == 1 else targets


def class_loss(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, weights: Tensor | None = None, focal: float = 0.0
) -> Tensor:
    """Sum over rows of the loss in nats, averaged over members: logits [B, C] or [B, K, C], targets [B] or [B, C]."""
    members = logits.shape[1] if logits.dim() == 3 else 1
    rows = logits.flatten(0, 1) if logits.dim() == 3 else logits
    wanted = targets.repeat_interleave(members, dim=0) if members > 1 else targets
    if weights is None and not focal:
        # The plain case in torch's own fused form.
        total = F.cross_entropy(rows, wanted, reduction="sum", label_smoothing=label_smoothing)
        return total / members if members > 1 else total
    target = as_probabilities(wanted, logits.shape[-1])
    if weights is not None:
        target = target * weights
    if label_smoothing:
        spread = target.mean(dim=-1, keepdim=True)
        target = (1 - label_smoothing) * target + label_smoothing * spread
    log_p = torch.log_softmax(rows.float(), dim=-1)
    if focal:
        target = target * (-torch.expm1(log_p)).clamp_min(LEAST_DOUBT) ** focal
    return -(target * log_p).sum() / members


def class_probabilities(raw: Tensor) -> Tensor:
    """Logits [B, C] or [B, K, C] → probabilities [B, C] in float64: the mean of the members' probabilities."""
    probabilities = torch.softmax(raw.double(), dim=-1)
    return probabilities.mean(dim=1) if probabilities.dim() == 3 else probabilities
