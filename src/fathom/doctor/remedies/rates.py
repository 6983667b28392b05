"""A factor on learning rates that holds within each optimizer step, whatever schedule sets the rates between them.

What a reader would get wrong: between steps the groups show the rates of the schedule. At the end the factor is written
into them for good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer


class Rates:
    """Nothing is touched while the factor is 1."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        self.factor = 1.0
        self.steps = 0  # of all optimizers
        self._ends: list[Callable[[], None]] = []
        self._own: dict[int, list[Any]] = {}  # rates of the groups outside of a step

        # Put on now: during a step, when a remedy is found, an optimizer takes no more hooks.
        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self._put_back(optimizer)
            if self.factor != 1:
                self._own[id(optimizer)] = [group["lr"] for group in optimizer.param_groups]
                for group in optimizer.param_groups:
                    group["lr"] = group["lr"] * self.factor

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self._put_back(optimizer)
            self.steps += 1

        for optimizer in self.optimizers:
            self._ends.append(optimizer.register_step_pre_hook(before).remove)
            self._ends.append(optimizer.register_step_post_hook(after).remove)

    def times(self, factor: float) -> None:
        """Multiply the factor, from the next step on."""
        self.factor *= factor

    def _put_back(self, optimizer: Optimizer) -> None:
        for group, rate in zip(optimizer.param_groups, self._own.pop(id(optimizer), []), strict=False):
            group["lr"] = rate

    def close(self) -> None:
        """Write the factor into the groups, for whoever trains on."""
        for end in self._ends:
            end()
        self._ends = []
        for optimizer in self.optimizers:
            self._put_back(optimizer)
            for group in optimizer.param_groups:
                for name in ("lr", "initial_lr"):
                    if self.factor != 1 and name in group:
                        group[name] = group[name] * self.factor
        self.factor = 1.0
