"""T3: the layers near the input hardly learn: what comes back to them is a ten-thousandth of what the last ones get.

Of each layer the size of its gradient times the size of its weights is taken: what the loss changes by when the
weights change by one part, so that layers of all sizes, and all optimizers, compare. What a reader would get wrong:
Adam makes steps of like size of gradients of any size; that such a layer moves does not say that it learns. And small
gradients of a net that has learned are no fault: told is only where the loss is still near that of the untrained
model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from fathom.doctor.finding import Finding
from fathom.doctor.parts.family import Family, Moment, sampled

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
LEAST_LAYERS = 4
RELATIVE = 1e-4  # of the layer that gets most
CHECKS = 3  # in a row
FROM = 16  # steps: until then branches that start at zero may have no gradient
LEARNT = 0.2  # of the untrained loss: a net that has learned so much is left in peace


class Vanishing(Family):
    def __init__(self, model: nn.Module) -> None:
        self.layers = [
            (f"{name}.weight".lstrip("."), part.weight)
            for name, part in model.named_modules()
            if isinstance(part, LAYERS) and part.weight.requires_grad
        ]
        self.before: list[Tensor] = []
        self.names: list[str] = []
        self.seen: list[dict[str, float]] = []  # root mean squares
        self.checks = 0
        self.is_told = len(self.layers) < LEAST_LAYERS

    def before_step(self, moment: Moment) -> Iterable[Finding]:
        if self.is_told or moment.step < FROM:
            return ()
        self.names, self.seen, self.before = [], [], []
        for name, p in self.layers:
            if p.grad is not None:
                weight = sampled(p).clone()
                self.before.append(weight)
                self.names.append(name)
                self.seen.append({"weight": _size(weight), "gradient": _size(sampled(p.grad))})
        first = self._hardly_learning([p.numel() for _, p in self.layers if p.grad is not None])
        self.checks = self.checks + 1 if first and moment.history.progress < LEARNT else 0
        return ()

    def after_step(self, moment: Moment) -> Iterator[Finding]:
        if self.is_told or self.checks < CHECKS:
            return
        self.is_told = True
        moved = [p for _, p in self.layers if p.grad is not None]
        for one, p, before in zip(self.seen, moved, self.before, strict=False):
            one["update"] = _size(sampled(p) - before)
        first = self._hardly_learning([p.numel() for p in moved])
        gradients = [one["gradient"] for one in self.seen]
        most = int(np.argmax(gradients))
        yield Finding(
            "T3",
            seen=f"At {self.checks} looks the first {first} of {len(self.seen)} layers got less than a "
            f"ten-thousandth of what another gets back: the gradient of '{self.names[0]}' is {gradients[0]:.2g}, "
            f"that of '{self.names[most]}' {gradients[most]:.2g}",
            cause="On the way back through the layers the gradient shrinks, as it does through sigmoids and tanh.",
            remedy="Use ReLU or GELU, start the weights by He's rule, and put norms or residual connections between "
            "layers.",
            by="test",
            confidence=0.99,
            step=moment.step,
            symptom_of=("F1", "F3", "F8", "T4"),
            evidence={
                "layers": [{"name": name} | one for name, one in zip(self.names, self.seen, strict=True)],
                "first": first,
                "learnt": moment.history.progress,
            },
        )

    def _hardly_learning(self, sizes: list[int]) -> int:
        """How many layers, from the input on without a gap, get next to nothing back."""
        if len(sizes) < LEAST_LAYERS:
            return 0
        felt = np.array([one["weight"] * one["gradient"] for one in self.seen]) * np.array(sizes)
        if not np.isfinite(felt).all() or not felt.any():
            return 0
        small = felt < RELATIVE * felt.max()
        first = int(np.argmin(small)) if not small.all() else 0
        # A gap, as a branch that starts at zero makes, is nothing that shrinks on the way.
        return first if small.sum() == first else 0


def _size(values: Tensor) -> float:
    """The root of the mean square."""
    return float(torch.linalg.vector_norm(values, dtype=torch.float32)) / max(len(values), 1) ** 0.5
