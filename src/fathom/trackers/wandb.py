"""Weights & Biases, offline: in `wandb`, beside the run folders. `wandb sync runs/wandb/offline-run-*` would send them.

What a reader would get wrong: they are not inside of the run folder, since W&B puts links into its own that lead out.
Its step only grows, and folds begin again, so `step` is a number among the others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEEDS = "wandb"
PROJECT = "fathom"
QUIET = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


def open(folder: Path, run: str) -> Tracker:
    """What an interrupted command had written of this run is written again from the files of the run."""
    for before in (folder.resolve().parent / NEEDS).glob(f"offline-run-*-{run}"):
        shutil.rmtree(before)
    return Tracker(folder, run)


class Tracker:
    """One offline run of W&B."""

    def __init__(self, folder: Path, run: str) -> None:
        os.environ.update(QUIET)
        import wandb

        # No console, no code, no machine, no repository: only the numbers.
        settings = wandb.Settings(
            console="off", disable_code=True, disable_git=True, x_disable_meta=True, x_disable_stats=True
        )
        self.run = wandb.init(
            project=PROJECT,
            name=folder.name,
            id=run,
            dir=str(folder.resolve().parent),
            mode="offline",
            settings=settings,
        )
        self.run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({**values, "step": step})

    def finish(self, settings: Mapping[str, Any], results: Mapping[str, float]) -> None:
        self.run.config.update(dict(settings))
        self.run.summary.update(dict(results))

    def close(self) -> None:
        self.run.finish()
