"""T1 and T2: a step that would ruin the weights is left out; weights that are ruined are those of before again.

Weights, buffers and the optimizer's state are kept at the beginning and every so many steps while the loss is sound.
After a ruin they come back, at half the rate (a tenth, when it comes again), gradients clipped at the 90th
percentile of their norms so far. What a reader would get wrong: a row that is not a number ruins no weights if its step
is left out, so nothing goes back then.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from fathom.doctor.finding import Finding
from fathom.doctor.remedies.rates import Rates
from fathom.doctor.remedies.snapshot import Snapshot

EVERY = 50  # steps between snapshots
KEPT = 2  # beside that of the beginning
IN_A_ROW = 3  # steps left out one after another: no matter of single rows
SOUND = 1.5  # times the median of the losses before: above it weights are not kept
FEW = 8  # norms or losses of which no percentile is taken
AGAIN, FAR = 10, 3.0  # losses since, whose median is that many times that of the weights that went back
MOST = 12  # times that weights go back in a training
PERCENTILE = 90


class Rollback:
    """Stands before each step of each optimizer. `say(text)` tells what is done."""

    def __init__(
        self, model: nn.Module, optimizers: Sequence[Optimizer], rates: Rates, say: Callable[[str, str], None]
    ) -> None:
        self.model, self.optimizers, self.rates, self.say = model, list(optimizers), rates, say
        self.begin = Snapshot(model, optimizers)
        self.recent = deque[tuple[Snapshot, float]](maxlen=KEPT)  # with the loss of then
        self.buffers = [value for value in model.buffers() if value.is_floating_point()]
        self.sound = [value.detach().clone() for value in self.buffers]  # as the last step left them
        self.first = math.nan  # loss
        self.usual = math.nan  # loss of the weights that went back last
        self.ruin = math.nan  # and that of those that were left for them
        self.norms: deque[tuple[int, float]] = deque(maxlen=512)  # step, norm
        self.losses: deque[float] = deque(maxlen=64)
        self.limit: float | None = None  # of the gradient's norm
        self.step = self.times = self.in_a_row = 0
        self._awaited: Snapshot | None = None
        self.leaves_out = False  # the gradients that are there belong to weights that are gone

        # Functions of their own, not methods: a copy of the optimizer does not copy this.
        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self._before_step(optimizer)

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self._after_step()

        self._ends = [one.register_step_pre_hook(before).remove for one in self.optimizers]
        self._ends.append(self.optimizers[-1].register_step_post_hook(after).remove)

    def close(self) -> None:
        for end in self._ends:
            end()
        self._ends = []

    def before_backward(self, loss: float) -> None:
        if math.isfinite(loss):
            self.first = loss if math.isnan(self.first) else self.first
            self.losses.append(loss)

    def ruined(self, finding: Finding) -> str:
        """What is done about T1 or T2; weights are not touched where leaving out the step is enough."""
        if finding.id == "T2":
            self.limit = self._usual_norm(self.step) or self.limit
            return (
                "nothing: too few steps so far" if self.limit is None else f"gradients are clipped at {self.limit:.3g}"
            )
        if finding.evidence.get("blame", "rate") != "rate" and self._is_finite():
            return "this step is left out, and so are later ones like it"
        return self._go_back()

    def begin_again(self, early: int) -> None:
        """Weights of the beginning, where not more than so many steps were made since; losses so far meant another."""
        self.losses.clear()
        self.first = math.nan
        if self.step <= early:
            self.go_back_to(self.begin)

    def go_back_to(self, kept: Snapshot) -> None:
        """At the next step, in its place: before, its gradients may still need the weights that are there."""
        self.leaves_out, self._awaited = True, kept

    def _is_finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.model.parameters())

    def _before_step(self, optimizer: Optimizer) -> None:
        if self._awaited is not None:
            self._awaited.restore()
            self._awaited = None
        moved = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not moved:
            return
        norm = nn.utils.get_total_norm([p.grad for p in moved if p.grad is not None])
        is_finite = math.isfinite(float(norm))
        if self.leaves_out or not is_finite:
            for p in moved:
                p.grad = None  # an optimizer passes over parameters without one
            self._restore_ruined_buffers()
            self.in_a_row += not is_finite
            if self.times < MOST and (self.in_a_row >= IN_A_ROW or not self._is_finite()):
                self.say("T1", self._go_back())
                self._before_step(optimizer)
            return
        self.in_a_row = 0
        self.norms.append((self.step, float(norm)))
        if self.limit is not None:
            nn.utils.clip_grads_with_norm_(moved, self.limit, norm)

    @torch.no_grad()
    def _restore_ruined_buffers(self) -> None:
        """Buffers that are not finite, such as a norm's means after a row that is not, as they were."""
        for value, sound in zip(self.buffers, self.sound, strict=True):
            if not bool(torch.isfinite(value).all()):
                value.copy_(sound)

    def _after_step(self) -> None:
        if not self.leaves_out and not self.in_a_row and self.buffers:
            torch._foreach_copy_(self.sound, [value.detach() for value in self.buffers])
        self.leaves_out = False
        self.step += 1
        if self.step % EVERY == 0 and self._is_sound():
            self.recent.append((Snapshot(self.model, self.optimizers, self.step), float(np.median(self.losses))))
        if self.times and self.step % AGAIN == 0 and self._runs_away_again():
            self.say("T1", self._go_back())

    def _runs_away_again(self) -> bool:
        """Whether the last losses are far above that of the weights that went back."""
        latest = float(np.median(list(self.losses)[-AGAIN:])) if self.losses else math.nan
        least = max(self.usual + (FAR - 1) * abs(self.usual), (self.usual + self.ruin) / 2)
        return self.times < MOST and latest > least

    def _is_sound(self) -> bool:
        if len(self.losses) < FEW or self.in_a_row:
            return False
        latest, before = np.array(self.losses)[-FEW // 2 :], np.median(self.losses)
        return bool(np.median(latest) <= before + (SOUND - 1) * abs(before))

    def _go_back(self) -> str:
        """Each time to weights from longer ago, if it comes again soon."""
        self.in_a_row = 0
        if self.times >= MOST:
            return f"nothing more: weights went back {MOST} times and were ruined again"
        self.times += 1
        kept, self.usual = self.recent.pop() if self.recent else (self.begin, self.first)
        self.ruin = float(np.median(list(self.losses)[-AGAIN // 2 :])) if self.losses else math.nan
        self.losses.clear()
        self.go_back_to(kept)
        self.rates.times(0.5 if self.times == 1 else 0.1)
        self.limit = self._usual_norm(kept.step) or self.limit or self._middle_norm()
        clipped = "" if self.limit is None else f", gradients are clipped at a norm of {self.limit:.3g}"
        rate = f"the rate is {self.rates.factor:g} times what is set"
        return f"weights are those of step {kept.step:,} again, {rate}{clipped}"

    def _usual_norm(self, until: int) -> float | None:
        """The percentile of the norms until that step; none of a few."""
        sound = [norm for step, norm in self.norms if step <= until]
        return float(np.percentile(sound, PERCENTILE)) if len(sound) >= FEW else None

    def _middle_norm(self) -> float | None:
        """Where all norms may be unsound: half of them stay as they are."""
        return float(np.median([norm for _, norm in self.norms])) if len(self.norms) >= FEW else None
