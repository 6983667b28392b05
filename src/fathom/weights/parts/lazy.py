"""Tensors that are made when they are asked for, so that a model's weights need not lie in memory twice.

>>> import torch
>>> tensors = LazyTensors({"ones": lambda: torch.ones(2)})
>>> tensors["ones"]
tensor([1., 1.])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

# Makes the tensor, or, asked for a row of the first dimension, that alone.
Maker = Callable[..., Tensor]


class LazyTensors(Mapping[str, Tensor]):
    """Names and what makes their tensors. Nothing is kept: asking twice makes twice."""

    def __init__(self, makers: Mapping[str, Maker]) -> None:
        self.makers = dict(makers)

    def __getitem__(self, name: str) -> Tensor:
        return self.makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)

    # Mapping's own would make the tensor to find out.
    def __contains__(self, name: object) -> bool:
        return name in self.makers
