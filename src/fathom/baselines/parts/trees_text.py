"""Is a text of LightGBM's a forest that can be walked without harm?

What a reader would get wrong: LightGBM believes its own files. A child that is no node, a column that is not there or a
number of classes that is too high lets it read and write outside of its memory, so every tree is looked at before it
is loaded. Refused are also kinds of trees that are never grown here.
"""

from __future__ import annotations

import re

import numpy as np

MOST_LEAVES = 131_072  # LightGBM's own bound
_HEAD = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)
CATEGORICAL = 1  # a bit of decision_type


def check(text: str, objective: str) -> None:
    """Raises ValueError with what is wrong. `objective` is "regression", "binary" or "multiclass num_class:5".

    >>> check("tree\\nversion=v4\\nTree=0", "binary")
    Traceback (most recent call last):
    ValueError: its head ends without tree_sizes
    """
    head, mark, _ = text.partition("\n\nTree=0\n")
    body, end, _ = text.partition("\nend of trees")
    said = dict(_HEAD.findall(head))
    if not mark or not end or "tree_sizes" not in said:
        raise ValueError("its head ends without tree_sizes")
    found = said.get("objective", "").removesuffix(" sigmoid:1")
    if found != objective:
        raise ValueError(f"its objective is '{found[:60]}'; expected '{objective}'")
    classes = int(objective.rpartition(":")[2]) if ":" in objective else 1
    for name in ("num_class", "num_tree_per_iteration"):
        if said.get(name) != str(classes):
            raise ValueError(f"its {name} is {said.get(name, 'missing')!r:.60}; expected {classes}")
    columns = _numbers(said, "max_feature_idx", 1)[0] + 1
    for name in ("feature_names", "feature_infos"):
        _words(said, name, columns)
    start = len(head) + 2
    for number, size in enumerate(_numbers(said, "tree_sizes", None)):
        tree = text[start : start + size]
        if size < 1 or not tree.startswith(f"Tree={number}\n"):
            raise ValueError(f"tree {number} does not begin where tree_sizes says")
        try:
            _check_tree(dict(_HEAD.findall(tree)), columns)
        except ValueError as error:
            raise ValueError(f"tree {number}: {error}") from None
        start += size
    if start > len(body) + 1 or body[start:].strip():
        raise ValueError("there is more, or less, than the trees of tree_sizes")


def _check_tree(said: dict[str, str], columns: int) -> None:
    leaves = int(_numbers(said, "num_leaves", 1)[0])
    if not 1 <= leaves <= MOST_LEAVES:
        raise ValueError(f"num_leaves is {leaves}")
    if said.get("is_linear", "0") != "0":
        raise ValueError("its leaves are linear models")
    if not np.isfinite(_words(said, "leaf_value", leaves).astype(np.float64)).all():
        raise ValueError("leaf_value is not finite")
    if leaves == 1:
        return
    nodes = leaves - 1
    features = _numbers(said, "split_feature", nodes)
    if features.min() < 0 or features.max() >= columns:
        raise ValueError(f"split_feature names a column beyond {columns}")
    for side in ("left_child", "right_child"):
        children = _numbers(said, side, nodes)
        # A child node comes after its parent, so that no walk goes in circles; below zero it is a leaf.
        wrong = np.where(children >= 0, (children <= np.arange(nodes)) | (children >= nodes), ~children >= leaves)
        if wrong.any():
            raise ValueError(f"{side} names no node")
    kinds, thresholds = _numbers(said, "decision_type", nodes), _words(said, "threshold", nodes).astype(np.float64)
    _check_categories(said, thresholds[(kinds & CATEGORICAL) > 0])


def _check_categories(said: dict[str, str], thresholds: np.ndarray) -> None:
    """A split by category names a set of them, which is a run of bits from one boundary to the next."""
    sets = int(_numbers(said, "num_cat", 1)[0])
    if not 0 <= sets <= MOST_LEAVES or not ((thresholds >= 0) & (thresholds < sets)).all():
        raise ValueError("a split by category names none of its sets")
    if not sets:
        return
    bounds = _numbers(said, "cat_boundaries", sets + 1)
    words = _numbers(said, "cat_threshold", None)
    if bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] != len(words):
        raise ValueError("cat_boundaries do not fit cat_threshold")


def _numbers(said: dict[str, str], name: str, count: int | None) -> np.ndarray:
    """Whole numbers, int64 [count]."""
    return _words(said, name, count).astype(np.int64)


def _words(said: dict[str, str], name: str, count: int | None) -> np.ndarray:
    words = said.get(name, "").split(" ")
    if count is not None and len(words) != count:
        raise ValueError(f"{name} has {len(words):,} values; expected {count:,}")
    return np.array(words)
