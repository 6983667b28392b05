"""Pictures and their captions: a fit's part that finds both, keeps captions of one picture together, and batches pairs.

What a reader would get wrong: a batch is a question, "which belong together?", and its size says how hard. So batches
are drawn at random and all of one size: sorted by length they would be told apart by length alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathom.baselines.parts.matching import names_of, sides
from fathom.batches import Batches, Tensors
from fathom.data import Examples, LeftOut, Table, Task
from fathom.duplicates import duplicate_clusters
from fathom.errors import UserError
from fathom.fields import image, text
from fathom.prepared import Prepared, tell_left_out
from fathom.recipe import Recipe
from fathom.rooms import nearest
from fathom.task import find_target

Say = Callable[[str, str], None]
LEAST_PAIRS = 20
WIDTH = 128  # length of the vectors that pictures and captions become
MODELS = ("clip",)  # that answer with two vectors
# Captions of training rows that a run keeps, to name a picture by.
MOST_KEPT = 10_000


def prepare(table: Table, recipe: Recipe, say: Say) -> Prepared:
    """The picture and the caption of each row; rows that lack one are left out.

    Raises UserError where it is not clear which columns they are, and where there is too little.
    """
    if recipe.model.name not in (None, "none", *MODELS):
        raise UserError(
            f"'{recipe.model.name}' does not match pictures with texts. {nearest(recipe.model.name, MODELS)}"
        )
    picture = _picture_column(table)
    caption, why = _caption_column(table, picture, recipe)
    captions = text.texts(table.columns[caption])
    left_out, known = _usable(table, picture, caption, captions)
    table, captions = table.take(known), captions[known]
    prepared = Prepared(
        replace(table, columns={name: table.columns[name] for name in (picture, caption)}),
        Task("pair", caption, (), why),
        captions,
        {picture: "image", caption: "text"},
        {picture: "it is matched with its caption", caption: why},
        table.columns,
        left_out,
        [],
        {caption: {"vocabulary": recipe.text.vocabulary}} if recipe.text.vocabulary else {},
    )
    say("Task", f"match '{picture}' with its caption '{caption}' ({why})")
    _refuse_too_little(prepared, say)
    tell_left_out(left_out, say)
    return prepared


def refuse_pictures(table: Table, target: str) -> None:
    """Raise UserError where pictures would be predicted: most likely they were to be matched."""
    if image.sniff(target, table.columns[target]):
        raise UserError(
            f"'{target}' holds pictures, which are not predicted. To match them with their captions pass --task pair; "
            "else name what is to be predicted: --target NAME."
        )


def _picture_column(table: Table) -> str:
    found = [name for name, values in table.columns.items() if image.sniff(name, values)]
    if len(found) != 1:
        told = f"{len(found)} columns hold pictures: {', '.join(found)}" if found else "no column holds pictures"
        remedy = f"Leave out what is not meant: --drop {found[-1]}." if found else "Expected names of picture files."
        raise UserError(f"Which pictures are matched? {told}. {remedy} Columns: {', '.join(list(table.columns)[:40])}.")
    return found[0]


def _caption_column(table: Table, picture: str, recipe: Recipe) -> tuple[str, str]:
    """Its name and why it was taken."""
    texts = {name: v for name, v in table.columns.items() if name != picture and _holds_words(v)}
    if recipe.target is not None or table.target is not None:
        name, why = find_target(table, recipe.target)
        if name not in texts:
            what = "the pictures" if name == picture else "no texts"
            raise UserError(f"'{name}' holds {what}; --target names the captions. {nearest(name, texts)}")
        return name, why
    likely = [name for name, values in texts.items() if len(texts) == 1 or text.sniff(name, values)]
    if len(likely) != 1:
        told = f"{len(likely)} could be meant ({', '.join(likely)})" if likely else "no column beside them holds texts"
        raise UserError(
            f"Which are the captions of '{picture}'? {told}. Pass --target NAME. Columns: {', '.join(table.columns)}."
        )
    return likely[0], f"the text beside '{picture}'"


def _holds_words(values: np.ndarray) -> bool:
    sample = [value for value in values[:200] if value is not None] if values.dtype == object else []
    words = [value for value in sample if isinstance(value, str) and any(sign.isalpha() for sign in value)]
    return len(sample) > 0 and len(words) > len(sample) / 2


def _usable(table: Table, picture: str, caption: str, captions: np.ndarray) -> tuple[list[LeftOut], np.ndarray]:
    """What is left out, and the rows that are not. Raises UserError where most pictures cannot be read."""
    values = table.columns[picture]
    broken = image.broken(values)
    if values.dtype == object:
        broken |= {int(row): "no picture" for row, value in enumerate(values) if value is None}
    if len(broken) > len(table) / 2:
        row, why = min(broken.items())
        raise UserError(
            f"{len(broken):,} of {len(table):,} pictures in '{picture}' cannot be read; {table.places[row]}: "
            f"'{values[row]}': {why}. Names are taken from the folder that the table is in."
        )
    empty = {int(row): f"no text in '{caption}'" for row in np.flatnonzero(captions == "")}
    lost = empty | broken
    left_out = [*table.left_out, *(LeftOut(table.places[row], why) for row, why in sorted(lost.items()))]
    return left_out, np.setdiff1d(np.arange(len(table)), list(lost))


def _refuse_too_little(prepared: Prepared, say: Say) -> None:
    rows = len(prepared.table)
    num_pictures = len(np.unique(_same_picture(prepared))) if rows else 0
    num_captions = len(set(prepared.targets))
    if min(rows, num_pictures) < LEAST_PAIRS:
        raise UserError(
            f"Only {rows:,} pairs of {num_pictures:,} different pictures; {LEAST_PAIRS} pictures are needed at least, "
            "and thousands to learn much."
        )
    if num_captions < 2:
        raise UserError(f"Every picture has the same caption, '{prepared.targets[0]}': there is nothing to match.")
    if (num_pictures, num_captions) != (rows, rows):
        together = "; captions of one picture stay on one side of the split" if num_pictures < rows else ""
        say("", f"{rows:,} pairs of {num_pictures:,} pictures and {num_captions:,} different captions{together}")


def _same_picture(prepared: Prepared) -> np.ndarray:
    (picture,) = (name for name, kind in prepared.kinds.items() if kind == "image")
    return duplicate_clusters({picture: prepared.table.columns[picture]})


def groups_of(prepared: Prepared) -> np.ndarray | None:
    """What must stay together and is no evidence of its own: a label for each picture [N]; None where all differ."""
    same = _same_picture(prepared)
    return same if len(np.unique(same)) < len(same) else None


def target_spec(examples: Examples) -> dict[str, Any]:
    """What the objective must know, and which column is what."""
    names = names_of(examples.about)
    assert names is not None, "pairs are a picture and a text"
    return {"width": WIDTH, "picture": names[0], "caption": names[1]}


def picture_of(examples: Examples) -> np.ndarray:
    """A label of each row's picture [N]."""
    return sides(examples).picture_of


