"""What `watch(…, fix=True)` does about its findings: each is given to its remedy, told, and watched afterwards.

Done is what is exact, what was rehearsed on a copy and was better there, and going back where a training runs away.
All of it can be taken back, and is where the loss rises afterwards. What a reader would get wrong: without a finding
nothing is touched. What is kept to go back to costs at most four copies of the weights and the optimizer's state.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor, nn
from torch.optim import Optimizer

from fathom.doctor.finding import Finding
from fathom.doctor.pairing import Pairing
from fathom.doctor.parts.hooks import CannotCopyError, before_backward
from fathom.doctor.parts.trial import Trial, as_if_nothing_happened, some_batches
from fathom.doctor.remedies.applied import Applied, Declined, Training
from fathom.doctor.remedies.loss import mend_loss
from fathom.doctor.remedies.modes import set_modes
from fathom.doctor.remedies.rate import change_rate
from fathom.doctor.remedies.rates import Rates
from fathom.doctor.remedies.rollback import Rollback
from fathom.doctor.remedies.scales import normalise
from fathom.doctor.remedies.snapshot import Snapshot
from fathom.doctor.remedies.start import calm_head, learn_at_all, start_again
from fathom.doctor.remedies.wiring import can_join, reset_gradients, train_what_stays
from fathom.doctor.wiring import Wiring

REMEDIES: dict[str, Callable[[Training, Finding], Applied | Declined]] = {
    "F1": mend_loss,
    "F2": calm_head,
    "F3": normalise,
    "F4": train_what_stays,
    "F5": reset_gradients,
    "F6": set_modes,
    "F8": start_again,
    "F9": learn_at_all,
    "F10": change_rate,
    "T3": start_again,
    "T4": start_again,
    "T5": start_again,
}
BATCHES = 16  # for rehearsals
FROM_THE_BEGINNING = ("F1", "F5")  # what was learned with them is worth nothing, where it was a few steps
ANEW = ("T3", "T4", "T5")  # where weights are made anew later; losses before are those of others
EARLY = 8  # steps
FIRST, LAST = 8, 16  # losses compared afterwards: the first with the remedy,
AFTER = 64  # and the last of so many
RISE = 0.10  # of the first losses: so much higher is worse
SURE = 0.001


@dataclass
class Mended:
    """A remedy that was applied, and whether it still is."""

    id: str
    what: str
    step: int
    is_kept: bool = True
    applied: Applied | None = field(default=None, repr=False)
    before: Snapshot | None = field(default=None, repr=False)
    losses: list[float] = field(default_factory=list, repr=False)  # since then

    @property
    def is_worse(self) -> bool:
        """Whether the loss rose: far enough, and by more than chance."""
        first = float(np.mean(self.losses[:FIRST]))
        above = sum(not loss <= first + RISE * abs(first) for loss in self.losses[-LAST:])
        # Counted rather than averaged: of losses that run away the last is larger than all others together.
        return float(stats.binom.sf(above - 1, LAST, 0.5)) < SURE


class Mend:
    """The remedies of one watch."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        say: Callable[[str], None],
        data: Iterable[Any] | None = None,
        loss: Callable[[nn.Module, Any], Tensor] | None = None,
    ) -> None:
        batches = [] if data is None or loss is None else some_batches(data, BATCHES)
        trial = None if loss is None or not batches else Trial(model, optimizers, loss, batches)
        self.training = Training(model, optimizers, Rates(optimizers), trial)
        self.mended: list[Mended] = []
        self.normaliser: nn.Module | None = None
        self._say = say
        self._rollback: Rollback | None = None
        self._has_overfitted, self._is_in_order, self._best_loss = False, False, math.inf
        self._best: Snapshot | None = None
        self._end = before_backward(self._before_backward)

    def first_look(self, frozen: Sequence[str] = ()) -> Iterator[Finding]:
        """F4 and F1 of the first batch: before experiments are made with what they would spoil."""
        training, trial = self.training, self.training.trial
        if len(training.optimizers) == 1:
            for one in Wiring(training.model, training.optimizers, frozen).begin():
                if can_join(training, one):
                    yield one
        if trial is not None:
            with as_if_nothing_happened():
                first = trial.loss(copy.deepcopy(trial.model), trial.batches[0])
            yield from Pairing().before_backward(first, 0)

    def start(self) -> None:
        """The weights are as the training begins with them."""
        training = self.training
        self._rollback = Rollback(training.model, training.optimizers, training.rates, self._tell)

    @property
    def step(self) -> int:
        return 0 if self._rollback is None else self._rollback.step

    def found(self, finding: Finding) -> bool:
        """Do what can safely be done about it; what was done stands in its evidence too.

        Whether losses mean something else from here on comes back.
        """
        self._has_overfitted |= finding.id == "T6"
        self._is_in_order |= finding.id == "T7"
        if finding.id in ("T1", "T2"):
            if self._is_in_order and finding.evidence["kind"] != "not finite":
                self._say(f"{finding.id} not mended: rows that come in an order make losses rise and fall")
            elif self._rollback is not None:
                self._note(finding, self._rollback.ruined(finding))
            return False
        if finding.id not in REMEDIES:
            return False
        before = Snapshot(self.training.model, self.training.optimizers)
        try:
            done = REMEDIES[finding.id](self.training, finding)
        except CannotCopyError as error:
            done = Declined(str(error))
        if isinstance(done, Declined):
            self._say(f"{finding.id} not mended: {done.why}")
            return False
        self._note(finding, done.what, done, before if done.may_harm else None)
        self.normaliser = done.module or self.normaliser
        if done.weights is not None and self._rollback is None:
            done.weights.restore()
        elif done.weights is not None and self._rollback is not None:
            self._rollback.go_back_to(done.weights)
        begins = finding.id in FROM_THE_BEGINNING
        if begins and self._rollback is not None:
            self._rollback.begin_again(EARLY)
        return begins or finding.id in ANEW

    def _note(
        self, finding: Finding, what: str, applied: Applied | None = None, before: Snapshot | None = None
    ) -> None:
        finding.evidence["mended"] = what
        self._tell(finding.id, what, applied, before)

    def _tell(self, of: str, what: str, applied: Applied | None = None, before: Snapshot | None = None) -> None:
        self.mended.append(Mended(of, what, self.step, applied=applied, before=before))
        self._say(f"{of} mended: {what}")

    def _before_backward(self, loss: Tensor) -> None:
        # Before the beginning copies are trained, whose losses say nothing of what was mended.
        if loss.numel() > 1 or self._rollback is None:
            return
        value = float(loss.detach())
        self._rollback.before_backward(value)
        for one in reversed(self.mended):
            if one.before is None:
                continue
            one.losses.append(value)
            if len(one.losses) == AFTER:
                if one.is_worse:
                    self._take_back(one)
                one.before = None

    def _take_back(self, one: Mended) -> None:
        assert one.applied is not None and one.before is not None and self._rollback is not None
        one.applied.undo()
        one.is_kept = False
        self._rollback.go_back_to(one.before)
        self._say(f"{one.id} taken back, with the weights of step {one.step:,}: the loss rose after it was mended")

    def judged(self, loss: float) -> None:
        """Keep the weights that are judged best so far."""
        if loss < self._best_loss:
            self._best_loss, self._best = loss, Snapshot(self.training.model, [], self.step)

    def close(self) -> None:
        """Take off what holds only while it is watched; the normaliser, parameters added and the rate stay."""
        self._end()
        if self._rollback is not None:
            self._rollback.close()
        for one in self.mended:
            if one.applied is not None and one.is_kept and one.applied.while_watched:
                one.applied.undo()
        self.training.rates.close()
        if self._has_overfitted and self._best is not None:
            self._best.restore()
            self._tell(
                "T6", f"weights are those of step {self._best.step:,}, which were judged best ({self._best_loss:.4g})"
            )
        self._best = None
