"""The simple recurrent network, for one text or one series of frames. The one to learn from and to compare with.

What a reader would get wrong: it does not learn what is long past, whatever its width. Its state is multiplied by one
matrix at each position, so gradients from far back vanish or explode (Bengio et al. 1994); `start=orthogonal` puts that
off. Take lstm or gru for work. Its equation is in parts/recurrent.py, the network in parts/recurrent_net.py.

    >>> import torch
    >>> model = build({"text": {"form": "stream", "vocabulary": 50, "length": 8}}, 50)
    >>> model(torch.randint(50, (2, 8))).shape
    torch.Size([2, 8, 50])
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fathom.models.parts.recurrent_net import claims as claims
from fathom.models.parts.recurrent_net import recurrent

USE = "texts, running texts, series of frames"
SOURCE = "Elman 1990, Finding Structure in Time; both ways: Schuster & Paliwal 1997"


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
    return recurrent("rnn", inputs, outputs, "rnn", **sizes, dropout=dropout, drop_tokens=drop_tokens, start=start)
