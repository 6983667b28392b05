"""What a model's own parts ask for beside the objective: a mixture of experts wants its load even, whoever trains it.

A part that has such a loss says so by a method `auxiliary_loss()`: a mean, of the last forward pass in training. What a
reader would get wrong: losses travel as sums, so it is added once for each thing that the objective counts.
"""

from __future__ import annotations

from torch import Tensor, nn

from fathom.loop import Loss


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
        for part in model.modules():
            auxiliary_loss = getattr(part, "auxiliary_loss", None)
            if auxiliary_loss is not None:
                total = total + count * auxiliary_loss()
    return Loss(total, count)
