"""What is printed on a terminal, and what in a pipe."""

from __future__ import annotations

import io

import pytest

from fathom import terminal
from fathom.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


LONG = "use the network: " + "it is better " * 12


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "columns", lambda: 60)


def test_a_long_line_goes_on_under_its_own_text_on_a_terminal() -> None:
    stream = Terminal()
    Console(stream=stream).stage("Verdict", LONG)
    first, *more = stream.getvalue().splitlines()
    assert first.startswith("Verdict    use the network")
    assert more
    assert all(line.startswith(" " * 11) and not line.startswith(" " * 12) for line in more)
    assert all(len(line) < 60 for line in [first, *more])
    assert " ".join(line.strip() for line in [first, *more]) == f"Verdict    {LONG}".strip()


def test_paths_and_options_are_not_cut_in_two() -> None:
    words = ["--drop", "registered,casual", "requires_grad=False", "cross-entropy", "/path/of/20/letters" * 4]
    stream = Terminal()
    Console(stream=stream).stage("Doctor", " ".join(words * 4))
    assert stream.getvalue().split() == ["Doctor", *words * 4]


def test_a_pipe_and_the_log_get_one_line() -> None:
    stream = io.StringIO()
    plain = Console(stream=stream)
    plain.stage("Verdict", LONG)
    plain.bar("step 3/10", 0.3)
    assert stream.getvalue() == f"Verdict    {LONG}\n"
    live = Console(stream=Terminal())
    live.stage("Verdict", LONG)
    assert live.lines == plain.lines


def test_the_bar_is_drawn_over_and_leaves_nothing_behind() -> None:
    stream = Terminal()
    live = Console(stream=stream)
    live.bar("step 3/10", 0.3)
    live.more("epoch 1")
    assert "━━━━━━╌" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[2K           epoch 1\n")
