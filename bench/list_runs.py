"""How long `fathom runs` takes for a thousand runs, the start of Python and all imports included.

    python bench/list_runs.py RUN [--runs 1000]

RUN is a finished run, of which so many copies are made (without states and report). What a reader would get wrong: the
files were just written, so they are in the memory of the system; on a disk that has not read them it takes longer.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIMES = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fathom-list-") as folder:
        for number in range(given.runs):
            left_out = shutil.ignore_patterns("last", "report.html")
            shutil.copytree(given.run, Path(folder) / f"run-{number}", ignore=left_out)
        spans = []
        for _ in range(TIMES):
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "fathom", "runs", "--in", folder], capture_output=True, text=True
            )
            spans.append(time.perf_counter() - begun)
            if done.returncode or len(done.stdout.splitlines()) != given.runs + 1:
                raise SystemExit(f"{done.stdout[-500:]}{done.stderr}")
    print(f"{given.runs:,} runs: median {statistics.median(spans):.2f} s, {min(spans):.2f} to {max(spans):.2f}")


if __name__ == "__main__":
    main()
