"""Arrays of numbers as columns: pictures as uint8, matrices as one column a feature, labels as one column."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.errors import UserError
from fathom.sources.parts.columns import objects
from fathom.sources.parts.records import typed

CHANNELS = (1, 3, 4)


def columns_of(values: np.ndarray, where: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Columns of an array whose first axis is rows: "image" for 3-D and 4-D, x0 … for 2-D, "x" or "text" for 1-D."""
    values = _without_objects(values, where)
    if values.ndim == 0 or 0 in values.shape:
        raise UserError(f"{where} has the shape {values.shape}. Expected rows of data along its first axis.")
    if values.ndim == 1:
        return {"text" if values.dtype == object else "x": values}, []
    if values.ndim == 2:
        return {f"x{i}": typed(list(v)) if v.dtype == object else v for i, v in enumerate(values.T)}, []
    if values.ndim in (3, 4):
        pictures, notes = as_pictures(values, where)
        return {"image": pictures}, notes
    raise UserError(
        f"{where} has {values.ndim} axes, {values.shape}. Expected rows × features, or pictures [N, H, W, C]."
    )


def as_pictures(values: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    """uint8 [N, H, W] or [N, H, W, C], and what was done: channels moved to the end, numbers scaled to 0..255."""
    notes: list[str] = []
    if values.ndim == 4 and values.shape[-1] not in CHANNELS:
        if values.shape[1] not in CHANNELS:
            raise UserError(
                f"{where} has the shape {values.shape}. Expected pictures [N, H, W] or [N, H, W, C] with "
                "1, 3 or 4 channels."
            )
        values = np.ascontiguousarray(np.moveaxis(values, 1, -1))
        notes.append("channels moved from the second axis to the last")
    if values.ndim == 4 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.dtype != np.uint8:
        values, note = _as_bytes(values, where)
        notes.append(note)
    return values, notes


def _as_bytes(values: np.ndarray, where: str) -> tuple[np.ndarray, str]:
    if values.dtype.kind not in "biuf":
        raise UserError(f"{where} holds {values.dtype}. Expected numbers from 0 to 255, or from 0 to 1.")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # also true for NaN
        raise UserError(
            f"{where} holds numbers from {low:g} to {high:g}. Expected pictures from 0 to 255, or from 0 to 1; "
            "give them before they are standardised."
        )
    is_unit = high <= 1 and values.dtype.kind in "fb"
    scale = 255 if is_unit else 1
    scaled = np.empty(values.shape, np.uint8)
    for i in range(0, len(values), 1024):  # in pieces: a copy of all as floats would need many times the memory
        scaled[i : i + 1024] = np.rint(values[i : i + 1024].astype(np.float32) * scale)
    return scaled, "pictures scaled from 0..1 to 0..255" if is_unit else f"pictures stored as bytes, not {values.dtype}"


def as_labels(values: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    """One value a row. One-hot rows become the number of their class."""
    values = _without_objects(values, where)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and _is_one_hot(values):
        return values.argmax(axis=1).astype(np.int64), ["labels given one-hot are numbered by their column from 0"]
    if values.ndim != 1:
        raise UserError(f"{where} has the shape {values.shape}. Expected one label a row.")
    return values.astype(np.int64) if values.dtype.kind == "u" else values, []


def as_array(values: Any) -> np.ndarray:
    """An array of what was given: an array, a list, a series. Text and mixtures come as objects."""
    if isinstance(values, np.ndarray):
        return _without_objects(values)
    if hasattr(values, "to_numpy"):
        return _without_objects(np.asarray(values.to_numpy()))
    if isinstance(values, list | tuple) and values and not isinstance(values[0], list | tuple | np.ndarray):
        return typed(values)
    try:
        return _without_objects(np.asarray(values))
    except ValueError as error:
        raise UserError(f"These values cannot be an array: {error}. Expected rows of equal length.") from error


def _without_objects(values: np.ndarray, where: str = "An array") -> np.ndarray:
    """Text and 1-D objects as a column of a `Table` holds them. Raises UserError for what no column holds."""
    if values.dtype.kind not in "biufMOUS":
        raise UserError(f"{where} of {values.dtype} is no column. Expected numbers, texts or dates.")
    if values.dtype.kind in "US":
        words = values.astype(str) if values.dtype.kind == "S" else values
        flat = objects([w.strip() or None for w in words.ravel().tolist()])
        return flat.reshape(values.shape)
    return typed(values.tolist()) if values.dtype == object and values.ndim == 1 else values


def _is_one_hot(values: np.ndarray) -> bool:
    return values.dtype.kind in "biuf" and bool(np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all())
