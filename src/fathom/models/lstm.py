"""Long short-term memory for one text or one series of frames: classes or numbers, or an answer at each position.

What a reader would get wrong: two different LSTMs go by this name. Ours has a forget gate, the paper's had none; its
equations are in parts/recurrent.py, the network around it in parts/recurrent_net.py.

    >>> import torch
    >>> model = build({"review": {"form": "tokens", "vocabulary": 50, "length": 8}}, 2, forget_bias=1.0)
    >>> model(torch.tensor([[2, 7, 9, 0], [2, 5, 0, 0]])).shape
    torch.Size([2, 2])
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fathom.models.parts.checks import check_choice
from fathom.models.parts.recurrent_net import BothWays as BothWays
from fathom.models.parts.recurrent_net import claims as claims
from fathom.models.parts.recurrent_net import recurrent

USE = "texts, running texts, series of frames"
SOURCE = "Hochreiter & Schmidhuber 1997; both ways: Graves & Schmidhuber 2005; forget gate: Gers et al. 2000"
CELLS = ("lstm", "gru")


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    cell: str = "lstm",
    width: int = 64,
    depth: int = 1,
    dropout: float = 0.5,
    drop_tokens: float = 0.2,
    start: str = "uniform",
    forget_bias: float | None = None,
) -> nn.Module:
    """A network from ids int64 [B, T] or frames [B, T, F] to [B, outputs]; from a running text to [B, T, outputs].

    `width` is the size of the state in each direction, `depth` the number of layers, `drop_tokens` the share of tokens
    (or frames) zeroed in training. `dropout` falls on the vectors of tokens, before each layer and before the head: on
    what the first layer reads twice. `start` draws the first weights, "uniform" as torch does or "orthogonal" with
    Glorot's range; `forget_bias` is the forget gate's first bias, which 1 makes remember. `cell=gru` is the same as
    model=gru. Raises UserError on inputs that are not one of these and on options out of range.
    """
    return recurrent(
        check_choice("cell", cell, CELLS),
        inputs,
        outputs,
        "lstm",
        width=width,
        depth=depth,
        dropout=dropout,
        drop_tokens=drop_tokens,
        start=start,
        forget_bias=forget_bias,
    )
