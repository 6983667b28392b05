"""What memory there is, and a model that would not fit into it refused while it is built, before it fills it.

What a reader would get wrong: building is watched, not planned. A matrix takes its memory when it is first written to,
which is after it was announced to its module; the sum of what was announced is compared with what the machine has.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from fathom.errors import UserError

CGROUP = Path("/sys/fs/cgroup/memory.max")
STATUS, MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")
MOST_TENSORS = 200_000  # of a model: without a bound, a million layers of one number would fill the memory as objects
REMEDY = "Give it smaller sizes; `fathom models NAME` lists them."
# What torch says of sizes that no memory holds, or no number of 64 bits.
TOO_LARGE = re.compile("allocate|out of memory|[Oo]verflow|[Ss]torage size|Trying to create tensor with negative")


def memory_bytes() -> float:
    """Of this machine, or what a container may use of it; infinity where neither is told."""
    try:
        found = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not on Windows
        return float("inf")
    try:
        return min(found, float(CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a bound ("max")
        return found


def resident_bytes() -> float:
    """Of this process, now."""
    return _status("VmRSS") or peak_bytes()


def peak_bytes() -> float:
    """The most that this process had resident at once, pages of mapped files among it; 0 where nobody says."""
    if found := _status("VmHWM"):
        return found
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def available_bytes() -> float:
    """What this process may still take: free on the machine, and in its container."""
    try:
        free = float(re.search(r"MemAvailable:\s*(\d+)", MEMINFO.read_text())[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        free = 0.5 * memory_bytes()  # not told here; half of it is a guess that is said nowhere to be more
    return max(0.0, min(free, memory_bytes() - resident_bytes()))


def _status(name: str) -> float:
    """A line of what Linux says of this process, in bytes; 0 elsewhere."""
    try:
        found = re.search(rf"{name}:\s*(\d+) kB", STATUS.read_text())
    except OSError:
        return 0.0
    return 1024 * float(found[1]) if found else 0.0


@contextmanager
def refusing_what_does_not_fit(whose: str) -> Iterator[None]:
    """Raises UserError where what is built in here has more tensors or bytes than the memory holds."""
    most = memory_bytes()
    seen, tensors = 0.0, 0

    def announced(module: Any, name: str, tensor: Any) -> None:
        nonlocal seen, tensors
        # On the device "meta" a tensor has a shape and no memory.
        seen += 0 if tensor is None or tensor.is_meta else tensor.numel() * tensor.element_size()
        tensors += 1
        if seen > most:
            raise UserError(f"{whose} is too large for {most / 2**30:.1f} GB of memory, by its weights alone. {REMEDY}")
        if tensors > MOST_TENSORS:
            raise UserError(f"{whose} is too large: it has more than {MOST_TENSORS:,} tensors. {REMEDY}")

    hooks = [
        register_module_parameter_registration_hook(announced),
        register_module_buffer_registration_hook(announced),
    ]
    try:
        yield
    except (MemoryError, OverflowError) as error:
        raise UserError(f"{whose} is too large: {error}. {REMEDY}") from error
    except (RuntimeError, TypeError) as error:
        if TOO_LARGE.search(str(error)) is None:
            raise
        raise UserError(f"{whose} is too large: {str(error).splitlines()[0]} {REMEDY}") from error
    finally:
        for hook in hooks:
            hook.remove()
