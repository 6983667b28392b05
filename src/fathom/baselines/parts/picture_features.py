"""Simple features of pictures for classical models: small pixels, edge directions over cells, colours.

NumPy only, in batches, so that 60,000 pictures of 28 x 28 take seconds and little memory. What a reader would get
wrong: large pictures are first reduced to at most 32 x 32, by averaging. The number of features follows from the
size of the pictures, which is the same for all rows.

Source: histograms of oriented gradients, Dalal & Triggs 2005, "Histograms of Oriented Gradients for Human Detection",
section 6 (unsigned directions, bilinear votes between directions, normalised); ours has no overlapping blocks.
"""

from __future__ import annotations

import math

import numpy as np

SIDE = 32  # longest side of the reduced picture
CELL = 4  # side of a cell, in pixels of the reduced picture
DIRECTIONS = 8
COLOURS = 4  # steps of each channel in the colour histogram
BATCH_VALUES = 500_000  # values of pictures in work at a time: small enough for the processor cache


def picture_features(pictures: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Features float32 [len(rows), F], all between 0 and 1, of uint8 pictures [N, height, width, channels]."""
    height, width, channels = pictures.shape[1:]
    size = max(1, BATCH_VALUES // (height * width * channels))
    batches = [rows[start : start + size] for start in range(0, len(rows), size)] or [rows]
    return np.concatenate([_of_batch(pictures[batch]) for batch in batches])


def _of_batch(pictures: np.ndarray) -> np.ndarray:
    values = _reduced(pictures.astype(np.float32) / 255)
    grey = values.mean(axis=3)
    parts = [_edges(grey), _flat(_cell_means(values, 2))]
    if values.shape[3] >= 3:
        parts.append(_colours(values[..., :3]))
    return np.concatenate(parts, axis=1)


def _reduced(values: np.ndarray) -> np.ndarray:
    """At most SIDE pixels on a side, each the mean of the whole pixels it covers; smaller pictures stay as they are."""
    factor = min(1.0, SIDE / max(values.shape[1:3]))
    for axis, old in ((1, values.shape[1]), (2, values.shape[2])):
        new = max(1, round(old * factor))
        if new < old:
            values = _means(values, np.arange(new) * old // new, axis)
    return values


def _edges(grey: np.ndarray) -> np.ndarray:
    """Histograms of gradient directions over cells, each cell divided by the mean strength around it."""
    down, across = np.zeros_like(grey), np.zeros_like(grey)
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    strength = np.hypot(down, across)
    # Directions without sign, in units of one histogram step: 0 to DIRECTIONS.
    place = (np.arctan2(down, across) % np.pi) * np.float32(DIRECTIONS / np.pi)
    cells = []
    for direction in range(DIRECTIONS):
        away = np.abs(place - direction)
        share = np.maximum(0, 1 - np.minimum(away, DIRECTIONS - away))
        cells.append(_cell_means((strength * share)[..., None], CELL)[..., 0])
    histograms = np.stack(cells, axis=-1)  # [n, cells down, cells across, DIRECTIONS]
    total = histograms.sum(axis=-1, keepdims=True)
    around = np.sqrt(total) + 0.1
    return _flat(histograms / (total + 0.02) * np.minimum(around, 1))


def _cell_means(values: np.ndarray, side: int) -> np.ndarray:
    """Means over cells of side x side pixels; the last cells of a row or column may be smaller."""
    for axis in (1, 2):
        values = _means(values, np.arange(0, values.shape[axis], side), axis)
    return values


def _means(values: np.ndarray, starts: np.ndarray, axis: int) -> np.ndarray:
    """Means over stretches along an axis, each from its start to the next."""
    shape = [1] * values.ndim
    shape[axis] = len(starts)
    counts = np.diff(np.append(starts, values.shape[axis])).astype(np.float32)
    return np.add.reduceat(values, starts, axis=axis) / counts.reshape(shape)


def _colours(values: np.ndarray) -> np.ndarray:
    """Share of pixels in each of COLOURS³ boxes of the colour cube."""
    steps = np.minimum((values * COLOURS).astype(np.int32), COLOURS - 1)
    box = (steps[..., 0] * COLOURS + steps[..., 1]) * COLOURS + steps[..., 2]
    boxes = COLOURS**3
    flat = _flat(box) + np.arange(len(box))[:, None] * boxes
    counts = np.bincount(flat.ravel(), minlength=len(box) * boxes).reshape(len(box), boxes)
    return (counts / flat.shape[1]).astype(np.float32)


def _flat(values: np.ndarray) -> np.ndarray:
    """[n, …] → [n, product of the rest]; with no rows too, where reshape cannot tell."""
    return values.reshape(len(values), math.prod(values.shape[1:]))
