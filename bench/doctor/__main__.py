"""The doctor's benchmark from a checkout.

    python -m bench.doctor --seed 1 --cases 420            # development, about 12 minutes on two quiet cores
    python -m bench.doctor --seed 1 --cases 420 --locked   # the locked test: each seed once
    python -m bench.doctor --data --seed 1 --cases 200     # tables, before any training
    python -m bench.doctor --spread | --cost | --not-finite

What doctors say is written to predictions.jsonl and its hash printed before the truth of any case is joined to it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.doctor import case, cost, data_cases, not_finite, spread
from bench.doctor.processes import solved
from bench.doctor.rules import RULES
from bench.doctor.scores import Case, by_hard_negative, joined, missed, power, repaired, table
from bench.journal import table as markdown


def main(given: list[str] | None = None) -> None:
    options = _parsed(given)
    if options.spread:
        spread.measure(options.workers)
    elif options.cost:
        print(cost.told(cost.measure()))
    elif options.not_finite:
        print(not_finite.told(not_finite.measure()))
    elif options.data:
        tasks = data_cases.plan(options.seed, options.cases)
        print(told(measure(data_cases.solve, tasks, options, None), ["fathom"], None))
    else:
        tasks = case.plan(options.seed, options.cases, locked=options.locked, repairs=not options.no_repairs)
        deviations = spread.Spread()
        print(told(measure(case.solve, tasks, options, deviations), ["fathom", *RULES], deviations))


def _parsed(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.doctor", description="The doctor's benchmark.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=420, help="healthy ones, and as many faulty")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many; the order is random")
    parser.add_argument("--locked", action="store_true", help="other seeds, and what development never meets")
    parser.add_argument("--no-repairs", action="store_true", help="find only")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", type=Path, default=Path("bench/records/doctor"), help="folder of the results")
    parser.add_argument("--data", action="store_true", help="tables before any training, in place of trainings")
    parser.add_argument("--spread", action="store_true", help="measure the deviations of healthy reruns again")
    parser.add_argument("--cost", action="store_true", help="what watching costs")
    parser.add_argument("--not-finite", action="store_true", help="thirty planted NaNs: step, module, rows")
    return parser.parse_args(given)


def measure(
    solve: Callable[[Any], Any], tasks: Sequence[Any], options: argparse.Namespace, deviations: spread.Spread | None
) -> list[Case]:
    """Solve the cases; predictions are written and hashed first, then the truth joins them."""
    said, truths, begun = [], {}, time.monotonic()
    for task, found, error in solved(solve, tasks, workers=options.workers):
        if error is not None:
            traceback.print_exception(error)
        prediction, truth = found or ({"case": task.number, "said": {}}, {"case": task.number, "faults": task.faults})
        said.append(prediction)
        truths[task.number] = {"error": None if error is None else repr(error), **truth}
        print(f"\r{len(said)} of {len(tasks)}", end="", file=sys.stderr)
        if time.monotonic() - begun > 60 * options.minutes:
            break
    print(f"\n{len(said)} of {len(tasks)} cases in {(time.monotonic() - begun) / 60:.1f} minutes", file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    said.sort(key=lambda one: int(one["case"]))
    _write(options.out / "predictions.jsonl", said)
    digest = hashlib.sha256((options.out / "predictions.jsonl").read_bytes()).hexdigest()
    print(f"predictions.jsonl sha256 {digest}")
    cases = [joined(one, truths[one["case"]], deviations) for one in said]
    _write(options.out / "cases.jsonl", cases)
    return cases


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def told(cases: Sequence[Case], doctors: Sequence[str], deviations: spread.Spread | None) -> str:
    """The table, the power curve and what was missed, as Markdown."""
    done = [one for one in cases if not one["error"]]
    parts = [
        f"{len(done)} cases, {len(cases) - len(done)} that failed or were cut off; "
        f"{sum(one['redrawn'] for one in done)} configurations did not train well and were drawn again",
        markdown(["", *doctors], table(cases, doctors)),
        markdown(["hard negative", "alarm"], by_hard_negative(done, "fathom")),
        markdown(["found of planted, by magnitude", *"12345", "harmful", "cause first"], power(done, "fathom")),
    ]
    if deviations is not None and any(one["repairs"] for one in done):
        head = ["repair", "harmful: repaired", "recovered of the harm, median", "same cases, ours", "healthy harmed"]
        parts.append(markdown(head, repaired(done, deviations)))
    return "\n\n".join([*parts, "\n".join(missed(cases, "fathom"))])


if __name__ == "__main__":
    main()
