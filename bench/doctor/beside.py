"""What stands beside a training of the benchmark: our doctor, given what anybody could give it and no names, and rules.

What a reader would get wrong: a training with a doctor beside it is the same to the last bit as one without. So one run
gives the healthy truth and what the doctor says, and a test holds it to that.
"""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from bench.doctor.rules import RULES
from bench.doctor.signals import Recorder
from bench.doctor.training import Result, Training, run
from fathom.doctor.finding import Finding
from fathom.doctor.watch import Watch, watch

ADVICE = ("T8",)  # told, and never counted as an alarm


def begin(training: Training, **more: Any) -> Watch:
    """Our doctor: model, optimizer, the data that can be begun again, the loss, how long, and what is declared."""
    return watch(
        training.model, training.optimizer, data=training.batches(), loss=training.loss, steps=training.one.steps,
        stop=False, say=None, **training.meant, **more
    )  # fmt: skip


class Beside:
    """Tells the doctor what rows that are judged cost, and whoever records of each step."""

    def __init__(self, doctor: Watch, recorder: Recorder | None = None) -> None:
        self.doctor, self.recorder = doctor, recorder

    def before_step(self, step: int, batch: Any) -> None:
        if self.recorder is not None:
            self.recorder.before_step(step, batch)

    def judged(self, losses: Tensor) -> None:
        self.doctor.judged(losses)


def watched(training: Training) -> tuple[dict[str, Any], Result]:
    """What each doctor says, in order of blame: {doctor: [{"ids", ...}]}; and what the training came to."""
    recorder, begun = Recorder(training), time.process_time()
    doctor = begin(training)
    preflight = time.process_time() - begun
    result = run(training, Beside(doctor, recorder))
    doctor.close()
    ours = [_told(one) for one in doctor.report() if one.id not in ADVICE]
    signals = recorder.signals(result.losses)
    theirs = {name: [{"rule": told, "ids": list(ids)} for told, ids in rule(signals)] for name, rule in RULES.items()}
    return {"said": {"fathom": ours, **theirs}, "preflight_seconds": preflight}, result


def _told(one: Finding) -> dict[str, Any]:
    symptoms = [symptom.id for symptom in one.symptoms]
    return {"ids": [one.id], "by": one.by, "step": one.step, "seen": one.seen, "symptoms": symptoms}
