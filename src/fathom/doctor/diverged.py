"""T1: the loss runs away: most of the last ten losses stand far above those before, and above the untrained model's.

What a reader would get wrong: one high loss is no divergence. A batch of odd rows makes one too, and it is gone with
the next (spikes.py); only what stays is told here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.optim import Optimizer

from fathom.doctor.finding import Finding
from fathom.doctor.parts.family import Family, Moment
from fathom.doctor.parts.losses import DEVIATIONS

MOST = 5  # of ten losses
BEGINNING = 24  # losses, before which a training may run up and come back,
MOST_OF_FIRST, FAR = 8, 10.0  # unless so many of ten are far, in untrained losses
CAUSES = ("T7", "F10", "F1", "F5", "F3", "F8", "F2", "T2")


class Diverged(Family):
    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = optimizers
        self.is_told = False

    def on_loss(self, moment: Moment) -> Iterator[Finding]:
        history = moment.history
        out = [number for number in history.standing_out if number > history.count - 10]
        if self.is_told or len(out) < MOST or not history.stands_out:
            return
        if history.count < BEGINNING and not (len(out) >= MOST_OF_FIRST and history.is_far(FAR)):
            return
        self.is_told = history.has_run_away = True
        rate = float(self.optimizers[0].param_groups[0]["lr"])
        latest = history.recent[-1][1]
        usual = history.usual
        yield Finding(
            "T1",
            seen=f"The loss has run away: it is {latest:.4g}, it was about {usual:.4g} before and "
            f"{history.untrained:.4g} at the start; {len(out)} of the last 10 losses are beyond {history.limit:.4g}",
            cause=f"Steps overshoot: the learning rate ({rate:.3g} now) is too high for where the weights are.",
            remedy="Go back to weights from before, halve the rate, and clip gradients (clip_grad_norm_).",
            by="test",
            confidence=0.99,
            step=moment.step,
            symptom_of=CAUSES,
            evidence={
                "kind": "diverged",
                "rate": rate,
                "untrained": history.untrained,
                "usual": usual,
                "deviations": DEVIATIONS,
                "losses": history.as_evidence(),
            },
        )
