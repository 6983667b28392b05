"""Pictures: files, paths, bytes, PIL images or uint8 arrays. Encoded as uint8 [N, height, width, channels].

All pictures of a column get one frame. Small ones (up to 64 pixels) keep their size; larger ones are shrunk to a square
with their shape kept, cropped to the middle or padded. A missing picture becomes the mean colour; one that cannot be
read is named by `broken` and refused by `encode`.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from fathom.data import File, Guess
from fathom.errors import UserError
from fathom.fields.parts import pictures
from fathom.fields.parts.mirror import may_mirror
from fathom.fields.parts.values import column, plural, sample

_NATIVE = 64  # pixels; up to there a picture is small enough as it is
_MEASURED = 10_000  # pictures whose colours are counted
_FEW = 3_000  # training pictures up to which the larger side costs little
_LONG = 2.0  # median of long by short side from which cropping would lose half the picture


def sniff(name: str, values: np.ndarray) -> Guess | None:
    """Sure of arrays of pictures, of picture files, and of strings that end like them."""
    if values.ndim >= 3:
        return Guess(1.0, f"{plural(len(values), 'picture')} of {values.shape[2]} x {values.shape[1]} pixels")
    if values.ndim != 1 or values.dtype.kind not in "OUS" or not len(values):
        return None
    seen = [value for value in sample(values, 1_000) if not pictures.is_missing(value)]
    if seen and all(isinstance(value, Image.Image | np.ndarray) for value in seen):
        return Guess(0.99, plural(len(values), "picture"))
    if not seen or not all(isinstance(value, File | str | PurePath) for value in seen):
        return None
    ends = [PurePath(value.path if isinstance(value, File) else value).suffix.lower() for value in seen]
    if sum(end in pictures.SUFFIXES for end in ends) < 0.9 * len(ends):
        return None
    return Guess(0.99, f"{plural(len(values), 'name')} of pictures such as '{PurePath(str(seen[0])).name}'")


def broken(values: np.ndarray, *, size: int | None = None) -> dict[int, str]:
    """Rows whose picture cannot be read → why. Decodes each file, for `fit` and `encode` too."""
    if isinstance(values, np.ndarray) and values.ndim >= 3:
        return {}
    read = enumerate(pictures.small(column(values), _working(size)))
    return {row: _why(found) for row, found in read if isinstance(found, Exception)}


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "this is no picture"
    return f"cannot be read ({error})"


def fit(values: np.ndarray, *, name: str = "", size: int | None = None) -> dict[str, Any]:
    """Frame, channels, mean and deviation of the training pictures, and whether they may be mirrored.

    `size` is the side in pixels; None decides from the data and says why in "why_size".
    """
    if size is not None and size < 8:
        raise UserError(f"size={size} is too small for pictures. Expected 8 pixels or more, for example size=96.")
    small = _readable(values, size)
    if not small:
        raise UserError("There is no picture to learn from: all values are missing.")
    shapes = np.asarray([picture.shape[:2] for picture in small])
    how = "pad" if float(np.median(shapes.max(axis=1) / shapes.min(axis=1))) > _LONG else "crop"
    height, width, why = _frame(shapes, how, size)
    gray = float(np.mean([picture.ndim == 2 for picture in small]))
    spec = {
        "kind": "image",
        "name": name,
        "height": height,
        "width": width,
        "why_size": why,
        "channels": 1 if gray >= 0.99 else 3,
        "how": how,
        "blank": [128],  # until the mean colour is known
        "working": _working(size),
    }
    rows = np.linspace(0, len(small) - 1, min(_MEASURED, len(small))).astype(np.int64)
    return spec | _colours(_framed([small[row] for row in rows], spec))


def _colours(pixels: np.ndarray) -> dict[str, Any]:
    """Statistics of uint8 [N, H, W, C], each channel over 255."""
    levels = np.arange(256) / 255
    mean, deviation = [], []
    for channel in range(pixels.shape[3]):
        counts = np.bincount(pixels[..., channel].ravel(), minlength=256) / pixels[..., channel].size
        mean.append(float(counts @ levels))
        deviation.append(float(np.sqrt(counts @ (levels - mean[-1]) ** 2)) or 1.0)
    mirror, why = may_mirror(pixels)
    blank = [round(255 * value) for value in mean]
    return {"mean": mean, "std": deviation, "blank": blank, "mirror": mirror, "why_mirror": why}


def _frame(shapes: np.ndarray, how: str, size: int | None) -> tuple[int, int, str]:
    """Height, width and why, from the training pictures' [N, 2] heights and widths."""
    if size is not None:
        return size, size, f"{size} x {size} pixels, as asked"
    largest = int(shapes.max())
    if largest <= _NATIVE:
        height, width = (int(side) for side in shapes.max(axis=0))
        if (shapes == shapes[0]).all():
            return height, width, f"{width} x {height} pixels, as the pictures are"
        return largest, largest, f"{largest} x {largest} pixels, the largest of small pictures"
    # A crop keeps the short side whole, padding the long one.
    middle = int(np.median(shapes.min(axis=1) if how == "crop" else shapes.max(axis=1)))
    most = 128 if len(shapes) <= _FEW else 96
    side = min(most, max(32, 8 * round(middle / 8)))
    why = f"{len(shapes):,} training pictures" if side == most else f"the pictures have {middle}"
    return side, side, f"{side} x {side} pixels: {why}"


