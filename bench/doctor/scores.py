"""The score of each doctor on cases whose truth is known, with exact intervals; and what was missed.

Two truths: structural, by what was planted; harmful, where the score fell by more than three deviations of healthy
reruns (spread.py). What a reader would get wrong: a plant that is neither is no miss, and an alarm on it no false
alarm. Every share is of cases, one configuration each; an acceptable cause counts of all harmful or structural cases
inside the catalogue, so that silence is a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats

from bench.doctor.spread import HARM, Spread

Case = dict[str, Any]
BINS = 5  # of magnitude, in the power curve
REPAIRED = 2.0  # deviations below the twin, at most


def joined(said: dict[str, Any], truth: dict[str, Any], spread: Spread | None) -> Case:
    """A case with its two truths; of data alone no harm is known."""
    case = {**said, **truth}
    if case.get("error") is None and case["faults"]:
        case["harmful"] = spread is not None and spread.is_harmful(case)
    return case


def alarms(case: Case, doctor: str) -> list[dict[str, Any]]:
    """What a doctor told, in order of blame; nothing of a case that failed."""
    return case.get("said", {}).get(doctor, [])


def has_alarm(case: Case, doctor: str) -> bool:
    return bool(alarms(case, doctor))


def names_cause(case: Case, doctor: str, first: int) -> bool:
    """Whether one of the first findings is acceptable for one of the faults."""
    return any(set(case["causes"]) & set(told["ids"]) for told in alarms(case, doctor)[:first])


Question = Callable[[Case, str], bool]
LINES: list[tuple[str, Callable[[Case], bool], Question]] = [
    ("alarm on healthy, all", lambda c: is_healthy(c), has_alarm),
    ("alarm on healthy, hard negatives", lambda c: is_healthy(c) and c["hard"] is not None, has_alarm),
    ("structural found", lambda c: c.get("structural", False), has_alarm),
    ("harmful found", lambda c: c.get("harmful", False), has_alarm),
    ("acceptable cause first", lambda c: is_wanted(c), lambda c, d: names_cause(c, d, 1)),
    ("acceptable cause in three", lambda c: is_wanted(c), lambda c, d: names_cause(c, d, 3)),
    ("outside the catalogue, harmful: found", lambda c: is_outside(c) and c["harmful"], has_alarm),
    ("neither harmful nor structural: alarm", lambda c: is_neutral(c), has_alarm),
]


def is_healthy(case: Case) -> bool:
    return not case["faults"] and not case.get("error")


def is_outside(case: Case) -> bool:
    return bool(case["faults"]) and "harmful" in case and not case["inside"]


def is_wanted(case: Case) -> bool:
    return (case.get("harmful", False) or case.get("structural", False)) and not is_outside(case)


def is_neutral(case: Case) -> bool:
    return "harmful" in case and not case["harmful"] and not case["structural"]


def share(hits: int, of: int) -> str:
    """A share with its Clopper–Pearson interval.

    >>> share(4, 400)
    '1.0 % (0.3 to 2.5), 4 of 400'
    """
    if not of:
        return "none"
    low, high = interval(hits, of)
    return f"{100 * hits / of:.1f} % ({100 * low:.1f} to {100 * high:.1f}), {hits} of {of}"


def interval(hits: int, of: int) -> tuple[float, float]:
    """Two-sided, exact, 95 %: Clopper & Pearson 1934."""
    found = stats.binomtest(hits, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def mcnemar(cases: Sequence[Case], ask: Question, one: str, other: str) -> tuple[int, int, float]:
    """How many cases only the one has, only the other; and the exact two-sided p."""
    only = sum(ask(c, one) and not ask(c, other) for c in cases), sum(ask(c, other) and not ask(c, one) for c in cases)
    return *only, float(stats.binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0


def table(cases: Sequence[Case], doctors: Sequence[str]) -> list[list[str]]:
    """A row for each line, a column for each doctor; behind others than the first, McNemar's p against it."""
    rows = []
    for name, belongs, ask in LINES:
        of = [case for case in cases if belongs(case)]
        row = [name]
        for doctor in doctors:
            told = share(sum(ask(case, doctor) for case in of), len(of))
            p = mcnemar(of, ask, doctors[0], doctor)[2]
            row.append(told if doctor == doctors[0] or not of else f"{told}; p {p:.2g}")
        rows.append(row)
    return rows


