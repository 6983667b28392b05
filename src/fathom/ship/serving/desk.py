"""One thread that answers: it takes what waits, encodes like rows at once, and computes single rows together.

What a reader would get wrong: nobody waits for company. While one batch is computed the next requests gather, so a lone
request is answered at once and a crowd in batches. A request of many rows is a batch of its own and is computed as
`fathom predict` computes it; single rows go together only in batches that are known to change nothing (`together`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fathom.data import Examples, Places
from fathom.errors import UserError
from fathom.ship.predict import Model, Predictions
from fathom.ship.serving import together
from fathom.ship.serving.limits import Limits, Refused
from fathom.ship.serving.reading import Asked, Opened, as_table, needed, opened

MOST_TOGETHER = together.SIZES[-1]
SMALL = 1 << 16  # bytes of a body that may be opened beside others: larger ones are held in memory one at a time
TASKS = ("classify", "regress")  # of whose rows each is answered by itself


class Job(NamedTuple):
    asked: Asked
    answer: Future[Predictions]


class Single(NamedTuple):
    """One encoded row, that may be answered together with others."""

    job: Job
    examples: Examples
    places: Places
    notes: tuple[str, ...]


class Desk:
    """A run's model, opened, and the thread that asks it. `seen(rows)` is told how many rows went together."""

    def __init__(
        self,
        model: Model,
        limits: Limits,
        *,
        candidate: str | None = None,
        seen: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self.model, self.limits, self.name, self.seen = model, limits, candidate, seen
        self.candidate = model.candidate(candidate)
        self.sizes: tuple[int, ...] = ()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._next: list[Job | None] = []  # taken from the queue, not begun
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)

    def open(self) -> None:
        """Start the thread, and return when it knows what may be answered together."""
        self._thread.start()
        self._ready.result()

    def close(self) -> None:
        """Answer what waits, then end."""
        self._waiting.put(None)
        self._thread.join()

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()

    def ask(self, asked: Asked) -> Future[Predictions]:
        """The answer, or Refused, or UserError; any other exception is a fault of ours."""
        job = Job(asked, Future())
        self._waiting.put(job)
        return job.answer

    def _work(self) -> None:
        try:
            if self.model.task.kind in TASKS:
                examples = self.model.examples(together.made_rows(self.model.spec["fields"]))
                self.sizes = together.equal_sizes(self.candidate, examples)
            elif self.model.task.kind == "pair":  # one of its candidates compares nothing, and says so here
                made = together.made_rows(needed(self.model))
                self.model.predict(made.take(np.arange(1)), candidate=self.name)
        except BaseException as error:  # noqa: BLE001 (told to whoever waits)
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while (jobs := self._taken()) is not None:
            try:
                self._answer(jobs)
            except BaseException as error:  # noqa: BLE001 (one batch must not end all)
                for job in jobs:
                    if not job.answer.done():
                        job.answer.set_exception(RuntimeError(repr(error)).with_traceback(error.__traceback__))

    def _taken(self) -> list[Job] | None:
        """What waits: one request, or as many small ones as may go together. None at the end."""
        first = self._next.pop() if self._next else self._waiting.get()
        if first is None:
            return None
        jobs = [first]
        while first.asked.size <= SMALL and len(jobs) < MOST_TOGETHER and not self._next:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
            if job is None or job.asked.size > SMALL:
                self._next.append(job)
            else:
                jobs.append(job)
        return jobs

    def _answer(self, jobs: list[Job]) -> None:
        singles: list[Single] = []
        for group in _alike(self._opened(jobs)):
            if self.model.task.kind in TASKS and all(one.is_single for _, one in group):
                singles += self._encoded(group)
            else:
                for job, one in group:
                    self._alone(job, one)
        if not singles:
            return
        raw = together.predict(self.candidate, together.joined([one.examples for one in singles]), self.sizes)
        self.seen(len(singles))
        for row, single in enumerate(singles):
            with _answering(single.job):
                told = self.model.told(
                    raw[row : row + 1], single.examples, single.places, notes=single.notes, candidate=self.name
                )
                single.job.answer.set_result(told)

    def _opened(self, jobs: list[Job]) -> list[tuple[Job, Opened]]:
        found = []
        for job in jobs:
            if not job.answer.set_running_or_notify_cancel():
                continue  # whoever asked has gone
            with _answering(job):
                found.append((job, opened(job.asked, self.model, self.limits)))
        return found

    def _encoded(self, group: list[tuple[Job, Opened]]) -> list[Single]:
        """The rows of like requests, encoded at once; where that fails, one by one, so that the right one is told."""
        if len(group) == 1:
            ((job, one),) = group
            with _answering(job):
                table = one.table or as_table(one.rows, self.model)
                return [Single(job, self.model.examples(table), table.places, one.notes)]
            return []
        try:
            table = as_table([row for _, one in group for row in one.rows], self.model)
            examples = self.model.examples(table)
        except (Refused, UserError):
            return [single for member in group for single in self._encoded([member])]
        first = table.places.take(np.array([0]))  # each is the first row of its own request
        return [Single(job, examples.take(np.array([row])), first, one.notes) for row, (job, one) in enumerate(group)]

    def _alone(self, job: Job, one: Opened) -> None:
        with _answering(job):
            table = one.table or as_table(one.rows, self.model)
            found = self.model.predict(table, candidate=self.name)
            self.seen(len(found))
            job.answer.set_result(replace(found, notes=one.notes))


@contextmanager
def _answering(job: Job) -> Iterator[None]:
    """Whatever is wrong with a request is told to whoever sent it, and to nobody else."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (handed on, whatever it is)
        job.answer.set_exception(error)
    except BaseException as error:  # noqa: BLE001 (so do libraries of Rust panic)
        job.answer.set_exception(RuntimeError(repr(error)).with_traceback(error.__traceback__))


def _alike(given: list[tuple[Job, Opened]]) -> list[list[tuple[Job, Opened]]]:
    """Requests whose rows make one table, in the order in which the first of each came; others by themselves."""
    groups: dict[Any, list[tuple[Job, Opened]]] = {}
    for job, one in given:
        groups.setdefault(id(one) if one.alike is None else one.alike, []).append((job, one))
    return list(groups.values())
