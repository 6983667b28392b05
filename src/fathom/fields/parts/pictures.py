"""Read any picture as a small uint8 array [height, width] (gray) or [height, width, 3], once per process.

Upright by EXIF, first frame of an animation, transparency over white, 16 bits to 8. What is kept in memory is the
picture shrunk to a working size, not the file: the shorter side has at most `working` pixels.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from fathom.data import File
from fathom.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
SUFFIXES |= {".avif", ".jp2"}
# Named one by one: Pillow would hand an .eps file to another program.
_WANTED = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "TGA")
WORKING = 128
_MOST_PIXELS = 80_000_000  # below the number from which Pillow itself warns
_LONGEST = 4  # times the working size: a strip of paper does not fill the memory
_MOST_CACHED_BYTES = 2 * 2**30
_NEARLY_GRAY = 4  # levels between the channels of a gray picture that was kept as colour JPEG
_BLOCK = 256
UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)
UNREADABLE += (Image.DecompressionBombError,)

T = TypeVar("T")


class Cache:
    """Small pictures by file; when it is full the rest is decoded again each time."""

    def __init__(self, most_bytes: int = _MOST_CACHED_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self.lock = threading.Lock()
        self.pictures: dict[tuple[Any, ...], np.ndarray] = {}

    def keep(self, key: tuple[Any, ...], picture: np.ndarray) -> None:
        with self.lock:
            if key not in self.pictures and self.bytes + picture.nbytes <= self.most_bytes:
                self.pictures[key] = picture
                self.bytes += picture.nbytes

    def forget(self) -> None:
        with self.lock:
            self.pictures.clear()
            self.bytes = 0


cache = Cache()


@lru_cache
def _formats() -> tuple[str, ...]:
    """The wanted formats that this build of Pillow has: it answers an unknown name with a KeyError."""
    Image.init()
    return tuple(name for name in _WANTED if name in Image.OPEN)


def is_missing(value: Any) -> bool:
    return (
        value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, float) and value != value)
    )


def small(values: np.ndarray | Sequence[Any], working: int = WORKING) -> Iterator[np.ndarray | Exception | None]:
    """Each picture small, None where missing; an Exception (not raised) where it cannot be read. In order."""
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        # Archives are read here, in order, by one thread: a .tar.gz that is read backwards starts anew each time.
        found = [_fetch(value, working) for value in block]
        yield from spread(lambda value: _decoded(value, working), found)


def spread(function: Callable[[Any], T], values: Sequence[Any]) -> list[T]:
    """map() over threads: Pillow works outside Python's lock."""
    if len(values) < 2:
        return [function(value) for value in values]
    with ThreadPoolExecutor(min(len(values), os.cpu_count() or 1)) as threads:
        return list(threads.map(function, values))


class _Unread:
    """A picture on its way: its key in the cache, and its bytes where these came out of an archive."""

    def __init__(self, value: Any, key: tuple[Any, ...] | None, content: bytes | None) -> None:
        self.value, self.key, self.content = value, key, content


def _fetch(value: Any, working: int) -> Any:
    """A cached picture, None, an Exception, or the work that is left."""
    if is_missing(value):
        return None
    if not isinstance(value, File | str | Path):
        return _Unread(value, None, None)
    file = value if isinstance(value, File) else File(str(value).strip())
    try:
        stat = os.stat(file.archive or file.path)
        key = (file.archive, file.path, stat.st_mtime_ns, stat.st_size, working)
        if key in cache.pictures:
            return cache.pictures[key]
        return _Unread(file, key, file.read() if file.archive else None)
    except UNREADABLE as error:
        return error


def _decoded(found: Any, working: int) -> np.ndarray | Exception | None:
    if not isinstance(found, _Unread):
        return found
    try:
        value = found.value
        if found.content is not None:
            value = found.content
        elif isinstance(value, File):
            value = value.read()
        picture = shrink(value, working)
    except UNREADABLE as error:
        return error
    if found.key is not None:
        cache.keep(found.key, picture)
    return picture


