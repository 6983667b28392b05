"""Masked token: some tokens are hidden, and the model that sees both sides of them has to say what stood there.

Devlin et al. 2019, arXiv:1810.04805, section 3.1, task 1. Of the chosen positions 80 % hold the mask, 10 % a random
token and 10 % what was there, since no text in use holds a mask. What a reader would get wrong: how many positions of a
row are chosen follows from its length without padding, so that the count of losses is known before the forward pass;
which ones comes from torch's random numbers, as dropout's does.

    >>> objective = build({"vocabulary": 50, "mask": 2})
    >>> tokens = torch.randint(3, 50, (4, 20))
    >>> objective.count((tokens, tokens))
    12.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fathom.loop import Loss
from fathom.objectives.parts.balance import balanced
from fathom.objectives.parts.tokens import PAD, log_probabilities, token_loss

TASK = "language"
SOURCE = "Devlin et al. 2019, arXiv:1810.04805, section 3.1"
CUT_CHANGES = "which tokens are hidden is drawn anew"
MASKED, RANDOM = 0.8, 0.1  # of the chosen positions


def build(spec: Mapping[str, Any], *, share: float = 0.15, label_smoothing: float = 0.0) -> MaskedToken:
    """The objective for a spec with "vocabulary" and "mask", the id that hides. `share` of each row is hidden."""
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; it must be above 0 and below 1, such as 0.15.")
    return MaskedToken(int(spec["vocabulary"]), int(spec["mask"]), share, label_smoothing)


def outputs(spec: Mapping[str, Any]) -> int:
    """One logit for each token of the vocabulary."""
    return int(spec["vocabulary"])


def decode(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Logits [.., V] → log-probabilities [.., V] in float64, in nats."""
    return log_probabilities(raw)


class MaskedToken:
    """Batches are pairs whose first is tokens int64 [B, T]; the second is not looked at."""

    def __init__(self, vocabulary: int, mask: int, share: float, label_smoothing: float) -> None:
        self.vocabulary, self.mask, self.share, self.label_smoothing = vocabulary, mask, share, label_smoothing

    def count(self, batch: Any) -> float:
        return float(self._hidden_in(batch[0]).sum())

    def _hidden_in(self, tokens: Tensor) -> Tensor:
        """How many positions of each row are hidden: int64 [B]."""
        length = (tokens != PAD).sum(dim=1)
        return (self.share * length).round().long().clamp(min=1).minimum(length)

    def losses(self, model: nn.Module, batch: Any) -> Iterator[Loss]:
        tokens = batch[0]
        seen, chosen = self.hide(tokens)
        targets = torch.where(chosen, tokens, 0)
        total = token_loss(model, seen, targets, label_smoothing=self.label_smoothing)
        yield balanced(model, total, self.count(batch))

    def hide(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens as the model sees them, and which positions were chosen: int64 and bool [B, T]."""
        order = torch.rand_like(tokens, dtype=torch.float32).masked_fill(tokens == PAD, 2.0).argsort(dim=1)
        chosen = order.argsort(dim=1) < self._hidden_in(tokens).unsqueeze(1)
        fate = torch.rand_like(tokens, dtype=torch.float32)
        others = torch.randint_like(tokens, self.mask + 1, self.vocabulary)
        shown = torch.where(fate < MASKED, self.mask, torch.where(fate < MASKED + RANDOM, others, tokens))
        return torch.where(chosen, shown, tokens), chosen
