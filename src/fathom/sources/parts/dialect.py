"""How a text file is cut into cells: the delimiter, the quoting, and lines that are 'label text'.

The delimiter is the one that gives the most rows of one width; a width of one decides nothing.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from fathom.errors import UserError
from fathom.sources.parts.header import is_number

NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blanks"}
SAMPLE_LINES = 400
Cut = Literal["delimiter", "first blank", "line"]


@dataclass(frozen=True)
class Dialect:
    """How to cut a line. `width` is the number of cells of a row."""

    delimiter: str = ","
    width: int = 1
    cut: Cut = "delimiter"
    is_quoted: bool = True
    is_escaped: bool = False  # \" inside quotes, where others write ""

    def describe(self) -> str:
        if self.cut == "first blank":
            return "one line a row: a label, a blank, a text"
        if self.cut == "line":
            return "one line a row, one column"
        return f"delimiter {NAMES.get(self.delimiter, repr(self.delimiter))}"


def rows_of(lines: Iterable[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Pairs of (number of the row's last line, cells). Empty lines give an empty list."""
    if dialect.cut != "delimiter":
        yield from _whole_lines(lines, dialect.cut)
        return
    if dialect.delimiter == " ":
        lines = (line.replace("\t", " ").strip() for line in lines)
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.is_quoted else csv.QUOTE_NONE,
        doublequote=not dialect.is_escaped,
        escapechar="\\" if dialect.is_escaped else None,
        skipinitialspace=dialect.delimiter != "\t",
    )
    for row in reader:
        yield reader.line_num, row


def _whole_lines(lines: Iterable[str], cut: Cut) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        line = line.strip()
        yield number, ([] if not line else line.split(None, 1) if cut == "first blank" else [line])


def sniff(lines: list[str], ending: str, delimiter: str | None = None) -> Dialect:
    """The dialect of a file, from its lines (with their line ends; all of them, for the choice needs no more)."""
    if delimiter is not None:
        return _given(lines, delimiter)
    sample = lines[:SAMPLE_LINES]
    first = {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(ending)
    found = [c for d in "\t;|," for c in _candidates(sample, d)]
    best = max(found, key=lambda c: (round(c[1], 1), c[0].delimiter == first, c[2]), default=None)
    if best is not None and best[1] >= 0.6:
        return best[0]
    if ending in (".csv", ".tsv", ".tab", ".psv"):
        return _by_ending(sample, first or ",", best[0] if best else None)
    return _free_text(lines, sample)


def _given(lines: list[str], delimiter: str) -> Dialect:
    delimiter = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "blank": " ", "space": " "}.get(
        delimiter, delimiter
    )
    if len(delimiter) != 1:
        raise UserError(f"The delimiter is one character or 'tab'; found {delimiter!r}.")
    found = _candidates(lines[:SAMPLE_LINES], delimiter, least=1)
    return max(found, key=lambda c: (c[1], c[2]))[0] if found else Dialect(delimiter)


def _candidates(sample: list[str], delimiter: str, least: int = 2) -> list[tuple[Dialect, float, float]]:
    """(dialect, share of rows of the usual width, purity) for each way of quoting that makes sense here."""
    text = "".join(sample)
    ways = [Dialect(delimiter)] if '"' in text else [Dialect(delimiter, is_quoted=False)]
    if '"' in text:
        ways += [Dialect(delimiter, is_escaped=True)] if '\\"' in text else []
        ways += [Dialect(delimiter, is_quoted=False)] if not _has_quoted_cell(text, delimiter) else []
    scored = [_score(sample, way) for way in ways]
    return [s for s in scored if s[0].width >= least]


def _score(sample: list[str], dialect: Dialect) -> tuple[Dialect, float, float]:
    rows = [row for _, row in _safely(sample, dialect) if row]
    rows = rows[:-1] if len(sample) == SAMPLE_LINES and len(rows) > 1 else rows  # the last may be cut inside quotes
    counts = Counter(map(len, rows))
    width, number = max(counts.items(), key=lambda c: (c[1], c[0]), default=(0, 0))
    chosen = Dialect(dialect.delimiter, width, "delimiter", dialect.is_quoted, dialect.is_escaped)
    return chosen, number / max(1, len(rows)), _purity([r for r in rows if len(r) == width], dialect.delimiter)


def _safely(sample: list[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from rows_of(sample, dialect)
    except csv.Error:  # a cell longer than the csv module takes: such a way of quoting is wrong anyway
        return


def _purity(rows: list[list[str]], delimiter: str) -> float:
    """Share of cells without another delimiter in them. '1,5' between semicolons is a number, so it is pure."""
    others = re.compile("[" + re.escape("".join(d for d in "\t;|," if d != delimiter)) + "]")
    cells = [c for row in rows[:100] for c in row]
    return sum(not others.search(c) or is_number(c) for c in cells) / max(1, len(cells))


def _has_quoted_cell(text: str, delimiter: str) -> bool:
    edge = re.escape(delimiter)
    return re.search(rf'(?:^|{edge}) ?"[^"\n]*"\s*(?:{edge}|$)', text, re.MULTILINE) is not None


def _by_ending(sample: list[str], delimiter: str, best: Dialect | None) -> Dialect:
    """A .csv with one column, or one so ragged that the reader of rows must say so."""
    blanks = _score(sample, Dialect(" "))
    if best is None and len(sample) > 1 and blanks[0].width > 2 and blanks[1] > 0.98:
        return blanks[0]
    return best or Dialect(delimiter, 1)


def _free_text(lines: list[str], sample: list[str]) -> Dialect:
    """.txt, .data and the like without a delimiter: columns between blanks, 'label text', or lines."""
    blanks, share, _ = _score(sample, Dialect(" "))
    if len(sample) > 1 and blanks.width >= 2 and share >= 0.98:
        return blanks
    if is_label_first(lines):
        return Dialect(" ", 2, "first blank", is_quoted=False)
    return Dialect(" ", 1, "line", is_quoted=False)


def is_label_first(lines: list[str]) -> bool:
    """Whether every line is 'label text', as in '4 a stirring film' or 'NUM:dist How far is it ?'."""
    words = [line.split(None, 1) for line in lines if line.strip()]
    if len(words) < 4 or sum(len(w) < 2 for w in words) > 0.01 * len(words):
        return False
    labels = {w[0] for w in words}
    is_few = len(labels) <= min(200, max(2, len(words) // 4))
    looks = all(v.isdecimal() for v in labels) or all(":" in v or v.startswith("__label__") for v in labels)
    return is_few and (looks or (len(labels) <= 20 and len(words) >= 20 * len(labels)))
