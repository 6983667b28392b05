"""What a training is expected to take, told before its first epoch, and what it took, told after the last.

Both stand in the run folder's forecast.json. What a reader would get wrong: the memory is what the whole process has
resident at its worst moment, libraries and data among it, and pages of mapped files as far as they are in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fathom.console import Console, count, duration
from fathom.limits import told
from fathom.memory import peak_bytes
from fathom.run import RunFolder

NAME = "forecast.json"


@dataclass(frozen=True)
class Forecast:
    """Of a network on every fold."""

    seconds_per_epoch: float  # steps, and validation where it is known
    epochs: float  # of one fold; part of one where not even one fits. Patience may end a training sooner
    steps_per_epoch: int
    folds: int
    seconds: float  # from the beginning of the command to its end
    memory: float  # bytes at the worst moment

    def told(self) -> str:
        part = f"{self.epochs:.2g} of one" if self.epochs >= 0.01 else "less than a hundredth of one"
        epochs = part if self.epochs < 0.95 else count(round(self.epochs), "epoch")
        each = f" for each of {self.folds} folds" if self.folds > 1 else ""
        whole = f"the whole command {duration(self.seconds)}, {told(self.memory)} of memory"
        return f"{duration(self.seconds_per_epoch)} an epoch, {epochs}{each}; {whole}"


def announce(forecast: Forecast, folder: RunFolder, console: Console) -> None:
    """Before the first epoch."""
    console.stage("Forecast", forecast.told())
    folder.write_json(NAME, {"forecast": asdict(forecast)})


def compare(folder: RunFolder, epochs: Sequence[Sequence[Any]], seconds: float, console: Console) -> None:
    """After the run: what it took. `epochs` are the rows of metrics.csv. Nothing where nothing was forecast."""
    if not folder.has(NAME) or not epochs:
        return
    said = Forecast(**folder.read_json(NAME)["forecast"])
    last = {row[1]: row for row in epochs}  # fold → its last epoch
    trained = sum(row[3] for row in last.values()) / said.steps_per_epoch
    took = Forecast(
        seconds_per_epoch=sum(row[8] for row in last.values()) / trained,
        epochs=trained / len(last),
        steps_per_epoch=said.steps_per_epoch,
        folds=said.folds,
        seconds=seconds,
        memory=peak_bytes(),
    )
    console.stage("Took", f"{took.told()}")
    console.more(f"forecast were {said.told()}")
    folder.write_json(NAME, folder.read_json(NAME) | {"measured": asdict(took)})
