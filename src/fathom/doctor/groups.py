"""D3: rows that belong together, of one person or day, stand on both sides of the split.

Where a group or a time was declared this is counted. Else columns that repeat (names, codes, dates) are tried: if the
rows of one value are held out together, and the model then does much worse though the column itself is not shown to it
either way, then it had known these rows by their neighbours. What a reader would get wrong: that is a suspicion. Who
predicts for the same persons again needs no such split.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fathom.doctor.finding import Finding
from fathom.doctor.parts.chance import p_of_mean_above
from fathom.doctor.parts.given import Given, column_of
from fathom.doctor.parts.out_of_fold import Learner, fold_of_units

LEAST_GROUPS, LEAST_SIZE, MOST_SHARE = 20, 2.0, 0.2
REPEATED = 0.5  # of the rows have another one of their group
LEARNS, LOST = 0.1, 0.35  # of the prior's loss explained with rows dealt at random; of that, lost in groups
TRIED = 2
ID_WORDS = ("id", "patient", "subject", "user", "customer", "person", "group", "household", "session", "speaker",
            "device", "client", "account", "family", "batch", "site", "plot")  # fmt: skip


def find_declared(given: Given) -> Iterator[Finding]:
    """Groups in both official parts, and official test rows from before the end of the training."""
    if given.parts is None or not given.official:
        return
    train, test = np.flatnonzero(given.parts == "train"), np.flatnonzero(given.parts == "test")
    if given.groups is not None and "group" in given.names:
        yield from _same_groups(given, train, test)
    if given.times is not None and "time" in given.names:
        yield from _same_times(given, train, test)


def _same_groups(given: Given, train: np.ndarray, test: np.ndarray) -> Iterator[Finding]:
    assert given.groups is not None
    rows = test[np.isin(given.groups[test], given.groups[train])]
    if not len(rows):
        return
    both, name = len(np.unique(given.groups[rows])), given.names["group"]
    yield Finding(
        "D3",
        seen=f"{both:,} groups of '{name}' stand in the training part and in the test: {len(rows):,} of {len(test):,} "
        "test rows",
        cause="The parts were made by dealing rows, not groups.",
        remedy="`fathom fit --group` leaves their training rows out. Better: divide the groups anew.",
        by="exact",
        evidence={"columns": [name], "rows": rows.tolist(), "places": given.told_places(rows), "groups": both},
    )


def _same_times(given: Given, train: np.ndarray, test: np.ndarray) -> Iterator[Finding]:
    assert given.times is not None
    known = given.times[train]
    last = np.nanmax(known) if known.dtype.kind != "M" else np.max(known[~np.isnat(known)])
    rows = test[given.times[test] <= last]
    if not len(rows):
        return
    name = given.names["time"]
    yield Finding(
        "D3",
        seen=f"{len(rows):,} of {len(test):,} test rows are not later in '{name}' than the last training row, {last}",
        cause="The parts were not divided by time.",
        remedy="Let the test begin where the training ends.",
        by="exact",
        evidence={"columns": [name], "rows": rows.tolist(), "places": given.told_places(rows)},
    )


def find_candidates(given: Given, learner: Learner, kinds: dict[str, str], level: float) -> Iterator[Finding]:
    """A column by which the rows belong together, though nobody said so."""
    if given.names or not learner.table.names or learner.pictures:
        return
    owners = [column_of(name, given.columns) for name in learner.table.names]
    for name, units in list(_likely(given, learner.rows, kinds).items())[:TRIED]:
        shown = [at for at, owner in enumerate(owners) if owner != name]
        if not shown:
            continue
        alone = learner.predict(shown)
        learns = learner.gain(alone)
        if learns < LEARNS:
            continue
        strata = None if learner.is_number else learner.targets
        together = learner.predict(shown, fold=fold_of_units(given, units, strata))
        lost = learns - learner.gain(together)
        # Rows of one group are one piece of evidence.
        more = np.bincount(units, weights=learner.losses(together) - learner.losses(alone))
        p = p_of_mean_above(more)
        if lost < LOST * learns or p > level:
            continue
        num_groups = len(np.unique(units))
        yield Finding(
            "D3",
            seen=f"Rows with the same '{name}' ({num_groups:,} groups) know each other's '{given.task.target}': "
            f"{learns:.0%} of it is told with rows dealt at random, {max(learns - lost, 0):.0%} for values of '{name}' "
            "that are new",
            cause=f"Suspect: rows of one '{name}' belong together, and a random split puts them on both sides.",
            remedy=f"If predictions are for a new '{name}', pass --group {name}"
            + (f", or --time {name}" if kinds.get(name) == "datetime" else "")
            + "; if for the same ones again, this is well.",
            by="test",
            confidence=1 - p,
            evidence={"columns": [name], "groups": num_groups, "random": learns, "by_group": learns - lost, "p": p},
        )
        return


def _likely(given: Given, rows: np.ndarray, kinds: dict[str, str]) -> dict[str, np.ndarray]:
    """Columns that repeat as the names of groups do → the group of each row; a missing value is a group of its own."""
    found: dict[str, np.ndarray] = {}
    for name, values in {**given.others, **given.columns}.items():
        words = set(name.lower().replace("-", "_").replace(" ", "_").split("_"))
        is_name = bool(words & set(ID_WORDS)) or name.lower().endswith("id")
        kind = kinds.get(name, "left out")
        if values.ndim > 1 or (kind == "number" and not is_name) or kind in ("text", "image"):
            continue
        if kind == "left out" and not is_name and values.dtype.kind == "f":
            continue
        texts = values[rows].astype(str)
        none = np.isin(texts, ("None", "nan", "NaT", ""))
        unit = np.unique(texts, return_inverse=True)[1].ravel()
        unit[none] = unit.max() + 1 + np.arange(none.sum())
        unit = np.unique(unit, return_inverse=True)[1].ravel()
        sizes = np.bincount(unit)
        repeated = sizes[sizes > 1].sum() / len(rows)
        fits = len(sizes) >= LEAST_GROUPS and len(rows) / len(sizes) >= LEAST_SIZE
        if fits and sizes.max() <= MOST_SHARE * len(rows) and repeated >= REPEATED:
            found[name] = unit
    return dict(sorted(found.items(), key=lambda item: len(np.unique(item[1])), reverse=True))
