"""CPU time of the one loop against a hand-written PyTorch loop, the same steps, alternating in one process.

    python bench/loop_overhead.py

One thread, CPU time, 128 rows a step, each loop's least over the rounds: other work on the machine only adds to it.
What the loop adds to a step does not depend on the arithmetic in it, so it is measured where there is next to none and
set against the step of an MLP (784-512-512-10) and of a CNN. Measured directly, it drowns in the noise of memory.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import train
from fathom.objectives.classify import Classify

ROUNDS = 60


def mlp() -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)), (784,)


def bare() -> tuple[nn.Module, tuple[int, ...]]:
    """As many parameters as the MLP has, and next to no arithmetic: what the loop adds stands out."""
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10)), (8,)


def cnn() -> tuple[nn.Module, tuple[int, ...]]:
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 10)), (1, 28, 28)


def by_hand(model: nn.Module, data: list[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer) -> None:
    for inputs, targets in data:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()


def by_loop(model: nn.Module, data: list[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer) -> None:
    for _ in train(model, Classify(10), data, optimizer):
        pass


def seconds(run: object, make: object, data: list[tuple[Tensor, Tensor]]) -> float:
    torch.manual_seed(0)
    model, _ = make()  # type: ignore[operator]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    begun = time.process_time()
    run(model, data, optimizer)  # type: ignore[operator]
    return time.process_time() - begun


def least_seconds(make: object, steps: int) -> tuple[float, float]:
    """Seconds a step by hand and by the loop, each the least of its rounds."""
    _, shape = make()  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    data = [
        (torch.randn(128, *shape, generator=generator), torch.randint(0, 10, (128,), generator=generator))
        for _ in range(steps)
    ]
    least = {by_hand: float("inf"), by_loop: float("inf")}
    for turn in range(ROUNDS):
        for run in (by_loop, by_hand) if turn % 2 else (by_hand, by_loop):
            least[run] = min(least[run], seconds(run, make, data) / steps)
    return least[by_hand], least[by_loop]


def main() -> None:
    torch.set_num_threads(1)
    hand, loop = least_seconds(bare, 200)
    added = loop - hand
    print(f"bare: {1e6 * hand:.0f} µs a step by hand, {1e6 * loop:.0f} µs by the loop: {1e6 * added:+.0f} µs")
    for make, steps in ((mlp, 20), (cnn, 8)):
        hand, loop = least_seconds(make, steps)
        print(
            f"{make.__name__}: {1e3 * hand:.2f} ms a step by hand, so the loop adds {added / hand:.2%}; "
            f"measured directly {loop / hand - 1:+.2%}"
        )


if __name__ == "__main__":
    main()
