"""ConvNeXt computes what transformers' computes with the same weights, with or without layer scale and in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fathom.errors import UserError
from fathom.models import convnext as model_file
from fathom.pretrained import save_pretrained
from fathom.weights import convnext
from fathom.weights.parts.blueprint import Blueprint
from tests.parity.common import assert_same, assert_same_gradients, brought_over, written_back
from tests.parity.pictures import pictures

transformers = pytest.importorskip("transformers")

SMALL: dict[str, Any] = {"hidden_sizes": [8, 12, 16], "depths": [1, 2, 1], "num_stages": 3, "num_labels": 5}
SETTINGS = [
    pytest.param(SMALL, id="three stages"),
    pytest.param(SMALL | {"layer_scale_init_value": 0.0, "num_channels": 1, "image_size": 40}, id="no layer scale"),
    pytest.param(SMALL | {"hidden_sizes": [8, 8, 16], "layer_norm_eps": 0.1, "image_size": [44, 56]}, id="last norm"),
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("training", [False, True])
def test_classifier_equals_theirs_there_and_back(settings: dict[str, Any], training: bool, tmp_path: Path) -> None:
    theirs = transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**settings))
    loaded = brought_over(theirs, tmp_path)
    pixels, values = pictures(45, 56, channels=settings.get("num_channels", 3))
    ours, expected = loaded.model.train(training)(pixels), theirs.train(training)(values).logits
    assert expected.std() > 0.01
    assert_same(ours, expected)
    assert_same_gradients(loaded, theirs, ours, expected, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(values).logits, expected)


def test_model_without_a_head_equals_theirs(tmp_path: Path) -> None:
    theirs = transformers.ConvNextModel(transformers.ConvNextConfig(**SMALL, drop_path_rate=0.3))
    loaded = brought_over(theirs, tmp_path)
    pixels, values = pictures(32, 32)
    expected = theirs(values).pooler_output
    assert loaded.blueprint.outputs == 16
    assert [block.drop_path.share for stage in loaded.model.stages for block in stage.blocks] == pytest.approx(
        [0, 0.1, 0.2, 0.3]
    )
    assert_same(loaded.model(pixels), expected)
    assert_same_gradients(loaded, theirs, loaded.model(pixels), expected, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(values).pooler_output, expected)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large", "xlarge"])
def test_published_sizes_are_recognised(size: str) -> None:
    large = {"picture": convnext.picture({})}
    again = convnext.read(convnext.write(Blueprint("convnext", large, 1000, {"size": size})))
    assert again.options["size"] == size
    assert not {"blocks", "channels"} & set(again.options)


def test_config_says_nothing_means_tiny() -> None:
    blueprint = convnext.read({"model_type": "convnext"})
    assert (blueprint.options["size"], blueprint.options["norm_eps"]) == ("tiny", 1e-12)


def test_what_is_computed_otherwise_is_refused(tmp_path: Path) -> None:
    for setting in ({"hidden_act": "relu"}, {"patch_size": 2}, {"num_stages": 3}):
        with pytest.raises(UserError, match=next(iter(setting))):
            convnext.read(setting)
    with pytest.raises(UserError, match="ConvNextBackbone"):
        convnext.read({"architectures": ["ConvNextBackbone"]})
    few = {"size": "tiny", "blocks": "1,1", "channels": "4,8"}
    for options, told in (({"width": 8}, "model.size=tiny"), (few, "all_strides=true")):
        own = Blueprint("convnext", convnext.PICTURE, 3, options)
        with pytest.raises(UserError, match=told):
            save_pretrained(model_file.build(own.inputs, 3, **options), own, tmp_path / "own")
