"""How the learning rate moves: factors on the initial rate as a function of progress from 0 to 1.

Progress is not step/total: `Pace` lets the total be corrected while training goes on (a slow machine, a busy
neighbour) and remembers every correction, so that the same recipe gives the same rates again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

SOURCE = "cosine: Loshchilov & Hutter 2017, arXiv:1608.03983; one-cycle: Smith & Topin 2018, arXiv:1708.07120"


def cosine(progress: float, *, warm_up: float = 0.05, final: float = 0.0) -> float:
    """Linear warm-up over the first `warm_up` share of the training, then a half cosine down to `final`."""
    if progress < warm_up:
        return max(progress / warm_up, 1e-3)
    rest = (min(progress, 1.0) - warm_up) / (1 - warm_up)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * rest))


def one_cycle(progress: float, *, warm_up: float = 0.3, start: float = 0.04, final: float = 1e-4) -> float:
    """Half cosine up from `start` over the first `warm_up` share, then half cosine down to `final`."""
    if progress < warm_up:
        return start + (1 - start) * 0.5 * (1 - math.cos(math.pi * progress / warm_up))
    rest = (min(progress, 1.0) - warm_up) / (1 - warm_up)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * rest))


def linear(progress: float, *, warm_up: float = 0.1, final: float = 0.0) -> float:
    """Linear warm-up, then linear decay to `final`."""
    if progress < warm_up:
        return max(progress / warm_up, 1e-3)
    return final + (1 - final) * (1 - (min(progress, 1.0) - warm_up) / (1 - warm_up))


def constant(progress: float, *, warm_up: float = 0.05) -> float:
    """Linear warm-up, then no change: for early stopping without a planned end."""
    return max(min(progress / warm_up, 1.0), 1e-3) if warm_up else 1.0


SHAPES: dict[str, Callable[..., float]] = {
    "cosine": cosine,
    "one_cycle": one_cycle,
    "linear": linear,
    "constant": constant,
}


class Pace:
    """From step to progress, with a total that may be corrected on the way.

    Corrections are pairs (step, new total). Progress never jumps: what was left at the moment of a correction is spread
    over the steps that are left.
    """

    def __init__(self, total: int, corrections: list[tuple[int, int]] | None = None) -> None:
        self.first_total = total
        self.corrections: list[tuple[int, int]] = []
        self._pieces = [(0, 0.0, max(total, 1))]  # (from step, progress there, total from there on)
        for step, new_total in corrections or []:
            self.correct(step, new_total)

    @property
    def total(self) -> int:
        return self._pieces[-1][2]

    def progress(self, step: int) -> float:
        """Share of the training done at `step`, 0 to 1."""
        since, done, total = next(piece for piece in reversed(self._pieces) if piece[0] <= step)
        if total <= since:
            return 1.0
        return min(1.0, done + (1 - done) * (step - since) / (total - since))

    def correct(self, step: int, total: int) -> None:
        """From `step` on the training will have `total` steps in all."""
        self._pieces.append((step, self.progress(step), max(total, step)))
        self.corrections.append((step, total))
