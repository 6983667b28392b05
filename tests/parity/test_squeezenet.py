"""SqueezeNet with the authors' weights gives the recorded answers; weights under torchvision's names find their places.

There is no SqueezeNet in transformers. Instead the network is written down once more here, layer after layer as the
paper's table has it, under torchvision's names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom import network
from fathom.errors import UserError
from fathom.pretrained import from_pretrained, load, save_pretrained
from fathom.weights import squeezenet
from fathom.weights.parts.blueprint import Blueprint

# Numbers in "features" that are fires, and those that are poolings.
LAYOUTS = {"1.0": ((3, 4, 5, 7, 8, 9, 10, 12), (2, 6, 11)), "1.1": ((3, 4, 6, 7, 9, 10, 11, 12), (2, 5, 8))}
STEMS = {"1.0": (96, 7), "1.1": (64, 3)}
SQUEEZED = (16, 16, 32, 32, 48, 48, 64, 64)


def build(blueprint: Blueprint) -> nn.Module:
    return network.build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options).eval()


def torchvision_state(size: str, outputs: int = 7) -> dict[str, Tensor]:
    """Random numbers under the names and with the shapes that torchvision's files have."""
    random = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"features.0": (STEMS[size][0], 3, STEMS[size][1], STEMS[size][1])}
    before = STEMS[size][0]
    for number, squeezed in zip(LAYOUTS[size][0], SQUEEZED):
        shapes[f"features.{number}.squeeze"] = (squeezed, before, 1, 1)
        shapes[f"features.{number}.expand1x1"] = (4 * squeezed, squeezed, 1, 1)
        shapes[f"features.{number}.expand3x3"] = (4 * squeezed, squeezed, 3, 3)
        before = 8 * squeezed
    shapes["classifier.1"] = (outputs, before, 1, 1)
    state = {}
    for name, shape in shapes.items():
        fan_in = shape[1] * shape[2] * shape[3]
        state[f"{name}.weight"] = torch.randn(shape, generator=random) * (2 / fan_in) ** 0.5
        state[f"{name}.bias"] = 0.2 * torch.randn(shape[0], generator=random)
    return state


def by_the_table(state: dict[str, Tensor], size: str, x: Tensor) -> Tensor:
    def conv(x: Tensor, name: str, **settings: Any) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **settings).relu()

    fires, pools = LAYOUTS[size]
    x = conv(x, "features.0", stride=2)
    for number in range(2, 13):
        if number in pools:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        elif number in fires:
            x = conv(x, f"features.{number}.squeeze")
            parts = conv(x, f"features.{number}.expand1x1"), conv(x, f"features.{number}.expand3x3", padding=1)
            x = torch.cat(parts, dim=1)
    return conv(x, "classifier.1").mean(dim=(2, 3))


def pixels(height: int, width: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize("size", ["1.0", "1.1"])
def test_weights_under_torchvisions_names_compute_what_the_table_says(size: str, tmp_path: Path) -> None:
    state = torchvision_state(size)
    blueprint = squeezenet.from_torchvision(state)
    assert (blueprint.options["size"], blueprint.outputs) == (size, 7)
    model = build(blueprint)
    load(model, state, squeezenet, blueprint, where="a state dict")
    photos = pixels(65, 90)
    mean, std = (torch.tensor(squeezenet.IMAGENET[name])[:, None, None] for name in ("mean", "std"))
    expected = by_the_table(state, size, (photos / 255 - mean) / std)
    assert expected.std() > 0.01
    torch.testing.assert_close(model(photos), expected, rtol=1e-5, atol=1e-5)

    save_pretrained(model, blueprint, tmp_path / "kept")
    again = from_pretrained(tmp_path / "kept")
    assert again.blueprint == blueprint
    assert torch.equal(again.model(photos), model(photos))


def test_gradients_are_those_of_the_table() -> None:
    state = {name: tensor.requires_grad_() for name, tensor in torchvision_state("1.1").items()}
    blueprint = squeezenet.from_torchvision(state)
    model = build(blueprint)
    load(model, state, squeezenet, blueprint, where="a state dict")
    photos = pixels(40, 40)
    mean, std = (torch.tensor(squeezenet.IMAGENET[name])[:, None, None] for name in ("mean", "std"))
    weights = torch.randn(2, 7, generator=torch.Generator().manual_seed(2))
    (by_the_table(state, "1.1", (photos / 255 - mean) / std) * weights).sum().backward()
    (model(photos) * weights).sum().backward()
    ours = dict(model.named_parameters())
    for our, their in squeezenet.names(blueprint).items():
        expected = state[their].grad
        assert expected is not None and expected.any()
        torch.testing.assert_close(ours[our].grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_other_tensors_are_refused() -> None:
    with pytest.raises(UserError, match="found none"):
        squeezenet.from_torchvision({"conv1.weight": torch.zeros(3)})
    with pytest.raises(UserError, match=r"found \[8, 3, 3, 3\]"):
        squeezenet.from_caffe({"conv1.weight": torch.zeros(8, 3, 3, 3)})
    with pytest.raises(UserError, match=r"found none"):
        squeezenet.from_caffe({})


def test_a_stranger_among_caffes_tensors_is_told_of() -> None:
    tensors = {"conv1.weight": torch.zeros(64, 3, 3, 3), "stranger": torch.zeros(1)}
    blueprint, renamed = squeezenet.from_caffe(tensors)
    with pytest.raises(UserError, match="stranger"):
        load(build(blueprint), renamed, squeezenet, blueprint, where="here")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    np.savez(tmp_path / "objects.npz", conv1=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("nothing")
    for name in ("weights.pth", "objects.npz", "text.npz", "absent.npz"):
        with pytest.raises(UserError, match="no numpy archive"):
            squeezenet.open_npz(tmp_path / name)


def trained(path: Path) -> tuple[nn.Module, Blueprint]:
    blueprint, tensors = squeezenet.from_caffe(squeezenet.open_npz(path))
    model = build(blueprint)
    load(model, tensors, squeezenet, blueprint, where=str(path))
    return model, blueprint


@pytest.mark.data
def test_the_authors_weights_give_the_recorded_answers(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "pretrained_imagenet"
    recorded = np.load(folder / "reference_outputs.npz", allow_pickle=False)
    photos = torch.from_numpy(recorded["images_rgb_u8_nchw_227"])
    model, blueprint = trained(folder / "squeezenet1_0_imagenet.npz")
    with torch.no_grad():
        logits, pooled = model(photos), model.features(photos)
    torch.testing.assert_close(logits, torch.from_numpy(recorded["squeezenet1_0_logits"]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pooled, torch.from_numpy(recorded["squeezenet1_0_gap_fire9"]), rtol=1e-4, atol=1e-4)

    save_pretrained(model, blueprint, tmp_path / "kept")
    with torch.no_grad():
        assert torch.equal(from_pretrained(tmp_path / "kept").model(photos), logits)


@pytest.mark.data
def test_the_later_weights_without_a_head_give_the_recorded_features(real_data: Path) -> None:
    folder = real_data / "pretrained_imagenet"
    recorded = np.load(folder / "reference_outputs.npz", allow_pickle=False)
    model, blueprint = trained(folder / "squeezenet1_1_backbone.npz")
    assert (blueprint.options["size"], blueprint.options["head"], blueprint.outputs) == ("1.1", False, 512)
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False  # as the port that these features were recorded with
    with torch.no_grad():
        found = model(torch.from_numpy(recorded["images_rgb_u8_nchw_227"]))
    torch.testing.assert_close(found, torch.from_numpy(recorded["squeezenet1_1_gap_fire9"]), rtol=1e-4, atol=1e-4)
