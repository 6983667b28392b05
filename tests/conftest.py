"""Shared by the tests: small data that they make themselves, and the real data sets where FATHOM_DATA names them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

# Two tests must not wait for each other's idle threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where the variable is unset."""
    where = os.environ.get("FATHOM_DATA")
    if not where:
        pytest.skip("FATHOM_DATA is not set: it names the folder of real data sets")
    return Path(where)


def people(rows: int = 240, seed: int = 0) -> list[dict[str, str]]:
    """A small table with numbers, a category, missing cells, and a target that depends on them."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        age, hours = int(random.integers(18, 80)), int(random.integers(5, 70))
        job = str(random.choice(["clerk", "cook", "pilot"]))
        score = 0.08 * (age - 49) + 0.1 * (hours - 37) + {"clerk": 0.0, "cook": -1.0, "pilot": 1.5}[job]
        rich = random.random() < 1 / (1 + np.exp(-6 * score))
        found.append(
            {
                "age": "" if random.random() < 0.05 else str(age),
                "hours": str(hours),
                "job": job,
                "rich": "yes" if rich else "no",
                "wealth": f"{100 * np.exp(score / 3) + random.normal():.2f}",
            }
        )
    return found


def write_csv(path: Path, rows: list[dict[str, str]], *, without: tuple[str, ...] = ()) -> Path:
    names = [name for name in rows[0] if name not in without]
    lines = [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def patient() -> Iterator[None]:
    """Runs without a budget get an hour, so that a busy machine does not change what a test finds."""
    from fathom import fitting

    with pytest.MonkeyPatch.context() as patch:
        explained = fitting.default_budget
        patch.setattr(fitting, "default_budget", lambda *given: max(3600.0, explained(*given)))
        yield
