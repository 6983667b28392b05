"""One sequence into another: cross-entropy of each token of the target, given the source and the target before it.

Sutskever et al. 2014, arXiv:1409.3215, section 2. What a reader would get wrong: in training the model sees the true
target so far (teacher forcing), in use its own; so a low loss is not yet a good translation, and BLEU is measured on
what the model writes by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fathom.objectives.parts.tokens import TokenLoss, log_probabilities

TASK = "translate"
SOURCE = (
    "Sutskever et al. 2014, arXiv:1409.3215, section 2; label smoothing: Vaswani et al. 2017, arXiv:1706.03762, 5.4"
)


def build(spec: Mapping[str, Any], *, label_smoothing: float = 0.0) -> TokenLoss:
    """The objective for a spec with "vocabulary".

    Batches: ({source: int64 [B, S], target so far: int64 [B, T]}, the target's tokens int64 [B, T], 0 where padded).
    """
    return TokenLoss(label_smoothing)


def outputs(spec: Mapping[str, Any]) -> int:
    """One logit for each token of the target's vocabulary."""
    return int(spec["vocabulary"])


def decode(raw: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Logits [.., V] → log-probabilities [.., V] in float64, in nats."""
    return log_probabilities(raw)
