"""MLflow: its store of plain files in `mlruns`, beside the run folders, so that they can be compared there.

    MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri runs/mlruns

What a reader would get wrong: MLFLOW_TRACKING_URI is not followed. A server would be a connection.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEEDS = "mlflow"
EXPERIMENT, TAG = "fathom", "fathom.run"
LONGEST = 500  # characters of a value that its store takes
# Read when MLflow is imported: it would report its use, and has files only where it is told that they are wanted.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}


def open(folder: Path, run: str) -> Tracker:
    """What an interrupted command had written of this run is deleted, and written again from the files of the run."""
    return Tracker(folder, run)


class Tracker:
    """One run in MLflow's store."""

    def __init__(self, folder: Path, run: str) -> None:
        os.environ.update(QUIET)
        from mlflow import MlflowClient

        self.client = MlflowClient((folder.resolve().parent / "mlruns").as_uri())
        found = self.client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found is not None else self.client.create_experiment(EXPERIMENT)
        for before in self.client.search_runs([experiment], f"tags.`{TAG}` = '{run}'"):
            self.client.delete_run(before.info.run_id)
        made = self.client.create_run(experiment, tags={TAG: run, "fathom.folder": str(folder)}, run_name=folder.name)
        self.id, self.status = made.info.run_id, "FAILED"

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.id, name, value, step=step)

    def finish(self, settings: Mapping[str, Any], results: Mapping[str, float]) -> None:
        for name, value in settings.items():
            self.client.log_param(self.id, name, str(value)[:LONGEST])
        self.scalars(results, 0)
        self.status = "FINISHED"

    def close(self) -> None:
        self.client.set_terminated(self.id, self.status)
