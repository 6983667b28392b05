"""F1: the loss is computed as it was meant, while somebody else's loop goes on calling it as before.

A mode of torch sees every call of a loss function, and gives it what it expects: the logits that a softmax or sigmoid
was made of, kept when that was called, else the logarithm of the probabilities. What a reader would get wrong: the
model is not changed; it goes on giving probabilities, which is what its user wants of it after training.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from fathom.doctor.finding import Finding
from fathom.doctor.pairing import is_log_probability
from fathom.doctor.parts.graph import made_by
from fathom.doctor.remedies.applied import Applied, Declined, Training
from fathom.doctor.remedies.mode import Mode

ACTIVATIONS = ("softmax", "sigmoid", "tanh", "relu")
ERRORS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
SUM = 1e-3  # tolerance of a sum of probabilities
KEPT = 2  # activations of one step


def mend_loss(training: Training, finding: Finding) -> Applied | Declined:
    told = finding.evidence
    if "floor" in told:
        kind, what = "cross_entropy", f"cross_entropy gets the logits, without the {told['made_by'][0]}"
    elif "least" in told:
        kind, what = "nll_loss", "nll_loss gets log-probabilities"
    elif "shape" in told:
        kind, what = "shapes", "outputs are brought to the shape of the targets before the loss"
    elif "share" in told:
        if _ends_with(training, told["made_by"]):
            return Declined(f"the model itself ends with {told['made_by']}: take it out, in use as in training")
        kind, what = "range", f"the loss gets what entered the {told['made_by']}"
    elif "classes" in told:
        return Declined("the model needs an output for each class")
    else:
        kind, what = "binary_cross_entropy_with_logits", f"it gets the logits, without the {told['made_by']}"
    mode = RightLoss(kind)
    mode.begin()
    return Applied(f"from here on {what}, while this training is watched", mode.end, may_harm=False, while_watched=True)


def _ends_with(training: Training, activation: str) -> bool:
    """Whether the activation is the model's own last module. One that stands in its code is not seen."""
    last = [part for part in training.model.modules() if not any(True for _ in part.children())][-1:]
    return bool(last) and type(last[0]).__name__.lower() == activation


class RightLoss(Mode):
    """One kind of misfit, corrected wherever it comes: in training and in judging."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.made: deque[tuple[Tensor, Tensor]] = deque(maxlen=KEPT)  # of the last activations: result, input

    def end(self) -> None:
        super().end()
        self.made.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "backward":
            self.made.clear()  # what was made for this step is not needed any more
        if name in ACTIVATIONS:
            made = func(*args, **kwargs)
            given = args[0] if args else kwargs.get("input")
            if isinstance(made, Tensor) and isinstance(given, Tensor) and made is not given:
                self.made.append((made, given))
            return made
        if name == self.kind or (name in ERRORS and self.kind in ("shapes", "range")):
            given = args[0] if args else kwargs.pop("input")
            target = args[1] if len(args) > 1 else kwargs.pop("target")
            return func(self._meant(given, target), target, *args[2:], **kwargs)
        return func(*args, **kwargs)

    def _meant(self, given: Tensor, target: Tensor) -> Tensor:
        """What the loss function was to be given."""
        if self.kind == "shapes":
            is_same = [n for n in given.shape if n != 1] == [n for n in target.shape if n != 1]
            return given.reshape(target.shape) if is_same else given
        before = self._before_activation(given)
        last = made_by(given)[:1]
        if self.kind == "range":
            return given if before is None else before
        if self.kind == "binary_cross_entropy_with_logits":
            if before is not None and last != ("softmax",):
                return before
            return _logit(given) if last in (("sigmoid",), ("softmax",)) else given
        if self.kind == "nll_loss":
            if is_log_probability(given.detach()):
                return given
            if before is None:
                return _logarithm(given) if _are_probabilities(given) else given.log_softmax(_axis(given))
            return before.log_softmax(_axis(given))
        if before is not None:
            return before
        if last == ("sigmoid",):
            return _logit(given)
        return _logarithm(given) if last == ("softmax",) or (not last and _are_probabilities(given)) else given

    def _before_activation(self, given: Tensor) -> Tensor | None:
        """What entered the activation that made it, or of which it is a view with all numbers in their order."""
        for made, entered in reversed(self.made):
            if given is made:
                return entered
            is_view = given.data_ptr() == made.data_ptr() and given.numel() == made.numel()
            if is_view and given.is_contiguous() and made.is_contiguous():
                return entered.reshape(given.shape)
        return None


def _axis(given: Tensor) -> int:
    return 1 if given.dim() > 1 else 0


def _are_probabilities(given: Tensor) -> bool:
    values = given.detach().double()
    return bool((values >= 0).all()) and bool(((values.sum(dim=_axis(given)) - 1).abs() < SUM).all())


def _logarithm(p: Tensor) -> Tensor:
    p = p.float() if p.element_size() < 4 else p
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def _logit(p: Tensor) -> Tensor:
    p = p.float() if p.element_size() < 4 else p
    return p.logit(eps=torch.finfo(p.dtype).eps)
