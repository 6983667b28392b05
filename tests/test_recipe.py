"""Recipes: unknown keys are refused with the nearest, values are checked, and what is saved reads back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom import recipe as recipes
from fathom.errors import UserError


def test_saved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    one = recipes.from_mapping({"data": "x.csv", "budget": 60, "model": {"name": "mlp", "options": {"width": 64}}})
    one.explain("epochs", 12, "measured: 3 ms a step")
    one.train.corrections = [[[10, 200]], []]
    path = tmp_path / "recipe.yaml"
    path.write_text(recipes.dump(one))
    assert recipes.load(path) == one


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"taget": "x"}, "Unknown recipe key 'taget'. Did you mean 'target'?"),
        ({"train": {"epoch": 3}}, "Unknown recipe key 'train.epoch'. Did you mean 'epochs'?"),
        ({"train": {"epochs": "many"}}, "'train.epochs' is 'many'; expected int or nothing."),
        ({"train": {"epochs": 0}}, "train.epochs is 0; expected 1 or more."),
        ({"budget": 0}, "The budget is 0 seconds; it must be more than 0"),
        ({"task": "clasify"}, "Did you mean 'classify'?"),
        ({"split": {"test": 1.5}}, "split.test is 1.5"),
        ({"split": 3}, "'split' is 3; a group of keys was expected."),
        ({"seed": True}, "'seed' is True; expected int."),
        ({"train": {"schedule": "cosin"}}, "train.schedule is 'cosin'. Did you mean 'cosine'?"),
        ({"train": {"precision": "fp16"}}, "train.precision is 'fp16'."),
        ({"train": {"augment": {"rotat": 1.0}}}, "Did you mean 'rotate'?"),
        ({"train": {"label_smoothing": 1.5}}, "train.label_smoothing is 1.5"),
        ({"train": {"huber": -1.0}}, "train.huber is -1.0; expected 0 or more."),
        ({"version": 99}, "The recipe has version 99"),
        ({"drop": [1]}, "'drop[0]' is 1; expected str."),
        ({"treat_as": {1: "number"}}, "'treat_as.1' is 1; expected str."),
        ({"train": {"augment": {"shift": "a"}}}, "'train.augment.shift' is 'a'; expected float."),
        ({"train": {"augment": {"shift": -1}}}, "train.augment.shift is -1; expected 0 or more."),
        ({"threads": -1}, "threads is -1; expected 1 to 1,024."),
        ({"explain_rows": -1}, "explain_rows is -1; expected 0 to 1,000,000,000,000,000."),
        ({"seed": -1}, "seed is -1; expected 0 to 2,000,000,000."),
        ({"baselines": ["linear"]}, "'baselines' is ['linear']; expected dict or nothing."),
    ],
)
def test_wrong_recipes_are_refused_by_name(values: dict, says: str) -> None:
    with pytest.raises(UserError) as caught:
        recipes.from_mapping(values)
    assert says in str(caught.value)


def test_words_override_inner_keys() -> None:
    values = recipes.override({}, ["model=resnet", "model.depth=14", "train.epochs=20", "budget=1.5", "target=a b"])
    recipe = recipes.from_mapping(values)
    assert (recipe.model.name, recipe.model.options) == ("resnet", {"depth": 14})
    assert (recipe.train.epochs, recipe.budget, recipe.target) == (20, 1.5, "a b")


@pytest.mark.parametrize("word", ["epochs", "=3", "a b=3"])
def test_words_that_are_no_assignments_are_refused(word: str) -> None:
    with pytest.raises(UserError, match="was not understood"):
        recipes.override({}, [word])


def test_setting_a_key_inside_a_value_is_refused() -> None:
    with pytest.raises(UserError, match="'target' is a single value"):
        recipes.override({"target": "x"}, ["target.name=3"])


def test_broken_yaml_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: x\ntrain: [1,\nseed: 3\n")
    with pytest.raises(UserError, match=r"r\.yaml:\d+ is not valid YAML"):
        recipes.load(path)
    path.write_text("just words")
    with pytest.raises(UserError, match="holds no recipe"):
        recipes.load(path)
    with pytest.raises(UserError, match="cannot be read"):
        recipes.load(tmp_path / "absent.yaml")


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UserError, match="not valid YAML"):
        recipes.load(path)
