"""Names and texts that would like to be more: on the report page and on the terminal they are shown, and do nothing.

Recipes that name what is in no room, or sizes that no memory holds, are refused before anything is made.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import fathom
from fathom import memory
from fathom.cli import main
from fathom.console import Console
from fathom.data import inert
from fathom.network import build

SCRIPT = "<script>alert(1)</script>"
ATTRIBUTE = '" onmouseover="alert(1)" x="'
PICTURE = "<img src=x onerror=alert(1)>"
LINK = "javascript:alert(1)"
ESCAPE = "\x1b]0;owned\x07\x1b[2J\x1b[31m"
TURNED = "\u202egnp.exe"
LOUD = {"script", "iframe", "object", "embed", "form", "link", "base", "audio", "video", "a"}


class Page(HTMLParser):
    """Every tag and attribute of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data


def check_inert(text: str) -> Page:
    page = Page(text)
    assert not LOUD & set(page.tags)
    assert "<script" not in text
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name, value in page.attributes:
        if name in ("src", "href", "action", "data", "srcset", "poster"):
            assert value.startswith(("data:image/png;base64,", "#")), (name, value)
        if name == "style":
            assert not re.search(r"url\(|expression|javascript|@import", value)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
    assert any(value.startswith("default-src 'none'; img-src data:;") for _, value in page.attributes)
    return page


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, patient: None) -> tuple[Path, str, str]:
    """A run on data with such names and words everywhere, and what the terminal was told: out and err."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("names") / f"a{ATTRIBUTE.replace('/', '')}{ESCAPE}"
    folder.mkdir()
    data = folder / "<script>alert(2)<script>.csv"
    head = [f"{SCRIPT}{ESCAPE}", f"{ATTRIBUTE}'{LINK}'", PICTURE, f"target{ESCAPE}{TURNED}"]
    words = [f"{SCRIPT}", f"{PICTURE}{ESCAPE}", f"{LINK}{TURNED}", "'><svg onload=alert(1)>"]
    lines = [",".join('"' + name.replace('"', '""') + '"' for name in head)]
    for i in range(80):
        target = f"{SCRIPT}{ESCAPE}" if (i * 7) % 5 < 2 else f"{LINK}{ATTRIBUTE}"
        cells = [words[i % 4], words[(i // 4) % 4], str(i % 13), target]
        lines.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    lines[40] += ",one too many"
    data.write_text("\n".join(lines), encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    made = folder / "run"
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        settings = [
            "model=none",
            "baselines.linear.bends=0",
            "baselines.linear.penalty=1.0",
            "split.folds=1",
            "threads=1",
        ]
        assert main(["fit", str(data), "--target", head[3], "--out", str(made), *settings]) == 0, err.getvalue()
        assert main(["predict", str(made), str(data)]) == 0
        assert main(["evaluate", str(made), str(data)]) == 0
        assert main(["runs", "--in", str(folder)]) == 0
        assert main(["predict", str(made), f'{{"{ESCAPE[:3]}x": 1}}'.replace("\x1b", "\\u001b")]) == 2
        assert main(["fit", str(data), "--target", f"nobody{ESCAPE}"]) == 2
    return made, out.getvalue(), err.getvalue()


def test_the_page_shows_such_names_and_runs_nothing(told: tuple[Path, str, str]) -> None:
    page = check_inert((told[0] / "report.html").read_text("utf-8"))
    for shown in (SCRIPT, PICTURE, LINK, "onmouseover"):
        assert shown in page.words


def test_the_terminal_shows_such_names_and_obeys_none(told: tuple[Path, str, str]) -> None:
    for said in told[1:]:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)
    assert "\\x1b[2J" in told[1] and "\\u202e" in told[1]
    assert "\\x1b[2J" in told[2]


def test_rows_of_predictions_stay_rows(told: tuple[Path, str, str]) -> None:
    start = told[1].index("row\tprediction")
    lines = told[1][start:].splitlines()
    assert [line.count("\t") for line in lines[:80]] == [3] * 80


def test_a_name_of_several_lines_cannot_pretend_to_be_a_stage() -> None:
    console = Console(quiet=True)
    console.stage("Reading", "a\nVerdict    use the network\rDoctor")
    assert console.lines == ["Reading    a\\nVerdict    use the network\\rDoctor"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\x9b31m", "\\x9b31m"),
        ("half \ud83d", "half \\ud83d"),
        ("Müller 日本語 🙂 שלום", "Müller 日本語 🙂 שלום"),
        ("tab\tend\n", "tab\\tend\\n"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert inert(text) == shown
    assert inert("a\tb\n", keep="\t\n") == "a\tb\n"


REFUSED = {
    "model=../os": "There is no '../os' in models/",
    "model=os.system": "There is no 'os.system' in models/",
    "model=__init__": "There is no '__init__' in models/",
    "model=parts.checks": "There is no 'parts.checks' in models/",
    "model=[mlp]": "'model.name' is ['mlp']; expected str",
    "model.name=!!python/name:os.system": "There is no",
    "baselines.os={}": "There is no 'os' in baselines/",
    "baselines.__init__={}": "There is no '__init__' in baselines/",
    "metric=../accuracy": "'../accuracy'",
    "metric=__doc__": "'__doc__'",
    "treat_as.alcohol=subprocess": "subprocess",
    "options.__class__=1": "no option '__class__'",
    "__class__.x=1": "Unknown recipe key '__class__'",
    "split.__dict__=1": "Unknown recipe key 'split.__dict__'",
    "model=mlp model.__class__=1": "has no option '__class__'",
    "model=mlp model.width=1000000000000": "a width that no number is meant by",
    "model=mlp model.width=999999999": "width=999999999: expected at most 1,000,000",
    "model=mlp model.depth=999999999": "depth=999999999: expected at most 1,000,000",
    "model=mlp model.dropout=.nan": "'model.options.dropout' is too large or not finite",
    "train.epochs=1000000000000000000000": "'train.epochs' is too large",
    "train.learning_rate=.inf": "'train.learning_rate' is too large or not finite",
    "train.clip=.nan": "'train.clip' is too large or not finite",
    "train.batch_size=-1": "train.batch_size is -1",
    "train.epochs=true": "'train.epochs' is True",
    "train.epochs=[1]": "'train.epochs' is [1]",
    "split.folds=1000000000000": "split.folds=1000000000000",
    "split.test=1e300": "'split.test' is too large",
    "threads=1000000000": "threads is 1000000000; expected 1 to 1,024",
    "seed=99999999999": "seed is 99999999999",
    "text.context=1000000000": "text.context is 1000000000",
    "baselines.boosted_trees.leaves=1000000": "leaves is 1000000; it must be at most 131,072",
    "baselines.linear.bends=100000000": "bends is 100000000; it must be at most 1,000",
    "budget=.inf": "'budget' is too large or not finite",
    "device=../cuda": "'../cuda' is not a device",
}


@pytest.mark.parametrize("words", REFUSED)
def test_recipes_that_ask_for_what_is_none_are_refused(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "wine", *words.split(" ")]) == 2
    said = capsys.readouterr().err
    assert REFUSED[words] in said, said
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_fits_no_memory_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fathom.UserError, match=r"model mlp is too large.*Give it smaller sizes"):
        fathom.fit("wine", model="mlp", model__width=900_000, baselines={}, quiet=True)


def test_building_ends_when_what_was_announced_is_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"text": {"form": "stream", "vocabulary": 50, "length": 16}}
    monkeypatch.setattr(memory, "memory_bytes", lambda: 1e6)
    build("gpt2", inputs, 50, {"depth": 1, "width": 64})
    with pytest.raises(fathom.UserError, match="model gpt2 is too large for 0.0 GB of memory, by its weights alone"):
        build("gpt2", inputs, 50, {"depth": 100_000, "width": 64})
    monkeypatch.setattr(memory, "memory_bytes", lambda: float("inf"))
    monkeypatch.setattr(memory, "MOST_TENSORS", 100)
    with pytest.raises(fathom.UserError, match="model gpt2 is too large: it has more than 100 tensors"):
        build("gpt2", inputs, 50, {"depth": 100_000, "width": 64})
