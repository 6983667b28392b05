"""The documentation's examples run, and its links and commands name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fathom import cli
from fathom.recipe import Recipe, SampleRecipe, SplitRecipe, TextRecipe, TrainRecipe

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        for library in re.findall(r"fathom\.adapt\.(\w+)", block):
            pytest.importorskip("accelerate" if library == "transformers" else library)
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_pages_name_exist(page: Path) -> None:
    for name in re.findall(r"(?:src|tests|docs|bench|recipes)/[\w./-]*\w\.(?:py|md|yaml)", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_commands_that_pages_name_exist() -> None:
    known = set(cli.main.__globals__["_parser"]()._subparsers._group_actions[0].choices)
    for page in PAGES:
        for command in re.findall(r"(?:`|^\s{4}|\$ )fathom (\w+)", page.read_text(), flags=re.MULTILINE):
            assert command in known, f"{page.name} names `fathom {command}`"


def test_every_recipe_key_is_documented() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    hidden = {"resolved", "reasons", "version", "corrections", "stopped"}
    for part in (Recipe, SampleRecipe, SplitRecipe, TextRecipe, TrainRecipe):
        for name in part.__dataclass_fields__:
            if name not in hidden:
                assert re.search(rf"\b{name}\b", page), f"docs/recipes.md does not explain '{name}'"
