"""Every file of weights/ keeps the contract of a family of trained weights: names and settings map one to one."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from fathom import rooms
from fathom.errors import UserError
from fathom.network import build
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.weights.parts.blueprint import Blueprint

EVERY = rooms.every("weights")
EXAMPLES = [
    pytest.param(module, blueprint, id=f"{name}-{number}")
    for name, module in EVERY.items()
    for number, blueprint in enumerate(module.EXAMPLES)
]


@pytest.mark.parametrize(("module", "blueprint"), EXAMPLES)
def test_settings_survive_the_way_there_and_back(module: ModuleType, blueprint: Blueprint) -> None:
    config = json.loads(json.dumps(module.write(blueprint)))
    assert config["model_type"] in module.MODEL_TYPES
    again = module.read(config)
    assert (again.model, again.outputs, again.options) == (blueprint.model, blueprint.outputs, blueprint.options)
    assert again.inputs == blueprint.inputs


@pytest.mark.parametrize(("module", "blueprint"), EXAMPLES)
def test_names_cover_the_model_and_nothing_twice(module: ModuleType, blueprint: Blueprint) -> None:
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    names = module.names(blueprint)
    assert set(names) == set(model.state_dict())
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize(("module", "blueprint"), EXAMPLES)
def test_saved_equals_loaded(module: ModuleType, blueprint: Blueprint, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    save_pretrained(model, blueprint, tmp_path / "there")
    again = from_pretrained(tmp_path / "there").model
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("module", "blueprint"), EXAMPLES)
def test_missing_and_left_over_tensors_are_refused_by_name(
    module: ModuleType, blueprint: Blueprint, tmp_path: Path
) -> None:
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    path = save_pretrained(model, blueprint, tmp_path / "there") / "model.safetensors"
    tensors = load_file(path)
    first = next(iter(module.names(blueprint).values()))
    save_file({("stranger" if name == first else name): value for name, value in tensors.items()}, path)
    with pytest.raises(UserError) as caught:
        from_pretrained(tmp_path / "there")
    assert first in str(caught.value)
    assert "stranger" in str(caught.value)
