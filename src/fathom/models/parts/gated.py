"""The gated perceptron of Llama and many since: contract(activation(gate(x)) · expand(x)).

Shazeer 2020, arXiv:2002.05202, eq. 6: with "silu" it is SwiGLU, with "gelu" GEGLU. What a reader would get wrong: it
holds three matrices where an ordinary perceptron has two, so the hidden layer is usually two thirds as wide.
"""

from __future__ import annotations

from torch import Tensor, nn

from fathom.models.parts.activations import activation


class GatedPerceptron(nn.Module):
    """[.., width] → [.., width] by way of `hidden` channels.

    >>> import torch
    >>> GatedPerceptron(8, 20)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, width: int, hidden: int, *, activation_name: str = "silu", bias: bool = False) -> None:
        super().__init__()
        self.activation = activation(activation_name)
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.expand = nn.Linear(width, hidden, bias=bias)
        self.contract = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(self.activation(self.gate(x)) * self.expand(x))
