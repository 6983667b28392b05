"""F6: layers that behave differently in training and in use are in the wrong mode; exact.

What a reader would get wrong: a forward pass without gradients in training mode is not yet a mistake, as a generator
makes pictures that way for the other player. It is one where several come in a row, as when rows are judged, or where
whoever trains tells the watch that rows were judged. And steps
in evaluation mode begin after rows were judged, so the steps that follow are looked at, whichever else are.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fathom.doctor.finding import Finding

TIMES = 3  # steps in the wrong mode before it is told
IN_A_ROW = 2  # forward passes without gradients that are a judgement of rows
SHOWN = 4
SHARES = ("p", "dropout", "drop", "rate")  # usual names of the share that a layer drops


class Modes:
    """`frozen_norms` and `monte_carlo` say that batch norms are meant to stay, and dropout to work always."""

    def __init__(self, model: nn.Module, *, frozen_norms: bool, monte_carlo: bool) -> None:
        self.model, self.frozen_norms, self.monte_carlo = model, frozen_norms, monte_carlo
        self.parts: dict[str, nn.Module] = {name: part for name, part in model.named_modules() if _acts(part)}
        self.steps = 0
        self.in_a_row = 0
        self.working: list[str] = []  # parts in training mode in the last pass, where it was one without gradients
        # Backpropagations after rows were judged: how many are to be looked at, and in a row in the wrong mode.
        self.to_check = self.after_judging = 0
        self.told: set[str] = set()

    def forward(self, has_gradients: bool, step: int) -> Iterator[Finding]:
        self.in_a_row = 0 if has_gradients else self.in_a_row + 1
        if not has_gradients:
            self.to_check = TIMES
        working = [name for name, part in self.parts.items() if part.training and not self._is_meant(part, True)]
        self.working = [] if has_gradients else working
        if self.in_a_row >= IN_A_ROW and step > 0:
            yield from self.judged(step)

    def judged(self, step: int) -> Iterator[Finding]:
        """The passes without gradients since the last step were a judgement, by their number or as was told."""
        if self.in_a_row and self.working and "judged" not in self.told:
            working = self.working
            self.told.add("judged")
            passes = "A forward pass" if self.in_a_row == 1 else f"{self.in_a_row} forward passes in a row"
            yield Finding(
                "F6",
                seen=f"{passes} without gradients while {_named(working, self.parts)} were in training mode",
                cause="Nobody called model.eval(): the model is judged with noise, and norms learn from the rows.",
                remedy="Call model.eval() before judging and model.train() after it.",
                by="exact",
                step=step,
                evidence={"modules": working},
            )

    def before_backward(self) -> None:
        """Somebody trains: what comes before is no judgement of rows."""
        self.in_a_row = 0
        if self.to_check:
            self.to_check -= 1
            self.after_judging = self.after_judging + 1 if self._resting() else 0

    def before_step(self, step: int) -> Iterator[Finding]:
        resting = self._resting()
        self.steps = self.steps + 1 if resting else 0
        times = max(self.steps, self.after_judging if resting else 0)
        if times >= TIMES and "trained" not in self.told:
            self.told.add("trained")
            yield Finding(
                "F6",
                seen=f"{times} steps were made while {_named(resting, self.parts)} were in evaluation mode",
                cause="model.eval() was called and model.train() was not called again.",
                remedy="Call model.train() before training, each time after judging.",
                by="exact",
                step=step,
                evidence={"modules": resting},
            )

    def _resting(self) -> list[str]:
        return [name for name, part in self.parts.items() if not part.training and not self._is_meant(part, False)]

    def _is_meant(self, part: nn.Module, is_training: bool) -> bool:
        if not isinstance(part, _BatchNorm):
            return is_training and self.monte_carlo
        # A norm whose parameters are frozen is frozen as a whole, as is usual when a trained net is adapted.
        is_frozen = self.frozen_norms or not any(p.requires_grad for p in part.parameters())
        return not is_training and is_frozen and any(True for _ in part.parameters())


def _acts(part: nn.Module) -> bool:
    """Whether its mode changes what it does: its own forward pass asks for it, and nothing says that it drops none."""
    if isinstance(part, _BatchNorm):
        return part.track_running_stats
    code = getattr(type(part).forward, "__code__", None)
    if code is None or "training" not in code.co_names:
        return False
    shares = [share for name in SHARES if isinstance(share := getattr(part, name, None), int | float)]
    return not shares or any(shares)


def _named(names: list[str], parts: dict[str, nn.Module]) -> str:
    shown = ", ".join(f"{name or 'the model'} ({type(parts[name]).__name__})" for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
