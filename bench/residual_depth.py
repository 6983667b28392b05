"""What residual connections are for: nets of 20, 56 and 110 layers with and without them, at equal steps.

    FATHOM_DATA=/path/to/data python bench/residual_depth.py --seeds 2

He et al. 2016, arXiv:1512.03385, section 4.2: 6n + 2 layers in three stages, here with half the channels (8, 16, 32)
and on Fashion-MNIST. One recipe for all of them: SGD with momentum 0.9 and weight decay 1e-4, the rate up to 0.1 over
the first tenth and down to 0 by a cosine. What a reader would get wrong: deep plain nets do not overfit. They are worse
on the very pictures that they were trained on.

Results go to bench/records/residual_depth.jsonl after each net.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fathom.loop import train
from fathom.models import resnet
from fathom.objectives.classify import Classify
from fathom.optimizers.schedule import cosine
from fathom.sources.idx import read_idx
from journal import RECORDS, Journal, spread, table, told

Pictures = tuple[Tensor, Tensor]  # uint8 [N, 1, H, W], int64 [N]
DEPTHS = (20, 56, 110)
KINDS = ("plain", "residual")
CHANNELS = "8,8,16,32"  # of the stem and the three stages
BATCH = 64
RATE = 0.1
WARM_UP = 0.1
SHOWN = 100  # the training loss is that of so many last steps
AT_A_TIME = 500  # pictures, when measuring


def pictures(folder: Path, part: str) -> Pictures:
    images, _ = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels, _ = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def batches(data: Pictures, steps: int, seed: int) -> Iterator[Pictures]:
    """The same pictures in the same order for every net of a seed, pass after pass."""
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(data[0])) for _ in range(1 + steps * BATCH // len(data[0]))])
    for step in range(steps):
        rows = torch.from_numpy(order[step * BATCH : (step + 1) * BATCH])
        yield data[0][rows], data[1][rows]


def net(data: Pictures, *, depth: int, residual: bool) -> nn.Module:
    pixels = data[0].float() / 255
    about = {"form": "pixels", "height": pixels.shape[2], "width": pixels.shape[3], "channels": 1}
    about |= {"mean": [float(pixels.mean())], "std": [float(pixels.std())]}
    model = resnet.build({"picture": about}, 10, size=depth, channels=CHANNELS, residual=residual)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(model: nn.Module, data: Pictures) -> float:
    model.eval()
    right = sum(
        int((model(data[0][i : i + AT_A_TIME]).argmax(dim=1) == data[1][i : i + AT_A_TIME]).sum())
        for i in range(0, len(data[0]), AT_A_TIME)
    )
    return right / len(data[0])


def measured(known: Pictures, unknown: Pictures, *, depth: int, kind: str, steps: int, seed: int) -> dict[str, Any]:
    """Train one net. Its loss is the mean over the last steps, each taken before the step is made."""
    torch.manual_seed(seed)
    model = net(known, depth=depth, residual=kind == "residual").train()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
    begun, losses = time.process_time(), []
    for step in train(
        model,
        Classify(10),
        batches(known, steps, seed),
        optimizer,
        schedule=lambda index: cosine(index / steps, warm_up=WARM_UP),
    ):
        assert not step.refused, f"a loss that is not finite at step {step.index}"
        losses.append(float(step.loss))
    seconds = time.process_time() - begun
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_loss": float(np.mean(losses[-SHOWN:])),
        "test_accuracy": accuracy(model, unknown),
        "seconds": round(seconds, 1),
        "losses": [round(float(np.mean(losses[i : i + SHOWN])), 4) for i in range(0, steps, SHOWN)],
    }


def shown(results: dict[tuple[int, str], list[dict[str, Any]]]) -> str:
    rows = [
        [
            str(depth),
            kind,
            f"{found[0]['parameters']:,}",
            spread([one["train_loss"] for one in found]),
            spread([one["test_accuracy"] for one in found], ".1f", 100) + " %",
            spread([one["seconds"] for one in found], ".0f"),
        ]
        for (depth, kind), found in sorted(results.items())
    ]
    return table(["layers", "net", "parameters", "train loss", "test accuracy", "CPU seconds"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FATHOM_DATA", "data")) / "fashion-mnist")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--out", type=Path, default=RECORDS / "residual_depth.jsonl")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known, unknown = pictures(given.data, "train"), pictures(given.data, "t10k")
    journal, results = Journal(given.out), {}
    for seed in range(given.seeds):
        for depth in given.depths:
            for kind in KINDS:
                settings = {"depth": depth, "kind": kind, "seed": seed, "steps": given.steps, "batch": BATCH}
                settings |= {"channels": CHANNELS, "rate": RATE, "warm_up": WARM_UP}
                found = journal.result(
                    settings,
                    lambda d=depth, k=kind, s=seed: measured(
                        known, unknown, depth=d, kind=k, steps=given.steps, seed=s
                    ),
                )
                results.setdefault((depth, kind), []).append(found)
                print(
                    f"{depth} {kind}, seed {seed}: {found['train_loss']:.3f}, {found['test_accuracy']:.1%}", flush=True
                )
    print(f"\n{shown(results)}\n\n{given.steps} steps of {BATCH} pictures; {told(journal.lines[-1]['conditions'])}")


if __name__ == "__main__":
    main()
