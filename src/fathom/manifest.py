"""manifest.json: with what a run was made. Versions, machine, seed, and a fingerprint of the data as it was read.

What a reader would get wrong: `run` is drawn by lot and names this one run, whatever its folder is called, so that
files of another run are not taken for its own; a run that is taken up again keeps it.
"""

from __future__ import annotations

import os
import platform
import sys
import uuid
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from fathom import recipe as recipes
from fathom.data import Table
from fathom.errors import UserError
from fathom.fingerprint import difference, fingerprint
from fathom.recipe import Recipe
from fathom.run import FORMAT, RunFolder, seen

NAME, BEFORE = "manifest.json", "environment.json"  # BEFORE: of format 1, without seed and data
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "lightgbm", "pyarrow", "tokenizers", "safetensors", "pillow")

OWN_ROWS = (
    "the run was made from these very rows: it does better on them than on new ones; see its report for test rows"
)


def write_manifest(folder: RunFolder, recipe: Recipe, table: Table) -> None:
    """Once, before anything else of a run; a run that is taken up again has it."""
    if folder.has(NAME):
        return
    found = {"run": uuid.uuid4().hex, "format": FORMAT, "seed": recipe.seed} | environment()
    folder.write_record(NAME, found | {"data": {"name": table.name} | fingerprint(table)})


def read_manifest(folder: RunFolder) -> dict[str, Any]:
    """What the run says of its making; of format 1 without seed and data, {} where there is nothing."""
    if folder.has(NAME):
        return folder.read_record(NAME)
    return dict(folder.read_json(BEFORE)) if folder.has(BEFORE) else {}


def forget_damaged(folder: RunFolder, say: Callable[[str, str], None]) -> None:
    """Remove a manifest that cannot be read. What was trained may be another run's then, and begins anew."""
    try:
        read_manifest(folder)
    except UserError as error:
        folder.inside(NAME).unlink(missing_ok=True)
        say("Damaged", f"{seen(error)} What was trained may be another run's: all begins anew.")


def refuse_changed(folder: RunFolder, table: Table) -> None:
    """Raise UserError where a run is to go on with other data than it began with: its parts would not fit together."""
    data = read_manifest(folder).get("data")
    if data is None:
        return
    if what := difference(data, fingerprint(table), "when the run began"):
        raise UserError(
            f"The data of {folder.path} has changed: {what}. Put it back as it was to go on, or make a new run with "
            f"`fathom fit --recipe {folder.inside('recipe.yaml')}`."
        )


def notes_on(folder: RunFolder, kept: Mapping[str, Any] | None, data: Any, table: Table) -> tuple[str, ...]:
    """What is to be said of data that a finished run is used on: that it is the run's own, or was and has changed.

    `kept` is what the manifest says of the run's data, `table` is `data` as its source gave it, the target among its
    columns or not.
    """
    is_own_path = isinstance(data, str | Path) and _lies_at(data, recipes.load(folder.inside("recipe.yaml")).data)
    if kept is None or not (is_own_path or len(table) == kept["rows"]):
        return ()
    columns = {name: digest for name, digest in kept["columns"].items() if name in table.columns}
    if what := difference({"rows": kept["rows"], "columns": columns}, fingerprint(table), "when the run was made"):
        return (f"{data} has changed since the run was made from it: {what}",) if is_own_path else ()
    if not columns:
        return ()
    return (OWN_ROWS,)


def _lies_at(data: str | Path, path: str | None) -> bool:
    return path is not None and os.path.realpath(data) == os.path.realpath(path)


def environment() -> dict[str, Any]:
    """Versions and machine, without names of people or hosts."""
    return {
        "fathom": metadata.version("fathom-dl") if _is_installed("fathom-dl") else "source",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES if _is_installed(name)},
    }


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        if names:
            return f"{names[0]}, {len(names)} cores seen"
    return platform.processor() or platform.machine()
