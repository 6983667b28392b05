"""Files of a folder or an archive, ordered into official parts and class folders.

    train/rose/1.jpg  ·  rose/1.jpg  ·  flowers/train/rose/1.jpg (a single wrapping folder is looked through)

Nothing is unpacked: members of an archive are read where they are, so a hostile path cannot write anywhere.
"""

from __future__ import annotations

import itertools
import os
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fathom.data import UNPACKING, File, LeftOut, printable
from fathom.errors import UserError
from fathom.sources.parts.files import part_of_word
from fathom.sources.parts.unpacking import refuse_bomb

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
UNSEEN = ("__MACOSX", "Thumbs.db", "desktop.ini")


class Member(NamedTuple):
    steps: tuple[str, ...]  # ("train", "rose", "1.jpg")
    file: File


@dataclass(frozen=True)
class Listing:
    members: tuple[Member, ...]
    empty_folders: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Classes:
    """Members by class; `parts` is None without official parts. Lists are parallel."""

    files: list[File]
    labels: list[str]
    parts: list[str] | None
    loose: list[File]  # of the right kind, but in no class folder
    others: list[Member]  # not of the right kind
    outside: list[Member]  # in a folder beside train and test
    empty: list[str]


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def inner_archive(path: Path) -> Path:
    """The archive of a folder that holds one archive and nothing else of use, as downloads do; else the path itself."""
    if not path.is_dir():
        return path
    inside = [p for p in path.iterdir() if is_archive(p) and p.is_file()]
    others = [p for p in path.iterdir() if p.is_dir() and not _is_unseen(p.name)]
    return inside[0] if len(inside) == 1 and not others else path


def is_damaged(path: Path) -> bool:
    """Whether it is an archive that cannot be listed; opening it says why."""
    try:
        return is_archive(path) and listing(path) is None
    except UserError:
        return True


def listing(path: Path) -> Listing:
    """All files, hidden ones aside. Raises UserError for an archive that is damaged or locked."""
    if not is_archive(path):
        return _folder_listing(path)
    return _archive_listing(str(path), path.stat().st_mtime_ns)


def first_endings(path: Path, most: int = 20_000) -> Iterator[tuple[int, str]]:
    """(depth, ending) of the files met first: enough to say what a folder holds."""
    for member in first_members(path, most):
        yield len(member.steps), os.path.splitext(member.steps[-1])[1].lower()


def first_members(path: Path, most: int = 20_000) -> Iterator[Member]:
    """The files met first."""
    yield from itertools.islice(listing(path).members if is_archive(path) else _walk(path), most)


def classes_of(found: Listing, endings: Sequence[str]) -> Classes:
    """The class folders in a listing. Class folders in train, validation or test folders are official parts."""
    wanted = [m for m in found.members if m.file.path.lower().endswith(tuple(endings))]
    others = [m for m in found.members if not m.file.path.lower().endswith(tuple(endings))]
    wrap = _wrapping_steps(wanted)
    parts_there = _has_parts([m.steps[wrap:] for m in wanted])
    result = Classes([], [], [] if parts_there else None, [], others, [], list(found.empty_folders))
    for member in wanted:
        steps = member.steps[wrap:]
        part = part_of_word(steps[0]) if parts_there and len(steps) > 1 else None
        if parts_there and part is None:
            result.outside.append(member)
            continue
        steps = steps[1:] if part else steps
        if len(steps) < 2:
            result.loose.append(member.file)
            continue
        result.files.append(member.file)
        result.labels.append(printable(steps[0]))
        if result.parts is not None and part is not None:
            result.parts.append(part)
    return result


def _wrapping_steps(members: Sequence[Member]) -> int:
    """How many first folders wrap everything: not class folders, for something other than files lies below them."""
    wrap = 0
    while members:
        heads = {m.steps[wrap] for m in members if len(m.steps) > wrap + 1}
        is_all = all(len(m.steps) > wrap + 2 for m in members)
        if len(heads) != 1 or not is_all or part_of_word(next(iter(heads))) is not None:
            return wrap
        wrap += 1
    return wrap


