"""T2: a loss that stands out for a moment and is gone: a bad batch, or a step that went wrong.

Where the graph tells the loss of each row, a bad batch shows itself: a few of its rows hold nearly all of it, and
they are named. A step that went wrong raises the loss of most rows, until the next steps have mended it. What a
reader would get wrong: a row with a high loss is not a wrong row; hard and rare ones have high losses too. So it is
told only where the batch is worse than the untrained model, and of a loss in nats where it is more than a quarter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fathom.doctor.finding import Finding
from fathom.doctor.parts.family import Family, Moment
from fathom.doctor.parts.losses import ENOUGH
from fathom.doctor.parts.row_losses import of_each_row

WORSE = 0.5  # of the untrained model's loss: so much more is a bad batch;
SURE, FAR = 0.02, 20.0  # a net that is as good as certain pays any price for a row it has wrong: so many times then
BEYOND = 2.0  # times the largest of the last losses: less is one of their kind
MOST_STEPS = 4  # for which a spike lasts; longer is no spike
CALM = 2  # losses in a row after which it is over
MOST_TOLD = 3
SHOWN = 20  # rows
HOLDS = 0.8  # of what is too much: so much, held by at most
INNER = ("last", "is_bad", "is_settled")  # of no use to a reader
FEW, SHARE = 3, 0.1  # rows, or a share of them


class Spikes(Family):
    def __init__(self) -> None:
        self.spike: dict[str, Any] | None = None  # the one that is going on
        self.told = 0

    def on_loss(self, moment: Moment) -> Iterator[Finding]:
        history = moment.history
        if self.told >= MOST_TOLD or history.has_run_away:
            return
        if history.stands_out and not moment.is_small(history.recent[-1][1]):
            if self.spike is None:
                self.spike = {"step": moment.step, "loss": history.recent[-1][1], "limit": history.limit, "length": 0}
                self.spike["is_settled"] = len(history.calm) >= ENOUGH
                self.spike |= {"usual": history.usual, "is_bad": False, **_rows(moment)}
            times = 1 + WORSE if history.usual > SURE * history.untrained else FAR
            is_alone = history.recent[-1][1] > BEYOND * max(history.calm, default=0.0)
            self.spike["is_bad"] |= is_alone and history.is_far(times, last=1)
            self.spike["length"] += 1
            self.spike["last"] = history.count
        elif self.spike is not None and history.count - self.spike["last"] >= CALM:
            spike, self.spike = self.spike, None
            if spike["length"] <= MOST_STEPS and spike["is_bad"] and spike["is_settled"]:
                self.told += 1
                yield _finding(spike, moment)


def _rows(moment: Moment) -> dict[str, Any]:
    """The few rows that hold the loss, by position and by id; nothing where many do, or nobody can tell."""
    terms = [] if moment.graph is None else moment.graph.terms
    each = of_each_row(terms[0], moment.num_rows) if len(terms) == 1 else None
    if each is None or len(each) < 4:
        return {}
    excess = (each - each.median()).clamp(min=0)
    ordered = excess.sort(descending=True)
    held = ordered.values.cumsum(0) / ordered.values.sum().clamp(min=1e-30)
    count = int((held < HOLDS).sum()) + 1
    if count > max(min(FEW, len(each) // 4), SHARE * len(each)):
        return {}
    rows = [int(row) for row in ordered.indices[:count]]
    return {
        "rows": moment.named(rows)[:SHOWN],
        "has_ids": moment.ids is not None,
        "positions": rows[:SHOWN],
        "row_losses": [round(float(each[row]), 4) for row in rows[:SHOWN]],
        "median_row_loss": float(each.median()),
    }


def _finding(spike: dict[str, Any], moment: Moment) -> Finding:
    seen = f"The loss was {spike['loss']:.4g} where about {spike['usual']:.4g} is usual"
    if rows := spike.get("rows"):
        named = ", ".join(map(str, rows[:8])) + (" …" if len(rows) > 8 else "")
        seen += f": {len(rows)} of the batch's rows hold nearly all of it ({named})"
        cause = "These rows are unlike all others: a wrong unit, a slip of the decimal point, or a wrong answer."
        remedy = "Look at them; correct them or leave them out. Clipped gradients limit what they do."
        kind = "rows"
    elif spike["length"] > 1:
        seen += f", and stayed so for {spike['length']} steps; it came back"
        cause = "The step before it was too large."
        remedy = "Clip gradients (clip_grad_norm_), or lower the rate."
        kind = "state"
    else:
        cause = "Something in this batch is unlike all others, or the step before it was too large."
        remedy = "Look at the rows of this batch, and clip gradients (clip_grad_norm_)."
        kind = "batch"
    evidence = {name: value for name, value in spike.items() if name not in INNER}
    return Finding(
        "T2",
        seen=seen,
        cause=cause,
        remedy=remedy,
        by="test",
        confidence=0.99,
        step=spike["step"],
        symptom_of=("D1", "F3") if kind == "rows" else ("T7", "F10"),
        evidence=evidence | {"kind": kind, "losses": moment.history.as_evidence()},
    )