def _working(size: int | None) -> int:
    return max(pictures.WORKING, size or 0)


def _readable(values: Any, size: int | None) -> list[np.ndarray]:
    """The small pictures of all rows but missing ones; refuses what cannot be read."""
    if isinstance(values, np.ndarray) and values.ndim >= 3:
        values = _plain(values)
        if max(values.shape[1:3]) <= _NATIVE:
            return list(values)
    small = list(pictures.small(column(values), _working(size)))
    _refuse_broken(values, small)
    return [picture for picture in small if isinstance(picture, np.ndarray)]


def _refuse_broken(values: Any, small: list[np.ndarray | Exception | None]) -> None:
    bad = [row for row, picture in enumerate(small) if isinstance(picture, Exception)]
    if bad:
        error = small[bad[0]]
        assert isinstance(error, Exception)
        raise UserError(
            f"{plural(len(bad), 'picture')} cannot be read, the first is row {bad[0]}, {_shown(values[bad[0]])}: "
            f"{_why(error)}. Leave such rows out first."
        )


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, File | str | PurePath) else f"of type {type(value).__name__}"


def _plain(values: np.ndarray) -> np.ndarray:
    """A uint8 array of pictures as [N, H, W] where gray, else [N, H, W, 3]."""
    values = pictures.check_pixels(values)
    if values.ndim == 4 and values.shape[3] == 1:
        return values[..., 0]
    if values.ndim == 4 and values.shape[3] in (2, 4):
        opaque = values[..., -1:].astype(np.float32) / 255
        over_white = values[..., :-1] * opaque + 255 * (1 - opaque)
        return _plain(np.round(over_white).astype(np.uint8))
    if values.ndim == 3 or (values.ndim == 4 and values.shape[3] == 3):
        gray = values.ndim == 4 and bool((values == values[..., :1]).all())
        return np.ascontiguousarray(values[..., 0]) if gray else values
    raise UserError(
        f"Pictures of shape {list(values.shape)}. Expected [N, height, width] or [N, height, width, 1 to 4]."
    )


def _framed(small: list[Any], spec: dict[str, Any]) -> np.ndarray:
    """Small pictures as uint8 [N, H, W, C]; missing ones are blank."""
    shape = (spec["height"], spec["width"], spec["channels"])
    blank = np.broadcast_to(np.asarray(spec["blank"], np.uint8), shape)
    frame = (*shape, spec["how"], spec["blank"])
    whole = np.empty((len(small), *shape), np.uint8)

    def place(row: int) -> None:
        whole[row] = blank if small[row] is None else pictures.in_frame(small[row], *frame)

    resized = [row for row, picture in enumerate(small) if picture is not None and picture.shape[:2] != shape[:2]]
    pictures.spread(place, resized)
    for row in set(range(len(small))).difference(resized):  # copying is quicker than a thread's work is handed over
        place(row)
    return whole


def encode(values: Any, spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """ "pixels": uint8 [N, height, width, channels]."""
    shape = (spec["height"], spec["width"], spec["channels"])
    if isinstance(values, np.ndarray) and values.ndim >= 3:
        values = _plain(values)
        if (*values.shape[1:3], 3 if values.ndim == 4 else 1) == shape:
            return {"pixels": np.ascontiguousarray(values if values.ndim == 4 else values[..., None])}
    small = list(pictures.small(column(values), spec["working"]))
    _refuse_broken(values, small)
    return {"pixels": _framed(small, spec)}


def forget() -> None:
    """Free the memory of all pictures that were decoded."""
    pictures.cache.forget()


def describe(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "pixels": {key: spec[key] for key in ("height", "width", "channels", "mean", "std", "mirror", "why_mirror")}
    }


def decode(encoded: dict[str, np.ndarray], spec: dict[str, Any]) -> np.ndarray:
    """The pictures as uint8 [N, H, W] where gray, else [N, H, W, 3]."""
    pixels = encoded["pixels"]
    return pixels[..., 0] if spec["channels"] == 1 else pixels
