"""F1: the loss and the last activation do not fit, read exactly from the graph of the loss.

Softmax before a cross-entropy, which takes its own (the loss then cannot fall below ln(1 + (K - 1) / e)); a sigmoid
before a loss with its own; probabilities where log-probabilities are asked for; targets that the last activation cannot
reach; outputs and targets of shapes that are silently repeated to fit each other. What a reader would get wrong:
log-softmax before a cross-entropy is harmless, since it changes nothing the second time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fathom.doctor.finding import Finding
from fathom.doctor.parts.graph import LossTerm, loss_terms

# What an activation can give: least, greatest.
RANGES = {"softmax": (0.0, 1.0), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf)}
ERRORS = ("squared_error", "smooth_l1", "huber")
TOLERANCE, HALF = 1e-3, 0.05  # of a sum of probabilities, in 32 and in 16 bits
OUTSIDE = 0.05  # the share of targets beyond the reach of an activation


class Pairing:
    """Looks at the loss of every step that is looked at; each kind of misfit is told once."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def before_backward(self, loss: Tensor, step: int) -> Iterator[Finding]:
        for term in loss_terms(loss):
            for kind, finding in _misfits(term, step):
                if kind not in self.told:
                    self.told.add(kind)
                    yield finding


def _misfits(term: LossTerm, step: int) -> Iterator[tuple[str, Finding]]:
    last = term.made_by[0] if term.made_by else ""
    if term.kind == "cross_entropy" and last in ("softmax", "sigmoid"):
        yield last, _twice(term, last, step)
    elif term.kind == "cross_entropy" and term.given is not None and _num_classes(term.given) == 1:
        yield "one class", _one_class(step)
    elif term.kind == "nll" and term.given is not None and not is_log_probability(term.given):
        yield "nll", _no_logarithm(term.given, last, step)
    elif term.kind == "binary_cross_entropy_with_logits" and last in ("softmax", "sigmoid"):
        yield f"logits {last}", _sigmoid_twice(last, step)
    elif term.kind in ERRORS:
        if term.is_expanded and term.given is not None:
            yield "shapes", _repeated(term.given, step)
        elif last in RANGES and term.target is not None and (share := _outside(term.target, *RANGES[last])) > OUTSIDE:
            yield f"range {last}", _unreachable(last, term.target, share, step)


def _num_classes(given: Tensor) -> int:
    return given.shape[1] if given.dim() > 1 else given.shape[0]


def is_log_probability(given: Tensor) -> bool:
    sums = given.double().exp().sum(dim=1 if given.dim() > 1 else 0)
    # Of numbers of 16 bits each probability is known to a hundredth.
    return bool(((sums - 1).abs() < (TOLERANCE if given.element_size() > 2 else HALF)).all())


def _outside(target: Tensor, low: float, high: float) -> float:
    values = target.double()
    return float(((values < low - TOLERANCE) | (values > high + TOLERANCE)).double().mean())


def _twice(term: LossTerm, last: str, step: int) -> Finding:
    classes = _num_classes(term.given) if term.given is not None else 2
    floor = math.log1p((classes - 1) / math.e)
    return Finding(
        "F1",
        seen=f"The cross-entropy gets what a {last} has made, and takes a softmax of it again",
        cause=f"The model ends with a {last}: with {classes} classes its loss cannot fall below {floor:.3f} that way.",
        remedy=f"Leave the {last} out while training; cross_entropy takes logits. Apply softmax to predictions only.",
        by="exact",
        step=step,
        evidence={"loss": term.kind, "made_by": list(term.made_by), "classes": classes, "floor": floor},
    )


def _one_class(step: int) -> Finding:
    return Finding(
        "F1",
        seen="The cross-entropy gets one output for each row, so that it is 0 whatever the model says",
        cause="A softmax over one class is always 1.",
        remedy="Give the model an output for each class, or use binary_cross_entropy_with_logits.",
        by="exact",
        step=step,
        evidence={"classes": 1},
    )


def _no_logarithm(given: Tensor, last: str, step: int) -> Finding:
    sums = given.double().sum(dim=1 if given.dim() > 1 else 0)
    are_probabilities = bool(((sums - 1).abs() < TOLERANCE).all())
    what = "probabilities" if are_probabilities else "numbers that are no log-probabilities"
    return Finding(
        "F1",
        seen=f"nll_loss gets {what}{f', made by {last}' if last else ''}",
        cause="nll_loss expects the output of log_softmax; of anything else it makes a loss without a lower bound.",
        remedy="Use cross_entropy with logits, or log_softmax before nll_loss.",
        by="exact",
        step=step,
        evidence={"made_by": last, "least": float(given.min()), "greatest": float(given.max())},
    )


def _sigmoid_twice(last: str, step: int) -> Finding:
    return Finding(
        "F1",
        seen=f"binary_cross_entropy_with_logits gets what a {last} has made, and takes a sigmoid of it again",
        cause=f"The model ends with a {last}: what it says lies between 0.5 and 0.73 for the loss, whatever it learns.",
        remedy=f"Leave the {last} out while training, or use binary_cross_entropy.",
        by="exact",
        step=step,
        evidence={"made_by": last},
    )


def _repeated(given: Tensor, step: int) -> Finding:
    return Finding(
        "F1",
        seen=f"Outputs and targets have different shapes and were repeated to {list(given.shape)} to fit each other",
        cause="Each output is compared with the targets of all rows, so the model learns their mean.",
        remedy="Bring both to one shape, for example outputs.squeeze(1).",
        by="exact",
        step=step,
        evidence={"shape": list(given.shape)},
    )


def _unreachable(last: str, target: Tensor, share: float, step: int) -> Finding:
    low, high = RANGES[last]
    span = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} and more"
    values = target.detach().to(torch.float64)
    return Finding(
        "F1",
        seen=f"{share:.0%} of the targets lie beyond what the last {last} can give ({span}; "
        f"they go from {float(values.min()):g} to {float(values.max()):g})",
        cause=f"The model ends with a {last}, which numbers of that size can never leave.",
        remedy=f"Leave the {last} out at the end, or scale the targets.",
        by="exact",
        step=step,
        evidence={"made_by": last, "share": share},
    )
