"""What watching costs: seconds of the processor with and without the doctor, alternating, on five workloads.

    python -m bench.doctor --cost

What a reader would get wrong: the experiments before the first step cost the same however long the training is, and are
told in seconds; watching is told as a share of a training of STEPS steps, of which the first sixteen are looked at.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from bench.doctor.beside import begin
from bench.doctor.configurations import Configuration
from bench.doctor.training import assemble, run
from fathom.doctor.watch import watch

STEPS, TIMES = 300, 10
_ONE = Configuration("blobs", "perceptron", 0, 3, 64, "relu", "batch", "adam", 3e-3, 32, "cosine", 0.1, STEPS)
WORKLOADS = {
    "perceptron, table": _ONE,
    "convolutions, pictures": replace(_ONE, world="bars", family="convolutions"),
    "ResNet, pictures": replace(_ONE, world="bars", family="resnet", norm="none"),
    "Transformer, text": replace(_ONE, world="order", family="transformer", rate=1e-3),
    "LSTM, text": replace(_ONE, world="order", family="lstm"),
}


def measure(times: int = TIMES) -> dict[str, dict[str, list[float]]]:
    """Seconds of each repetition, by workload: without, with, and of the experiments alone."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, one in WORKLOADS.items():
        found[name] = {"without": [], "with": [], "experiments": []}
        for _ in range(times):
            found[name]["without"].append(_seconds(one, None))
            found[name]["with"].append(_seconds(one, lambda t: watch(t.model, t.optimizer, stop=False, say=None)))
            training, begun = assemble(one), time.process_time()
            begin(training).close()
            found[name]["experiments"].append(time.process_time() - begun)
    return found


def _seconds(one: Configuration, beside: Any) -> float:
    training = assemble(one)
    begun = time.process_time()
    doctor = None if beside is None else beside(training)
    run(training)
    if doctor is not None:
        doctor.close()
    return time.process_time() - begun


def told(found: dict[str, dict[str, list[float]]]) -> str:
    lines = []
    for name, seconds in found.items():
        ratios = np.array(seconds["with"]) / np.array(seconds["without"])
        lines.append(
            f"{name:<24} watching {np.median(ratios) - 1:+.1%} ({ratios.min() - 1:+.1%} to {ratios.max() - 1:+.1%}) of "
            f"{np.median(seconds['without']):.2f} s; experiments {np.median(seconds['experiments']):.2f} s"
        )
    return "\n".join(lines)
