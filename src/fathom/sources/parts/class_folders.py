"""What folders of pictures and folders of texts have in common: labels, parts, what is left out, the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fathom.data import LeftOut, Places, Table
from fathom.errors import UserError
from fathom.sources.parts.columns import find_column, objects
from fathom.sources.parts.files import short_name
from fathom.sources.parts.join import with_counts
from fathom.sources.parts.tree import Classes, classes_of, listing

WORDS = {"image": ("image", "picture"), "text": ("text", "text file")}


def open_classes(path: Path, column: str, endings: Sequence[str], target: str | int | None) -> Table:
    """A table of File values under `column` and their class folders under "label". Raises UserError without any."""
    found = listing(path)
    classes = classes_of(found, endings)
    noun, what = WORDS[column]
    if not classes.files:
        raise UserError(_no_classes(path, classes, what))
    labels = objects(classes.labels)
    parts = None if classes.parts is None else objects(classes.parts)
    names = sorted(set(classes.labels))
    files = objects(classes.files)
    plural = "class" if len(names) == 1 else "classes"
    summary = f"{len(files):,} {noun}{'s' * (len(files) != 1)} in {len(names)} {plural} (one folder per class)"
    table = Table(
        name=short_name(path),
        columns={column: files, "label": labels},
        places=Places.of_files(map(str, classes.files)),
        summary=with_counts(summary, parts),
        target=find_column([column, "label"], target, str(path)) or "label",
        parts=parts,
        left_out=(*found.left_out, *_left_out(classes, what)),
    )
    return replace(table, notes=tuple(_notes(table, classes, names)))


def _left_out(classes: Classes, what: str) -> list[LeftOut]:
    left = [LeftOut(str(f), f"the {what} lies in no class folder") for f in classes.loose]
    left += [LeftOut(str(m.file), "its folder lies beside the official parts") for m in classes.outside]
    return left + [LeftOut(str(m.file), f"it is not a {what}") for m in classes.others]


def _notes(table: Table, classes: Classes, names: list[str]) -> list[str]:
    shown = ", ".join(names[:20]) + (f" … ({len(names)} in all)" if len(names) > 20 else "")
    notes = [f"classes: {shown}"]
    if table.parts is not None:
        here = [p for p in ("train", "validate", "test") if (table.parts == p).any()]
        notes.append(f"official parts: folders for {', '.join(here)}")
        for part in here:
            absent = sorted(set(names) - set(table.columns["label"][table.parts == part]))
            if absent:
                notes.append(f"the {part} part has no {', '.join(absent[:10])}")
    if classes.empty:
        notes.append(f"empty folders: {', '.join(classes.empty[:10])}")
    return notes


def _no_classes(path: Path, classes: Classes, what: str) -> str:
    count = len(classes.loose)
    if not count:
        return f"{path} holds no {what}s. Expected a folder for each class with {what}s in it."
    return (
        f"{path} holds {count:,} {what}{'s' * (count != 1)}, such as {classes.loose[0]}, but no class folders, "
        f"so nothing says what each one is. Put the {what}s of each class into a folder of its name ({path}/rose/…), "
        f"or give a table with a column of file names and one of labels."
    )
