"""MobileNet V1 computes what transformers' computes with the same weights; trained ones give the recorded features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fathom.errors import UserError
from fathom.models import mobilenet_v1 as model_file
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.weights import mobilenet_v1
from fathom.weights.parts.blueprint import Blueprint
from tests.parity.common import assert_same, assert_same_gradients, brought_over, written_back

transformers = pytest.importorskip("transformers")

# TensorFlow pads sides that a stride divides otherwise than others: 70 is even, then odd, then even.
SETTINGS = [
    pytest.param({"depth_multiplier": 0.25, "image_size": 64}, id="as released"),
    pytest.param({"depth_multiplier": 0.3, "image_size": [70, 51], "num_channels": 1}, id="odd sides"),
    pytest.param({"depth_multiplier": 0.1, "min_depth": 16, "tf_padding": False, "image_size": 49}, id="symmetric"),
    pytest.param(
        {"depth_multiplier": 0.25, "hidden_act": "swish", "layer_norm_eps": 0.1, "image_size": 32}, id="swish"
    ),
]


def pictures(settings: dict[str, Any], rows: int = 3) -> tuple[Tensor, Tensor]:
    """Pixels for ours, and what they are to the other library: from -1 to 1."""
    size = settings["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    shape = (rows, settings.get("num_channels", 3), height, width)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return pixels, pixels / 127.5 - 1


@pytest.mark.parametrize("settings", SETTINGS)
def test_classifier_equals_theirs_there_and_back(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = transformers.MobileNetV1ForImageClassification(transformers.MobileNetV1Config(num_labels=5, **settings))
    loaded = brought_over(theirs, tmp_path)
    pixels, values = pictures(settings)
    ours, expected = loaded.model(pixels), theirs(values).logits
    assert expected.std() > 0.01
    assert_same(ours, expected)
    assert_same_gradients(loaded, theirs, ours, expected, tmp_path)
    back = written_back(loaded, type(theirs), tmp_path)
    assert_same(back(values).logits, expected)


def test_model_without_a_head_equals_theirs(tmp_path: Path) -> None:
    settings = {"depth_multiplier": 0.25, "image_size": 64}
    theirs = transformers.MobileNetV1Model(transformers.MobileNetV1Config(**settings))
    loaded = brought_over(theirs, tmp_path)
    pixels, values = pictures(settings)
    expected = theirs(values).pooler_output
    assert loaded.blueprint.outputs == 256
    assert_same(loaded.model(pixels), expected)
    assert_same_gradients(loaded, theirs, loaded.model(pixels), expected, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(values).pooler_output, expected)


def test_training_mode_equals_theirs(tmp_path: Path) -> None:
    settings = {"depth_multiplier": 0.25, "image_size": 96, "classifier_dropout_prob": 0.0}
    theirs = transformers.MobileNetV1ForImageClassification(transformers.MobileNetV1Config(num_labels=5, **settings))
    loaded = brought_over(theirs, tmp_path)
    pixels, values = pictures(settings, rows=8)
    ours, expected = loaded.model.train()(pixels), theirs.train()(values).logits
    assert_same(ours, expected, tolerance=1e-4)


def test_the_share_of_dropout_that_was_meant_as_kept() -> None:
    assert mobilenet_v1.read({}).options["dropout"] == 0.001
    assert mobilenet_v1.read({"classifier_dropout_prob": 0.999}).options["dropout"] == 0.001
    assert mobilenet_v1.read({"classifier_dropout_prob": 0.2}).options["dropout"] == 0.2


def test_settings_that_are_not_known_are_refused() -> None:
    with pytest.raises(UserError, match="hidden_act='mish'"):
        mobilenet_v1.read({"hidden_act": "mish"})
    with pytest.raises(UserError, match="architectures"):
        mobilenet_v1.read({"architectures": ["MobileNetV1ForSegmentation"]})
    first = mobilenet_v1.EXAMPLES[0]
    with pytest.raises(UserError, match="activation=quick_gelu"):
        mobilenet_v1.write(replace(first, options=first.options | {"activation": "quick_gelu"}))


def test_a_network_with_fewer_halvings_is_not_written_as_if_it_had_them(tmp_path: Path) -> None:
    blueprint = mobilenet_v1.EXAMPLES[0]
    (about,) = blueprint.inputs.values()
    own = Blueprint("mobilenet_v1", {"photo": about}, 3, {"width": 0.25})
    model = model_file.build(own.inputs, 3, **own.options)
    with pytest.raises(UserError, match="all_strides=true"):
        save_pretrained(model, own, tmp_path / "small")
    large = Blueprint("mobilenet_v1", {"photo": {**about, "height": 97, "width": 120, "std": [0.2] * 3}}, 3)
    photos = torch.randint(0, 256, (2, 3, 97, 120), dtype=torch.uint8)
    model = model_file.build(large.inputs, 3).eval()
    save_pretrained(model, large, tmp_path / "large")
    assert torch.equal(from_pretrained(tmp_path / "large").model(photos), model(photos))
    written = json.loads((tmp_path / "large" / "config.json").read_text())
    assert (written["tf_padding"], written["depth_multiplier"]) == (False, 0.25)


def keras_name(ours: str) -> str:
    """ "blocks.1.pointwise.norm.bias" → "conv_pw_2_bn.bias"."""
    *layer, kind, end = ours.split(".")
    name = "conv1" if layer == ["stem"] else f"conv_{'dw' if layer[2] == 'depthwise' else 'pw'}_{int(layer[1]) + 1}"
    return f"{name}{'_bn' if kind == 'norm' else ''}.{end}"


@pytest.mark.data
def test_trained_weights_give_the_recorded_features(real_data: Path) -> None:
    """The archive lacks the last 1x1 convolution, so what is compared is the two layers before it."""
    folder = real_data / "pretrained_imagenet"
    recorded = np.load(folder / "reference_outputs.npz", allow_pickle=False)
    arrays = np.load(folder / "mobilenet_v1_1.0_224_backbone.npz", allow_pickle=False)
    blueprint = mobilenet_v1.read({"architectures": ["MobileNetV1Model"]})
    model = model_file.build(blueprint.inputs, blueprint.outputs, **blueprint.options).eval()
    state = {ours: arrays[keras_name(ours)] for ours in model.state_dict() if keras_name(ours) in arrays}
    assert len(state) == len(arrays.files)
    told = model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    lacking = {name for name in told.missing_keys if not name.endswith("num_batches_tracked")}
    assert {name.rsplit(".", 2)[0] for name in lacking} == {"blocks.12.pointwise"}

    photos = torch.from_numpy(recorded["images_rgb_u8_nchw_227"])[:, :, 1:225, 1:225]
    with torch.no_grad():
        before_last = model.blocks[:12](model.stem(model.standardise(photos)))
        last = model.blocks[12].depthwise(before_last)
    for found, name in ((before_last, "pw12"), (last, "dw13")):
        expected = torch.from_numpy(recorded[f"mobilenet_v1_gap_{name}"])
        torch.testing.assert_close(found.mean(dim=(2, 3)), expected, rtol=1e-4, atol=1e-4)
