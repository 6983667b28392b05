"""What it costs to check what a run keeps: checksums of a state of 100 MB, and fingerprints of data as it was read.

    python bench/integrity.py [DATA …]

What a reader would get wrong: times are of one machine and its disk, medians of seven with the range; what counts is
their ratio to the write or the reading beside them. DATA are paths as `fathom fit` takes them.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fathom.checksums import checksum
from fathom.fingerprint import fingerprint
from fathom.run import RunFolder, packed, put
from fathom.sources.parts.choose import open_any
from fathom.states import load_checkpoint, save_checkpoint
from fathom.training import Checkpoint, Progress

TIMES = 7


def timed(call: Callable[[], Any]) -> str:
    """'104 ms (84 to 455)'."""
    spans = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        call()
        spans.append(1e3 * (time.perf_counter() - begun))
    return f"{statistics.median(spans):.0f} ms ({min(spans):.0f} to {max(spans):.0f})"


def of_checksums(content: bytes) -> None:
    kinds = {
        "CRC-32": zlib.crc32,
        "SHA-256": lambda b: hashlib.sha256(b).digest(),
        "BLAKE2b": lambda b: hashlib.blake2b(b).digest(),
    }
    for name, kind in kinds.items():
        print(f"{name} of 100 MB: {timed(lambda kind=kind: kind(content))}")  # type: ignore[misc]


def of_a_state(folder: Path) -> None:
    """Save and load a state of 100 MB; beside it the writing and reading alone, as without checksums."""
    weights = {f"layer{i}": torch.randn(2_500_000) for i in range(10)}
    run = RunFolder.create(folder / "run")
    number = iter(range(1000))

    def save() -> None:
        save_checkpoint(run, 0, Checkpoint(Progress(step=next(number)), weights, {}, 0, {}, {}, {}, {}))

    content = packed({f"weights/{name}": value for name, value in weights.items()})
    of_checksums(content)
    print(f"write alone: {timed(lambda: put(folder / 'alone', packed(weights)))}")
    print(f"a state, checked, the one before kept: {timed(save)}")
    print(f"read alone: {timed(lambda: (folder / 'alone').read_bytes())}")
    print(f"a state read and checked: {timed(lambda: load_checkpoint(run, 0))}")
    assert checksum(content)["bytes"] > 100_000_000


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fathom-integrity-") as name:
        of_a_state(Path(name))
    for data in sys.argv[1:]:
        begun = time.perf_counter()
        table = open_any(data)
        seconds = time.perf_counter() - begun
        print(f"{data}: read in {1e3 * seconds:.0f} ms, fingerprint {timed(lambda table=table: fingerprint(table))}")  # type: ignore[misc]


if __name__ == "__main__":
    main()
