"""CPU time of the one loop against a hand-written PyTorch loop, the same steps, alternating in one process.

    python bench/loop_overhead.py

Prints the median ratio over the rounds for an MLP and a CNN, one thread, with the quartiles. 1.00 means free.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import train
from fathom.objectives.classify import Classify

ROUNDS = 21


def mlp() -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)), (784,)


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


def main() -> None:
    torch.set_num_threads(1)
    for make, steps in ((mlp, 150), (cnn, 30)):
        _, shape = make()
        generator = torch.Generator().manual_seed(0)
        data = [
            (torch.randn(128, *shape, generator=generator), torch.randint(0, 10, (128,), generator=generator))
            for _ in range(steps)
        ]
        ratios = []
        for turn in range(ROUNDS):
            order = (by_loop, by_hand) if turn % 2 else (by_hand, by_loop)
            taken = {run: seconds(run, make, data) for run in order}
            ratios.append(taken[by_loop] / taken[by_hand])
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{make.__name__}: CPU time {middle:.4f} of a hand-written loop (quartiles {low:.4f} to {high:.4f})")


if __name__ == "__main__":
    main()
