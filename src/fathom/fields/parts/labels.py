"""Labels to be predicted: their classes in natural order, and the labels of another file that are spelt differently.

A label is never guessed: `align` only joins what differs by blanks, case or a full stop at the end, and says so.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fathom.fields.parts import numerals
from fathom.fields.parts.values import EMPTY, column, distinct


def fit_target(values: np.ndarray) -> dict[str, Any]:
    """The classes of training labels: in numeric order when all are numbers, else alphabetical."""
    found = distinct(values).without(EMPTY)
    numbers = numerals.read(found.words)
    if np.isnan(numbers).any():
        order = sorted(range(len(found.words)), key=lambda i: (found.words[i].casefold(), found.words[i]))
    else:
        order = sorted(range(len(found.words)), key=lambda i: (numbers[i], found.words[i]))
    return {
        "kind": "target",
        "classes": [found.words[i] for i in order],
        "counts": [int(found.counts[i]) for i in order],
        "missing": int((found.codes < 0).sum()),
    }


def encode_target(values: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """int64 [N] indices into the classes, -1 for a missing or unknown label."""
    index = {label: i for i, label in enumerate(spec["classes"])}
    found = distinct(values).without(EMPTY)
    return found.spread(np.fromiter((index.get(word, -1) for word in found.words), np.int64, len(found.words)), -1)


def align(values: np.ndarray, spec: dict[str, Any]) -> tuple[np.ndarray, str | None]:
    """The labels in the spelling of training, and what was changed ("<=50K. → <=50K"), None for nothing.

    Only labels that are no class themselves are changed, and only where exactly one class fits.
    """
    values = column(values)
    known = set(spec["classes"])
    times = Counter(_folded(label) for label in known)
    by_fold = {_folded(label): label for label in known if times[_folded(label)] == 1}
    found = distinct(values)
    renamed = {word: by_fold[_folded(word)] for word in found.words if word not in known and _folded(word) in by_fold}
    if not renamed:
        return values, None
    names = np.asarray([renamed.get(word, word) for word in found.words], dtype=object)
    rows = int(sum(count for word, count in zip(found.words, found.counts, strict=True) if word in renamed))
    pairs = [f"'{old}' as '{new}'" for old, new in sorted(renamed.items())]
    shown = ", ".join(pairs[:4]) + (f" and {len(pairs) - 4} more" if len(pairs) > 4 else "")
    return found.spread(names, None), f"{rows:,} labels spelt differently were read as those of training: {shown}"


def _folded(label: str) -> str:
    return " ".join(label.casefold().split()).rstrip(".").rstrip()
