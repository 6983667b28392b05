"""ResNet computes what transformers' computes with the same weights, in both kinds of blocks, and learns alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fathom.errors import UserError
from fathom.models import resnet as model_file
from fathom.pretrained import save_pretrained
from fathom.weights import resnet
from fathom.weights.parts.blueprint import Blueprint
from tests.parity.common import assert_same, assert_same_gradients, brought_over, written_back
from tests.parity.pictures import assert_same_training, pictures

transformers = pytest.importorskip("transformers")

SMALL: dict[str, Any] = {"embedding_size": 6, "hidden_sizes": [8, 16, 24], "depths": [1, 2, 1], "num_labels": 5}
SETTINGS = [
    pytest.param(SMALL | {"layer_type": "bottleneck"}, id="bottlenecks"),
    pytest.param(SMALL | {"layer_type": "bottleneck", "downsample_in_bottleneck": True}, id="stride first"),
    pytest.param(SMALL | {"layer_type": "basic", "num_channels": 1}, id="basic"),
    pytest.param(SMALL | {"layer_type": "basic", "embedding_size": 8, "num_labels": 2}, id="basic, same channels"),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_classifier_equals_theirs_there_and_back(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = transformers.ResNetForImageClassification(transformers.ResNetConfig(**settings))
    loaded = brought_over(theirs, tmp_path)
    pixels, values = pictures(37, 50, channels=settings.get("num_channels", 3))
    ours, expected = loaded.model(pixels), theirs(values).logits
    assert expected.std() > 0.01
    assert_same(ours, expected)
    assert_same_gradients(loaded, theirs, ours, expected, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(values).logits, expected)


@pytest.mark.parametrize("settings", SETTINGS)
def test_training_equals_theirs_with_running_statistics(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = transformers.ResNetForImageClassification(transformers.ResNetConfig(**settings))
    loaded = brought_over(theirs, tmp_path)
    pixels, values = pictures(37, 50, channels=settings.get("num_channels", 3), rows=6)
    assert_same_training(loaded, theirs, pixels, values, tmp_path)


def test_model_without_a_head_equals_theirs(tmp_path: Path) -> None:
    theirs = transformers.ResNetModel(transformers.ResNetConfig(**SMALL))
    loaded = brought_over(theirs, tmp_path)
    pixels, values = pictures(32, 32)
    expected = theirs(values).pooler_output.flatten(1)
    assert loaded.blueprint.outputs == 24
    assert_same(loaded.model(pixels), expected)
    assert_same_gradients(loaded, theirs, loaded.model(pixels), expected, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(values).pooler_output.flatten(1), expected)


@pytest.mark.parametrize("size", ["18", "34", "50", "101", "152"])
def test_published_sizes_are_recognised(size: str) -> None:
    blueprint = Blueprint("resnet", resnet.PICTURE, 1000, {"size": size})
    assert resnet.read(resnet.write(blueprint)).options == {"size": size, "stride_first": False, "head": True}


def test_config_says_nothing_means_resnet_50() -> None:
    assert resnet.read({"model_type": "resnet"}).options["size"] == "50"


def test_what_is_computed_otherwise_is_refused(tmp_path: Path) -> None:
    for setting in ({"hidden_act": "gelu"}, {"downsample_in_first_stage": True}, {"layer_type": "dense"}):
        with pytest.raises(UserError, match=next(iter(setting))):
            resnet.read(setting)
    with pytest.raises(UserError, match="ResNetBackbone"):
        resnet.read({"architectures": ["ResNetBackbone"]})
    for options in ({"width": 8}, {"size": "20"}, {"size": "18", "residual": False, "blocks": "1", "channels": "4,4"}):
        own = Blueprint("resnet", resnet.PICTURE, 3, options)
        with pytest.raises(UserError, match=r"no counterpart.*model\.size=18"):
            save_pretrained(model_file.build(own.inputs, 3, **options), own, tmp_path / "own")
