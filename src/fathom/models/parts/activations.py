"""Activation functions by the names that published configurations use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.models.parts.checks import check_choice


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation of GPT-2 and T5 v1.1: Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), the other approximation of the same paper; CLIP uses it."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name. Raises UserError naming the nearest."""
    return ACTIVATIONS[check_choice("activation", name, ACTIVATIONS)]
