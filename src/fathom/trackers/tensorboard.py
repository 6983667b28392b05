"""TensorBoard: event files in RUN/trackers/tensorboard. `tensorboard --logdir runs` shows those of all runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEEDS = "tensorboard"


def open(folder: Path, run: str) -> Tracker:
    """What an interrupted command had written is written again from the files of the run."""
    shutil.rmtree(folder / "trackers" / NEEDS, ignore_errors=True)
    return Tracker(folder / "trackers" / NEEDS)


class Tracker:
    """One writer of events."""

    def __init__(self, where: Path) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer = SummaryWriter(str(where))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def finish(self, settings: Mapping[str, Any], results: Mapping[str, float]) -> None:
        self.writer.add_text("recipe", "\n".join(f"    {name}: {value}" for name, value in settings.items()))
        self.scalars(results, 0)

    def close(self) -> None:
        self.writer.close()
