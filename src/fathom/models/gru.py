"""Gated recurrent units for one text or one series of frames: classes or numbers, or an answer at each position.

What a reader would get wrong: torch's unit multiplies by the reset gate after the matrix and Cho et al. before it, so
weights of the one do not fit the other. Its equations are in parts/recurrent.py, the network in parts/recurrent_net.py.

    >>> import torch
    >>> model = build({"sensor": {"form": "frames", "channels": 3, "length": 20}}, 1, width=16)
    >>> model(torch.randn(2, 20, 3)).shape
    torch.Size([2, 1])
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fathom.models.parts.recurrent_net import claims as claims
from fathom.models.parts.recurrent_net import recurrent

USE = "texts, running texts, series of frames"
SOURCE = "Cho et al. 2014, arXiv:1406.1078; both ways: Schuster & Paliwal 1997"


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    width: int = 64,
    depth: int = 1,
    dropout: float = 0.5,
    drop_tokens: float = 0.2,
    start: str = "uniform",
) -> nn.Module:
    """A network from ids int64 [B, T] or frames [B, T, F] to [B, outputs]; from a running text to [B, T, outputs].

    The options are those of models/lstm.py. Raises UserError on inputs that are not one of these and on options out
    of range.
    """
    sizes = {"width": width, "depth": depth}
    return recurrent("gru", inputs, outputs, "gru", **sizes, dropout=dropout, drop_tokens=drop_tokens, start=start)
