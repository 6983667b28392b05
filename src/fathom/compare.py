"""List and compare runs from their plain files. Loads no model.

What a reader would get wrong: `summary.json` is no second truth. It holds what a list shows of a run, so that a
thousand runs are listed at once, and the checksum of the metrics.json that this was taken from. Where that file has
another one, the file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fathom import rooms
from fathom.checksums import checksum, mismatch
from fathom.errors import UserError
from fathom.run import RunFolder, reading
from fathom.show import shown, shown_interval

METRICS, SUMMARY = "metrics.json", "summary.json"


def compare(folders: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """One entry for each run: what was predicted, who is advised, how good it is on the test rows."""
    return [_entry(folder) for folder in folders]


def keep_summary(folder: RunFolder) -> None:
    """Write what a list shows of a run that has its verdict."""
    metrics = folder.read_json(METRICS)
    of = checksum(folder.inside(METRICS).read_bytes())
    folder.write_record(SUMMARY, {"of": of, "verdict": _verdict(metrics)})


def _entry(folder: RunFolder) -> dict[str, Any]:
    entry: dict[str, Any] = {"run": folder.name, "path": str(folder.path), "finished": folder.has(METRICS)}
    try:
        RunFolder.glance(folder.path, ("format.json", METRICS, SUMMARY))
        if not folder.is_finished:
            return entry | {"finished": False}
        if (kept := _kept(folder)) is not None:
            return entry | kept
        with reading(folder.inside(METRICS)):
            return entry | _verdict(folder.read_json(METRICS))
    except UserError as error:  # of a newer Fathom, or damaged: no reason not to show the others
        return entry | {"unreadable": str(error)}


def _kept(folder: RunFolder) -> dict[str, Any] | None:
    """What the summary says, where it is that of metrics.json as it is."""
    try:
        found = folder.read_record(SUMMARY)
        is_true = not mismatch(folder.inside(METRICS).read_bytes(), found["of"])
    except (UserError, OSError):  # it is of no weight: what it was taken from is there
        return None
    verdict: dict[str, Any] = found["verdict"]
    return verdict if is_true and verdict["metric"] in _measures() and len(verdict["interval"]) == 2 else None


@cache
def _measures() -> frozenset[str]:
    return frozenset(rooms.names("measures"))


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
    measures = {
        name: rooms.find("measures", name) for name in {entry["metric"] for entry in entries if "metric" in entry}
    }
    for entry in entries:
        if "unreadable" in entry:
            lines.append((entry["run"], "not readable", "", "", "", "", "", ""))
            continue
        if not entry["finished"]:
            lines.append((entry["run"], "not finished", "", "", "", "", "", ""))
            continue
        measure = measures[entry["metric"]]
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
