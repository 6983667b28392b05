"""Every file of weights/ keeps the contract of a family of trained weights: names and settings map one to one."""

from __future__ import annotations

import json
from dataclasses import replace
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
    again = from_pretrained(tmp_path / "there")
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert (again.blueprint.inputs, again.blueprint.options) == (blueprint.inputs, blueprint.options)
    assert again.notes == ()


@pytest.mark.parametrize(("module", "blueprint"), [e for e in EXAMPLES if hasattr(e.values[0], "measured")])
def test_what_a_built_model_tells_need_not_be_said(module: ModuleType, blueprint: Blueprint, tmp_path: Path) -> None:
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    told = module.measured(model)
    assert told
    unsaid = {name: value for name, value in blueprint.options.items() if name not in told}
    save_pretrained(model, replace(blueprint, options=unsaid), tmp_path / "there")
    again = from_pretrained(tmp_path / "there")
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert module.names(again.blueprint) == module.names(blueprint)


@pytest.mark.parametrize(("module", "blueprint"), EXAMPLES)
def test_names_of_classes_survive_where_there_are_classes(module: ModuleType, blueprint: Blueprint) -> None:
    classes = tuple(f"class {place}" for place in range(blueprint.outputs))
    named = replace(blueprint, classes=classes)
    config = json.loads(json.dumps(module.write(named)))
    assert module.read(config).classes == (classes if is_classifier(blueprint) else ())
    assert module.read(module.write(blueprint)).classes == ()


def is_classifier(blueprint: Blueprint) -> bool:
    """Whether outputs stand for classes: by the name of the class, or, of picture models without one, by the head."""
    if blueprint.architecture not in ("", "SqueezeNet"):
        return blueprint.architecture.endswith("Classification")
    return bool(blueprint.options["head"])


def copies_of(module: ModuleType, blueprint: Blueprint) -> dict[str, str]:
    """Names under which a file may hold one of these tensors again, and the names that they have."""
    names = module.names(blueprint)
    known = {copy: names[ours] for copy, ours in getattr(module, "DUPLICATES", {}).items() if ours in names}
    return {copy: original for copy, original in known.items() if copy not in names.values()}


@pytest.mark.parametrize(("module", "blueprint"), [e for e in EXAMPLES if copies_of(*e.values)])
def test_a_copy_of_a_tied_tensor_must_be_equal(module: ModuleType, blueprint: Blueprint, tmp_path: Path) -> None:
    copies = copies_of(module, blueprint)
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    path = save_pretrained(model, blueprint, tmp_path / "there") / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {copy: tensors[original].clone() for copy, original in copies.items()}, path)
    from_pretrained(tmp_path / "there")
    for copy, original in copies.items():
        save_file(tensors | {copy: tensors[original] + 1}, path)
        with pytest.raises(UserError, match=f"{copy} and {original}"):
            from_pretrained(tmp_path / "there")


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
