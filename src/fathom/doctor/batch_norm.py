"""F7: a batch norm that takes its mean and deviation from too few numbers.

Of n numbers a variance is known to sqrt(2 / (n - 1)) of itself: of eight to a half. What a reader would get wrong: a
convolution's norm has each pixel of each row, so small batches of large pictures are fine. Losses in training and in
evaluation mode do not show it: they differ by how far the running means lag behind, whatever the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fathom.doctor.finding import Finding
from fathom.doctor.parts.trial import Trial

ENOUGH = 9  # numbers of a channel: the variance is then known to a half
ROWS = 32  # of a batch that is advised: to a quarter


def find_small_batches(trial: Trial) -> Iterator[Finding]:
    """At most one finding; costs one forward pass where there is no batch norm or enough numbers."""
    numbers = _numbers(trial)
    few = {name: n for name, n in numbers.items() if n < ENOUGH}
    if not few:
        return
    worst = min(few.values())
    yield Finding(
        "F7",
        seen=f"{len(few)} batch norms get as few as {worst} numbers a channel in a batch, such as "
        f"{min(few, key=few.__getitem__)}; {ENOUGH} are needed to know a variance to a half",
        cause="The batch is too small for batch norm: each step is shaken by which rows are together.",
        remedy="Take larger batches, or GroupNorm or LayerNorm in their place; drop a last batch of few rows.",
        by="exact",
        evidence={"numbers": numbers, "settings": {"batch_size": ROWS}},
    )


def _numbers(trial: Trial) -> dict[str, int]:
    """How many numbers of a channel each batch norm sees in the smallest batch."""
    model, handles = copy.deepcopy(trial.model), []
    found: dict[str, int] = {}
    for name, part in model.named_modules():
        if isinstance(part, _BatchNorm) and part.training:

            def seen(part: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                n = given[0].numel() // given[0].shape[1]
                found[name] = min(found.get(name, n), n)

            handles.append(part.register_forward_pre_hook(seen))
    if not handles:
        return {}
    try:
        trial.losses(model)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        # A batch of one row, which batch norm refuses.
        return dict.fromkeys(found or ["the first"], 1)
    return found
