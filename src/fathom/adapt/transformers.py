"""A callback for the Trainer of Hugging Face's `transformers`: the doctor beside `Trainer.train`.

    with WatchCallback(frozen=["bert.*"]) as doctor:
        Trainer(model, arguments, train_dataset=rows, callbacks=[doctor]).train()
    doctor.report()

What a reader would get wrong: that Trainer tells its callbacks of nothing that fails. The `with` block ends the watch
then; without it, the next training does.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from fathom.adapt.watched import Watched
from fathom.doctor.finding import Finding
from fathom.errors import UserError

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise UserError("transformers is not installed. Type: pip install transformers accelerate") from None


class WatchCallback(TrainerCallback):
    """Watches each training from its first step on; findings.json is written to `output_dir`.

    The options are those of `fathom.watch`. What PEFT has frozen is meant.
    """

    def __init__(self, **meant: Any) -> None:
        self._watched = Watched(**meant)

    def __enter__(self) -> WatchCallback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        model, optimizer = given["model"], given["optimizer"]
        folder = Path(args.output_dir) if state.is_world_process_zero else None
        is_frozen = hasattr(model, "peft_config")
        self._watched.begin(model, [optimizer], folder, steps=state.max_steps, is_frozen=is_frozen)

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._watched.judged(given["metrics"].get("eval_loss"))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the watch; what was found stays."""
        self._watched.close()

    def report(self, path: str | Path | None = None) -> list[Finding]:
        """What was found in the last training, causes first; written to a file of JSON where a path is given."""
        return self._watched.report(path)
