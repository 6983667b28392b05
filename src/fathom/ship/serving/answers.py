"""Predictions as JSON, every number to its last bit.

What a reader would get wrong: Python writes the shortest digits that are read back as the same float64, so nothing is
rounded here. Signs beyond ASCII are escaped: what names and texts of the data hold steers nothing that shows them.
"""

from __future__ import annotations

import json
from typing import Any

from fathom.data import jsonable
from fathom.ship.predict import Predictions
from fathom.ship.serving.limits import LONGEST_MESSAGE, shown


def as_json(found: Predictions) -> bytes:
    """{"model": …, "predictions": [{"row": …, "prediction": …, …}], "notes": […]}."""
    told: dict[str, Any] = {
        "model": found.candidate,
        "predictions": [_row(found, row) for row in range(len(found))],
        "notes": [shown(note, LONGEST_MESSAGE) for note in found.notes],
    }
    if found.low is not None:
        told["level"] = found.level
    return json.dumps(jsonable(told), allow_nan=False).encode()


def _row(found: Predictions, row: int) -> dict[str, Any]:
    told: dict[str, Any] = {"row": found.places[row], "prediction": found.values[row]}
    if found.probabilities is not None:
        told["probabilities"] = dict(zip(found.classes, found.probabilities[row].tolist(), strict=True))
    if found.low is not None and found.high is not None:
        told |= {"low": found.low[row], "high": found.high[row]}
    if found.similarity is not None:
        told["similarity"] = found.similarity[row]
    return told
