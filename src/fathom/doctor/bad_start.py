"""F8: a bad start: signals that grow or die from layer to layer, units that are all alike, weights of an odd size.

Mean squares of what layers give, and of the gradients that come back to them, are followed through the depth of a copy.
What a reader would get wrong: that they change is no fault, and normalised layers hide what stands before them. Told is
only a steady change by a factor of a hundred or more over the whole depth, forwards or backwards, that is still there
after a few steps; a branch that starts at zero has none of its own. Weights of an odd size are only a reason to look: a
copy with weights made anew has to learn much better, and again when both train for longer.

Sources: Glorot & Bengio 2010 (AISTATS); He et al. 2015, arXiv:1502.01852, section 2.2.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from fathom.doctor.finding import Finding
from fathom.doctor.parts.first_weights import LAYERS, own_layers, restarted, sizes
from fathom.doctor.parts.trial import Trial, as_if_nothing_happened

FACTOR = 100.0  # over the whole depth
LEAST_LAYERS = 4
SETTLED = 5  # steps after which it must still be there
SURE = 0.001  # p that depth has nothing to do with it
ALIKE = 1e-6  # one minus the cosine of two units that are the same
USUAL = 0.25, 1.7  # sizes of weights: from less than half of torch's own to Glorot's before tanh
OF_TRANSFORMERS = 0.0194, 0.0206  # deviation: BERT, GPT-2, ViT and ConvNeXt draw at 0.02, whatever the width
STEPS, LONGER, TAIL = 40, 120, 12  # of the experiment, of the second one; last steps that count
BETTER, MUCH_BETTER = 0.95, 0.7  # of the loss, at most, that the start as it is leaves
LEFT = 0.1  # of the untrained loss: with less of it left the start did no harm


def find_bad_start(trial: Trial) -> Iterator[Finding]:
    if names := _alike(trial.model):
        yield Finding(
            "F8",
            seen=f"All units of {', '.join(names[:5])} start with the same weights",
            cause="Equal units get equal gradients and stay equal: the layer is as wide as one unit.",
            remedy="Start the weights at random: nn.init.kaiming_normal_ or xavier_uniform_.",
            by="exact",
            evidence={"layers": names},
        )
        return
    first = _signals(trial, trial.model)
    for way in ("forwards", "backwards"):
        if not (change := _steady(first[way])):
            continue
        later = _steady(_signals(trial, trial.run(SETTLED).model)[way])
        if later and later * change > 0:
            yield _told(way, change, first)
            return
    yield from _of_odd_size(trial)


def _of_odd_size(trial: Trial) -> Iterator[Finding]:
    found = sizes(trial.model)
    inner = list(found.values())[:-1]  # without the head
    size = float(np.median(inner)) if inner else 1.0
    deviations = [float(part.weight.detach().std()) for part in list(own_layers(trial.model).values())[:-1]]
    if USUAL[0] < size < USUAL[1] or OF_TRANSFORMERS[0] < np.median(deviations or [0.02]) < OF_TRANSFORMERS[1]:
        return
    again = Trial(trial.model, trial.optimizers, trial.loss, trial.batches[::-1])
    anew = partial(restarted, trial=trial)
    for one, steps, limit in ((trial, STEPS, BETTER), (again, LONGER, MUCH_BETTER)):
        outcomes = one.run(steps), one.run(steps, edit=anew)
        own, other = (outcome.last(TAIL) for outcome in outcomes)
        if not outcomes[1].is_finite or other > own - (1 - limit) * abs(own):
            return
    if own < LEFT * outcomes[1].losses[0]:
        return
    yield Finding(
        "F8",
        seen=f"First weights are {size:.2g} over the root of their inputs in the middle of {len(inner)} layers (0.6 to "
        f"1.7 is usual); a copy comes to a loss of {own:.3g} in {LONGER} steps, with weights made anew to {other:.3g}",
        cause=f"The first weights are too {'large' if size > 1 else 'small'}.",
        remedy="Start them by He's rule before ReLU and by Glorot's before tanh.",
        by="experiment",
        symptom_of=("F3",),
        evidence={"sizes": found, "plain": outcomes[0].losses, "anew": outcomes[1].losses},
    )


def _alike(model: nn.Module) -> list[str]:
    """Layers of several inputs and units whose units are all the same, and not zero on purpose."""
    found = []
    for name, part in model.named_modules():
        if isinstance(part, LAYERS) and part.weight.shape[0] > 1 and part.weight[0].numel() > 1:
            rows = part.weight.detach().flatten(1).double()
            if bool(rows.any()) and bool((rows - rows[:1]).abs().amax() <= ALIKE * rows.abs().amax()):
                found.append(name)
    return found


def _signals(trial: Trial, model: nn.Module) -> dict[str, dict[str, float]]:
    """The logarithm of the mean square of each layer's output, and of the gradient that comes back to it, in order."""
    model = copy.deepcopy(model)
    found: dict[str, dict[str, float]] = {"forwards": {}, "backwards": {}}
    handles = []

    def came_back(name: str, gradient: Tensor) -> None:
        found["backwards"].setdefault(name, _log_square(gradient))

    def watched(name: str, part: nn.Module) -> None:
        def seen(part: nn.Module, given: object, made: object) -> None:
            if isinstance(made, Tensor) and name not in found["forwards"]:
                found["forwards"][name] = _log_square(made)
                if made.requires_grad:
                    made.register_hook(partial(came_back, name))

        handles.append(part.register_forward_hook(seen))

    for name, part in model.named_modules():
        if isinstance(part, LAYERS):
            watched(name, part)
    try:
        with as_if_nothing_happened():
            weights = [p for p in model.parameters() if p.requires_grad]
            torch.autograd.grad(trial.loss(model, trial.batches[0]), weights, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _log_square(x: Tensor) -> float:
    return float(torch.log(x.detach().double().square().mean() + 1e-300))


def _steady(signals: dict[str, float]) -> float:
    """The logarithm by which the mean square changes over the depth where it does so steadily and much, else 0."""
    values = np.array(list(signals.values()))
    # The last layer is the head, which has a scale of its own.
    values = values[:-1]
    if len(values) < LEAST_LAYERS or not np.isfinite(values).all():
        return 0.0
    line = stats.linregress(np.arange(len(values)), values)
    change = float(line.slope) * (len(values) - 1)
    return change if abs(change) > math.log(FACTOR) and line.pvalue < SURE else 0.0


def _told(way: str, change: float, signals: dict[str, dict[str, float]]) -> Finding:
    grows = (change > 0) == (way == "forwards")
    what = "outputs" if way == "forwards" else "gradients"
    return Finding(
        "F8",
        seen=f"The mean square of the {what} of {len(signals[way])} layers {'grows' if grows else 'falls'} "
        f"{math.exp(abs(change)):.3g} times {'from the first to the last' if way == 'forwards' else 'on the way back'}",
        cause="The first weights are too " + ("large" if grows else "small") + " for their activations.",
        remedy="Start them by He's rule before ReLU and by Glorot's before tanh, or put norms between the layers.",
        by="test",
        symptom_of=("F3",),
        confidence=1 - SURE,
        evidence=signals,
    )
