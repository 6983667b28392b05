"""Find rows that are copies of each other, without looking at what is to be predicted.

Equal means equal in every feature as it was read; near copies (a picture saved again) are not found.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fathom.data import File
from fathom.partition import labels


def duplicate_clusters(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Cluster id of each row, int64 [N]: rows equal in all columns share one, numbered by first appearance.

    Give the features without the target and without row numbers. Words are compared without blanks at their ends,
    files by their bytes, pictures by their pixels, NaN equals NaN. Compared by 64-bit hashes: among a million
    different rows the chance that any two are taken for equal is below one in ten million.
    """
    return labels(row_hashes(columns)).astype(np.int64)


def row_hashes(columns: Mapping[str, np.ndarray], *, whole: bool = False) -> np.ndarray:
    """A hash of each row, uint64 [N], by which `duplicate_clusters` compares. They are good within this process alone.

    `whole`: read every file, so that hashes of different tables can be compared; else a file whose size no other of
    the column has is not read.
    """
    mixed: np.ndarray | None = None
    for values in columns.values():
        hashed = _hash_column(values, whole)
        # The golden ratio keeps equal columns from cancelling out; see splitmix64, Steele et al. 2014.
        mixed = _mix(hashed if mixed is None else mixed * np.uint64(0x9E3779B97F4A7C15) + hashed)
    if mixed is None:
        raise ValueError("row_hashes was given no columns.")
    return mixed


def contradictions(duplicates: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ids of rows that equal another row and yet have another target: "4 pictures stand in two classes"."""
    cluster = labels(duplicates)
    pairs = np.unique(np.stack([cluster, labels(targets)]), axis=1)
    return np.flatnonzero(np.bincount(pairs[0])[cluster] > 1)


def _mix(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _hash_column(values: np.ndarray, whole: bool) -> np.ndarray:
    if values.ndim > 1:
        flat = np.ascontiguousarray(values).reshape(len(values), -1)
        hashes = [hash(row.tobytes()) for row in flat]
    elif values.dtype == object:
        once = set() if whole else _sizes_seen_once(values)
        hashes = [_hash_value(value, once) for value in values]
    elif values.dtype.kind == "f":
        # One NaN for all NaNs, and no minus zero.
        known = np.where(np.isnan(values), np.nan, values.astype(np.float64) + 0.0)
        return _mix(known.view(np.uint64))
    elif values.dtype.kind in "biuMm":
        return _mix(values.astype(np.int64).view(np.uint64))
    else:
        hashes = [hash(str(value).strip()) for value in values]
    return np.array(hashes, dtype=np.int64).view(np.uint64)


def _hash_value(value: Any, once: set[int]) -> int:
    if isinstance(value, str):
        return hash(value.strip())
    if isinstance(value, File):
        size = os.path.getsize(value.path) if not value.archive else -1
        return hash(size) if size in once else hash(hashlib.blake2b(value.read(), digest_size=16).digest())
    if isinstance(value, float) and value != value:
        return hash(None)
    # Not hash(value): Python hashes -1 and -2 alike.
    return hash(repr(value))


def _sizes_seen_once(values: np.ndarray) -> set[int]:
    """Sizes that only one plain file has: no other can have its bytes, so it need not be read."""
    sizes = [os.path.getsize(v.path) for v in values if isinstance(v, File) and not v.archive]
    if any(isinstance(v, File) and v.archive for v in values):
        return set()
    found, counts = np.unique(np.array(sizes, dtype=np.int64), return_counts=True)
    return set(found[counts == 1].tolist())
