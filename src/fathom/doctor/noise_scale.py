"""T8, advice: batches far smaller, or far larger, than the noise of the gradient asks for.

The noise scale B_simple = tr(covariance of one row's gradient) / |mean gradient|² is the batch at which noise and
signal are equal: far below it each step is mostly chance, far above it most rows of a batch say what is known
already. It is taken from gradients of steps in a row: what two of them share is signal. What a reader would get
wrong: this is never a fault, and so told only where asked for (`advice=True`). Source: McCandlish et al. 2018,
arXiv:1812.06162, section 2 and appendix A.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from fathom.doctor.finding import Finding
from fathom.doctor.parts.family import Family, Moment, sampled

FAR = 20.0  # times
ESTIMATES = 10
SURE = 0.99


class NoiseScale(Family):
    def __init__(self, model: nn.Module) -> None:
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.last: Tensor | None = None
        self.pairs: list[tuple[float, float]] = []  # what two gradients share, and their mean size, squared
        self.rows = 0
        self.is_told = False

    def before_step(self, moment: Moment) -> Iterator[Finding]:
        if self.is_told:
            return
        if not moment.window:
            self.last, self.pairs = None, []
            return
        found = [sampled(p.grad).float() for p in self.weights if p.grad is not None and not p.grad.is_sparse]
        if not found:
            return
        gradient = torch.cat(found)
        if self.last is not None and len(self.last) == len(gradient):
            size = float((self.last.square().sum() + gradient.square().sum()) / 2)
            self.pairs.append((float(self.last @ gradient), size))
            self.rows = moment.num_rows
        self.last = gradient
        if len(self.pairs) >= ESTIMATES and self.rows:
            yield from self._check(moment)
            self.pairs = []

    def _check(self, moment: Moment) -> Iterator[Finding]:
        shared, sizes = (np.array(one) for one in zip(*self.pairs, strict=True))
        margin = float(stats.t.isf((1 - SURE) / 2, len(shared) - 1)) * shared.std(ddof=1) / len(shared) ** 0.5
        most, least = shared.mean() + margin, shared.mean() - margin
        size = sizes.mean()
        # |G|² lies between least and most; noise of a batch is what is left of a gradient's square.
        at_least = self.rows * max(size - most, 0.0) / max(most, 1e-30)
        at_most = self.rows * (size - least) / least if least > 0 else np.inf
        if at_least > FAR * self.rows:
            way, remedy = "smaller", "Try batches of four times as many rows, with twice the rate."
        elif at_most < self.rows / FAR:
            way, remedy = "larger", "Batches of a quarter of the rows would learn as much in each step."
        else:
            return
        self.is_told = True
        yield Finding(
            "T8",
            seen=f"Batches have {self.rows} rows; the gradient's noise asks for "
            + (f"{at_least:,.0f} or more" if way == "smaller" else f"{at_most:,.2g} or fewer"),
            cause=f"Batches are much {way} than where noise and signal of the gradient are equal.",
            remedy=remedy,
            by="test",
            confidence=SURE,
            step=moment.step,
            evidence={
                "advice": True,
                "batch": self.rows,
                "at_least": float(at_least),
                "at_most": float(min(at_most, 1e12)),
            },
        )
