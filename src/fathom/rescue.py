"""Going back in a training of our own: where it runs away, its weights are those of before again, at a lower rate.

A training is cut into stretches of fifty steps, or a twentieth of a short one. Where the losses of one rise far above
the first, or many of its steps were refused, validation rows say whether the weights are worse than those that the
stretch began with; if so, weights, optimizer and average go back to these, and the rate is halved, then divided by
four, eight, … while it happens again. What a reader would get wrong: steps that were taken back count as done, so the
schedule and the plan are what they were.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fathom.compute import random_states, set_random_states

if TYPE_CHECKING:
    from fathom.loop import Step
    from fathom.training import Trainer

LEAST, MOST_STEPS, PARTS = 8, 50, 20  # steps of a stretch, and into how many a short training is cut
RISE = 2.0  # times the first loss: more is looked into
WORSE = 1.5  # times the validation loss of before: more is worse
REFUSED = 0.2  # the share of refused steps that is too many
MOST = 12  # times in a training


class Kept(NamedTuple):
    """A training at the beginning of a stretch."""

    step: int
    of_step: int  # an earlier one where the stretch before was taken back
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    average_steps: int
    optimizer: dict[str, Tensor]


class Rescue:
    """Beside one trainer. What it did stands in `progress.mended`: [step, factor on the rate from there on]."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.kept = self._keep(trainer.progress.step)
        self.losses: list[Tensor] = []
        self.refused: list[Tensor] = []
        self.length = min(max(trainer.pace.first_total // PARTS, LEAST), MOST_STEPS)

    @property
    def factor(self) -> float:
        """On the learning rate."""
        mended = self.trainer.progress.mended
        return mended[-1][1] if mended else 1.0

    @property
    def _divisor(self) -> float:
        """Of the rate: 2, or twice the one before where the stretch before went back too."""
        mended = self.trainer.progress.mended
        if not mended or mended[-1][0] != self.kept.step:
            return 2.0
        return 2 * (mended[-2][1] if len(mended) > 1 else 1.0) / mended[-1][1]

    def after_step(self, step: Step) -> None:
        trainer = self.trainer
        if trainer.progress.first_loss is None and step.index == 1:
            trainer.progress.first_loss = float(step.loss)
        self.losses.append(step.loss)
        self.refused.append(step.refused)
        if len(self.losses) < self.length and step.index < trainer.pace.total:
            return
        if trainer.replay_mended is None:
            if why := self._why():
                self._go_back(step.index, self.factor / self._divisor, why)
        else:
            for at, factor in trainer.replay_mended:
                if at == step.index:
                    self._go_back(step.index, factor, "as in the run that is repeated")
        self.losses, self.refused = [], []
        went_back = bool(trainer.progress.mended) and trainer.progress.mended[-1][0] == step.index
        self.kept = self._keep(self.kept.of_step if went_back else step.index)

    def state(self) -> dict[str, Tensor]:
        """What a stretch under way has to be taken up with; nothing between two."""
        if not self.losses:
            return {}
        kept = self.kept
        groups = {"weights": kept.weights, "average": kept.average, "optimizer": kept.optimizer}
        tensors = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        at = torch.tensor([kept.step, kept.of_step, kept.average_steps])
        return tensors | {"at": at, "losses": torch.stack(self.losses), "refused": torch.stack(self.refused)}

    def take_up(self, state: dict[str, Tensor]) -> None:
        """Go on in the middle of a stretch; `state` may be empty."""
        if not state:
            return
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "average": {}, "optimizer": {}}
        for key, value in state.items():
            group, slash, name = key.partition("/")
            if slash:
                groups[group][name] = value
        step, of_step, average_steps = (int(value) for value in state["at"])
        self.kept = Kept(step, of_step, groups["weights"], groups["average"], average_steps, groups["optimizer"])
        self.losses = list(state["losses"].to(self.trainer.device))
        self.refused = list(state["refused"].to(self.trainer.device))

    def _why(self) -> str:
        """Why the stretch is to be taken back; nothing where it is not."""
        progress = self.trainer.progress
        if len(progress.mended) >= MOST:
            return ""
        refused = int(torch.stack(self.refused).sum())
        if refused > REFUSED * len(self.refused):
            return f"{refused} of {len(self.refused)} steps were refused"
        losses, first = torch.stack(self.losses).double(), progress.first_loss
        late = float(losses[len(losses) // 2 :].nanmedian())
        if first is None or (late <= first + (RISE - 1) * abs(first) and math.isfinite(late)):
            return ""
        now, before = self._judged()
        is_worse = not math.isfinite(now) or now > before + (WORSE - 1) * abs(before)
        said = f"the loss rose from {first:.4g} to {late:.4g}, on validation rows from {before:.4g} to {now:.4g}"
        return said if is_worse else ""

    def _judged(self) -> tuple[float, float]:
        """The validation loss of the weights as they are, and as the stretch began with them."""
        trainer, random = self.trainer, random_states()
        model, now = trainer.model, _copied(trainer.model.state_dict())
        was_training = model.training
        model.eval()
        losses = []
        for state in (now, self.kept.weights):
            model.load_state_dict(state)
            losses.append(trainer.validate(model)[0])
        model.load_state_dict(now)
        model.train(was_training)
        set_random_states(random)
        return losses[0], losses[1]

    def _go_back(self, step: int, factor: float, why: str) -> None:
        trainer = self.trainer
        self._restore(self.kept)
        trainer.progress.mended.append([float(step), factor])
        if trainer.on_mend is not None:
            trainer.on_mend(
                f"step {step:,}: {why}. Weights are those of step {self.kept.of_step:,} again, the learning rate is "
                f"{factor:.3g} times the planned one"
            )

    def _keep(self, of_step: int) -> Kept:
        trainer = self.trainer
        average = trainer.average
        return Kept(
            trainer.progress.step,
            of_step,
            _copied(trainer.model.state_dict()),
            {} if average is None else _copied(average.model.state_dict()),
            0 if average is None else average.steps,
            _copied(trainer.optimizer_tensors()),
        )

    def _restore(self, kept: Kept) -> None:
        trainer = self.trainer
        trainer.model.load_state_dict(kept.weights)
        if trainer.average is not None:
            trainer.average.model.load_state_dict(kept.average)
            trainer.average.steps = kept.average_steps
        trainer.load_optimizer_tensors(_copied(kept.optimizer))


def _copied(state: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
