"""Mamba: a decoder without attention, whose every block is a selective state space.

Gu & Dao 2023, arXiv:2312.00752, section 3.4. Time and memory grow with the length and not with its square, and a new
token costs the same however much came before. What a reader would get wrong: a block has no perceptron. Its gate and
the doubled width inside stand for one, so it takes two blocks where a Transformer has one.

A "stream" gets an answer at each position, through the embedding's own matrix where there are as many outputs as
tokens; "tokens" get one answer a row, from the last real position. `depth` is the dial: a width of 32 for each block,
so that depth=24 is the published "130m" (with its vocabulary of 50280). Departure: sums that the published code keeps
in float32 beside 16-bit weights are here in the type that the blocks give.

    >>> import torch
    >>> text = {"form": "stream", "vocabulary": 50, "length": 16}
    >>> model = build({"text": text}, 50, depth=1)
    >>> model(torch.randint(50, (2, 9))).shape
    torch.Size([2, 9, 50])

Shapes: B rows, T positions.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fathom.models.parts.language import check_headless, depth_and_width, is_language, language_of
from fathom.models.parts.selective import Measures, SelectiveMixer
from fathom.models.parts.state_decoder import MixerBlock, StateDecoder, shrink_residual

USE = "texts"
SOURCE = "Gu & Dao 2023, arXiv:2312.00752"
WIDTH_EACH = 32  # of the width, for each block
SIZES: dict[str, dict[str, int]] = {
    "130m": {"depth": 24, "width": 768},
    "370m": {"depth": 48, "width": 1024},
    "790m": {"depth": 48, "width": 1536},
    "1.4b": {"depth": 48, "width": 2048},
    "2.8b": {"depth": 64, "width": 2560},
}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one text" if is_language(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    return {"text": {"form": "stream", "vocabulary": 50280, "length": 2048}}, 50280


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    depth: int | None = None,
    width: int | None = None,
    state: int = 16,
    expand: int = 2,
    kernel: int = 4,
    step_rank: int | None = None,
    bias: bool = False,
    conv_bias: bool = True,
    norm_eps: float = 1e-5,
    tied: bool = True,
    head: bool = True,
) -> nn.Module:
    """A network from token ids int64 [B, T] to [B, T, outputs] ("stream") or [B, outputs] ("tokens").

    `size` is a published one ("370m"); options given beside it count more. Each of `expand` · width inner channels
    remembers `state` numbers; `step_rank` is the width through which its step is computed, width / 16 if left out.
    `tied` has an effect where a stream's outputs are the vocabulary. `head=False` answers with the states themselves.
    Raises UserError on inputs that are not one text and on options out of range.
    """
    about = language_of(inputs, "mamba")
    depth, width = depth_and_width(size, SIZES, depth=depth, width=width, width_each=WIDTH_EACH)
    measures = Measures(width, expand, state, kernel, step_rank, bias, conv_bias)
    if not head:
        check_headless(outputs, width)
    blocks = [MixerBlock(SelectiveMixer(measures), width, layer, norm_eps=norm_eps) for layer in range(depth)]
    shrink_residual(blocks, branches=1)
    return StateDecoder(about, outputs if head else None, width, blocks, norm_eps=norm_eps, tied=tied)
