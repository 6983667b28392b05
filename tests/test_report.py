"""The report page: made from plain files alone, complete, inert whatever the data says, and readable on a phone."""

from __future__ import annotations

import html.parser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.data import Task
from fathom.errors import UserError
from fathom.mistakes import most_mistaken
from fathom.report import numbers
from fathom.report.axes import axis, log_axis, round_marks
from fathom.report.html import Html, element, text
from fathom.report.mistaken import Mistaken
from fathom.report.page import write
from fathom.report.sections.classes import reliability
from tests.fake_runs import REASONS, RUNS, classification, prices, texts

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>\u202e\x00\ud800"
CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)


class Reader(html.parser.HTMLParser):
    """What a browser would take from the page: tags, attributes, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags close in the order they were opened"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open[-1:]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.mark.parametrize("kind", RUNS)
def test_the_page_tells_the_whole_run(kind: str, tmp_path: Path) -> None:
    folder, examples = RUNS[kind](tmp_path / f"{kind}-1")
    page = write(folder.path, examples=examples)
    assert page == folder.path / "report.html"
    read = Reader(page.read_text("utf-8"))
    metrics = folder.read_json("metrics.json")
    assert not read.open
    assert metrics["sentence"][1:].replace(" ", "") in read.text.replace(" ", "")
    for name in metrics["test"]:
        assert name.replace("_", " ") in read.text
    for words in (
        "The candidates",
        "Where it is wrong",
        "Most mistaken",
        "How it learned",
        "Choices",
        "fathom predict",
        "Left out",
    ):
        assert words in read.text
    for reason in REASONS:
        assert reason["why"] in read.text
    assert examples[0].place in read.text


@pytest.mark.parametrize("kind", RUNS)
def test_the_page_needs_no_script_and_no_second_file(kind: str, tmp_path: Path) -> None:
    folder, examples = RUNS[kind](tmp_path / "run")
    read = Reader(write(folder.path, examples=examples).read_text("utf-8"))
    assert not {"script", "iframe", "link", "object", "form"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert all(v.startswith("data:image/png;base64,") for n, v in read.attributes if n in ("src", "href"))
    assert ("http-equiv", "Content-Security-Policy") in read.attributes
    assert not any("nan" in v for n, v in read.attributes if n in ("x", "x1", "cx", "cy", "width", "points", "style"))


def test_hostile_names_and_texts_are_inert(tmp_path: Path) -> None:
    safe, _ = texts(tmp_path / "safe")
    plain = Reader(
        write(safe.path, examples=[Mistaken("a", "b", "c", 0.5, text="d", row={"e": "f"})]).read_text("utf-8")
    )
    clean = HOSTILE.replace("\ud800", "").replace("\x00", "")
    folder, _ = texts(tmp_path / "run", label=clean, column=clean)
    folder.write_rows("left_out.csv", ["where", "why"], [(clean, clean)])
    folder.write_text("findings.json", json.dumps([{"name": HOSTILE, "text": HOSTILE}]))  # half a surrogate, escaped
    example = Mistaken(HOSTILE, HOSTILE, HOSTILE, 0.5, text=HOSTILE, row={HOSTILE: HOSTILE})
    read = Reader(write(folder.path, examples=[example]).read_text("utf-8"))
    assert "script" not in read.tags
    assert sorted(set(read.tags)) == sorted(set(plain.tags))
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert "<script>alert('x')</script>" in "".join(read.words)
    assert "\u202e" not in "".join(read.words)


def test_a_run_of_baselines_alone_has_no_curves(tmp_path: Path) -> None:
    folder, _ = prices(tmp_path / "run")
    for name in ("metrics.csv", "findings.json", "left_out.csv", "manifest.json", "predictions.parquet"):
        folder.inside(name).unlink()
    words = Reader(write(folder.path).read_text("utf-8")).text
    assert "How it learned" not in words
    assert "Where it is wrong" not in words
    assert "The candidates" in words


def test_undefined_numbers_are_dashes(tmp_path: Path) -> None:
    folder, _ = texts(tmp_path / "run")
    metrics = folder.read_json("metrics.json")
    metrics["test"]["constant"] |= {
        "accuracy": float("nan"),
        "interval": [float("nan"), float("nan")],
        "seconds_per_row": None,
    }
    metrics["difference"]["interval"] = [None, None]
    metrics["decision"]["looks"][0]["interval"] = [None, None]
    folder.write_json("metrics.json", metrics)
    page = write(folder.path).read_text("utf-8")
    assert "nan" not in Reader(page).text
    assert not re.search(r'="[^"]*\bnan', page)


def test_more_classes_than_fit_are_told_by_their_worst_pairs(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    truth = noise.integers(40, size=2000)
    p = np.full((2000, 40), 0.005)
    p[np.arange(2000), np.where(noise.random(2000) < 0.3, (truth + 1) % 40, truth)] = 0.805
    task = Task("classify", "kind", tuple(f"kind {i}" for i in range(40)))
    folder = classification(
        tmp_path / "run",
        {"constant": np.full((2000, 40), 1 / 40), "mlp": p},
        truth,
        task,
        sentence="use it",
        fields={},
        log=[],
    )
    read = Reader(write(folder.path).read_text("utf-8"))
    assert "heat" not in " ".join(v for n, v in read.attributes if n == "class")
    assert "The most confused pairs" in read.text
    assert "The hardest classes" in read.text


def test_an_unfinished_run_and_a_damaged_file_are_refused_by_name(tmp_path: Path) -> None:
    folder, _ = texts(tmp_path / "run")
    folder.write_text("spec.json", "{")
    with pytest.raises(UserError, match=r"spec\.json is damaged"):
        write(folder.path)
    with pytest.raises(UserError, match="not a run folder"):
        write(tmp_path)
    folder.inside("metrics.json").unlink()
    with pytest.raises(UserError, match="did not finish"):
        write(folder.path)


def test_the_most_mistaken_are_wrong_and_surest_first() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.01, 0.99]])
    assert most_mistaken(p, np.array([1, 1, 1, 0]), Task("classify", "t", ("a", "b"))).tolist() == [3, 0, 2]
    numbers_given = np.array([1.0, 5.0, 3.0, np.nan])
    assert most_mistaken(numbers_given, np.array([1.0, 2.0, -4.0, 0.0]), Task("regress", "t"), 2).tolist() == [2, 1]


def test_escaping_covers_text_and_attributes() -> None:
    assert element("p", "<b>", title='"&') == '<p title="&quot;&amp;">&lt;b&gt;</p>'
    assert element("p", Html("<b></b>"), None) == "<p><b></b></p>"
    assert text("a\x07\u202eb") == "a\ufffd\ufffdb"
    assert (
        element("i", class_="x", aria_label="y", width=12.5, hidden=None)
        == '<i class="x" aria-label="y" width="12.5"></i>'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [(1234567, "1,234,567"), (0.051234, "0.05123"), (-3.5, "−3.5"),
     (2.1e-7, "2.10\u00a0×\u00a010⁻⁷"), (float("nan"), "–"),
     (1234.56, "1,235"), (0.0, "0")],
)  # fmt: skip
def test_numbers_are_written_for_people(value: float, written: str) -> None:
    assert numbers.plain(value) == written


def test_differences_of_percentages_are_points() -> None:
    accuracy = numbers.measured("accuracy", [0.79, 0.61])
    assert accuracy.difference(0.179) == "+17.9\u00a0points"
    assert accuracy.difference(-0.00001) == "0.0\u00a0points"
    assert accuracy.show(0.612) == "61.2\u00a0%"
    assert numbers.measured("accuracy", [0.9951]).show(0.9951) == "99.51\u00a0%"
    assert numbers.measured("rmse", [46512.3]).show(46512.3) == "46,512"
    assert numbers.measured("rmse", [46512.3]).difference(-204.4) == "−204"
    assert numbers.measured("rmse", [55.66]).difference(1.191) == "+1.19"
    assert numbers.measured("unheard_of", [0.5]).label == "unheard of"


def test_axes_hold_their_values_and_have_round_marks() -> None:
    x = axis([0.612, 0.791, 0.1])
    assert 0 < x.place(0.1) < x.place(0.612) < x.place(0.791) < 100
    assert round_marks(0, 1, 4) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert axis([5.0, 5.0]).place(5.0) == pytest.approx(50)
    assert log_axis([0.001, 10.0]).place(0.1) == pytest.approx(50)
    assert [x.label(v) for v in (0.25, 1.0)] == ["0.25", "1.00"] or len({x.label(v) for v in x.ticks}) == len(x.ticks)


def test_reliability_of_an_honest_model_lies_on_the_diagonal() -> None:
    noise = np.random.default_rng(0)
    sure = noise.uniform(0.5, 1.0, 20_000)
    bins = reliability(sure, noise.random(20_000) < sure)
    assert len(bins) == 10
    assert all(low < said < high for said, _, low, high in bins)


# In a browser, where one is installed.

PROBE = """<script>
window.addEventListener('load', () => {
  const wide = document.documentElement.scrollWidth, room = document.documentElement.clientWidth;
  const past = [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll,pre,.commands dd,svg') &&
    e.getBoundingClientRect().right > room + 1).map(e => e.className || e.tagName);
  document.title = JSON.stringify({wide, room, past, text: document.body.innerText.length});
});
</script>"""


def browse(page: Path, scratch: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    quiet = "disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    flags = [f"--{flag}" for flag in f"headless no-sandbox {quiet} hide-scrollbars enable-logging=stderr".split()]
    command = [CHROMIUM, *flags, f"--user-data-dir={scratch}", *options, page.as_uri()]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env=os.environ | {"HOME": str(scratch)}
    )


def phone_layout(page: Path, tmp_path: Path) -> dict[str, Any]:
    """How wide the page is in 360 pixels, and what stands out past them."""
    # A window is never narrower than 500 pixels; a frame inside it is. The probe measures a copy without the policy.
    copy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
    (tmp_path / "copy.html").write_text(copy.replace("</body>", PROBE + "</body>"), "utf-8")
    outer = (
        "<iframe src='copy.html' width=360 height=800 style='border:0'></iframe><script>onload = () => "
        "setTimeout(() => { document.title = frames[0].document.title }, 300)</script>"
    )
    (tmp_path / "outer.html").write_text(f"<!doctype html><body>{outer}", "utf-8")
    measured = browse(
        tmp_path / "outer.html",
        tmp_path / "profile-2",
        "--allow-file-access-from-files",
        "--virtual-time-budget=3000",
        "--dump-dom",
    )
    found = re.search(r"<title>(\{.*?\})</title>", measured.stdout)
    assert found, measured.stdout[-500:]
    return json.loads(found[1])


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: the page is not looked at in a browser")
@pytest.mark.parametrize("kind", RUNS)
def test_a_browser_shows_the_page_on_a_phone(kind: str, tmp_path: Path) -> None:
    folder, examples = RUNS[kind](tmp_path / "run")
    page = write(folder.path, examples=examples)
    shown = browse(page, tmp_path / "profile-1", "--window-size=500,900", "--dump-dom")
    assert "CONSOLE" not in shown.stderr
    assert folder.read_json("metrics.json")["sentence"][1:20] in shown.stdout
    layout = phone_layout(page, tmp_path)
    assert layout["room"] == 360
    assert layout["wide"] <= layout["room"], layout["past"]
    assert layout["text"] > 1500
