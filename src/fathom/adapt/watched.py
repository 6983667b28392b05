"""One training under watch that another library's trainer runs; what the callbacks of these libraries share.

What a reader would get wrong: findings are written as they are told, not only in the end, since a trainer that fails
may never say so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fathom.doctor.finding import Finding
from fathom.doctor.watch import Watch, on_the_console, watch
from fathom.errors import UserError
from fathom.rooms import check_options

FILE = "findings.json"


class Watched:
    """Begun and closed by a callback; `meant` are options of `fathom.watch`."""

    def __init__(self, **meant: Any) -> None:
        check_options(watch, meant, "WatchCallback")
        if meant.get("fix"):
            raise UserError("WatchCallback only looks: fix=True is for loops of your own, with fathom.watch.")
        self.meant, self.say = meant, meant.get("say", on_the_console)
        self.doctor: Watch | None = None
        self._path: Path | None = None

    def begin(
        self,
        model: nn.Module,
        optimizers: Iterable[Optimizer],
        folder: Path | None,
        *,
        steps: float,
        is_frozen: bool = False,
    ) -> None:
        """`folder` gets findings.json; None (on all processes but the first) keeps quiet and writes nothing.

        `steps` is how many the trainer plans, infinity and -1 where it does not know. With `is_frozen` it has frozen
        parameters by itself: those that are so now are meant to be.
        """
        self.close()
        self.doctor, self._path = None, None if folder is None else folder / FILE
        frozen = [name for name, p in model.named_parameters() if is_frozen and not p.requires_grad]
        known = {"steps": int(steps) if 0 < steps < float("inf") else None}
        told = {"frozen": (*self.meant.get("frozen", ()), *frozen), "say": None if folder is None else self._told}
        self.doctor = watch(model, [unwrapped(one) for one in optimizers], **(known | self.meant | told))

    def judged(self, loss: float | None) -> None:
        """What the rows for judging cost now, on average, where the trainer says it."""
        if self.doctor is not None and loss is not None:
            self.doctor.judged(float(loss))

    def close(self) -> None:
        """Take everything off again, and write what was found; a second call does nothing."""
        if self.doctor is not None:
            self.doctor.close()
            self._write()
            self._path = None

    def report(self, path: str | Path | None = None) -> list[Finding]:
        """What was found, causes first; written to a file of JSON where a path is given."""
        if self.doctor is None:
            raise UserError("Nothing was watched yet: give the callback to the trainer, and train.")
        return self.doctor.report(path)

    def _told(self, text: str) -> None:
        if self.say is not None:
            self.say(text)
        self._write()

    def _write(self) -> None:
        if self.doctor is not None and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.doctor.report(self._path)


def unwrapped(optimizer: Optimizer) -> Optimizer:
    """The optimizer that moves the weights, out of what a library put around it."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def first_known(*libraries: str) -> list[str]:
    """The libraries in the order to be tried: what is imported already is what is used."""
    return sorted(libraries, key=lambda name: name not in sys.modules)
