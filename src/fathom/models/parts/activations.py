"""Activation functions by the names that published configurations use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.rooms import nearest


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation of GPT-2 and T5 v1.1: Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), the other approximation of the same paper; CLIP uses it."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name. Raises UserError naming the nearest."""
    if name not in ACTIVATIONS:
        raise UserError(f"model.activation={name} is not known. {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]
