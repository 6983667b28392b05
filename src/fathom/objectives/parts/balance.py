"""What a model's own parts ask for beside the objective: a mixture of experts wants its load even, whoever trains it.

A part that has such a loss says so by a method `auxiliary_loss()`: a mean, of the last forward pass in training. What a
reader would get wrong: losses travel as sums, so it is added once for each thing that the objective counts.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn

from fathom.loop import Loss

_known: weakref.WeakKeyDictionary[nn.Module, list[weakref.ref[nn.Module]]] = weakref.WeakKeyDictionary()


def balanced(model: nn.Module, total: Tensor, count: float) -> Loss:
    """The loss of a batch, with what the parts of the model ask for added. Call it after the forward pass.

    Shazeer et al. 2017, arXiv:1701.06538, section 4; Fedus et al. 2021, arXiv:2101.03961, eq. 4.

    >>> import torch
    >>> class Uneven(nn.Linear):
    ...     def auxiliary_loss(self): return torch.tensor(0.5)
    >>> balanced(nn.Sequential(Uneven(2, 2)).train(), torch.tensor(3.0), 4.0)
    Loss(total=tensor(5.), count=4.0)
    """
    if model.training:
        for part in _asking(model):
            total = total + count * part.auxiliary_loss()
    return Loss(total, count)


def _asking(model: nn.Module) -> list[Any]:
    """The parts that have a loss of their own: looked for once, since a walk at every step costs more than the rest."""
    if model not in _known:
        _known[model] = [weakref.ref(part) for part in model.modules() if hasattr(part, "auxiliary_loss")]
    return [part for found in _known[model] if (part := found()) is not None]