def among(examples: Examples) -> dict[str, int]:
    """How many different pictures and captions there are to choose from."""
    found = sides(examples)
    return {"pictures": len(found.pictures), "captions": len(found.captions)}


def told_among(found: dict[str, int]) -> str:
    """'each among 120 captions and 60 pictures'."""
    return f"each among {found['captions']:,} captions and {found['pictures']:,} pictures"


def captions_to_keep(captions: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The different captions of training rows, object [K]; evenly drawn where there are very many."""
    different = np.array(list(dict.fromkeys(captions[np.sort(train)])), object)
    return different[np.linspace(0, len(different) - 1, min(MOST_KEPT, len(different))).astype(int)]


def ids_of(examples: Examples) -> Tensor:
    """Ids of the picture and of the caption of each row: int64 [N, 2]. Rows that share one are right for each other."""
    found = sides(examples)
    return torch.from_numpy(np.stack([found.picture_of, found.caption_of], axis=1))


def batches_of(
    tensors: Tensors,
    ids: Tensor,
    rows: np.ndarray,
    size: int,
    *,
    seed: int,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> Batches:
    """Batches of ({picture: [B, C, H, W], caption: [B, T]}, ids [B, 2]), all of one size; the rows that are over stay
    out of the epoch."""
    return Batches(tensors, ids, rows, size, seed=seed, augment=augment, drop_last=True, by_length=False)
