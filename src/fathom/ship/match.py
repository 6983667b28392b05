"""Use a finished run of pictures and captions: how well any picture fits any text, and what to call a picture.

A text is found by its pictures, and a picture by its texts, from the same numbers: similarities of each with each.
Texts that name classes ("a photo of a cat", "a photo of a dog") make a classifier that was trained on neither word;
Radford et al. 2021, arXiv:2103.00020, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from fathom.candidates import Candidate
from fathom.data import Examples, Places, Table
from fathom.errors import UserError
from fathom.ship.predict import Model, Predictions


@runtime_checkable
class Matching(Protocol):
    """A predictor that gives each picture and each text a vector of length 1."""

    def picture_vectors(self, examples: Examples, rows: np.ndarray) -> np.ndarray: ...
    def caption_vectors(self, examples: Examples, rows: np.ndarray) -> np.ndarray: ...


class Similarities(NamedTuple):
    values: np.ndarray  # float64 [N, M], from -1 to 1
    places: Places  # of the N pictures


def similarities(
    model: Model, pictures: Any, texts: str | Sequence[str], *, candidate: str | None = None
) -> Similarities:
    """The cosine of each picture with each text.

    `pictures` are what `predict` takes: a path, a folder, paths, arrays, or a table with the column of pictures; all
    of them must be readable. Raises UserError for a run of another task and for a candidate that compares nothing.
    """
    names = _sides(model)
    table, notes = model.table(pictures, [names[0]])
    lost = [note for note in notes if note.startswith("left out")]
    if lost:
        raise UserError(f"Every picture needs a row of its own; {lost[0]}. Leave it out.")
    members = _members(model, candidate)
    seen, read = model.examples(table), model.examples(_texts(names[1], texts))
    return Similarities(np.mean([_similarity(one, seen, read) for one in members], axis=0), table.places)


def nearest_captions(model: Model, data: Any, *, candidate: str | None = None) -> Predictions:
    """For each picture the caption of the training rows that fits it best, and its cosine."""
    names = _sides(model)
    table, notes = model.table(data, [names[0]])
    captions = model.folder.read_table("captions.parquet")["caption"]
    read = model.examples(_texts(names[1], list(captions)))
    seen = model.examples(table)
    similarity = np.mean([_similarity(one, seen, read) for one in _members(model, candidate)], axis=0)
    best = similarity.argmax(axis=1)
    return Predictions(
        np.asarray(captions, object)[best],
        table.places,
        candidate or model.metrics["advised"],
        similarity=similarity[np.arange(len(best)), best],
        notes=notes,
    )


def _sides(model: Model) -> tuple[str, str]:
    """The columns of pictures and of captions."""
    if model.task.kind != "pair":
        raise UserError(f"{model.folder.path} was fitted to {model.task.kind}; only a run of --task pair can match.")
    target = model.spec["target"]
    return target["picture"], target["caption"]


def _members(model: Model, candidate: str | None) -> list[Matching]:
    found = model.candidate(candidate)
    members = found.members if isinstance(found, Candidate) else [found]
    matching: list[Matching] = [one for one in members if isinstance(one, Matching)]
    if len(matching) < len(members):
        able = [name for name in model.candidates if name != "constant"]
        remedy = (
            f"Name another model, candidate={able[-1]!r} (--candidate {able[-1]})."
            if able
            else "The run has no other model: fit again with model=clip, or without naming baselines."
        )
        raise UserError(f"'{candidate or model.metrics['advised']}' orders by lot and compares nothing. {remedy}")
    return matching


def _texts(column: str, texts: str | Sequence[str]) -> Table:
    given = [texts] if isinstance(texts, str) else list(texts)
    if not given or not all(isinstance(text, str) for text in given):
        raise UserError("Texts to match with were expected: a str, or a list of them.")
    values = np.empty(len(given), object)
    values[:] = given
    return Table("texts", {column: values}, Places.of_rows("text", len(given)), f"{len(given)} texts")


def _similarity(one: Matching, seen: Examples, read: Examples) -> np.ndarray:
    pictures = one.picture_vectors(seen, np.arange(len(seen)))
    captions = one.caption_vectors(read, np.arange(len(read)))
    return (pictures @ captions.T).astype(np.float64)
