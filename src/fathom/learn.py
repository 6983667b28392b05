"""What is learned from the training rows before any model: specs of the fields and of the target, and the examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fathom import language, pairs, translation
from fathom.data import Examples
from fathom.encode import Specs, encode, fit_fields
from fathom.fields import plain_text
from fathom.prepared import Prepared
from fathom.recipe import Recipe
from fathom.task import target_spec


class Learned(NamedTuple):
    specs: Specs
    target: dict[str, Any]  # spec for the objective
    examples: Examples
    targets: np.ndarray  # [N], as Task says
    notes: Sequence[str] = ()


def learn(prepared: Prepared, recipe: Recipe, rows: np.ndarray) -> Learned:
    """Fit the fields on these rows, encode all of them."""
    kind = prepared.task.kind
    if kind == "translate":
        specs, target = translation.fit_texts(prepared, rows, recipe.text.vocabulary)
        notes = translation.told_cut(prepared, target)
        return Learned(specs, target, encode(prepared.table, specs), prepared.targets, notes)
    specs = fit_fields(prepared.table, prepared.kinds, prepared.whys, rows, prepared.options)
    examples = encode(prepared.table, specs)
    if kind == "language":
        (spec,) = specs.values()
        target = {"vocabulary": spec["vocabulary"], "mask": plain_text.UNKNOWN, "masked": recipe.text.masked}
        return Learned(specs, target, examples, language.sizes(examples))
    if kind == "pair":
        return Learned(specs, pairs.target_spec(examples), examples, prepared.targets)
    return Learned(specs, target_spec(prepared.task, prepared.targets[rows]), examples, prepared.targets)