def _has_parts(paths: Sequence[tuple[str, ...]]) -> bool:
    heads = {s[0] for s in paths if len(s) > 1}
    parts = {part_of_word(h) for h in heads} - {None}
    has_classes = any(len(s) > 2 and part_of_word(s[0]) for s in paths)
    return has_classes and ("train" in parts or len(parts) == len(heads))


def _is_unseen(name: str) -> bool:
    return name.startswith(".") or name in UNSEEN


def _folder_listing(folder: Path) -> Listing:
    empty: list[str] = []
    special: list[LeftOut] = []
    members = tuple(_walk(folder, empty, special))
    return Listing(members, tuple(empty), tuple(special))


def _walk(folder: Path, empty: list[str] | None = None, special: list[LeftOut] | None = None) -> Iterator[Member]:
    """Files in order of name. Links to folders are followed, but no folder is visited twice.

    Pipes, sockets and devices, from which reading may never end, are put into `special`.
    """
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not _is_unseen(f))
        relative = os.path.relpath(root, folder)
        steps = () if relative == "." else tuple(relative.split(os.sep))
        names = sorted(n for n in names if not _is_unseen(n))
        if empty is not None and not names and not folders and steps:
            empty.append(root)
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path) or not os.path.exists(path):  # a link to nothing is told of when it is read
                yield Member((*steps, name), File(path))
            elif special is not None:
                special.append(LeftOut(printable(path), "it is no file"))


@lru_cache(maxsize=2)  # every source asks what the archive holds; listing a compressed tar reads all of it
def _archive_listing(archive: str, _changed: int) -> Listing:
    members: list[Member] = []
    left_out: list[LeftOut] = []
    try:
        entries = list(_zip_entries(archive) if zipfile.is_zipfile(archive) else _tar_entries(archive))
    except UserError:
        raise
    except (*UNPACKING, OSError) as error:
        raise UserError(f"{archive} cannot be read as an archive: {error}. Fetch it again.") from error
    last = {name: place for place, (name, _) in enumerate(entries)}
    for place, (name, problem) in enumerate(entries):
        steps = tuple(s for s in name.replace("\\", "/").split("/") if s not in ("", "."))
        if not steps or any(_is_unseen(s) for s in steps if s != ".."):
            continue
        if problem is None and (".." in steps or name.startswith(("/", "\\")) or name[1:3] in (":/", ":\\")):
            problem = "its path leads out of the archive"
        if problem is None and last[name] != place:
            problem = "another file of this name comes later in the archive"
        if problem is None:
            members.append(Member(steps, File(name, archive)))
        else:
            left_out.append(LeftOut(f"{archive}/{name}", problem))
    return Listing(tuple(members), (), tuple(left_out))


def _zip_entries(archive: str) -> Iterator[tuple[str, str | None]]:
    with zipfile.ZipFile(archive) as zipped:
        refuse_bomb(archive, sum(info.file_size for info in zipped.infolist()), os.path.getsize(archive))
        for info in zipped.infolist():
            if info.is_dir():
                continue
            is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
            if info.flag_bits & 1:
                raise UserError(f"{archive} is locked with a password. Unpack it, and give the folder.")
            yield info.filename, "it is a link" if is_link else None


def _tar_entries(archive: str) -> Iterator[tuple[str, str | None]]:
    unpacked, packed = 0, os.path.getsize(archive)
    with tarfile.open(archive) as tar:
        for info in tar:
            unpacked += info.size
            refuse_bomb(archive, unpacked, packed)  # what is told here is unpacked on the way to what comes next
            if info.isdir():
                continue
            yield (
                info.name,
                None if info.isfile() else "it is a link" if info.islnk() or info.issym() else "it is no file",
            )
