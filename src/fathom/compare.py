"""List and compare runs from their plain files, and list the parts of the rooms. Loads no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fathom import rooms
from fathom.errors import UserError
from fathom.run import RunFolder
from fathom.show import shown, shown_interval


def compare(folders: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """One entry for each run: what was predicted, who is advised, how good it is on the test rows."""
    return [_entry(folder) for folder in folders]


def _entry(folder: RunFolder) -> dict[str, Any]:
    entry: dict[str, Any] = {"run": folder.name, "path": str(folder.path), "finished": folder.is_finished}
    if not folder.is_finished:
        return entry
    metrics = folder.read_json("metrics.json")
    advised = metrics["advised"]
    scores = metrics["test"][advised]
    return entry | {
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
    return _aligned(lines)


def parts() -> list[dict[str, Any]]:
    """Every model and baseline: use, source and options with their defaults."""
    found = []
    for room, function in (("models", "build"), ("baselines", "fit")):
        for name, part in rooms.every(room).items():
            options = {k: v for k, v in rooms.options(getattr(part, function)).items() if k not in ("seed", "seconds")}
            found.append({"room": room, "name": name, "use": part.USE, "source": part.SOURCE, "options": options})
    return found


def parts_table(found: Sequence[dict[str, Any]]) -> str:
    lines = [("kind", "name", "use", "options", "source")]
    for part in found:
        options = " ".join(f"{name}={default}" for name, default in part["options"].items())
        lines.append((part["room"].removesuffix("s"), part["name"], part["use"], options, part["source"]))
    return _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