def repaired(cases: Sequence[Case], spread: Spread) -> list[list[str]]:
    """For each arm: repaired of the harmful cases it tried, the same for ours on these, and healthy ones harmed."""
    rows = []
    for arm in ("fathom", "autotrainer", "random"):
        # Of ours all count: silence is no repair.
        tried = [c for c in cases if c.get("harmful") and (arm == "fathom" or arm in c["repairs"])]
        well = [c for c in cases if not c["faults"] and arm in c.get("repairs", {})]
        harmed = sum(c["score"] - c["repairs"][arm]["score"] > HARM * spread.of(c) for c in well)
        regained = [(_score(c, arm) - c["score"]) / (c["twin"] - c["score"]) for c in tried]
        rows.append(
            [
                arm,
                share(sum(_is_repaired(c, arm, spread) for c in tried), len(tried)),
                f"{np.median(regained):.0%}" if regained else "",
                share(sum(_is_repaired(c, "fathom", spread) for c in tried), len(tried)),
                share(harmed, sum(not c["faults"] for c in cases)),
            ]
        )
    return rows


def _score(case: Case, arm: str) -> float:
    return case["repairs"][arm]["score"] if arm in case["repairs"] else case["score"]


def _is_repaired(case: Case, arm: str, spread: Spread) -> bool:
    score = _score(case, arm)
    return score >= case["twin"] - REPAIRED * spread.of(case) and score > case["score"]


def by_hard_negative(cases: Sequence[Case], doctor: str) -> list[list[str]]:
    kinds = sorted({str(case["hard"]) for case in cases if not case["faults"] and case.get("hard")})
    alike = [(kind, [c for c in cases if not c["faults"] and c.get("hard") == kind]) for kind in kinds]
    return [[kind, share(sum(has_alarm(c, doctor) for c in of), len(of))] for kind, of in alike]


def power(cases: Sequence[Case], doctor: str) -> list[list[str]]:
    """For each fault: found of planted by fifths of the magnitude, of all and of those that are harmful."""
    rows = []
    for name in sorted({name for case in cases for name in case["faults"][:1]}):
        of = [c for c in cases if list(c["faults"]) == [name] and "harmful" in c]
        if not of:
            continue
        row = [name]
        for k in range(BINS):
            here = [c for c in of if k <= BINS * c["magnitude"] < k + 1]
            row.append(f"{sum(has_alarm(c, doctor) for c in here)}/{len(here)}" if here else "")
        harmful = [c for c in of if c["harmful"]]
        first = sum(names_cause(c, doctor, 1) for c in of)
        row += [f"{sum(has_alarm(c, doctor) for c in harmful)}/{len(harmful)}", f"{first}/{len(of)}"]
        rows.append(row)
    return rows


def missed(cases: Sequence[Case], doctor: str) -> Iterator[str]:
    """What is harmful or structural and raised nothing, or something else first; and every false alarm."""
    for case in sorted(cases, key=lambda c: (tuple(c["faults"]), c.get("magnitude", 0))):
        told = [told["ids"][0] for told in alarms(case, doctor) if told["ids"]]
        if case.get("error"):
            yield f"{_named(case)}: {case['error']}"
        elif not case["faults"] and told:
            yield f"{_named(case)}: false alarm {', '.join(told)}"
        elif case["faults"] and is_wanted(case) and not names_cause(case, doctor, 1):
            yield f"{_named(case)}: {', '.join(told) or 'nothing'}; {case['twin']:.3f} → {case['score']:.3f}"


def _named(case: Case) -> str:
    one = case.get("configuration") or {}
    what = "+".join(case["faults"]) or str(case.get("hard") or "healthy")
    about = "/".join(str(one[key]) for key in ("world", "family", "optimizer") if key in one)
    return f"case {case['case']}, {what} {case.get('magnitude', 0):.2f}, {about}"
