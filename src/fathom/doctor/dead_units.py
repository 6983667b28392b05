"""T4: units that are dead or stuck: a ReLU that no row wakes, a sigmoid or tanh at its end for every row.

What a reader would get wrong: zeros are no fault. Of a healthy layer most outputs are zero, each unit speaking for
some rows; dead is a unit that spoke for none of many, and so gets no gradient that could ever wake it. Told is where
more than two fifths of a layer's units are, and surely more than at the start, or nearly all, while nothing is learned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from scipy import stats
from torch import Tensor

from fathom.doctor.finding import Finding
from fathom.doctor.parts.family import Family, Moment
from fathom.doctor.parts.graph import Activation

ROWS = 500  # for none of which a unit spoke: it does for fewer than 6 in 1000, with 95 % certainty
SHARE = 0.4  # of a layer's units, and surely more than at the start,
NEARLY_ALL = 0.75  # or this share
CHANCE, LEAST_SHARE = 1e-4, 0.05  # the limit of p, and what is dead at the start at least
LEAST_UNITS = 16
CHECKS = 2
BEGINNING = 16  # steps that show the start
FLAT = {"sigmoid": 0.49, "tanh": 0.98}  # this far from the middle the slope is a twenty-fifth of the steepest
LEARNT = 0.2  # of the untrained loss: units that are missed by nobody are left in peace
NAMES = {"relu": "ReLU", "sigmoid": "sigmoid", "tanh": "tanh"}


class DeadUnits(Family):
    def __init__(self) -> None:
        self.looks: deque[tuple[int, dict[int, tuple[str, Tensor]]]] = deque(maxlen=128)  # rows, and who spoke
        self.start: dict[int, Tensor] = {}
        self.checks: dict[int, int] = {}
        self.window = 0
        self.is_told = False

    def before_backward(self, moment: Moment) -> Iterator[Finding]:
        if self.is_told or moment.graph is None:
            return
        if moment.step > BEGINNING and moment.history.progress > LEARNT:
            self.checks.clear()
            return
        seen = {}
        for place, one in enumerate(moment.graph.activations):
            if (spoke := _spoke(one)) is not None:
                seen[place] = one.kind, spoke
                if moment.step <= BEGINNING:
                    self.start[place] = spoke | self.start[place] if _fits(self.start.get(place), spoke) else spoke
        if not seen:
            return
        self.looks.append((moment.num_rows, seen))
        if moment.step > BEGINNING and (moment.window == 0 or moment.window != self.window):
            yield from self._check(moment)
        self.window = moment.window

    def _check(self, moment: Moment) -> Iterator[Finding]:
        rows, spoke = 0, dict[int, Tensor]()
        kinds = dict[int, str]()
        for count, seen in reversed(self.looks):
            rows += count
            for place, (kind, units) in seen.items():
                spoke[place] = units | spoke[place] if _fits(spoke.get(place), units) else units
                kinds[place] = kind
            if rows >= ROWS:
                break
        if rows < ROWS:
            return
        for place, units in spoke.items():
            count = len(units)
            dead = count - int(units.sum())
            is_bad = count >= LEAST_UNITS and dead > SHARE * count and self._is_unusual(place, dead, count)
            self.checks[place] = self.checks.get(place, 0) + 1 if is_bad else 0
        if bad := [place for place in sorted(spoke, reverse=True) if self.checks[place] >= CHECKS]:
            self.is_told = True
            yield self._finding(moment, rows, bad, spoke, kinds)

    def _is_unusual(self, place: int, dead: int, count: int) -> bool:
        """Nearly all of them, or surely more than at the start: of few kinds of rows many units see nothing."""
        start = self.start.get(place)
        share = float((~start).float().mean()) if start is not None and len(start) == count else 1.0
        return dead > NEARLY_ALL * count or float(stats.binom.sf(dead - 1, count, max(share, LEAST_SHARE))) < CHANCE

    def _finding(
        self, moment: Moment, rows: int, bad: list[int], spoke: dict[int, Tensor], kinds: dict[int, str]
    ) -> Finding:
        place = bad[0]  # the nearest to the input: the walk goes back from the loss
        number, dead, count = len(spoke) - sorted(spoke).index(place), int((~spoke[place]).sum()), len(spoke[place])
        start = self.start.get(place)
        at_start = int((~start).sum()) if start is not None and len(start) == count else None
        is_relu = kinds[place] == "relu"
        was_so = at_start is not None and at_start > SHARE * count
        state = "silent for every one" if is_relu else "at its end for every one"
        cause = "They were so from the first step: biases or weights start too far from zero." if was_so else (
            "Steps that were too large have pushed them there." if is_relu else
            "Their weights have grown so large that the slope there is next to nothing."
        )  # fmt: skip
        remedy = (
            "Start biases at zero and weights by He's rule, and take LeakyReLU or GELU in place of ReLU."
            if was_so and is_relu
            else "Begin again with a third of the learning rate, or take LeakyReLU or GELU."
            if is_relu
            else "Begin again with smaller weights and a lower rate, or put a norm before it."
        )
        more = f", and so in {len(bad) - 1} other layers" if len(bad) > 1 else ""
        return Finding(
            "T4",
            seen=f"{dead} of {count} units of the {NAMES[kinds[place]]} number {number} (counted from the input) were "
            f"{state} of the last {rows:,} rows{more}",
            cause=cause,
            remedy=remedy,
            by="test",
            confidence=0.99,
            step=moment.step,
            symptom_of=("F1", "F3", "F8", "F10", "F2"),
            evidence={"activation": kinds[place], "number": number, "dead": dead, "units": count, "rows": [],
                      "num_rows": rows, "dead_at_start": at_start, "num_layers": len(bad)},
        )  # fmt: skip


def _spoke(one: Activation) -> Tensor | None:
    """Which units had a slope for any row [units]; nothing of what is no layer's output."""
    others = [axis for axis in range(one.result.dim()) if axis != one.axis]
    if one.kind == "relu":
        return one.result.amax(dim=others) > 0
    if not one.is_read_by_a_layer:
        return None
    middle = 0.5 if one.kind == "sigmoid" else 0.0
    return (one.result - middle).abs().amin(dim=others) < FLAT[one.kind]


def _fits(old: Tensor | None, new: Tensor) -> bool:
    return old is not None and torch.is_same_size(old, new)
