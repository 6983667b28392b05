"""The catalogue of models and baselines as a person reads it, no wider than the terminal.

Into a pipe go whole lines, one for each model, cut nowhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GAP = 2  # spaces between columns
LEAST_SOURCE = 24  # a source shorter than this says too little: it gets a line of its own
LEAST_USE = 10
INDENT = " " * 4
HEAD = ("name", "for", "parameters", "named sizes", "source")
UNITS = (("B", 1e9), ("M", 1e6), ("k", 1e3))


def listing(entries: Iterable[Mapping[str, Any]], *, width: int | None) -> str:
    """A line for each entry, two where one would not fit; `width` is the terminal's columns, None for a pipe."""
    rows = [_row(entry) for entry in entries]
    columns = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(4)]
    before = sum(columns) + 4 * GAP
    if width is None:
        return "\n".join(_cells(row[:4], columns, row[4]) for row in (HEAD, *rows))
    if before + LEAST_SOURCE <= width:
        lines = [_cells(row[:4], columns, _shortened(row[4], width - before)) for row in (HEAD, *rows)]
    else:
        columns[1] = min(columns[1], max(LEAST_USE, width - columns[0] - columns[2] - 2 * GAP))
        lines = [_cells(HEAD[:3], columns)]
        for name, use, parameters, sizes, source in rows:
            second = " · ".join(part for part in (sizes, source) if part)
            lines.append(_cells((name, _shortened(use, columns[1]), parameters), columns))
            lines.append(INDENT + _shortened(second, width - len(INDENT)))
    return "\n".join([*lines, "", _filled("All about one of them: fathom models NAME", width)])


def _row(entry: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    if entry["room"] != "models":
        return entry["name"], entry["use"], "baseline", "", entry["source"]
    counts = [size["parameters"] for size in entry["sizes"].values()]
    sizes = f"{len(counts)} sizes, {short(min(counts))} to {short(max(counts))}" if counts else ""
    return entry["name"], entry["use"], short(entry["parameters"]), sizes, entry["source"]


def _cells(row: Sequence[str], columns: Sequence[int], last: str = "") -> str:
    """Names and uses flush left, parameters flush right."""
    cells = [cell.rjust(wide) if i == 2 else cell.ljust(wide) for i, (cell, wide) in enumerate(zip(row, columns))]
    return (" " * GAP).join([*cells, last]).rstrip()


def short(count: int) -> str:
    """Three digits and a unit.

    >>> [short(count) for count in (698_214, 999_600, 46_702_792_704, 812)]
    ['698 k', '1 M', '46.7 B', '812']
    """
    for unit, factor in UNITS:
        if count >= 0.9995 * factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)


def whole(entry: Mapping[str, Any], *, width: int | None) -> str:
    """Everything about one model or baseline."""
    noun = entry["room"].removesuffix("s")
    facts = [("source", entry["source"])]
    if "parameters" in entry:
        facts.append(("parameters", f"{entry['parameters']:,}, for {entry['counted_for']}"))
    if entry["page"]:
        facts.append(("page", entry["page"]))
    parts = [
        _filled(f"{entry['name']}, a {noun} for {entry['use']}", width),
        "\n".join(_filled(f"  {name:<12}{text}", width, indent=" " * 14) for name, text in facts),
        *(_filled(paragraph, width) for paragraph in entry["about"].split("\n\n")),
    ]
    if entry["options"]:
        parts += [_options(entry, width), *(_filled(paragraph, width) for paragraph in entry["told"].split("\n\n"))]
    if entry.get("sizes"):
        parts.append(_sizes(entry["sizes"], width))
    return "\n\n".join(part for part in parts if part)


def _options(entry: Mapping[str, Any], width: int | None) -> str:
    setting = "model.NAME=VALUE" if entry["room"] == "models" else f"baselines.{entry['name']}.NAME=VALUE"
    rows = [(name, entry["types"][name], _default(default)) for name, default in entry["options"].items()]
    columns = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  " + (" " * GAP).join(cell.ljust(wide) for cell, wide in zip(row, columns)).rstrip() for row in rows]
    return "\n".join([_filled(f"Options, as {setting}, with their types and defaults:", width), *lines])


def _default(value: object) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _sizes(sizes: Mapping[str, Mapping[str, Any]], width: int | None) -> str:
    """The named sizes in groups that were counted for the same inputs."""
    groups: dict[str, list[str]] = {}
    names, counts = max(map(len, sizes)), max(len(f"{size['parameters']:,}") for size in sizes.values())
    for name, size in sizes.items():
        groups.setdefault(size["counted_for"], []).append(f"  {name:<{names}}  {size['parameters']:>{counts},}")
    lines = ["Named sizes, as model.size=NAME, with their parameters"]
    for counted_for, rows in groups.items():
        lines += [_filled(f"for {counted_for}:", width), *rows]
    return "\n".join(lines)


def _filled(text: str, width: int | None, *, indent: str = "") -> str:
    return text if width is None else textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)


def _shortened(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" …").replace(", …", " …").replace("; …", " …")
