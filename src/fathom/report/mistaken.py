"""One of the examples a model was most mistaken about, as the page shows it.

The caller chooses them; the page draws whatever of picture, text and row is there.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LONGEST_SIDE = 320  # pixels of a picture on the page


@dataclass(frozen=True)
class Mistaken:
    """One row that the model got wrong, with whatever of its inputs a person can look at."""

    place: str  # "photos/rose/17.jpg" or "people.csv:212"
    truth: str | float | None  # None for a text of a language
    predicted: str | float  # for a text of a language its loss in nats a token
    sure: float  # probability given to the predicted class; else NaN
    picture: np.ndarray | None = None  # uint8 [H, W] or [H, W, 1 | 3 | 4]
    text: str | None = None
    row: Mapping[str, Any] | None = None  # column → value


def picture_uri(picture: np.ndarray) -> str:
    """A picture as a PNG inside the page. Large ones are made smaller."""
    from PIL import Image

    assert picture.dtype == np.uint8, f"pictures are uint8, not {picture.dtype}"
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    image = Image.fromarray(picture)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    sink = io.BytesIO()
    image.save(sink, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
