"""Tables as text: CSV, TSV and other delimited files, and lines of 'label text'; plain or .gz.

Delimiter, encoding, header and decimal comma are found out and said in `notes`. Cells stay text: what they mean is
decided by the fields. Rows of another width are left out by line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import LeftOut, Places, Stream, Table
from fathom.errors import UserError
from fathom.sources.parts import beside as neighbours
from fathom.sources.parts.captions import is_captioned
from fathom.sources.parts.columns import default_names, find_column, rows_and_columns, shared_strings, unique_names
from fathom.sources.parts.cuts import FEWEST, Cuts
from fathom.sources.parts.decimals import rewrite
from fathom.sources.parts.dialect import Dialect, rows_of, sniff
from fathom.sources.parts.encoding import decode, is_broken, mended
from fathom.sources.parts.files import GZIP, as_path, is_file, is_folder, read_bytes, short_name, suffix, wide_encoding
from fathom.sources.parts.header import MOST_ROWS, has_header, is_number
from fathom.sources.parts.linked import open_linked
from fathom.sources.parts.prose import is_prose

ENDINGS = (".csv", ".tsv", ".tab", ".psv", ".txt", ".data", ".dat", ".label")
LONGEST_CELL = 1 << 27  # the csv module's own limit is 128 KiB, which a long text passes
MOST_RESTARTS = 1000
CHUNK = 50_000
WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")  # marks of characters of more than a byte


@dataclass
class _Rows:
    """What was read of one file: cells by row, the first line of each, and what did not fit."""

    cells: list[list[str]]
    lines: list[int]
    left_out: list[LeftOut]
    num_spanning: int = 0  # rows that reach over several lines
    first_damage: str = ""  # of the first row, which is kept, mended, until it is known whether it is the header


def claims(data: Any) -> str | None:
    path = as_path(data)
    if path is None:
        return None
    if is_folder(path):
        return "a folder with a table" if neighbours.tables_in(path, ENDINGS) and not is_captioned(path) else None
    is_ours = suffix(path) in ENDINGS and is_file(path) and not (suffix(path) == ".txt" and is_prose(path))
    return f"a {suffix(path)} file" if is_ours else None


def open(
    data: Any,
    *,
    target: str | int | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    beside: bool = True,
    numbers: Mapping[str, str] | None = None,
    linked: bool = True,
) -> Table:
    """The table of a file, or of the one table (or train file) in a folder.

    target: a column by name or by number from 1. delimiter: one character or 'tab'. header: whether the first row
    names the columns. beside: use official test and validation files that lie beside a train file. numbers: how the
    numbers of columns are written ("decimal comma"), as in `decimals.SPELLINGS`; else it is found out. linked: open the
    files that cells name; not for tables from strangers, who could name any file.
    """
    path, said = _path_of(data)
    read = _read(path, delimiter, encoding, header)
    return _finished(path, said, *read, encoding, target=target, beside=beside, numbers=numbers, linked=linked)


def stream(
    data: Any,
    *,
    target: str | int | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    beside: bool = True,
    numbers: Mapping[str, str] | None = None,
    linked: bool = True,
) -> Stream | None:
    """The rows in pieces of a megabyte, cut as the beginning of the file says; None where only all can be read at once.

    That is a small file, a compressed one, one of wide characters, or one with cells that reach over several lines.
    """
    path, said = _path_of(data)
    cuts = Cuts(path)
    head = cuts.head()
    if cuts.num < FEWEST or head.startswith((GZIP, *WIDE)) or wide_encoding(head):
        return None
    main, dialect, is_headed = _parsed(path, head, [], delimiter, encoding, header)
    lines, used = _lines(head, path, encoding)
    if dialect.cut != "delimiter" or _rows(path, lines, 0, dialect).num_spanning:
        return None
    names, skipped = list(main.columns), int(main.places.line[0]) - 1
    untold = [one for one in main.left_out if int(one.where.rsplit(":", 1)[1]) <= skipped]

    def read(piece: int) -> Iterator[Table]:
        raw, before = cuts.read(piece)
        # Bytes that are not UTF-8 may first be met here: their rows are left out, as where all is read at once.
        is_mixed = encoding is None and used.startswith("utf-8")
        text = raw.decode("utf-8", "surrogateescape") if is_mixed else decode(raw, path, used)[0]
        lines = io.StringIO(text.removeprefix("\ufeff"), newline="").readlines()
        above = max(0, skipped - before)  # the header, and what stands above it
        rows = _rows(path, lines[above:], before + above, dialect)
        if rows.first_damage:
            rows.left_out.append(LeftOut(f"{path}:{rows.lines.pop(0)}", rows.first_damage))
            del rows.cells[0]
        if rows.cells:
            columns = _columns(names, rows.cells, 0)
            places = Places.of_rows(str(path), np.array(rows.lines, np.int64))
            left_out = (*([] if before else untold), *rows.left_out)
            yield replace(main, columns=columns, places=places, left_out=left_out)

    def finish(sample: Table) -> Table:
        read = (replace(sample, summary=rows_and_columns(len(sample), len(names))), dialect, is_headed)
        return _finished(path, said, *read, encoding, target=target, beside=beside, numbers=numbers, linked=linked)

    def follow(further: Table, sample: Table) -> Table:
        columns = rewrite(further.columns, dialect.delimiter, sample.options.get("numbers", {}))[0]
        further = replace(further, columns=columns)
        return open_linked(further, path.parent) if linked else further

    num_rows = int(len(main) * cuts.size / len(head))
    return Stream(num_rows, (None,) * cuts.num, read, finish, follow)


def _finished(
    path: Path,
    said: list[str],
    main: Table,
    dialect: Dialect,
    is_headed: bool,
    encoding: str | None,
    *,
    target: str | int | None,
    beside: bool,
    numbers: Mapping[str, str] | None,
    linked: bool,
) -> Table:
    """With the official parts beside it, numbers written with a point, linked files and the target."""

    def read_sibling(sibling: Path, _: Table) -> Table:
        return _read(sibling, dialect.delimiter if dialect.cut == "delimiter" else None, encoding, is_headed)[0]

    table = neighbours.with_parts(path, main, read_sibling, is_wanted=beside)
    columns, spellings, notes = rewrite(table.columns, dialect.delimiter, numbers)
    table = replace(table, columns=columns, notes=(*said, *table.notes, *notes))
    table = open_linked(table, path.parent) if linked else table
    table = replace(table, options=_options(dialect, is_headed, encoding, spellings))
    return replace(table, target=find_column(list(columns), target, str(path)))


def _options(dialect: Dialect, is_headed: bool, encoding: str | None, spellings: dict[str, str]) -> dict[str, Any]:
    """What opens further files the same way, though they may be too short to tell."""
    options: dict[str, Any] = {"header": is_headed}
    options.update({"delimiter": dialect.delimiter} if dialect.cut == "delimiter" else {})
    options.update({"numbers": spellings} if spellings else {})
    return {**options, **({} if encoding is None else {"encoding": encoding})}


def _path_of(data: Any) -> tuple[Path, list[str]]:
    path = as_path(data)
    assert path is not None, "claims() said that this is a path"
    return neighbours.main_table(path, ENDINGS) if is_folder(path) else (path, [])


def _read(path: Path, delimiter: str | None, encoding: str | None, header: bool | None) -> tuple[Table, Dialect, bool]:
    """One file as a table, how it was cut, and whether it has a header."""
    return _parsed(path, *read_bytes(path), delimiter, encoding, header)


def _lines(raw: bytes, path: Path, encoding: str | None) -> tuple[list[str], str]:
    """The lines with their ends, and the encoding they were in."""
    text, used = decode(raw, path, encoding)
    return io.StringIO(text.removeprefix("\ufeff"), newline="").readlines(), used


def _parsed(
    path: Path, raw: bytes, notes: list[str], delimiter: str | None, encoding: str | None, header: bool | None
) -> tuple[Table, Dialect, bool]:
    """The content of a file as `_read` gives it. `notes` is what was said of it already."""
    lines, used = _lines(raw, path, encoding)
    skipped, delimiter = _skip_separator_line(lines, delimiter)
    dialect = sniff(lines[skipped:], suffix(path), delimiter)
    short, skipped = _short_header(lines, skipped, dialect) if header is not False else (None, skipped)
    dialect, rows = _best_rows(path, lines[skipped:], skipped, dialect)
    _refuse_unreadable(path, rows, dialect)
    is_headed, why = _header(rows, dialect, header, short)
    if rows.first_damage and (not is_headed or short is not None):
        rows.left_out.append(LeftOut(f"{path}:{rows.lines.pop(0)}", rows.first_damage))
        del rows.cells[0]
        _refuse_unreadable(path, rows, dialect)
    elif rows.first_damage:
        why += f"; {rows.first_damage}, which stands in its names as \ufffd"
    notes += [dialect.describe(), f"encoding {used}{_doubt(used, encoding)}"]
    notes += ["quotes are ordinary characters"] if any('"' in line for line in lines) and not dialect.is_quoted else []
    notes += [f"{'header' if is_headed else 'no header'}: {why}"]
    table = _table(path, rows, dialect.width, is_headed, short)
    return replace(table, notes=(*notes, *table.notes)), dialect, is_headed


def _table(path: Path, rows: _Rows, width: int, is_headed: bool, short: list[str] | None) -> Table:
    start = int(is_headed and short is None)
    if len(rows.cells) == start:
        shown = ", ".join(rows.cells[0][:5])
        raise UserError(
            f"{path} has a header ({shown}{' …' if width > 5 else ''}) and no rows below it. "
            "Expected one row for each example; if that line is data, say header=false."
        )
    given = _fill_up([_mended(cell) for cell in short], rows) if short is not None else rows.cells[0]
    names, renamed = unique_names(given) if is_headed else (default_names(width), [])
    return Table(
        name=short_name(path),
        columns=_columns(names, rows.cells, start),
        places=Places.of_rows(str(path), np.array(rows.lines[start:], np.int64)),
        summary=rows_and_columns(len(rows.cells) - start, len(names)),
        notes=tuple(renamed),
        left_out=tuple(sorted(rows.left_out, key=lambda one: int(one.where.rsplit(":", 1)[1]))),
    )


def _header(rows: _Rows, dialect: Dialect, given: bool | None, short: list[str] | None) -> tuple[bool, str]:
    if short is not None:
        return True, "the first row is one shorter than the rows below it"
    if given is not None:
        return given, "as given"
    if dialect.cut != "delimiter":
        return False, "lines of text have none"
    first = [cell.replace("\ufffd", "") for cell in rows.cells[0]] if rows.first_damage else rows.cells[0]
    return has_header([first, *rows.cells[1 : MOST_ROWS + 1]])


def _short_header(lines: list[str], skipped: int, dialect: Dialect) -> tuple[list[str] | None, int]:
    """A header one shorter than its rows, as R writes it (no name above the row names); and the line after it."""
    if dialect.cut != "delimiter" or dialect.width < 3:
        return None, skipped
    number, first = next(rows_of(lines[skipped : skipped + 5], dialect), (0, []))
    is_short = len(first) == dialect.width - 1 and all(c.strip() and not is_number(c) for c in first)
    return (first, skipped + number) if is_short else (None, skipped)


def _fill_up(short: list[str], rows: _Rows) -> list[str]:
    ends_empty = all(not row[-1].strip() for row in rows.cells[:MOST_ROWS])
    return [*short, ""] if ends_empty else ["row_name", *short]


def _doubt(used: str, given: str | None) -> str:
    is_sure = given is not None or used.startswith("utf")
    return "" if is_sure else " (not UTF-8; if letters look wrong, name it: encoding=…)"


def _skip_separator_line(lines: list[str], delimiter: str | None) -> tuple[int, str | None]:
    """Excel writes 'sep=;' as a first line."""
    match = re.fullmatch(r'"?sep=(.)"?\s*', lines[0]) if lines else None
    return (1, delimiter or match.group(1)) if match else (0, delimiter)


def _best_rows(path: Path, lines: list[str], skipped: int, dialect: Dialect) -> tuple[Dialect, _Rows]:
    """The rows, without quoting where quotes turn out to be ordinary characters that swallow line ends."""
    rows = _rows(path, lines, skipped, dialect)
    if rows.num_spanning and dialect.cut == "delimiter":
        plain = replace(dialect, is_quoted=False, is_escaped=False)
        other = _rows(path, lines, skipped, plain)
        if len(other.left_out) < len(rows.left_out) or not other.left_out:
            return plain, other
    return dialect, rows


def _rows(path: Path, lines: list[str], skipped: int, dialect: Dialect) -> _Rows:
    """All rows of the right width. After a quote that is never closed, reading starts again on the line after it."""
    rows = _Rows([], [], [])
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        start = 0
        for _ in range(MOST_RESTARTS):
            again = _rows_from(path, lines, start, skipped, dialect, rows)
            if again is None:
                return rows
            start = again
        raise UserError(f"{path} has over {MOST_RESTARTS:,} quotes that are not closed. Mend it, or say delimiter=…")
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as a table: {error}. Expected text, one row a line.") from error
    finally:
        csv.field_size_limit(limit)


def _rows_from(path: Path, lines: list[str], start: int, skipped: int, dialect: Dialect, rows: _Rows) -> int | None:
    """Read on from a line. Returns the line to start again at, or None at the end."""
    width, previous = dialect.width, start
    for line_number, row in rows_of(lines[start:] if start else lines, dialect):
        first, previous = previous, start + line_number
        number = first + 1 + skipped
        if len(row) == width:
            damage = _damage(row)
            rows.num_spanning += previous - first > 1
            if damage is None or not (rows.cells or rows.left_out):
                rows.first_damage = rows.first_damage or damage or ""
                rows.cells.append(row if damage is None else [_mended(cell) for cell in row])
                rows.lines.append(number)
            else:
                rows.left_out.append(LeftOut(f"{path}:{number}", damage))
        elif len(row) > 1 or any(c.strip() for c in row):  # else a blank line
            is_spanning = previous - first > 1
            why = _misfit(row, width) + (" (a quote is not closed?)" if is_spanning else "")
            rows.left_out.append(LeftOut(f"{path}:{number}", why))
            rows.num_spanning += is_spanning
            if is_spanning:
                return first + 1
    return None


def _misfit(row: list[str], width: int) -> str:
    return f"{len(row)} value{'s' * (len(row) != 1)} where {width} were expected"


def _mended(cell: str) -> str:
    return mended(cell).replace("\0", "\ufffd")


def _damage(row: list[str]) -> str | None:
    """Why a row of the right width cannot be used, else None."""
    joined = "".join(row)
    if joined.isascii() and "\0" not in joined:
        return None
    if "\0" in joined:
        return "it holds a NUL byte"
    return "it holds bytes that are not UTF-8" if is_broken(joined) else None


def _refuse_unreadable(path: Path, rows: _Rows, dialect: Dialect) -> None:
    if not rows.cells or len(rows.left_out) > len(rows.cells):
        first = "; ".join(f"line {left.where.rsplit(':', 1)[1]}: {left.why}" for left in rows.left_out[:3])
        raise UserError(
            f"{path}: {len(rows.left_out):,} of {len(rows.left_out) + len(rows.cells):,} rows do not fit "
            f"({dialect.describe()}): {first}. Expected rows of one width; say delimiter=… if it is another."
        )


def _columns(names: list[str], cells: list[list[str]], start: int) -> dict[str, np.ndarray]:
    pieces: list[list[np.ndarray]] = [[] for _ in names]
    for begin in range(start, len(cells), CHUNK):
        for column, values in zip(pieces, zip(*cells[begin : min(len(cells), begin + CHUNK)])):
            column.append(shared_strings(values))
    return {name: np.concatenate(column) for name, column in zip(names, pieces)}
