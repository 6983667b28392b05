"""Before the first step: experiments on copies of the model with the first batches, from the cheapest to the dearest.

What a reader would get wrong: what a bad start or odd scales do is seen by the later experiments too (no rate suits, no
batch can be learned). These findings then stand among the symptoms of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fathom.doctor.bad_start import find_bad_start
from fathom.doctor.batch_norm import find_small_batches
from fathom.doctor.finding import Finding
from fathom.doctor.first_loss import find_first_loss
from fathom.doctor.one_batch import find_cannot_learn
from fathom.doctor.order import find_order
from fathom.doctor.parts.chance import ErrorBudget
from fathom.doctor.parts.trial import Trial, some_batches
from fathom.doctor.rates import find_rate
from fathom.doctor.scales import find_scales

ROWS = 256  # wanted for the experiments
LEAST, MOST = 4, 16  # batches


def preflight(
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    data: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    *,
    is_in_order: bool = False,
) -> Iterator[Finding]:
    """Findings of the first batches. Nothing where the data cannot be begun again, as a generator cannot.

    With `is_in_order` rows are meant to come in an order.
    """
    ordered = [] if is_in_order else list(find_order(data))
    yield from ordered
    batches = _enough(some_batches(data, MOST))
    if not batches:
        return
    trial, level = Trial(model, optimizers, loss, batches), ErrorBudget().level(1)
    small = list(find_small_batches(trial))
    yield from small
    if any(1 in one.evidence["numbers"].values() for one in small):
        return  # no step can be made with these batches, nor by the training itself
    yield from find_scales(trial, level)
    yield from find_bad_start(trial)
    yield from find_first_loss(trial, level)
    if ordered:
        return  # the first batches are of one kind, which says nothing of a rate
    learns, found = find_rate(trial)
    yield from found
    if not learns:
        yield from find_cannot_learn(trial)


def _enough(batches: list[Any]) -> list[Any]:
    """As many of them as have enough rows together."""
    seen = 0
    for count, batch in enumerate(batches, start=1):
        seen += len(batch[0]) if isinstance(batch, list | tuple) and isinstance(batch[0], Tensor) else ROWS // MOST
        if seen >= ROWS:
            return batches[: max(count, LEAST)]
    return batches
