"""What decoders for one text have in common: what they take, which positions are real, how their weights start.

They take "tokens" (one answer a row) and "stream" (an answer at each position). What a reader would get wrong: the id
of padding is 0 only where the description of the input does not say otherwise. GPT-2 has "!" there, so folders of
trained weights give their own "padding", or None where every position is real.

Shapes: B rows, T positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.checks import check_choice, check_sizes, refuse_inputs
from fathom.models.parts.tokens import real

FORMS = ("tokens", "stream")
RESIDUAL = ("project_out.weight", "contract.weight")  # matrices whose result is added to the stream of states


def is_language(inputs: dict[str, dict[str, Any]]) -> bool:
    return len(inputs) == 1 and all(about["form"] in FORMS for about in inputs.values())


def language_of(inputs: dict[str, dict[str, Any]], whose: str) -> dict[str, Any]:
    """The description of the only input. Raises UserError where that is not one text."""
    if not is_language(inputs):
        refuse_inputs(whose, "one text", inputs)
    (about,) = inputs.values()
    return about


def inside_of(tokens: Tensor, inside: Tensor | None, about: Mapping[str, Any]) -> Tensor | None:
    """The mask that was given, else the one that the ids tell; None where every position is real.

    >>> import torch
    >>> inside_of(torch.tensor([[5, 6, 0]]), None, {"form": "tokens"})
    tensor([[ True,  True, False]])
    """
    padding = about.get("padding", 0)
    if inside is not None or about["form"] == "stream" or padding is None:
        return inside
    return real(tokens - padding)


def named_size(size: str | None, sizes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The options of a published size. Raises UserError naming the nearest."""
    return {} if size is None else sizes[check_choice("size", size, sizes)]


def depth_and_width(
    size: str | None, sizes: Mapping[str, Mapping[str, int]], *, depth: int | None, width: int | None, width_each: int
) -> tuple[int, int]:
    """The blocks and the width of a published size, with what was given in their place.

    Without a size there are 2 blocks, and `width_each` of the width for each block. Raises UserError where either is
    below 1.

    >>> sizes = {"130m": {"depth": 24, "width": 768}}
    >>> [depth_and_width(size, sizes, depth=3, width=None, width_each=32) for size in (None, "130m")]
    [(3, 96), (3, 768)]
    """
    published = named_size(size, sizes)
    depth = published.get("depth", 2) if depth is None else depth
    width = published.get("width", width_each * depth) if width is None else width
    check_sizes(depth=depth, width=width)
    return depth, width


def check_headless(outputs: int, width: int) -> None:
    """A model without a head answers with its states. Raises UserError unless that is what was asked for."""
    if outputs != width:
        raise UserError(f"model.head=false answers with {width} numbers; {outputs} outputs were asked for.")


def initialise(model: nn.Module, depth: int, *, std: float = 0.02) -> None:
    """GPT-2's start (section 2.3): normal numbers, those of each block's two last matrices over sqrt(2 · depth).

    So the sum that runs through all blocks does not grow with their number. Biases start at 0.
    """
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    for name, parameter in model.named_parameters():
        if name.endswith(RESIDUAL):
            nn.init.normal_(parameter, std=std / math.sqrt(2 * depth))
