"""T5 at the end of a training: on rows it was trained on the model does worse than a linear model on rows it left out.

The linear model is ridge regression on the inputs as they are (words as how often each comes), each row predicted by a
fit without it. What a reader would get wrong: the network has the advantage, since it has seen these rows. Where it
still does worse, for certain and by much, something kept it from learning, whatever the loss says of itself.

Source: leave-one-out residuals of ridge regression, Golub, Heath & Wahba 1979, eq. 1.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.doctor.finding import Finding
from fathom.doctor.no_learning import CAUSES
from fathom.doctor.parts.trial import as_if_nothing_happened, some_batches

ROWS, BATCHES = 1024, 64  # looked at, at most
LEAST_ROWS = 100
MOST_WORDS = 4096
PENALTIES = tuple(10.0**k for k in range(-3, 5))  # of which the best is taken
FAR = 0.01  # of a column's numbers at each end
SURE = 1e-4
POINTS = 0.10  # of the right answers, or of the variance told: so much behind at least


def find_behind_linear(model: nn.Module, data: Iterable[Any]) -> Iterator[Finding]:
    """At most one finding; nothing where a batch is not (inputs, answers) with one answer for each row."""
    rows = _rows(data)
    if rows is None:
        return
    x, y = rows
    said = _said(model, x)
    if said is None or len(said) != len(y):
        return
    linear = _linear(_numbers(x), F.one_hot(y).double() if _is_class(y) else y.double()[:, None])
    if _is_class(y):
        if said.dim() != 2 or said.shape[1] <= int(y.max()):
            return
        right, other = (one.argmax(dim=1) == y for one in (said, linear))
        only, only_other = int((right & ~other).sum()), int((other & ~right).sum())
        p = float(stats.binomtest(only_other, max(only + only_other, 1), 0.5, alternative="greater").pvalue)
        own, best = float(right.double().mean()), float(other.double().mean())
        what = "of the answers right"
    else:
        errors, others = (one.reshape(len(y), -1).mean(dim=1).double().sub(y).square() for one in (said, linear))
        p = float(stats.wilcoxon((errors - others).numpy(), alternative="greater").pvalue)
        spread = float(y.double().var())
        own, best = (1 - float(one.mean()) / max(spread, 1e-12) for one in (errors, others))
        what = "of the variance told"
    if p > SURE or not own < best - POINTS:
        return
    yield Finding(
        "T5",
        seen=f"On {len(y)} rows that it was trained on the model has {max(own, -9.99):.0%} {what}, a linear model on "
        f"rows that it has not seen {best:.0%}",
        cause="Something keeps the model from learning what a far simpler one learns.",
        remedy="Look at what was found before; else at the loss, the gradients of single layers, and the rate.",
        by="test",
        confidence=1 - SURE,
        symptom_of=(*CAUSES, "T6", "T7", "F7"),
        evidence={"own": own, "linear": best, "rows": len(y), "p": p},
    )


def _is_class(y: Tensor) -> bool:
    return not y.is_floating_point()


def _rows(data: Iterable[Any]) -> tuple[Tensor, Tensor] | None:
    """Inputs [N, …] and answers [N] of the first batches."""
    batches = some_batches(data, BATCHES)
    is_pair = [isinstance(one, list | tuple) and len(one) == 2 for one in batches]
    if not batches or not all(is_pair) or not all(isinstance(part, Tensor) for one in batches for part in one):
        return None
    if any(x.dim() < 2 or y.dim() != 1 or len(x) != len(y) for x, y in batches):
        return None
    if len({x.shape[1:] for x, _ in batches}) > 1:
        return None
    x, y = (torch.cat([one[i] for one in batches])[:ROWS] for i in (0, 1))
    is_fit = len(y) >= LEAST_ROWS and bool(torch.isfinite(x).all()) and bool(torch.isfinite(y).all())
    if not is_fit or (_is_class(y) and int(y.min()) < 0) or bool((y == y[0]).all()):
        return None
    if not x.is_floating_point() and (int(x.min()) < 0 or int(x.max()) >= MOST_WORDS or x.dim() > 2):
        return None
    return x, y


@torch.no_grad()
def _said(model: nn.Module, x: Tensor) -> Tensor | None:
    """What the model says of each row in use [N, outputs], the mean of its members; None where it is no such thing."""
    modes = {part: part.training for part in model.modules()}
    with as_if_nothing_happened():
        model.eval()
        try:
            out = model(x)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError):  # a loss that hands it more than inputs
            return None
        finally:
            for part, was_training in modes.items():
                part.training = was_training
    if not isinstance(out, Tensor) or out.dim() < 1 or len(out) != len(x):
        return None
    out = out.float().softmax(dim=-1).mean(dim=1) if out.dim() == 3 and out.shape[2] > 1 else out.float().cpu()
    return torch.nan_to_num(out.cpu())


def _numbers(x: Tensor) -> Tensor:
    """[N, columns], standardised; numbers far from all others of their column come nearer."""
    x = x.cpu()
    if not x.is_floating_point():
        words = torch.zeros(len(x), int(x.max()) + 1, dtype=torch.double)
        x = words.scatter_add_(1, x.long(), torch.ones_like(x, dtype=torch.double))
    x = x.flatten(1).double()
    least, most = x.quantile(torch.tensor([FAR, 1 - FAR], dtype=x.dtype), dim=0)
    x = x.clamp(least, most)
    return (x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-9)


def _linear(x: Tensor, y: Tensor) -> Tensor:
    """What ridge regression says of each row [N, C] without having seen it."""
    middle = y.mean(dim=0)
    values, vectors = torch.linalg.eigh(x @ x.T / x.shape[1])
    projected, squares = vectors.T @ (y - middle), vectors.square()
    best, found = float("inf"), y
    for penalty in PENALTIES:
        kept = values.clamp_min(0) / (values.clamp_min(0) + penalty)
        own = squares @ kept + 1 / len(y)  # how much of its prediction each row makes itself
        residuals = (y - middle - vectors @ (kept[:, None] * projected)) / (1 - own).clamp_min(1e-6)[:, None]
        if (loss := float(residuals.square().mean())) < best:
            best, found = loss, y - residuals
    return found
