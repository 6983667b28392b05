"""Shared by the tests that compare networks for pictures with `transformers`' in training mode, batch norms and all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from fathom.pretrained import Pretrained, from_pretrained
from tests.parity.common import assert_same, assert_same_gradients

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def pictures(height: int, width: int, *, channels: int = 3, rows: int = 3) -> tuple[Tensor, Tensor]:
    """Pixels 0..255 for ours, and the same for the other library: scaled by ImageNet's mean and deviation."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (rows, channels, height, width), dtype=torch.uint8, generator=random)
    mean, std = (MEAN, STD) if channels == 3 else ([0.449] * channels, [0.226] * channels)
    return pixels, (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def assert_same_training(
    loaded: Pretrained,
    theirs: nn.Module,
    pixels: Tensor,
    values: Tensor,
    folder: Path,
    *,
    unused: Iterable[str] = (),
) -> None:
    """Outputs, gradients and every running statistic agree after a batch in training mode.

    Theirs travels as a folder of weights, so that its buffers come under our names. Parameters of ours that match
    `unused` have a gradient that is nothing but rounding.
    """
    ours, expected = loaded.model.train()(pixels), theirs.train()(values).logits
    assert expected.std() > 0.01
    assert_same(ours, expected, tolerance=1e-4)
    assert_same_gradients(loaded, theirs, ours, expected, folder, unused=unused)
    theirs.save_pretrained(folder / "after")  # type: ignore[operator]
    after = from_pretrained(folder / "after").model.state_dict()
    buffers = dict(loaded.model.named_buffers())
    running = [name for name in after if name in buffers]
    assert {name.rsplit(".", 1)[1] for name in running} == {"running_mean", "running_var", "num_batches_tracked"}
    for name in running:
        assert_same(buffers[name], after[name])
        if name.endswith("num_batches_tracked"):
            assert int(buffers[name]) == 1
