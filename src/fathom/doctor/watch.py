"""Watch a training, anybody's: one line beside a model and its optimizer.

    with fathom.watch(model, optimizer) as doctor:
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    doctor.report()

It listens to the model's forward pass, to `backward` and to the optimizer's step, and takes nothing over: weights,
random numbers and the order of data are what they would be without it. What a reader would get wrong: it looks at the
first steps and then at few, so what it costs does not grow with the training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fathom.doctor.finding import Finding, in_order_of_blame
from fathom.doctor.modes import Modes
from fathom.doctor.not_finite import NotFinite
from fathom.doctor.pairing import Pairing
from fathom.doctor.parts.hooks import before_backward
from fathom.doctor.preflight import preflight
from fathom.doctor.wiring import Resets, Wiring

EVERY_STEP = 16  # of the first steps each is looked at,
SELDOM = 50  # then one in so many


def on_the_console(text: str) -> None:
    print(f"Doctor     {text}")


class Watch:
    """A model and its optimizers under watch, from the beginning to `close()` or the end of a `with` block."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Optimizer | Sequence[Optimizer],
        *,
        frozen: Sequence[str] = (),
        frozen_norms: bool = False,
        monte_carlo: bool = False,
        data: Iterable[Any] | None = None,
        loss: Callable[[nn.Module, Any], Tensor] | None = None,
        stop: bool = True,
        say: Callable[[str], None] | None = on_the_console,
    ) -> None:
        """`frozen`, `frozen_norms` and `monte_carlo` say what is meant: see `watch`."""
        self.optimizers = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
        self.findings: list[Finding] = []
        self.step = 0
        self._say, self._stop = say, stop
        if data is not None and loss is not None:
            self._tell(preflight(model, self.optimizers, data, loss))
        self._wiring, self._resets = Wiring(model, self.optimizers, frozen), Resets(self.optimizers)
        self._modes = Modes(model, frozen_norms=frozen_norms, monte_carlo=monte_carlo)
        self._pairing = Pairing()
        self._not_finite = NotFinite(model, self._resets.probes)
        self._ends: list[Callable[[], None]] = [
            before_backward(self._backward),
            *self._listen_to(model),
            self.optimizers[0].register_step_pre_hook(self._before_step).remove,
            self.optimizers[-1].register_step_post_hook(self._after_step).remove,
        ]
        self._model, self._depth, self._was_called = model, 0, False
        self._ends_of_beginning = self._resets.hooks()
        self._tell(self._wiring.begin())

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take everything off again; what was found stays."""
        for end in [*self._ends, *self._ends_of_beginning]:
            end()
        self._ends = self._ends_of_beginning = []

    def report(self, path: str | Path | None = None) -> list[Finding]:
        """What was found, causes first; written to a file of JSON where a path is given."""
        found = in_order_of_blame(self.findings)
        if path is not None:
            text = json.dumps([one.to_json() for one in found], indent=1, ensure_ascii=False)
            Path(path).write_text(text + "\n", encoding="utf-8")
        return found

    @property
    def _is_looking(self) -> bool:
        """Whether the step that comes is looked at."""
        return self.step < EVERY_STEP or self.step % SELDOM == 0

    def _reads_losses(self, device: torch.device) -> bool:
        """Reading a number stops a GPU's queue: it is done at every step only if a step may have to be stopped."""
        return self._stop or self._is_looking or device.type == "cpu"

    def _listen_to(self, part: nn.Module) -> list[Callable[[], None]]:
        before = part.register_forward_pre_hook(self._forward, with_kwargs=True)
        return [before.remove, part.register_forward_hook(self._answered, always_call=True).remove]

    def _forward(self, part: nn.Module, args: Any, kwargs: Any) -> None:
        if self._not_finite.is_busy:
            return
        self._depth += 1
        self._was_called = True
        if self._depth > 1:
            return
        has_gradients = torch.is_grad_enabled()
        if has_gradients:
            self._not_finite.forward(part, args, kwargs)
        if self._is_looking or not has_gradients:
            self._tell(self._modes.forward(has_gradients, self.step))

    def _answered(self, part: nn.Module, args: Any, made: Any) -> None:
        if self._not_finite.is_busy:
            return
        self._depth -= 1
        if self._depth == 0 and torch.is_grad_enabled():
            self._not_finite.answered(made)

    def _backward(self, loss: Tensor) -> None:
        self._modes.before_backward()
        if self._reads_losses(loss.device):
            self._tell(self._not_finite.before_backward(loss, self.step + 1))
        if self._is_looking:
            self._tell(self._pairing.before_backward(loss, self.step + 1))

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._reads_losses(optimizer.param_groups[0]["params"][0].device):
            self._tell(self._not_finite.before_step(self.step + 1))
        if self._stop and self._not_finite.is_told and self._not_finite.would_ruin:
            told = next(one.text for one in self.findings if one.id == "T1")
            raise FloatingPointError(f"Step {self.step + 1:,} would ruin the weights. {told}")
        if self._is_looking:
            self._tell(self._wiring.before_step(self.step + 1))
            self._tell(self._modes.before_step(self.step + 1))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self.step < EVERY_STEP:
            self._tell(self._resets.after_step(self.step + 1))
        elif self._ends_of_beginning:
            for end in self._ends_of_beginning:
                end()
            self._ends_of_beginning = []
        self._not_finite.after_step()
        if not self._was_called:
            # A model of which only parts are called, as Lightning's are: these are listened to then.
            self._was_called = True
            self._ends += [end for part in self._model.children() for end in self._listen_to(part)]
        self.step += 1

    def _tell(self, found: Iterable[Finding]) -> None:
        for finding in found:
            self.findings.append(finding)
            if self._say is not None:
                self._say(f"{finding.id} {finding.name}: {finding.text}")


def watch(
    model: nn.Module,
    optimizers: Optimizer | Sequence[Optimizer],
    *,
    frozen: Sequence[str] = (),
    frozen_norms: bool = False,
    monte_carlo: bool = False,
    data: Iterable[Any] | None = None,
    loss: Callable[[nn.Module, Any], Tensor] | None = None,
    stop: bool = True,
    say: Callable[[str], None] | None = on_the_console,
) -> Watch:
    """Watch a training from here on; findings are told by `say` as they are sure, and kept in `findings`.

    What is meant is no finding: `frozen` are patterns of names of parameters that are not to be trained
    ("backbone.*"), `frozen_norms` says that batch norms stay in evaluation mode, `monte_carlo` that dropout works
    in use too. With `stop` a step that would make the weights NaN raises FloatingPointError in its place, with the
    root of it; the weights are then those of the step before.

    Where `data`, which can be begun again, and `loss(model, batch)`, the mean loss of a batch, are given, copies of the
    model are trained for some steps first: is the start good, the learning rate, are the inputs normalised? The model,
    the optimizer, random numbers and the order of the data are left as they were.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with watch(model, optimizer, say=None) as doctor:
    ...     loss = nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.zeros(8, dtype=torch.long))
    ...     loss.backward()
    ...     optimizer.step()
    >>> [finding.id for finding in doctor.report()]
    ['F1']
    """
    return Watch(
        model,
        optimizers,
        frozen=frozen,
        frozen_norms=frozen_norms,
        monte_carlo=monte_carlo,
        data=data,
        loss=loss,
        stop=stop,
        say=say,
    )
