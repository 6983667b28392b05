"""Facts about changed pictures: what stays, what moves, how far, and that chance comes from the generator alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fathom.augment import Augment, views

ALL = Augment(mirror=True, shift=0.1, rotate=10, scale=0.1, erase=0.5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(num: int = 16, channels: int = 1, height: int = 28, width: int = 28) -> Tensor:
    return torch.randint(0, 256, (num, channels, height, width), dtype=torch.uint8, generator=seeded(9))


def dots(num: int, side: int = 21) -> Tensor:
    """A bright 3x3 dot in the middle of a dark picture."""
    pixels = torch.zeros(num, 1, side, side, dtype=torch.uint8)
    pixels[:, :, side // 2 - 1 : side // 2 + 2, side // 2 - 1 : side // 2 + 2] = 255
    return pixels


def centres(pixels: Tensor) -> Tensor:
    """[B, 2]: row and column of the centre of brightness."""
    weight = pixels[:, 0].double() / pixels[:, 0].double().sum(dim=(1, 2), keepdim=True)
    place = torch.arange(pixels.shape[-1], dtype=torch.float64)
    return torch.stack([(weight.sum(2) * place).sum(1), (weight.sum(1) * place).sum(1)], dim=1)


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 3, 20, 33), (5, 1, 28, 28)], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shape_type_and_range_stay_and_pixels_change(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    x = noise(*shape).to(dtype)
    before = x.clone()
    changed = ALL(x, seeded())
    assert changed.shape == x.shape
    assert changed.dtype == dtype
    assert 0 <= changed.min() <= changed.max() <= 255
    assert (changed != x).flatten(1).any(dim=1).all()
    assert torch.equal(x, before)


def test_the_same_generator_state_gives_the_same_pictures() -> None:
    x = noise()
    torch.manual_seed(1)
    first = ALL(x, seeded(3))
    torch.manual_seed(2)
    assert torch.equal(first, ALL(x, seeded(3)))
    assert not torch.equal(first, ALL(x, seeded(4)))


def test_without_strength_nothing_changes() -> None:
    x = noise()
    assert torch.equal(Augment()(x, seeded()), x)


def test_nothing_is_mirrored_unless_it_is_asked_for() -> None:
    half = torch.zeros(64, 1, 20, 20, dtype=torch.uint8)
    half[..., :10] = 255

    def turned(augment: Augment) -> int:
        out = augment(half, seeded()).float()
        return int((out[..., :10].mean(dim=(1, 2, 3)) < out[..., 10:].mean(dim=(1, 2, 3))).sum())

    strengths = {"shift": 0.2, "rotate": 20, "scale": 0.2, "erase": 0.3}
    assert turned(Augment(mirror=False, **strengths)) == 0
    assert 16 <= turned(Augment(mirror=True, **strengths)) <= 48


def test_a_mirrored_picture_is_exactly_the_picture_turned_over() -> None:
    x = noise(height=12, width=20)
    out = Augment(mirror=True)(x, seeded())
    kept, turned = (out == x).flatten(1).all(1), (out == x.flip(-1)).flatten(1).all(1)
    assert (kept ^ turned).all()
    assert kept.any()
    assert turned.any()


def test_shift_stays_within_its_bounds_and_uses_them() -> None:
    moved = (centres(Augment(shift=0.2)(dots(400), seeded())) - 10).abs()
    bound = 0.2 * 21
    assert moved.max() <= bound + 0.05
    assert moved.max() > 0.9 * bound


def test_rotation_and_scale_keep_the_middle_where_it_is() -> None:
    out = Augment(rotate=30, scale=0.2)(dots(100), seeded())
    assert (centres(out) - 10).abs().max() < 0.1


def test_rotation_of_a_wide_picture_keeps_right_angles() -> None:
    x = torch.zeros(200, 1, 20, 60, dtype=torch.uint8)
    x[:, :, 8:12, 28:32] = 255  # a square of 4 x 4
    out = Augment(rotate=90)(x, seeded())[:, 0].float()
    heights, widths = (out.amax(2) > 127).sum(1), (out.amax(1) > 127).sum(1)
    assert (heights - widths).abs().max() <= 1


def test_scale_makes_larger_and_smaller_within_its_bounds() -> None:
    x = torch.zeros(200, 1, 40, 40, dtype=torch.uint8)
    x[:, :, 10:30, 10:30] = 255
    share = Augment(scale=0.2)(x, seeded()).float().mean(dim=(1, 2, 3)) / 255 * 4
    assert 0.8**2 < share.min() < 0.85
    assert 1.2 < share.max() < 1.25**2 + 0.02  # a fifth less of the grid shows things a quarter larger


def test_erasing_hits_about_the_share_it_was_asked_for() -> None:
    x = noise(num=400)
    different = (Augment(erase=0.3)(x, seeded()) != x).float().mean(dim=(1, 2, 3))
    assert 0.2 < (different > 0).float().mean() < 0.4
    assert different.max() < 0.3


def test_views_begin_with_the_picture_and_mirror_only_when_asked() -> None:
    x = noise(num=2, channels=3)
    assert [torch.equal(v, x) for v in views(x, mirror=False)] == [True]
    assert len(views(x, mirror=True)) == 2
    assert torch.equal(views(x, mirror=True)[1], x.flip(-1))
    seen = views(x, mirror=False, shift=1)
    assert [tuple(v.shape) for v in seen] == [(2, 3, 28, 28)] * 3
    assert all(v.dtype == torch.uint8 for v in seen)
    assert torch.equal(seen[1][..., 1:, 1:], x[..., :-1, :-1])
    assert torch.equal(seen[2][..., :-1, :-1], x[..., 1:, 1:])
