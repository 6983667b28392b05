"""Tables as people's programs write them, well or badly, for tests by property; and what may be asked of each.

What a reader would get wrong: the count of rows is made here from the lines of the file, not by a reader of CSV, so
that it does not share a mistake with the one it judges.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fathom.data import Table

ODD = [
    "",
    " ",
    "NA",
    "n/a",
    "?",
    "-",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e-999",
    "0",
    "1",
    "-1",
    "1.5",
    "1,5",
    "1.234,5",
    "1,234.5",
    "12 %",
    "0x1F",
    "1_000",
    "٣",
    "²",
    "½",
    "１２",
    "9" * 400,
    "1e400",
    "2020-13-45",
    "31.12.1999",
    "12/31/99",
    "24:61",
    "9999-12-31",
    "0001-01-01",
    "275760-09-13",
    "true",
    "False",
    "yes",
    "Müller",
    "naïve",
    "日本語",
    "שלום עולם",
    "مرحبا",
    "🙂👩‍👩‍👧‍👦",
    "e\u0301",
    "\u202egnp.exe",
    "\u200b",
    "\ufeff",
    "\u00a0",
    "\u2028",
    "\x0b",
    "\x1b[31m",
    "<script>",
    "=cmd()",
    "'; drop",
    '"',
    "''",
    'a"b',
    '""',
    "a,b",
    "a;b",
    "a|b",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "\\",
    '\\"',
    "#",
    "..",
    "../../x",
    "nul.png",
    "x.txt",
    "a b c d e f g h",
    "I think that this is a rather long sentence. Or not?",
]
NAMES = ["", " ", "a", "a", "A", "b", "label", "target", "1", "1.5", "2020", "x y", "ä", "日", "__class__",
         "<b>", '"q"', "numbers", "train", "text"]  # fmt: skip
ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "cp1252", "latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
LINE_ENDS = ["\n", "\n", "\r\n", "\r"]
HURTS = [b"\0", b'"', b"'", b"\n", b"\r", b"\n\n", b",", b";", b"\t", b" ", b"\\", b"\xff", b"\x80\x81", b"\xc3",
         b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"""', b'","', b"x" * 300, b"\x1a",
    b"\xff\xfe", b"1e999", b"sep=;\n"]  # fmt: skip

columns = st.lists(st.one_of(st.sampled_from(ODD), st.integers(-99, 99).map(str), st.text(max_size=6)), max_size=12)
usual = st.one_of(st.integers(0, 5).map(str), st.sampled_from(["red", "green", "blue"]), st.floats(0, 9).map(str))


@st.composite
def grids(draw: st.DrawFn) -> list[list[str]]:
    """Rows of cells, the header first."""
    width, height = draw(st.integers(1, 5)), draw(st.integers(0, 12))
    odd = draw(columns)
    cells = st.one_of(usual, usual, usual, st.sampled_from(odd)) if odd else usual
    head = draw(st.lists(st.sampled_from(NAMES), min_size=width, max_size=width))
    body = draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=height, max_size=height))
    return [head, *body * draw(st.sampled_from([1, 3, 9]))]


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name of a file and its bytes, as a careful program writes them."""
    grid = draw(grids())
    delimiter = draw(st.sampled_from([",", ",", ";", "\t", "|"]))
    sink = io.StringIO()
    ways = [csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]
    quoting = draw(st.sampled_from(ways if len(grid[0]) > 1 else ways[:3]))  # alone, an empty cell needs quotes
    escape = "\\" if quoting == csv.QUOTE_NONE else None
    end = draw(st.sampled_from(LINE_ENDS))
    csv.writer(sink, delimiter=delimiter, quoting=quoting, escapechar=escape, lineterminator=end).writerows(grid)
    raw = sink.getvalue().encode(draw(st.sampled_from(ENCODINGS)), "replace")
    ending = draw(st.sampled_from([".csv", ".csv", ".tsv", ".txt", ".data"]))
    if draw(st.integers(0, 5)) == 0:
        packed = gzip.compress(raw, mtime=0)
        return f"made{ending}.gz", packed
    return f"made{ending}", raw


@st.composite
def hurt(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file that something happened to: bytes put in, taken out, cut off, said twice, a field of a megabyte."""
    name, raw = draw(files())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        how = draw(st.integers(0, 9))
        if how < 5:
            raw = raw[:at] + draw(st.sampled_from(HURTS)) + raw[at:]
        elif how < 7:
            raw = raw[:at] + raw[at + draw(st.integers(1, 9)) :]
        elif how == 7:
            raw = raw[:at]
        elif how == 8:
            raw = raw[:at] + raw[max(0, at - 40) :]
        else:
            raw = raw[:at] + b"long" * draw(st.sampled_from([40, 4_000, 250_000])) + raw[at:]
    return name, raw


def encoding_of(table: Table) -> str:
    return next(re.split(r"[ ,]", note.split("encoding ", 1)[1])[0] for note in table.notes if "encoding " in note)


def lines_of(raw: bytes, encoding: str) -> list[str]:
    """The lines of a file as an editor numbers them."""
    text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode(encoding, "surrogateescape")
    return re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))


def squeezed(text: str) -> str:
    """Letters and digits alone: what no quoting, trimming or respelling of numbers may lose."""
    return "".join(filter(str.isalnum, text))


def check_nothing_is_lost(table: Table, raw: bytes, path: Path, cells: Callable[[int], str] | None = None) -> None:
    """Every line of the file is in a row, said to be left out, the header, or blank.

    Raises AssertionError for what is missing. `cells` gives the text of a row; by default that of its columns.
    """
    lines = lines_of(raw, encoding_of(table))
    told = cells or (lambda row: squeezed("".join(str(v) for v in _row(table, row) if v is not None)))
    at: dict[int, int | None] = {_line(one.where, path): None for one in table.left_out}
    for row in range(len(table)):
        at.setdefault(_line(table.places[row], path), row)
    assert len(at) == len(table) + len(table.left_out), "two rows are said to begin in one line"
    starts = sorted(at)
    head = [line for line in lines[: starts[0] - 1] if line.strip() and not re.fullmatch('"?sep=."?', line.strip())]
    for start, end in zip(starts, [*starts[1:], len(lines) + 1], strict=True):
        region = lines[start - 1 : end - 1]
        row = at[start]
        if row is not None:
            assert told(row) == squeezed("".join(region)), f"line {start}: {region!r:.200} became {told(row)!r:.200}"
        # A row of several lines may be left out for a NUL or a damaged byte in a cell.
        elif not ('"' in region[0] and re.search("[\0\udc80-\udcff]", "".join(region))):
            head += [line for line in region[1:] if line.strip()]  # the header may stand below lines that are left out
    assert len(head) <= 1 or '"' in head[0], f"neither rows nor said to be left out: {head!r:.300}"
    assert not head or table.options.get("header"), f"neither a row nor a header: {head!r:.300}"


def _line(where: str, path: Path) -> int:
    assert where.startswith(f"{path}:"), f"{where!r} does not name the file"
    return int(where.rsplit(":", 1)[1])


def _row(table: Table, row: int) -> list[Any]:
    return [values[row] for values in table.columns.values()]
