"""F2: the first loss is far above that of somebody who knows only how often each class comes.

What a reader would get wrong: a head that was trained before, and classes that are weighted, have first losses of their
own; the graph of the loss says whether it is a plain cross-entropy, and only that is compared.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fathom.doctor.finding import Finding
from fathom.doctor.parts.chance import p_of_mean_above
from fathom.doctor.parts.graph import LossTerm, loss_terms
from fathom.doctor.parts.trial import Trial, as_if_nothing_happened

LEAST_ROWS = 128
FLOOR = 1.0  # nats above what knowing nothing costs


def find_first_loss(trial: Trial, level: float) -> Iterator[Finding]:
    terms = _terms(trial)
    plain = [term for term in terms if term.kind == "cross_entropy" and _is_plain(term)]
    if len(plain) < len(trial.batches) or not plain:
        return
    told = [_told(term) for term in plain]
    targets, losses = (torch.cat(parts).cpu().numpy() for parts in zip(*told, strict=True))
    if len(losses) < LEAST_ROWS:
        return
    counts = np.bincount(targets)
    shares = counts[counts > 0] / counts.sum()
    knowing_nothing = float(-(shares * np.log(shares)).sum())
    classes = plain[0].given.shape[1] if plain[0].given is not None else len(counts)
    limit = max(knowing_nothing, math.log(classes)) + FLOOR
    if p_of_mean_above(losses, limit) > level:
        return
    yield Finding(
        "F2",
        seen=f"The first loss is {losses.mean():.2f} nats; knowing only how often each class comes costs "
        f"{knowing_nothing:.2f}",
        cause="The last layer starts with large outputs: the model is sure before it has seen anything.",
        remedy="Start the last layer near zero, its bias at the logarithm of the classes' shares.",
        by="test",
        symptom_of=("F3", "F8"),
        confidence=1 - level,
        evidence={
            "first_loss": float(losses.mean()),
            "knowing_nothing": knowing_nothing,
            "rows": len(losses),
            "shares": (np.bincount(targets, minlength=classes) / len(targets)).tolist(),
        },
    )


def _terms(trial: Trial) -> list[LossTerm]:
    found: list[LossTerm] = []
    with as_if_nothing_happened():
        model = copy.deepcopy(trial.model)
        for batch in trial.batches:
            terms = loss_terms(trial.loss(model, batch))
            if len(terms) != 1:
                return []
            found += terms
    return found


def _is_plain(term: LossTerm) -> bool:
    given, target = term.given, term.target
    if given is None or given.dim() != 2 or target is None or target.is_floating_point():
        return False
    return term.weight is None or bool((term.weight == term.weight[0]).all())


def _told(term: LossTerm) -> tuple[Tensor, Tensor]:
    """The classes of the rows that have one, and what each of these costs."""
    assert term.given is not None and term.target is not None
    kept = (term.target != term.ignored) & (term.target >= 0) & (term.target < term.given.shape[1])
    targets = term.target[kept].long()
    return targets, -term.given[kept].gather(1, targets[:, None])[:, 0].double()
