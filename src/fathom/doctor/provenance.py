"""D5: columns that were scaled with the test rows among those that gave mean and spread, or least and greatest.

Seen by the fingerprint that this leaves in data delivered in parts: over all parts together the mean is 0 and the
spread 1 to many digits, over the training rows they are not. What a reader would get wrong: a file without parts that
is standardised as a whole has the same fingerprint and is not told of; nobody has tested on it yet, and the mean of
many rows hardly gives a few away.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fathom.data import Ragged
from fathom.doctor.finding import Finding
from fathom.doctor.parts.given import Given

EXACT = 1e-5  # of the spread: so near to 0 no mean comes by chance, in two columns
OFF = 20.0  # times farther from 0 is the mean of the training rows
LEAST_COLUMNS, LEAST_VALUES = 2, 50


def find_scaled(given: Given) -> Iterator[Finding]:
    numbers = given.examples.inputs.get("numbers")
    if not given.official or numbers is None or isinstance(numbers, Ragged) or given.parts is None:
        return
    names = given.examples.about["numbers"]["names"]
    train = given.parts == "train"
    standard: list[str] = []
    ranged: list[str] = []
    for name, column in zip(names, numbers.astype(np.float64).T, strict=True):
        known = ~np.isnan(column)
        if len(np.unique(column[known])) < LEAST_VALUES or not (known & train).any():
            continue
        whole, own = column[known], column[known & train]
        if _is_standard(whole) and abs(own.mean()) > OFF * max(abs(whole.mean()), EXACT):
            standard.append(name)
        outside = own.min() > whole.min() or own.max() < whole.max()
        if abs(whole.min()) < EXACT and abs(whole.max() - 1) < EXACT and outside:
            ranged.append(name)
    for how, columns in (("mean 0 and spread 1", standard), ("the range from 0 to 1", ranged)):
        if len(columns) >= LEAST_COLUMNS:
            yield _finding(how, columns)


def _is_standard(values: np.ndarray) -> bool:
    spread = float(values.std())
    return abs(values.mean()) < EXACT and (abs(spread - 1) < EXACT or abs(values.std(ddof=1) - 1) < EXACT)


def _finding(how: str, columns: list[str]) -> Finding:
    told = ", ".join(f"'{name}'" for name in columns[:4]) + (", …" if len(columns) > 4 else "")
    return Finding(
        "D5",
        seen=f"{len(columns)} columns have {how} over training and test rows together, and not over the training rows: "
        f"{told}",
        cause="They were scaled before the parts were divided, so the test rows had a say in it.",
        remedy="Scale anew from the raw values, by what the training rows say alone; `fathom fit` does. With many rows "
        "the harm is small.",
        by="exact",
        evidence={"columns": columns},
    )
