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
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fathom import terminal
from fathom.data import jsonable
from fathom.doctor.behind_linear import find_behind_linear
from fathom.doctor.dead_units import DeadUnits
from fathom.doctor.diverged import Diverged
from fathom.doctor.exact import Invariants
from fathom.doctor.finding import Finding, in_order_of_blame
from fathom.doctor.mend import Mend, Mended
from fathom.doctor.modes import Modes
from fathom.doctor.no_learning import NoLearning
from fathom.doctor.noise_scale import NoiseScale
from fathom.doctor.not_finite import NotFinite, is_finite
from fathom.doctor.order import Order
from fathom.doctor.overfitting import Overfitting
from fathom.doctor.parts.family import Family, Moment
from fathom.doctor.parts.hooks import before_backward
from fathom.doctor.parts.losses import LossHistory
from fathom.doctor.parts.schedule import Schedule
from fathom.doctor.preflight import preflight
from fathom.doctor.spikes import Spikes
from fathom.doctor.vanishing import Vanishing
from fathom.doctor.wiring import Resets, Wiring

LEAST_STEPS = 200  # after which a training whose length is not known is asked at its end what it has learned


def on_the_console(text: str) -> None:
    told = f"{'Doctor':<{terminal.LABEL_WIDTH}}{text}"
    print(terminal.wrapped(told) if sys.stdout.isatty() else told)


