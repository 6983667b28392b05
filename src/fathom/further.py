"""The rows besides a sample, encoded as the sample was and written to files, for the network to learn from.

What a reader would get wrong: none of them may be a row that judges, nor stand in a group with one or after it in time,
nor be a copy of one. Those are left out and counted, as are rows that cannot be used.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fathom.afford import Stock
from fathom.console import count
from fathom.contest import Contest
from fathom.data import Examples, Ragged, Table
from fathom.divide import times_of
from fathom.duplicates import row_hashes
from fathom.encode import encode
from fathom.errors import UserError
from fathom.limits import told
from fathom.plan import rows_in_time, spare_the_network
from fathom.prepare import encoded_targets, is_missing
from fathom.prepared import Prepared
from fathom.rooms import find
from fathom.sampling import further_rows
from fathom.stored import TARGETS, Store, Writer, layout

FOLDER = "cache"
# Of the time that is left after the baselines.
SHARE = 0.2
ROWS_AT_A_TIME, COSTLY_AT_A_TIME = 65_536, 1_024


@contextmanager
def further_store(contest: Contest, stock: Stock, sample: Table, prepared: Prepared) -> Iterator[Store | None]:
    """The store of a contest on a sample, whose files are gone afterwards; None where there is no sample.

    As many rows as the time allows, or as the recipe says; the number goes into the recipe.
    """
    recipe, folder = contest.recipe, contest.folder.inside(FOLDER)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    spare_the_network(contest)
    if recipe.sample.rows is None or stock.stream is None or recipe.model.name == "none" or recipe.sample.further == 0:
        yield None
        return
    if why := _refusal(contest):
        contest.console.stage("Storing", f"the network learns from the sample alone: {why}")
        recipe.sample.further = 0
        yield None
        return
    store = None
    try:
        store = _filled(contest, stock, sample, prepared)
        yield store
    finally:
        if store is not None:
            store.files.close()
        shutil.rmtree(folder, ignore_errors=True)


def _refusal(contest: Contest) -> str:
    if contest.taught is not None:
        return "a teacher's answers are known for it alone"
    if any(isinstance(values, Ragged) for values in contest.examples.inputs.values()):
        return "texts are held in memory"
    return ""


def _filled(contest: Contest, stock: Stock, sample: Table, prepared: Prepared) -> Store | None:
    recipe, budget = contest.recipe, contest.budget
    assert stock.stream is not None
    is_open = recipe.sample.further is None
    # As floats: without a clock there is no end.
    most = float(recipe.sample.further or 0)
    if is_open:
        seen = rows_in_time(contest)
        spare_the_network(contest, seen)
        most = seen // 1 - contest.num_trained(0) if recipe.model.name != "none" else 0.0
    end = budget.spent + budget.share(SHARE, reserve=contest.reserve) if is_open else float("inf")
    if most < 1:
        recipe.sample.further = 0
        if recipe.model.name != "none":
            contest.console.stage("Storing", "no further rows: the network sees no more than the sample in the time")
        return None
    writer, sieve = Writer(contest.folder.inside(FOLDER)), _Sieve(contest, prepared)
    size = COSTLY_AT_A_TIME if contest.examples.of_form("pixels") else ROWS_AT_A_TIME
    first = len(contest.examples)
    for begin in range(0, first, size):
        rows = np.arange(begin, min(begin + size, first))
        writer.append(_arrays(contest.examples.take(rows), contest.targets[rows]))
    why = "all there are"
    for table in _in_parts(further_rows(stock.stream, recipe, sample), size):
        kept, targets = sieve.usable(table)
        rest = int(min(len(targets), first + most - writer.num_rows))
        if rest:
            examples = encode(kept.take(np.arange(rest)), contest.specs)
            writer.append(_arrays(examples, targets[:rest]))
        for kind in set(prepared.kinds.values()):
            getattr(find("fields", kind), "forget", lambda: None)()  # decoded pictures
        if writer.num_rows >= first + most or budget.spent > end:
            why = "as asked" if not is_open else "the time allows no more"
            break
    found = writer.num_rows - first
    if is_open:
        recipe.explain("further", f"{found:,} rows", why)
    recipe.sample.further = found
    contest.save_recipe()
    store = Store(writer.written(), first)
    text = f"{count(found, 'further row')} for the network ({why}), {told(store.files.bytes)} in {FOLDER}/ meanwhile"
    contest.console.stage("Storing", text)
    for line in sieve.told():
        contest.console.more(line)
    return store


def _arrays(examples: Examples, targets: np.ndarray) -> dict[str, np.ndarray]:
    """What is written of some rows."""
    found = {
        name: layout(values, examples.about[name]["form"])
        for name, values in examples.inputs.items()
        if not isinstance(values, Ragged)
    }
    # As the network is told them: numbers as float32.
    return found | {TARGETS: targets.astype(np.float32) if targets.dtype.kind == "f" else targets}


def _in_parts(tables: Iterator[Table], size: int) -> Iterator[Table]:
    for table in tables:
        for begin in range(0, len(table), size):
            yield table.take(np.arange(begin, min(begin + size, len(table))))


class _Sieve:
    """Which further rows may be learned from, and how many may not, by reason."""

    def __init__(self, contest: Contest, prepared: Prepared) -> None:
        self.task, self.prepared, self.split = contest.task, prepared, contest.recipe.split
        divided = contest.divided
        judged = np.union1d(divided.judged, divided.test)
        self.columns = {name: prepared.table.columns[name] for name in prepared.kinds}
        own = {name: values[judged] for name, values in self.columns.items()}
        # With times copies are not kept apart: the past is known when the future is predicted.
        self.hashes = np.empty(0, np.uint64) if self.split.time else np.unique(row_hashes(own, whole=True))
        self.groups: set[Any] = set()
        if self.split.group is not None:
            self.groups = set(prepared.every_column[self.split.group][judged].tolist()) - {None}
        self.earliest = None if divided.times is None else divided.times[judged].min()
        self.left_out: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def usable(self, table: Table) -> tuple[Table, np.ndarray]:
        """The rows of a table that may be learned from, and their targets."""
        for one in table.left_out:
            self._count(one.why, one.where)
        labels = table.columns[self.task.target]
        missing = is_missing(labels)
        keep = self._without(np.ones(len(table), bool), missing, table, f"no value for '{self.task.target}'")
        targets = np.zeros(len(table), np.float64 if self.task.kind == "regress" else np.int64)
        targets[keep] = encoded_targets(self.task, labels[keep])
        unread = ~np.isfinite(targets) | (targets < 0 if self.task.kind == "classify" else False)
        what = "is no class of the sample" if self.task.kind == "classify" else "is not a number"
        keep = self._without(keep, unread, table, f"'{self.task.target}' {what}")
        for name, kind in self.prepared.kinds.items():
            for row, why in find("fields", kind).broken(table.columns[name]).items():
                if keep[row]:
                    self._count(why, table.places[row])
                keep[row] = False
        if table.parts is not None:
            keep = self._without(keep, table.parts != "train", table, "official rows of another part")
        keep = self._without_judged(keep, table)
        rows = np.flatnonzero(keep)
        return table.take(rows), targets[rows]

    def _without_judged(self, keep: np.ndarray, table: Table) -> np.ndarray:
        """Without rows that belong to those that validate or test."""
        if self.groups and self.split.group is not None:
            of_row = table.columns[self.split.group].tolist()
            inside = np.fromiter((one in self.groups for one in of_row), bool, len(table))
            keep = self._without(keep, inside, table, f"of a '{self.split.group}' that judges")
        if self.earliest is not None and self.split.time is not None:
            keep = self._without(keep, self._late(table), table, "not before the rows that judge")
        if len(self.hashes) and keep.any():
            own = {name: _as(table.columns[name], values) for name, values in self.columns.items()}
            copies = np.isin(row_hashes(own, whole=True), self.hashes)
            keep = self._without(keep, copies, table, "a copy of a row that judges")
        return keep

    def _late(self, table: Table) -> np.ndarray:
        try:
            times = times_of(table.columns[str(self.split.time)], str(self.split.time))
        except UserError:  # none of them says a time
            return np.ones(len(table), bool)
        if times.dtype.kind != np.asarray(self.earliest).dtype.kind:
            return np.ones(len(table), bool)
        return ~(times < self.earliest)

    def _without(self, keep: np.ndarray, out: np.ndarray, table: Table, why: str) -> np.ndarray:
        rows = np.flatnonzero(keep & out)
        if len(rows):
            self._count(why, table.places[rows[0]], len(rows))
        return keep & ~out

    def _count(self, why: str, where: str, rows: int = 1) -> None:
        self.first.setdefault(why, where)
        self.left_out[why] += rows

    def told(self) -> list[str]:
        """What was left out, the most frequent reasons first."""
        found = self.left_out.most_common(5)
        lines = [f"{rows:,} further rows left out: {why}; the first: {self.first[why]}" for why, rows in found]
        others = sum(self.left_out.values()) - sum(rows for _, rows in found)
        return [*lines, *([f"{others:,} further rows left out for other reasons"] if others else [])]


def _as(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Numbers in the type that the sample has them in: a piece without gaps is whole numbers where others are not."""
    are_numbers = values.dtype.kind in "iuf" and like.dtype.kind in "iuf"
    return values.astype(like.dtype) if are_numbers else values