def size_of(content: bytes, formats: Sequence[str]) -> tuple[int, int]:
    """Width and height of a picture of one of these formats, as its header says. Raises UNREADABLE.

    Nothing is decoded, but by formats such as ICO, which hold other pictures: leave these out for what strangers send.
    """
    image = Image.open(io.BytesIO(content), formats=[name for name in formats if name in _formats()])
    return image.size


def shrink(value: Any, working: int = WORKING) -> np.ndarray:
    """Bytes of a file, a PIL picture or a uint8 array as uint8 [height, width] or [height, width, 3]."""
    if isinstance(value, np.ndarray):
        image = Image.fromarray(check_pixels(value).squeeze())
    elif isinstance(value, Image.Image):
        image = value
    elif isinstance(value, bytes | bytearray | memoryview):
        image = Image.open(io.BytesIO(value), formats=_formats())
    else:
        raise UserError(
            f"A value of type {type(value).__name__} is no picture. "
            "Expected a file, its bytes, a PIL image or a uint8 array [height, width(, channels)]."
        )
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise ValueError(f"{width:,} x {height:,} pixels are refused: more than {_MOST_PIXELS:,} in one picture")
    # A JPEG can be decoded at a half, a quarter or an eighth; twice the working size is left for a good resize.
    image.draft(None, (2 * working * max(1, width // height), 2 * working * max(1, height // width)))
    image = _flat(ImageOps.exif_transpose(image) if image.getexif() else image)
    scale = min(1.0, max(working / min(image.size), 0.0), _LONGEST * working / max(image.size))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return _gray(np.asarray(image))


def _flat(image: Image.Image) -> Image.Image:
    """Any mode as "L" or "RGB"."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return image.convert("L")
    if "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """16-bit, 32-bit and float pictures: the range is told by the largest value of the picture itself."""
    values = np.nan_to_num(values.astype(np.float64))
    largest = values.max(initial=0.0)
    if largest > 255:
        values = values * (255 / 65_535)
    elif largest <= 1 and not (values == np.round(values)).all():
        values = values * 255
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _gray(picture: np.ndarray) -> np.ndarray:
    """[height, width] where the three channels say the same."""
    if picture.ndim == 3:
        signed = picture.astype(np.int16)
        if np.abs(signed - signed[..., :1]).max(initial=0) <= _NEARLY_GRAY:
            return np.ascontiguousarray(picture[..., 1])
    return picture


def check_pixels(pixels: np.ndarray) -> np.ndarray:
    """Refuse arrays that are no pixels; True and False become 255 and 0."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype != np.uint8:
        raise UserError(
            f"Pictures were given as {pixels.dtype} numbers. Expected uint8 from 0 to 255, "
            "for example (255 * x).round().astype('uint8') where x is from 0 to 1."
        )
    return pixels


def in_frame(picture: np.ndarray, height: int, width: int, channels: int, how: str, blank: Sequence[int]) -> np.ndarray:
    """A small picture as uint8 [height, width, channels], its shape kept: "crop" the middle, or "pad" with `blank`."""
    if picture.shape[:2] != (height, width):
        image = Image.fromarray(picture)
        picture = _cropped(image, height, width) if how == "crop" else _padded(image, height, width, blank)
    if channels == 3:
        return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    return (np.asarray(Image.fromarray(picture).convert("L")) if picture.ndim == 3 else picture)[..., None]


def _cropped(image: Image.Image, height: int, width: int) -> np.ndarray:
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    box = (
        max(0.0, left),
        max(0.0, top),
        min(image.width, left + width * scale),
        min(image.height, top + height * scale),
    )
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def _padded(image: Image.Image, height: int, width: int, blank: Sequence[int]) -> np.ndarray:
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    colour: Any = int(np.mean(blank)) if image.mode == "L" else tuple(blank) * (3 // len(blank))
    frame = Image.new(image.mode, (width, height), colour)
    frame.paste(image.resize(inner, Image.Resampling.BICUBIC), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(frame)
