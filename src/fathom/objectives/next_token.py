"""Next token: cross-entropy between the logits at each position and the token that comes after it.

Bengio et al. 2003, JMLR 3, equation 1. What a reader would get wrong: a loss is of a token, not of a row, so that a
batch of long rows counts for more than one of short rows, and the mean is in nats a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fathom.objectives.parts.tokens import TokenLoss, log_probabilities

TASK = "language"
SOURCE = "Bengio et al. 2003, JMLR 3, equation 1"


def build(spec: Mapping[str, Any], *, label_smoothing: float = 0.0) -> TokenLoss:
    """The objective for a spec with "vocabulary". Batches: (tokens int64 [B, T], the tokens after each [B, T])."""
    return TokenLoss(label_smoothing)


def outputs(spec: Mapping[str, Any]) -> int:
    """One logit for each token of the vocabulary."""
    return int(spec["vocabulary"])


def decode(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Logits [.., V] → log-probabilities [.., V] in float64, in nats."""
    return log_probabilities(raw)
