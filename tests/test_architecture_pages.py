"""The pages of docs/architectures say what the models are now."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).parent.parent / "docs" / "architectures"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("draw", PAGES / "draw.py")
    assert spec
    assert spec.loader
    draw = importlib.util.module_from_spec(spec)
    sys.modules["draw"] = draw
    spec.loader.exec_module(draw)
    return draw.made()


def test_pages_and_pictures_are_those_that_the_code_makes(made: dict[str, str]) -> None:
    kept = {path.name: path.read_text() for path in PAGES.iterdir() if path.suffix in (".md", ".svg")}
    stale = sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))
    assert not stale, f"make them again with: python docs/architectures/draw.py ({', '.join(stale)})"


def test_every_picture_shows_parts_with_their_shapes(made: dict[str, str]) -> None:
    for name, text in made.items():
        if name.endswith(".svg"):
            assert text.count("<rect") >= 3, f"{name} shows next to nothing"
