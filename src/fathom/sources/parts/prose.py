"""Whether a .txt file is running text or a table, by its first lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fathom.errors import UserError
from fathom.sources.parts.encoding import decode
from fathom.sources.parts.files import read_bytes

LOOKED_AT = 500  # lines
LEAST_WORDS = 20  # of a text of a single line
DELIMITERS = "\t,;|"
ALIKE = 0.9  # share of the lines that have a delimiter equally often, in a table
LABELS = 0.12  # different first words for each line, at most, where lines begin with a label


def is_prose(path: Path) -> bool:
    """Whether lines have no delimiter in common, and do not begin with one of few labels."""
    try:
        text, _ = decode(read_bytes(path)[0][: 1 << 16], path)
    except UserError:
        return False  # whoever opens it says why
    lines = [line for line in text.split("\n") if line.strip()][:LOOKED_AT]
    if len(lines) < 2:
        return len(text.split()) >= LEAST_WORDS
    for sign in DELIMITERS:
        count, times = Counter(line.count(sign) for line in lines).most_common(1)[0]
        if count and times >= ALIKE * len(lines):
            return False
    firsts = {line.split()[0] for line in lines}
    return len(firsts) > LABELS * len(lines) and any(len(line.split()) > 2 for line in lines)
