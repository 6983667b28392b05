"""Facts about mixed rows: inputs and classes in the same proportion, by chance that a training taken up repeats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import fathom
from fathom.batches import Batch, Batches, Tensors
from fathom.data import Examples
from fathom.mix import Mix

from .conftest import people, write_csv

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def plain_pictures(rows: int = 200, side: int = 20) -> tuple[Tensor, Tensor]:
    """Every other picture is white and of class 1, the others are black and of class 0."""
    classes = torch.arange(rows) % 2
    return (255 * classes[:, None, None, None]).expand(rows, 3, side, side + 6).to(torch.uint8), classes


@pytest.mark.parametrize("way", [{"mixup": 1.0}, {"cutmix": 1.0}], ids=str)
def test_the_class_is_shared_as_the_picture_is(way: dict[str, float]) -> None:
    pixels, classes = plain_pictures()
    before = pixels.clone()
    mixed, targets = Mix(2, **way)(pixels, classes, seeded())
    assert isinstance(mixed, Tensor) and isinstance(targets, Tensor)
    assert mixed.dtype == torch.uint8
    assert mixed.shape == pixels.shape
    assert torch.equal(pixels, before)
    brightness = mixed.float().mean(dim=(1, 2, 3)) / 255
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(200))
    torch.testing.assert_close(targets[:, 1], brightness, atol=0.5 / 255, rtol=0)
    assert 0.1 < float(targets.min(dim=1).values.mean()) < 0.4


def test_cutmix_puts_in_one_whole_rectangle() -> None:
    pixels, classes = plain_pictures()
    mixed, _ = Mix(2, cutmix=1.0)(pixels, classes, seeded())
    assert isinstance(mixed, Tensor)
    foreign = (mixed != pixels)[:, 0]
    rows, columns = foreign.any(dim=2), foreign.any(dim=1)
    assert torch.equal(foreign, rows[:, :, None] & columns[:, None, :])
    for sides in (rows, columns):
        jumps = (sides.int().diff(dim=1) != 0).sum(dim=1)
        assert int(jumps.max()) == 2  # it begins and ends once
    assert len({int(row.sum()) for row in foreign}) > 50


def test_shares_follow_the_parameter() -> None:
    """A small one leaves rows nearly whole; mixup calls the larger share the row's own."""
    pixels, classes = plain_pictures(2000)
    foreign = {}
    for name, mix in (("even", Mix(2, mixup=1.0)), ("small", Mix(2, mixup=0.2)), ("cut", Mix(2, cutmix=1.0))):
        _, targets = mix(pixels[:, :1], classes, seeded())
        assert isinstance(targets, Tensor)
        foreign[name] = 1 - targets.gather(1, classes[:, None])[:, 0]
    assert float(foreign["even"].mean()) == pytest.approx(0.25, abs=0.015)
    assert float(foreign["small"].mean()) == pytest.approx(0.101, abs=0.015)  # of min(x, 1 - x) under Beta(0.2, 0.2)
    assert max(float(foreign[name].max()) for name in ("even", "small")) <= 0.5
    assert float(foreign["cut"].max()) > 0.9


def test_numbers_that_either_row_misses_stay_the_rows_own() -> None:
    numbers = torch.tensor([[1.0, float("nan"), 3.0], [11.0, 12.0, float("nan")]])
    mixed, targets = Mix(2, mixup=1.0)(numbers, torch.tensor([0, 1]), seeded())
    assert isinstance(mixed, Tensor) and isinstance(targets, Tensor)
    torch.testing.assert_close(mixed[:, 0], 1 + 10 * targets[:, 1])
    torch.testing.assert_close(mixed[:, 1:], numbers[:, 1:], equal_nan=True)


def test_several_inputs_and_targets_are_mixed_alike() -> None:
    pixels, classes = plain_pictures()
    inputs = {"photo": pixels, "numbers": classes[:, None].float()}
    told = {"truth": classes, "teacher": torch.stack([1 - classes, classes], dim=1).float()}
    mixed, targets = Mix(2, mixup=0.5)(inputs, told, seeded())
    assert isinstance(mixed, dict) and isinstance(targets, dict)
    torch.testing.assert_close(targets["truth"], targets["teacher"])
    torch.testing.assert_close(targets["truth"][:, 1:], mixed["numbers"])


def test_with_both_ways_each_batch_takes_one() -> None:
    pixels, classes = plain_pictures()
    cut = 0
    for seed in range(40):
        mixed, _ = Mix(2, mixup=1.0, cutmix=1.0)(pixels, classes, seeded(seed))
        assert isinstance(mixed, Tensor)
        cut += set(mixed.unique().tolist()) <= {0, 255}
    assert 10 <= cut <= 30


def batches(seed: int = 3) -> Batches:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, size=(50, 6, 6, 1)).astype(np.uint8)
    data = Examples({"photo": pixels}, {"photo": {"form": "pixels"}}, {}, 50)
    targets = torch.from_numpy(random.integers(3, size=50))
    return Batches(Tensors(data, CPU), targets, np.arange(50), 8, seed=seed, mix=Mix(3, mixup=0.4, cutmix=1.0))


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))  # type: ignore[arg-type]


def test_an_epoch_taken_up_in_the_middle_is_mixed_as_it_would_have_been() -> None:
    whole = list(batches().epoch(2))
    torch.manual_seed(99)
    rest = list(batches().epoch(2, skip=3))
    assert len(rest) == len(whole) - 3
    assert all(same(one, other) for one, other in zip(rest, whole[3:], strict=True))


def test_every_epoch_and_every_seed_is_mixed_anew() -> None:
    first = next(iter(batches().epoch(0)))
    assert not same(first, next(iter(batches().epoch(1))))
    assert not same(first, next(iter(batches(seed=4).epoch(0))))


QUICK = {
    "train__epochs": 2, "split__folds": 1, "threads": 1, "explain_rows": 0, "quiet": True, "baselines": {},
    "model__name": "mlp", "model__options": {"width": 8, "members": 2, "bins": 4, "depth": 1},
}  # fmt: skip


@pytest.mark.usefixtures("patient")
def test_what_cannot_be_mixed_is_refused_by_name(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "people.csv", people(120))
    given = {"target": "rich", "out": tmp_path / "run", **QUICK}
    with pytest.raises(fathom.UserError, match="mixup mixes pixels and numbers only, and cannot mix 'categories'"):
        fathom.fit(data, **given, train__mixup=0.2)
    with pytest.raises(fathom.UserError, match=r"cutmix mixes pixels only, and cannot mix 'numbers' \(numbers\)"):
        fathom.fit(data, **given, drop=["job"], train__cutmix=1.0)
    with pytest.raises(fathom.UserError, match="mixup is for classes"):
        fathom.fit(data, **given | {"target": "wealth"}, train__mixup=0.2)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("patient")
def test_a_mixed_run_repeats_to_the_last_bit(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "people.csv", people(120), without=("job", "wealth"))
    one = fathom.fit(data, target="rich", out=tmp_path / "one", train__mixup=0.4, **QUICK)
    other = fathom.fit(recipe=one.path / "recipe.yaml", out=tmp_path / "other", quiet=True)
    plain = fathom.fit(data, target="rich", out=tmp_path / "plain", **QUICK)
    losses = [[row["train_loss"] for row in run.folder.read_rows("metrics.csv")] for run in (one, other, plain)]
    assert losses[0] == losses[1] != losses[2]
