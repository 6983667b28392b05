"""List and compare runs from their plain files. Loads no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fathom import rooms
from fathom.errors import UserError
from fathom.run import RunFolder, reading
from fathom.show import shown, shown_interval


def compare(folders: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """One entry for each run: what was predicted, who is advised, how good it is on the test rows."""
    return [_entry(folder) for folder in folders]


def _entry(folder: RunFolder) -> dict[str, Any]:
    entry: dict[str, Any] = {"run": folder.name, "path": str(folder.path), "finished": folder.is_finished}
    try:
        RunFolder.open(folder.path)
        if not folder.is_finished:
            return entry
        with reading(folder.inside("metrics.json")):
            return entry | _verdict(folder.read_json("metrics.json"))
    except UserError as error:  # of a newer Fathom, or damaged: no reason not to show the others
        return entry | {"unreadable": str(error)}


def _verdict(metrics: dict[str, Any]) -> dict[str, Any]:
    advised = metrics["advised"]
    scores = metrics["test"][advised]
    rooms.find("measures", metrics["metric"])
    return {
        "task": metrics["task"],
        "target": metrics["target"],
        "metric": metrics["metric"],
        "advised": advised,
        "value": scores[metrics["metric"]],
        "interval": scores["interval"],
        "rows": metrics["rows"],
        "seconds": metrics["seconds"]["total"],
        "seconds_per_row": scores["seconds_per_row"],
    }


def table(entries: Sequence[dict[str, Any]], *, where: str | Path = "runs") -> str:
    """The entries as aligned lines."""
    if not entries:
        raise UserError(f"There are no runs in {where}. Make one with `fathom fit DATA`.")
    lines = [("run", "predicts", "advised", "metric", "test", "95 % interval", "rows", "seconds")]
    for entry in entries:
        if "unreadable" in entry:
            lines.append((entry["run"], "not readable", "", "", "", "", "", ""))
            continue
        if not entry["finished"]:
            lines.append((entry["run"], "not finished", "", "", "", "", "", ""))
            continue
        measure = rooms.find("measures", entry["metric"])
        lines.append(
            (
                entry["run"],
                entry["target"],
                entry["advised"],
                measure.LABEL,
                shown(measure, entry["value"]),
                shown_interval(measure, entry["interval"]),
                f"{sum(entry['rows'].values()):,}",
                f"{entry['seconds']:.0f}",
            )
        )
    whys = [f"{entry['run']}: {entry['unreadable']}" for entry in entries if "unreadable" in entry]
    return "\n".join([_aligned(lines), *whys])


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
