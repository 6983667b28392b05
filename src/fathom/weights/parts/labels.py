"""Names of a classifier's classes in a config.json: id2label and label2id.

What a reader would get wrong: the other library writes LABEL_0, LABEL_1, … where nobody named them. These are counted,
but they are no names.

    >>> class_names({"id2label": {"1": "cat", "0": "dog"}})
    ('dog', 'cat')
    >>> class_names({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
    ()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint


def num_labels(config: Mapping[str, Any]) -> int:
    """As many as have a name, else what is said, else two, as the other library has it."""
    return len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels", 2))


def class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in the order of the outputs, () where nobody gave any. Raises UserError where one is missing."""
    found = {str(place): str(name) for place, name in (config.get("id2label") or {}).items()}
    if set(found) != set(map(str, range(len(found)))):
        raise UserError(
            f"id2label in config.json has the ids {', '.join(sorted(found)[:5])}, …; expected each from 0 to "
            f"{len(found) - 1} once."
        )
    names = tuple(found[str(place)] for place in range(len(found)))
    return () if names == _made_up(len(names)) else names


def labels_of(blueprint: Blueprint) -> dict[str, Any]:
    """The two settings that name a classifier's outputs."""
    assert len(blueprint.classes) in (0, blueprint.outputs), "a classifier has one output for each class"
    names = blueprint.classes or _made_up(blueprint.outputs)
    return {
        "id2label": {str(place): name for place, name in enumerate(names)},
        "label2id": {name: place for place, name in enumerate(names)},
    }


def _made_up(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{place}" for place in range(count))
