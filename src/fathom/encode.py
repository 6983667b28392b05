"""Columns of a table into encoded examples: every field is fitted on rows that train, then encodes all rows.

What a reader would get wrong: under cross-validation every row outside the test trains some member, and fields are
fitted once, on all of these. Only what has a target to learn (`baselines/`, `models/`) is fitted anew for each fold.

The specs are JSON values and are kept in the run folder; `encode` with a kept spec gives the same arrays again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fathom.data import Examples, Ragged, Table
from fathom.errors import UserError
from fathom.rooms import find

# Forms that stand side by side as columns of one array; the others keep their own column's name.
STACKED = ("numbers", "categories")
Specs = dict[str, dict[str, Any]]


def fit_fields(
    table: Table,
    kinds: Mapping[str, str],
    whys: Mapping[str, str],
    train: np.ndarray,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Specs:
    """One spec for each column, learned from the training rows alone, with the reason for its kind."""
    given = options or {}
    return {
        name: find("fields", kind).fit(table.columns[name][train], name=name, **given.get(name, {}))
        | {"why": whys[name]}
        for name, kind in kinds.items()
    }


def encode(table: Table, specs: Specs) -> Examples:
    """All rows of the table in the forms that baselines and models read."""
    stacked: dict[str, list[np.ndarray]] = {form: [] for form in STACKED}
    inputs: dict[str, np.ndarray | Ragged] = {}
    words: dict[str, np.ndarray] = {}
    for name, spec in specs.items():
        for form, values in find("fields", spec["kind"]).encode(table.columns[name], spec).items():
            if form in stacked:
                stacked[form].append(values)
            elif form == "words":
                words[name] = values
            else:
                inputs[name] = values
    joined: dict[str, np.ndarray | Ragged] = {
        form: np.concatenate(columns, axis=1) for form, columns in stacked.items() if columns
    }
    return Examples(joined | inputs, about(specs), words, len(table))


def about(specs: Specs) -> dict[str, dict[str, Any]]:
    """What a model must know of each input, in the order of `encode`. Raises UserError for a name that is taken."""
    stacked: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, Any]] = {}
    for name, spec in specs.items():
        for form, facts in find("fields", spec["kind"]).describe(spec).items():
            if form in STACKED:
                whole = stacked.setdefault(form, {"form": form})
                for key, value in facts.items():
                    whole.setdefault(key, []).extend(value)
            elif form != "words":
                own[name] = {"form": form} | facts
    for form in stacked:
        if form in own:
            raise UserError(
                f"The column '{form}' holds {own[form]['form']}; beside other columns of {form} this name is taken. "
                f"Give it another name, or leave it out: --drop {form}."
            )
    return {form: stacked[form] for form in STACKED if form in stacked} | own
