"""Text that fits the terminal: a long line goes on under its own text, not under its label."""

from __future__ import annotations

import shutil
import textwrap

LABEL_WIDTH = 11  # of what comes first in a line, such as 'Reading' or 'Doctor'


def columns() -> int:
    return shutil.get_terminal_size().columns


def wrapped(text: str) -> str:
    """As many lines as it takes. Paths, options and names are not cut in two, so that they can be copied."""
    return textwrap.fill(
        text,
        max(2 * LABEL_WIDTH, columns() - 1),
        subsequent_indent=" " * LABEL_WIDTH,
        break_on_hyphens=False,
        break_long_words=False,
    )
