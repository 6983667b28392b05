"""`fathom models`: what is told of every part, that it fits the terminal, and that wrong use ends with one message."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fathom import catalogue, rooms
from fathom.catalogue_text import listing, short, whole
from fathom.cli import main
from fathom.errors import UserError

# As counted from published weights; the other sizes stand in the tests of each model.
PUBLISHED = {
    ("alexnet", "2014"): 61_100_840,
    ("bert", "base"): 109_483_778,  # 109,482,240 and a head for 2 classes
    ("clip", "vit-b-32"): 151_277_313,
    ("clip", "vit-l-14"): 427_616_513,
    ("efficientnet", "b0"): 5_288_548,
    ("gpt2", "gpt2"): 124_439_808,
    ("jamba", "52b"): 51_570_323_328,
    ("llama", "llama-3-8b"): 8_030_261_248,
    ("llama", "smollm2-135m"): 134_515_008,
    ("mamba", "130m"): 129_135_360,
    ("resnet", "50"): 25_557_032,
    ("resnet", "20"): 269_722,
    ("t5", "t5-small"): 60_506_624,
    ("vit", "base"): 86_567_656,
}


@pytest.fixture(scope="module")
def entries() -> list[dict[str, Any]]:
    """Of several kinds: with and without named sizes, with long sources, a baseline."""
    return [catalogue.entry(name) for name in ("resnet", "lstm", "clip", "mlp", "conformer", "linear", "constant")]


@pytest.mark.parametrize("name", sorted({name for name, _ in PUBLISHED}))
def test_named_sizes_have_their_published_numbers_of_parameters(name: str) -> None:
    sizes = catalogue.entry(name)["sizes"]
    assert list(sizes) == list(rooms.find("models", name).SIZES)
    for size in (size for model, size in PUBLISHED if model == name):
        assert sizes[size]["parameters"] == PUBLISHED[name, size]


@pytest.mark.parametrize("name", rooms.names("models"))
def test_a_model_with_an_option_size_names_its_sizes(name: str) -> None:
    part = rooms.find("models", name)
    assert ("size" in rooms.options(part.build)) == bool(getattr(part, "SIZES", ()))


def test_no_model_and_baseline_share_a_name() -> None:
    assert len(catalogue.names()) == sum(len(rooms.names(room)) for room in catalogue.MAKERS)


def test_an_entry_tells_use_source_options_types_and_what_was_counted() -> None:
    found = catalogue.entry("conformer")
    assert found["use"] and found["source"] and ">>>" not in found["about"]
    assert found["options"]["kernel"] is None and found["types"]["kernel"] == "int"
    assert found["types"]["dropout"] == "float" and "`subsample` frames" in found["told"]
    assert found["parameters"] == found["sizes"]["tiny"]["parameters"]
    assert found["counted_for"] == "frames of 80 numbers; 10 outputs"
    assert "seed" not in catalogue.entry("linear")["options"]


def test_the_page_is_named_where_the_docs_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # An installed package has no docs beside it; the tests do.
    monkeypatch.setattr(catalogue, "PAGES", Path(__file__).parents[1] / "docs" / "architectures")
    page = catalogue.entry("mlp")["page"]
    assert page is not None and Path(page).read_text().startswith("# mlp")
    monkeypatch.setattr(catalogue, "PAGES", tmp_path)
    assert catalogue.entry("mlp")["page"] is None


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(entries: list[dict[str, Any]], width: int) -> None:
    text = listing(entries, width=width)
    assert max(map(len, text.splitlines())) <= width
    for entry in entries:
        lines = [line for line in text.splitlines() if line.startswith(entry["name"] + " ")]
        assert len(lines) == 1 and (width < 80 or entry["use"] in lines[0])
        assert max(map(len, whole(entry, width=width).splitlines())) <= width


def test_each_entry_takes_two_lines_or_one_where_that_fits(entries: list[dict[str, Any]]) -> None:
    heading, note = 1, 2
    assert len(listing(entries, width=80).splitlines()) == heading + 2 * len(entries) + note
    assert len(listing(entries, width=140).splitlines()) == heading + len(entries) + note


def test_a_pipe_gets_one_uncut_line_for_each(entries: list[dict[str, Any]]) -> None:
    lines = listing(entries, width=None).splitlines()
    assert len(lines) == 1 + len(entries)
    assert all(entry["source"] in line for entry, line in zip(entries, lines[1:], strict=True))
    assert "10 sizes, 270 k to 60.2 M" in lines[1]


def test_one_entry_shows_everything(entries: list[dict[str, Any]]) -> None:
    text = whole(entries[0], width=None)
    assert "for a picture of 224 x 224 x 3; 1,000 outputs:\n  18   11,689,512\n" in text
    assert "for a picture of 32 x 32 x 3; 10 outputs:\n  20      269,722\n" in text
    assert "  stride_first  bool        false\n" in text and "  width         int         not set\n" in text
    assert entries[0]["source"] in text and entries[0]["about"] in text and entries[0]["told"] in text
    assert "as baselines.linear.NAME=VALUE" in whole(entries[5], width=80)
    assert "Options" not in whole(entries[6], width=80)  # the constant has none


def test_counts_are_short_and_never_written_with_an_exponent() -> None:
    counts = [999, 1000, 999_499, 999_500, 1_234_567, 999_499_999, 46_702_792_704]
    assert [short(n) for n in counts] == ["999", "1 k", "999 k", "1 M", "1.23 M", "999 M", "46.7 B"]


def test_command_tells_all_of_one_as_text_and_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "squeezenet"]) == 0
    assert capsys.readouterr().out.startswith("squeezenet, a model for pictures\n")
    assert main(["models", "squeezenet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sizes"]["1.1"]["parameters"] == 1_235_496 and found["room"] == "models"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["models", "resnets"], "There is no model or baseline 'resnets'. Did you mean 'resnet'?"),
        (["models", "../cli"], "There is no model or baseline '../cli'."),
        (["models", ""], "There is no model or baseline ''."),
        (["models", "size=50"], "There is no model or baseline 'size=50'."),
        (["models", "mlp", "resnet"], "'resnet' was not understood."),
        (["models", "--wide"], "'--wide' was not understood."),
    ],
)
def test_wrong_use_is_refused_in_one_message(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.startswith(f"fathom: {told}")


def test_unknown_name_in_the_library_is_a_user_error() -> None:
    with pytest.raises(UserError, match="Did you mean 'mlp'"):
        catalogue.entry("mpl")


def test_a_closed_pipe_ends_it_without_a_traceback() -> None:
    command = f"{sys.executable} -m fathom models linear"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, text=True)
    assert done.returncode in (0, 141) and not done.stderr


@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="there are no pseudo-terminals here")
def test_in_a_terminal_lines_are_as_wide_as_it_is() -> None:
    above, below = pty.openpty()
    command = [sys.executable, "-m", "fathom", "models", "linear"]
    subprocess.run(command, stdout=below, env={**os.environ, "COLUMNS": "50"}, check=True)
    os.close(below)
    shown = os.read(above, 100_000).decode()
    assert 40 < max(map(len, shown.splitlines())) <= 50
