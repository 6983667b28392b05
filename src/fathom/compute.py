"""What hardware there is: device, threads, precision, and the time that is left.

Precision is chosen by a short measurement: bf16 halves the time of a step on one processor and makes it four times
longer on another of the same year.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

PRECISIONS = ("fp32", "bf16")


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes a CUDA device, else the CPU.

    Apple's has no float64, in which answers are decoded: it is not offered. Raises ValueError.
    """
    if name != "auto":
        try:
            device = torch.device(name)
        except RuntimeError:
            device = None
        if device is None or device.type not in ("cpu", "cuda"):
            raise ValueError(f"'{name}' is not a device that Fathom trains on. Use auto, cpu, cuda or cuda:1.")
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"Device '{name}' was asked for, but PyTorch sees no CUDA device here. Use device=cpu.")
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def num_cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def is_busy() -> bool:
    """Whether others keep this machine at work: threads then wait for each other far longer than they work."""
    try:
        return os.getloadavg()[0] > 2 * num_cores()
    except (AttributeError, OSError):  # not on Windows
        return False


def set_threads(count: int) -> None:
    torch.set_num_threads(count)


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """The context that each forward pass runs in."""
    if precision == "fp32":
        return nullcontext
    if precision == "bf16":
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
    raise ValueError(f"'{precision}' is not a precision. Use {' or '.join(PRECISIONS)}.")


def random_states() -> dict[str, torch.Tensor]:
    """The states of torch's random numbers, of the CPU and of the CUDA devices in use."""
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        found |= {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return found


def set_random_states(states: Mapping[str, torch.Tensor]) -> None:
    """Go on with random numbers from there; those of devices that are not here are left out."""
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            if f"cuda:{i}" in states:
                torch.cuda.set_rng_state(states[f"cuda:{i}"], i)


def seconds_per_call(call: Callable[[], Any], device: torch.device, *, seconds: float = 0.5) -> float:
    """Median seconds of a call, after one that is not counted (it packs weights and chooses kernels).

    At least two are timed, or one where already the first took longer than `seconds`.
    """
    begun = time.perf_counter()
    call()
    _wait(device)
    at_least = 2 if time.perf_counter() - begun < seconds else 1
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < at_least or (time.perf_counter() - begun < seconds and len(times) < 20):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


class PrecisionChoice(NamedTuple):
    precision: str
    why: str
    seconds: dict[str, float]  # of one call, for each precision tried


def choose_precision(
    call: Callable[[Callable[[], AbstractContextManager[Any]]], Any], device: torch.device, *, seconds: float = 0.5
) -> PrecisionChoice:
    """Time a training step in fp32 and in bf16; bf16 must be a tenth faster to be worth its coarser numbers.

    `call(context)` runs one forward and backward pass with `context()` around the forward pass; each precision is timed
    for about `seconds`.
    """
    took = {
        precision: seconds_per_call(lambda p=precision: call(autocast(device, p)), device, seconds=seconds)  # type: ignore[misc]
        for precision in PRECISIONS
    }
    ratio = took["fp32"] / took["bf16"]
    chosen = "bf16" if ratio > 1.1 else "fp32"
    why = f"a step takes {1e3 * took['fp32']:.1f} ms in fp32, {1e3 * took['bf16']:.1f} ms in bf16"
    return PrecisionChoice(chosen, why, took)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Budget:
    """A promise about wall-clock seconds, counted from `started` (a reading of time.monotonic)."""

    def __init__(self, seconds: float | None, started: float | None = None) -> None:
        self.seconds = seconds
        self.started = time.monotonic() if started is None else started

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started

    @property
    def slowness(self) -> float:
        """How often longer than work takes it has taken so far, 1 to 4: on a busy machine seconds pass without work."""
        return min(4.0, max(1.0, self.spent / max(time.process_time(), 1e-3)))

    @property
    def left(self) -> float:
        return float("inf") if self.seconds is None else self.seconds - self.spent

    def share(self, part: float, *, reserve: float = 0.0) -> float:
        """Seconds that a part of what is left comes to, after `reserve` seconds are put aside; never negative."""
        return max(0.0, (self.left - reserve) * part)
