"""A GGUF file, as llama.cpp reads it: what it says of a model, and its tensors as float32, whatever they are kept in.

The format is read by the package `gguf` (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). What a reader
would get wrong: a quantized tensor is dequantized when it is asked for and not before, so a model of 4 bits a weight
needs its float32 size in memory once. Nothing here knows a tensor's or a setting's meaning.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathom.errors import UserError
from fathom.gguf_header import check_lengths
from fathom.weights.parts.blueprint import Settings
from fathom.weights.parts.lazy import LazyTensors

MAGIC = b"GGUF"
# What the reader raises on files that are cut off, damaged, or not of its kind.
UNREADABLE = (ValueError, KeyError, IndexError, TypeError, OverflowError, OSError)


@dataclass(frozen=True)
class GgufFile:
    """The settings by their full names ("llama.block_count"), the tensors, and their shapes as torch has them."""

    settings: Settings
    tensors: LazyTensors
    shapes: dict[str, tuple[int, ...]]


def gguf_in(source: str | Path) -> Path | None:
    """The GGUF file that is meant: the file itself, or the only one of a folder without config.json; else None."""
    path = Path(source)
    if os.path.isdir(path):  # unlike the methods of Path it says no to a name that is too long for a file
        found = [] if (path / "config.json").exists() else sorted(path.glob("*.gguf"))
        if len(found) > 1:
            raise UserError(f"{path} holds {len(found)} .gguf files. Name one of them, for example {found[0]}")
        return found[0] if found else None
    if os.path.isfile(path):
        with path.open("rb") as file:
            return path if path.suffix == ".gguf" or file.read(len(MAGIC)) == MAGIC else None
    if path.suffix == ".gguf":
        raise UserError(f"There is no file {path}.")
    return None


def read_gguf(path: Path) -> GgufFile:
    """Open the file. Raises UserError on one that is cut off, no GGUF file, or kept in a type we cannot dequantize."""
    try:
        import gguf
    except ImportError:
        raise UserError(f"To read {path}: pip install 'fathom-dl[gguf]'") from None
    try:
        check_lengths(path)
        reader = gguf.GGUFReader(path)
        settings = {name: _value(field) for name, field in reader.fields.items()}
    except UNREADABLE as error:
        raise UserError(
            f"{path} is not a whole GGUF file: {type(error).__name__}: {error}. Fetch it again, or, where it is newer "
            "than the installed reader: pip install -U gguf"
        ) from None
    if reader.byte_order != "I":
        raise UserError(f"{path} was written for machines with the other order of bytes. Convert it on one of those.")
    if settings.get("split.count", 1) > 1:
        raise UserError(
            f"{path} is part {settings.get('split.no', 0) + 1} of {settings['split.count']}. Join them into one file: "
            "llama-gguf-split --merge FIRST-PART OUTPUT"
        )
    _check_types({tensor.tensor_type for tensor in reader.tensors}, path)
    return GgufFile(
        Settings(settings, where=str(path)),
        LazyTensors({tensor.name: partial(_dequantized, tensor) for tensor in reader.tensors}),
        {tensor.name: tuple(reversed(tensor.shape.tolist())) for tensor in reader.tensors},
    )


def _value(field: Any) -> Any:
    """A setting. Numbers of 32 bits as they were typed: 1e-05, not 9.999999747378752e-06."""
    found = field.contents()
    return float(str(np.float32(found))) if field.types and field.types[0].name == "FLOAT32" else found


def _check_types(types: set[Any], path: Path) -> None:
    from gguf import GGML_QUANT_SIZES, dequantize

    unknown = []
    for kind in types:
        _, block_bytes = GGML_QUANT_SIZES[kind]
        try:
            dequantize(np.zeros((1, block_bytes), np.uint8), kind)
        except NotImplementedError:
            unknown.append(kind.name)
    if unknown:
        raise UserError(
            f"{path} holds tensors of type {', '.join(sorted(unknown))}, which cannot be dequantized. Name a file in "
            "F16, Q8_0, Q4_K_M or the like."
        )


def _dequantized(tensor: Any, row: int | None = None) -> Tensor:
    """The tensor, or one row of its first dimension (an expert of many), without the work for the others."""
    from gguf import dequantize

    data = tensor.data if row is None else tensor.data[row]
    # A copy: what float32 gives is the file itself, mapped into memory and not to be written to.
    return torch.from_numpy(np.array(dequantize(data, tensor.tensor_type), dtype=np.float32))
