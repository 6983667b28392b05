"""What a run folder says, times aside: two runs are the same where this is the same, byte for byte.

What a reader would get wrong: the page, the log, summary and forecast are left out: they tell how long things took;
so are the checksums, which are those of files that do.
"""

from __future__ import annotations

import json
from pathlib import Path

TOLD_WITH_TIMES = ("log.txt", "report.html", "checksums.json", "summary.json", "forecast.json")
# `run` is drawn for each run; the story of the epochs is in metrics.csv too, and `checksum` is that of the other keys.
TIMES = {"seconds", "seconds_per_row", "sentence", "run", "story", "checksum"}


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a run by its name inside the folder, times aside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in TOLD_WITH_TIMES:
            found[name] = _timeless(name, path.read_bytes())
    return found


def differing(one: Path, other: Path) -> list[str]:
    """Names of the files that are not the same, or that one of them lacks."""
    first, second = content(one), content(other)
    return [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]


def _timeless(name: str, content: bytes) -> bytes:
    if name in ("metrics.json", "manifest.json") or (name.startswith("last/") and name.endswith(".json")):
        return json.dumps(_without_times(json.loads(content))).encode()
    if name.endswith("done.json"):  # why a baseline's settings were chosen: "as asked" the second time
        return json.dumps(_without_times(json.loads(content) | {"why": ""})).encode()
    if name == "metrics.csv":
        lines = [line.split(",") for line in content.decode().splitlines()]
        skip = lines[0].index("seconds")
        return "\n".join(",".join(line[:skip] + line[skip + 1 :]) for line in lines).encode()
    return content


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in TIMES}
    return value