class Watch:
    """A training under watch, from here on to `close()` or the end of a `with` block.

    Findings are told by `say` as they are sure, and kept in `findings`.

    What is meant is no finding: `frozen` are patterns of names of parameters that are not to be trained
    ("backbone.*"), `frozen_norms` says that batch norms stay in evaluation mode, `monte_carlo` that dropout works
    in use too, `curriculum` that rows come in an order that is meant, or that learning begins late. `steps` is the
    length of the whole training, where it is known: what asks whether anything is learned then waits for a fifth of it.
    With `stop` a step that would make the weights NaN raises FloatingPointError in its place, with the root of it.

    After judging, call `doctor.judged(losses)` with the loss of each judged row, or with their mean. Rows are named by
    the ids that a batch of the model carries ("rows", "ids" or "index" of a dict), or that `rows_of(inputs)` tells, and
    by their position in the batch otherwise. `advice` tells of what could be better though nothing is wrong (T8).

    Where `data`, which can be begun again, and `loss(model, batch)`, the mean loss of a batch, are given, copies of the
    model are trained for some steps first: is the start good, the learning rate, are the inputs normalised? The model,
    the optimizer, random numbers and the order of the data are left as they were. With `fix` what is sure is mended at
    once: see docs/doctor/remedies.md; without a finding nothing is touched.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with watch(model, optimizer, say=None) as doctor:
    ...     loss = nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.zeros(8, dtype=torch.long))
    ...     loss.backward()
    ...     optimizer.step()
    >>> [finding.id for finding in doctor.report()]
    ['F1']
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Optimizer | Sequence[Optimizer],
        *,
        frozen: Sequence[str] = (),
        frozen_norms: bool = False,
        monte_carlo: bool = False,
        curriculum: bool = False,
        steps: int | None = None,
        data: Iterable[Any] | None = None,
        loss: Callable[[nn.Module, Any], Tensor] | None = None,
        rows_of: Callable[[Any], Sequence[int] | None] | None = None,
        advice: bool = False,
        stop: bool = True,
        fix: bool = False,
        say: Callable[[str], None] | None = on_the_console,
    ) -> None:
        self.optimizers = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
        self.findings: list[Finding] = []
        self.step = 0
        # With remedies a step that would ruin the weights is left out rather than the training stopped.
        self._say, self._stop, self._reads, self._advice = say, stop and not fix, stop or fix, advice
        self._moment = Moment(plan=steps, rows_of=rows_of)
        self._mend = Mend(model, self.optimizers, say=self._report_remedy, data=data, loss=loss) if fix else None
        if self._mend is not None:
            self._tell(self._mend.first_look(frozen))
        self._data = data if loss is not None else None
        if data is not None and loss is not None:
            self._tell(preflight(model, self.optimizers, data, loss, is_in_order=curriculum))
        self._schedule = Schedule(steps)
        self._modes = Modes(model, frozen_norms=frozen_norms, monte_carlo=monte_carlo)
        self._not_finite = NotFinite(model)
        self._invariants = Invariants(Wiring(model, self.optimizers, frozen), Resets(self.optimizers), self._modes)
        is_told = any(one.id == "T7" for one in self.findings)
        ordered: list[Family] = [] if curriculum else [NoLearning()] if is_told else [Order(), NoLearning()]
        advised: list[Family] = [NoiseScale(model)] if advice else []
        trained: list[Family] = [Diverged(self.optimizers), Spikes(), Vanishing(model), DeadUnits(), Overfitting()]
        self._listen([self._invariants, *trained, *ordered, *advised])
        self._ends: list[Callable[[], None]] = [
            before_backward(self._backward),
            *self._listen_to(model),
            self.optimizers[0].register_step_pre_hook(self._before_step).remove,
            self.optimizers[-1].register_step_post_hook(self._after_step).remove,
        ]
        self._model, self._depth, self._was_called = model, 0, False
        self._is_on_cpu = self._not_finite.device == "cpu"
        self._is_looking = True  # at the step that comes, as a whole
        if self._mend is not None:
            self._mend.start()

    def _listen(self, families: Sequence[Family]) -> None:
        def hear(name: str) -> list[Any]:
            return [getattr(one, name) for one in families if getattr(type(one), name) is not getattr(Family, name)]

        self._on_loss, self._on_graph = hear("on_loss"), hear("before_backward")
        self._on_gradients, self._on_weights, self._on_judged = hear("before_step"), hear("after_step"), hear("judged")
        for one in families:
            self._tell(one.begin())

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close(is_broken_off=kind is not None)

    def close(self, *, is_broken_off: bool = False) -> None:
        """Take everything off again; what was found stays. A training that came to its end is asked what it learned."""
        for end in self._ends:
            end()
        self._ends = []
        self._invariants.end()
        if self._mend is not None:
            self._mend.close()
        data, self._data = self._data, None
        is_whole = not is_broken_off and self.step >= (self._moment.plan or LEAST_STEPS)
        if data is not None and is_whole and all(one.id != "T5" for one in self.findings):
            self._tell(find_behind_linear(self._model, data), is_over=True)

    def judged(self, losses: Tensor | np.ndarray | Sequence[float] | float, *, restores: bool = False) -> None:
        """Tell what rows that are kept for judging cost now: the loss of each [N], always the same, or their mean.

        With `restores` whoever trains goes back to the best weights by itself: overfitting is then told as a note.
        """
        self._moment.restores = restores
        values = losses.detach().cpu().double().numpy() if isinstance(losses, Tensor) else np.asarray(losses, float)
        if self._mend is not None:
            self._mend.judged(float(np.mean(values)))
        self._tell(self._modes.judged(self.step))
        for judge in self._on_judged:
            self._tell(judge(np.atleast_1d(values).reshape(-1), self._moment))

    @property
    def mended(self) -> list[Mended]:
        """The remedies that were applied, with `fix`; those taken back again are marked."""
        return [] if self._mend is None else self._mend.mended

    @property
    def settings(self) -> dict[str, Any]:
        """What was found asks for, and only whoever wrote the loop can set: {"batch_size": 32, "shuffle": True}."""
        return {name: value for one in self.findings for name, value in one.evidence.get("settings", {}).items()}

    @property
    def normaliser(self) -> nn.Module | None:
        """What was put before the model against F3, and has to be kept with it; None where nothing was."""
        return None if self._mend is None else self._mend.normaliser

    def _report_remedy(self, text: str) -> None:
        if self._say is not None:
            self._say(text)

    def report(self, path: str | Path | None = None) -> list[Finding]:
        """What was found, causes first; written to a file of JSON where a path is given."""
        found = in_order_of_blame(self.findings)
        if path is not None:
            text = json.dumps(jsonable([one.to_json() for one in found]), indent=1, ensure_ascii=False)
            Path(path).write_text(text + "\n", encoding="utf-8")
        return found

    def _listen_to(self, part: nn.Module) -> list[Callable[[], None]]:
        before = part.register_forward_pre_hook(self._forward, with_kwargs=True, prepend=True)
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
            self._moment.given = args, kwargs
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
        moment = self._moment
        # Reading a number stops a GPU's queue: it is done at every step only if a step may have to be stopped.
        if self._is_on_cpu or self._reads or self._is_looking:
            value = loss.item() if loss.numel() == 1 else float(loss.detach().double().sum())
            if not math.isfinite(value):
                # A sum may run over where no number of it is infinite.
                if loss.numel() == 1 or not is_finite(loss):
                    self._tell(self._not_finite.before_backward(loss, moment))
            elif moment.history.add(value, moment.step):
                moment.see(loss)
                self._tell_all(self._on_loss)
        if self._is_looking or moment.window:
            moment.see(loss)
            self._tell_all(self._on_graph)
        moment.graph = None

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._is_on_cpu or self._reads or self._is_looking:
            root = self._not_finite
            if not root.is_fine(self._is_looking):
                self._tell(root.before_step(self._moment))
                if self._stop:
                    told = next(one.text for one in self.findings if one.evidence.get("kind") == "not finite")
                    raise FloatingPointError(f"Step {self.step + 1:,} would ruin the weights. {told}")
        if self._is_looking:
            self._tell_all(self._on_gradients)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._is_looking:
            self._tell_all(self._on_weights)
        self._not_finite.after_step()
        if not self._was_called:
            # A model of which only parts are called, as Lightning's are: these are listened to then.
            self._was_called = True
            self._ends += [end for part in self._model.children() for end in self._listen_to(part)]
        self.step += 1
        moment = self._moment
        if self.step >= self._schedule.next:
            moment.window = self._schedule.window(self.step, moment)
            self._is_looking = self._schedule.is_looking(self.step) or (self._advice and moment.window > 0)
        moment.step = self.step + 1
        moment.given = (), {}

    def _tell_all(self, hear: Sequence[Callable[[Moment], Iterable[Finding]]]) -> None:
        for one in hear:
            self._tell(one(self._moment))

    def _tell(self, found: Iterable[Finding], *, is_over: bool = False) -> None:
        for finding in found:
            self.findings.append(finding)
            if self._say is not None:
                self._say(f"{finding.id} {finding.name}: {finding.text}")
            if self._mend is not None and not is_over and self._mend.found(finding):
                self._moment.history = LossHistory()


watch = Watch  # a verb where it is called, as a `with` block or a line reads
