"""A callback for Lightning (`lightning` and `pytorch_lightning`): the doctor beside `Trainer.fit`.

    trainer = Trainer(callbacks=[WatchCallback(frozen=["backbone.*"])])
    trainer.fit(model, loader)

What a reader would get wrong: Lightning makes the forward pass and the gradients inside of `optimizer.step(closure)`,
when whoever listens to the step has already looked. So the closure is called just before the step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from fathom.adapt.watched import Watched, first_known, unwrapped
from fathom.doctor.finding import Finding
from fathom.errors import UserError


def _library() -> Any:
    for name in first_known("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in ("lightning", name):
                raise
    raise UserError("Lightning is not installed. Type: pip install lightning")


_lightning: Any = _library()
_Callback: Any = _lightning.Callback


class WatchCallback(_Callback):
    """Watches each `fit` from its first step on; findings.json is written to the folder of the trainer's logs.

    The options are those of `fathom.watch`. What a BaseFinetuning callback has frozen is meant. `judged_by` is the name
    under which `validation_step` logs the loss.
    """

    def __init__(self, *, judged_by: str = "val_loss", **meant: Any) -> None:
        self._watched, self._judged_by = Watched(**meant), judged_by
        self._ends: list[Callable[[], None]] = []

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._take_off()
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        optimizers = [unwrapped(one) for one in trainer.optimizers]
        # Before the watch, whose own listener comes after it then.
        self._ends = [one.register_step_pre_hook(_close_first).remove for one in optimizers]
        self._watched.begin(
            module,
            optimizers,
            folder if trainer.is_global_zero else None,
            steps=trainer.estimated_stepping_batches,
            is_frozen=any(isinstance(one, _lightning.callbacks.BaseFinetuning) for one in trainer.callbacks),
        )

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if not trainer.sanity_checking:
            self._watched.judged(trainer.callback_metrics.get(self._judged_by))

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._take_off()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self._take_off()

    def report(self, path: str | Path | None = None) -> list[Finding]:
        """What was found in the last `fit`, causes first; written to a file of JSON where a path is given."""
        return self._watched.report(path)

    def _take_off(self) -> None:
        for end in self._ends:
            end()
        self._ends = []
        self._watched.close()


def _close_first(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The closure's first answer, made now: torch's optimizers begin with it, at weights that nothing moved since."""
    closure = kwargs.get("closure")
    if closure is None or not type(optimizer).__module__.startswith("torch.optim."):
        return None  # what another optimizer does before its closure is not known
    answers = [closure()]
    return args, kwargs | {"closure": lambda: answers.pop() if answers else closure()}
