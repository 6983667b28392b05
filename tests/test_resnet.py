"""What is special to pictures. The checks that every model passes are in contracts/."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models import resnet

SIZES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (17, 40, 3), (64, 64, 3), (128, 128, 3)]


def about(height: int, width: int, channels: int, mean: float = 0.3, std: float = 0.25) -> dict[str, dict[str, Any]]:
    form = {"form": "pixels", "height": height, "width": width, "channels": channels}
    return {"picture": {**form, "mean": [mean] * channels, "std": [std] * channels, "mirror": False}}


def pictures(height: int, width: int, channels: int, num: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, channels, height, width), dtype=torch.uint8, generator=generator)


def build(size: tuple[int, int, int], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return resnet.build(about(*size), 3, **{"width": 8, **options})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_gives_one_row_of_outputs_a_picture(size: tuple[int, int, int]) -> None:
    outputs = build(size)(pictures(*size))
    assert outputs.shape == (4, 3)
    assert outputs.dtype == torch.float32
    assert outputs.isfinite().all()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_parameter_learns(size: tuple[int, int, int]) -> None:
    model = build(size)
    model(pictures(*size)).square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_picture_is_small_but_not_gone_at_the_end(size: tuple[int, int, int]) -> None:
    model = build(size).eval()
    with torch.no_grad():
        last = model.stages(model.stem(pictures(*size).float()))
    assert 2 <= min(last.shape[-2:]) <= 6


def test_a_prediction_does_not_depend_on_its_neighbours_or_on_chance() -> None:
    model = build((28, 28, 1)).eval()
    x = pictures(28, 28, 1)
    assert torch.equal(model(x), model(x))
    torch.testing.assert_close(model(x[:1]), model(x)[:1], rtol=1e-4, atol=1e-5)


def test_saved_equals_loaded() -> None:
    model = build((32, 32, 3))
    model(pictures(32, 32, 3))  # moves the running statistics
    other = resnet.build(about(32, 32, 3, mean=0.9, std=0.9), 3, width=8)
    other.load_state_dict({name: value.contiguous().clone() for name, value in model.state_dict().items()})
    x = pictures(32, 32, 3)
    assert torch.equal(model.eval()(x), other.eval()(x))


def test_weights_are_contiguous_so_that_any_file_format_takes_them() -> None:
    model = build((28, 28, 1))
    model(pictures(28, 28, 1)).sum().backward()
    assert all(value.is_contiguous() for value in model.state_dict().values())


def test_bytes_and_floats_of_the_same_pixels_are_the_same_picture() -> None:
    model = build((28, 28, 1)).eval()
    x = pictures(28, 28, 1)
    torch.testing.assert_close(model(x), model(x.float()), rtol=1e-4, atol=1e-5)


def test_pixels_are_normalised_with_what_the_field_measured() -> None:
    model = resnet.build(about(8, 8, 1, mean=0.5, std=0.1), 2, width=8).eval()
    seen = {}
    model.stem.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    model(torch.full((1, 1, 8, 8), 153, dtype=torch.uint8))  # 153 / 255 = 0.6, one deviation above the mean
    torch.testing.assert_close(seen["x"], torch.ones(1, 1, 8, 8))


def test_one_batch_is_learnt_by_heart() -> None:
    model = build((28, 28, 1))
    x, y = pictures(28, 28, 1, num=12), torch.arange(12) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_depth_counts_layers_as_the_paper_does() -> None:
    def layers(model: nn.Module) -> int:
        kinds = (nn.Conv2d, nn.Linear)
        return sum(isinstance(m, kinds) for name, m in model.named_modules() if "shortcut" not in name)

    assert layers(build((28, 28, 1))) == 8
    assert layers(build((128, 128, 3), depth=18)) == 18
    assert [len(stage) for stage in build((224, 224, 3), depth=18, width=4).stages] == [2, 2, 2, 2]
    assert [len(stage) for stage in build((28, 28, 1), depth=10).stages] == [1, 2, 1]


def test_what_does_not_fit_is_refused_with_what_to_type() -> None:
    with pytest.raises(UserError, match=r"model\.depth=8"):
        build((28, 28, 1), depth=7)
    with pytest.raises(UserError, match="even number from 10"):
        build((128, 128, 3), depth=8)
    with pytest.raises(UserError, match="too small"):
        build((3, 28, 1))
    with pytest.raises(UserError, match="width=0"):
        build((28, 28, 1), width=0)
    with pytest.raises(UserError, match=r"numbers.*model="):
        resnet.build({"numbers": {"form": "numbers"}}, 2)


def test_it_claims_one_picture_and_nothing_else() -> None:
    one = about(8, 8, 1)
    assert resnet.claims(one) == "one picture"
    assert resnet.claims({**one, "other": one["picture"]}) is None
    assert resnet.claims({"numbers": {"form": "numbers"}}) is None
