"""What goes wrong around a run (a full disk, a closed folder, a clock set back, a second process, Ctrl-C, a kill) loses
nothing that was kept, and the run goes on from there to the same end."""

from __future__ import annotations

import ast
import builtins
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fathom
from fathom import interrupts, networks, run
from fathom.baselines import constant
from fathom.cli import main
from fathom.lock import held
from fathom.run import RunFolder, create_free

from .conftest import people, write_csv
from .test_fit import _content

SOURCE = Path(fathom.__file__).parent
# Each epoch has four steps.
SETTINGS = ["train.epochs=3", "train.batch_size=16", "split.folds=1", "model=mlp", "model.width=8", "threads=1",
            "baselines.constant={}", "explain_rows=0", "train.precision=fp32"]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: None) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "people.csv", people(90), without=("wealth",))
    return tmp_path


@pytest.fixture
def whole(here: Path) -> dict[str, bytes]:
    """What an undisturbed run leaves."""
    assert fit("whole") == 0
    return _content(here / "whole")


def fit(out: str) -> int:
    return main(["fit", str(Path("people.csv").resolve()), "--target", "rich", "--quiet", "--out", out, *SETTINGS])


def differing(one: dict[str, bytes], two: dict[str, bytes]) -> list[str]:
    return [name for name in {*one, *two} if one.get(name) != two.get(name)]


def every_file_is_whole(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.name.startswith("."), f"{path} was left behind"
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".safetensors":
            RunFolder(folder).read_tensors(str(path.relative_to(folder)))


# A disk that is full, a folder that is closed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG])
def test_a_write_that_fails_leaves_what_was_there(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_json("spec.json", {"kept": 1})
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(fathom.UserError, match=r"spec.json cannot be written: .*What was kept before is whole") as told:
        folder.write_json("spec.json", {"kept": 2})
    assert ("Make room" in str(told.value)) == (number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.85, 0.99])
def test_a_disk_that_fills_up_at_any_write_costs_nothing(
    share: float, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, names = run.put, []
    monkeypatch.setattr(run, "put", lambda target, content: (names.append(target), put(target, content)))
    assert fit("counted") == 0
    last = 1 + int(share * (len(names) - 2))  # the first write says that this is a run folder
    written: list[Path] = []

    def full(target: Path, content: bytes) -> None:
        written.append(target)
        if len(written) > last:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(target, content)

    monkeypatch.setattr(run, "put", full)
    assert fit("full") == 2
    assert f"{written[last].relative_to(Path())} cannot be written: No space left" in capsys.readouterr().err
    every_file_is_whole(Path("full"))
    monkeypatch.setattr(run, "put", put)
    if not Path("full/recipe.yaml").exists():
        return  # nothing had begun
    assert main(["resume", "full"]) == 0
    assert differing(whole, _content(Path("full"))) == []


def test_a_bound_on_the_size_of_files_is_told_and_the_run_goes_on_without_it(
    whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """A real one, of the operating system: checkpoints are larger than it."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(len(content) for name, content in whole.items() if name.endswith(".safetensors"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, hard))
    try:
        assert fit("bound") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written: File too large" in capsys.readouterr().err
    every_file_is_whole(Path("bound"))
    assert main(["resume", "bound"]) == 0
    assert differing(whole, _content(Path("bound"))) == []


def test_a_baseline_that_was_half_written_is_fitted_again(
    whole: dict[str, bytes], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: Any, folder: Path) -> None:
        (folder / "constant.json").write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(constant.Fitted, "save", half)
        assert fit("half") == 2
    assert "baseline/constant/0 cannot be written: No space left on device" in capsys.readouterr().err
    assert main(["resume", "half"]) == 0
    assert differing(whole, _content(Path("half"))) == []


def test_predictions_that_cannot_be_written_leave_the_older_ones(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("mine") == 0
    Path("out.csv").write_text("older")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["predict", "mine", "people.csv", "--to", "out.csv"]) == 2
    assert "out.csv: No space left on device" in capsys.readouterr().err
    assert Path("out.csv").read_text() == "older"
    assert sorted(path.name for path in here.iterdir()) == ["mine", "out.csv", "people.csv"]


def test_weights_that_cannot_be_written_leave_no_half_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fathom.network import build
    from fathom.pretrained import save_pretrained
    from fathom.weights import gpt2

    blueprint = gpt2.EXAMPLES[0]
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)

    def full(self: Path, text: str, encoding: str = "") -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(fathom.UserError, match="weights cannot be written: .*No space left"):
        save_pretrained(model, blueprint, tmp_path / "weights")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where nobody can make a folder")
def test_a_place_where_nothing_can_be_made_is_told() -> None:
    with pytest.raises(fathom.UserError, match="run folder /proc/mine cannot be made: .*--out"):
        RunFolder.create("/proc/mine")


def test_a_finished_run_in_a_closed_folder_still_predicts(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root may write anywhere, so that the folder is closed by refusing what opens files to be written."""
    assert fit("mine") == 0
    opened, made = builtins.open, os.open

    def only_reading(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        if set(mode) & set("wax+") and str(file).startswith("mine"):
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(file, mode, *more, **options)

    def only_reading_too(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and "mine" in Path(os.fsdecode(path)).parts:
            raise OSError(errno.EROFS, "Read-only file system")
        return made(path, flags, *more, **options)

    monkeypatch.setattr(builtins, "open", only_reading)
    monkeypatch.setattr(os, "open", only_reading_too)
    assert main(["predict", "mine", '{"age": 40, "hours": 30, "job": "cook"}']) == 0
    assert main(["report", "mine"]) == 2
    assert "report.html cannot be written: Read-only file system" in capsys.readouterr().err
    Path("mine/metrics.json").unlink()
    assert main(["resume", "mine"]) == 2
    assert "lock cannot be written: Read-only file system" in capsys.readouterr().err


# A clock that is set back


def test_a_clock_that_runs_backwards_changes_nothing(whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [2e9]

    def back() -> float:
        now[0] -= 1000.0
        return now[0]

    monkeypatch.setattr(time, "time", back)
    assert fit("back") == 0
    assert differing(whole, _content(Path("back"))) == []


def test_spans_are_measured_by_a_clock_that_nobody_sets() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                said = ast.unparse(node.func)
                assert said not in ("time.time", "datetime.now", "datetime.datetime.now"), f"{path} asks {said}()"


# Two processes at one folder

HOLDS = """
import sys, time
from pathlib import Path
from fathom.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(
    whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("whole/metrics.json").unlink()  # as if it were not finished
    kept = {path: path.read_bytes() for path in Path("whole").rglob("*") if path.is_file()}
    first = subprocess.Popen([sys.executable, "-c", HOLDS, "whole"], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        assert main(["resume", "whole"]) == 2
        assert "Another process is at work on whole" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in Path("whole").rglob("*") if path.is_file()} == kept
    finally:
        first.kill()  # SIGKILL: it has no time to let go
        first.wait()
        assert first.stdout is not None
        first.stdout.close()
    assert main(["resume", "whole"]) == 0
    assert differing(whole, _content(Path("whole"))) == []


def test_a_run_is_locked_while_it_is_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []
    trained = networks._train_fold

    def tried(contest: Any, *more: Any) -> Any:
        with pytest.raises(fathom.UserError, match="Another process is at work on mine"), held(contest.folder.path):
            refused.append(contest.folder.path)
        refused.append(contest.folder.path)
        return trained(contest, *more)

    monkeypatch.setattr(networks, "_train_fold", tried)
    assert fit("mine") == 0
    assert refused == [Path("mine")]
    with held(Path("mine")):  # and free again afterwards
        pass


def test_runs_that_begin_at_once_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, free = threading.Barrier(8), run.free_path

    def asked(name: str, where: str | Path = "runs") -> Path:
        found = free(name, where)
        if len(seen) < 8:  # all have looked before anybody makes a folder
            seen.append(found)
            at_once.wait()
        return found

    seen: list[Path] = []
    monkeypatch.setattr(run, "free_path", asked)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: create_free("people", tmp_path), range(8)))
    assert set(seen) == {tmp_path / "people-1"}
    assert sorted(folder.name for folder in made) == [f"people-{number}" for number in range(1, 9)]


# Ctrl-C


def pressing(monkeypatch: pytest.MonkeyPatch, at: int, times: int = 1) -> None:
    """Ctrl-C after so many steps, as a terminal sends it."""

    def press(step: Any, total: int) -> None:
        if step.index == at:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(networks, "_show_step", lambda contest, number: press)


@pytest.mark.parametrize("at", [1, 6, 8], ids=["first step", "amid an epoch", "end of an epoch"])
def test_ctrl_c_keeps_the_training_to_the_step_and_it_ends_the_same(
    at: int, whole: dict[str, bytes], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capfd.readouterr()
    with monkeypatch.context() as patch:
        pressing(patch, at)
        assert fit("stopped") == 130
    said = capfd.readouterr().err
    assert "stopping after this step" in said
    assert "go on with `fathom resume stopped`" in said
    assert json.loads(Path(f"stopped/last/fold-0-step-{at}.json").read_text())["step"] == at
    every_file_is_whole(Path("stopped"))
    assert main(["resume", "stopped"]) == 0
    assert f"fold 1 after step {at}" in capfd.readouterr().out
    assert differing(whole, _content(Path("stopped"))) == []


def test_ctrl_c_twice_does_not_wait_and_keeps_no_half_step(
    whole: dict[str, bytes], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        pressing(patch, 6, times=2)
        assert fit("stopped") == 130
    assert "`fathom resume stopped`" in capfd.readouterr().err
    assert not Path("stopped/last").exists(), "weights of no step were kept"
    assert main(["resume", "stopped"]) == 0
    assert differing(whole, _content(Path("stopped"))) == []


@pytest.mark.parametrize("where", ["fathom.contest.fit_baseline", "fathom.api.explain"])
def test_ctrl_c_anywhere_else_says_how_to_go_on(
    where: str, whole: dict[str, bytes], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, stop)
        assert fit("stopped") == 130
    assert "`fathom resume stopped`" in capfd.readouterr().err
    assert main(["resume", "stopped"]) == 0
    assert Path("stopped/report.html").exists()
    without_log = {"log.txt", "report.html"}  # what it had not told yet it does not tell
    assert set(differing(whole, _content(Path("stopped")))) <= without_log


def test_ctrl_c_before_a_run_began_is_no_error(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def stop(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fathom.fitting.survey", stop)
    assert fit("never") == 130
    assert capfd.readouterr().err == "\nfathom: stopped.\n"
    assert not Path("never").exists()


def test_whoever_handled_ctrl_c_before_does_so_again(here: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts.gently() as came:
        assert signal.getsignal(signal.SIGINT) is not before
        assert not came()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(autouse=True)
def no_threads_of_torch() -> Iterator[None]:
    """`threads=1` holds for the process; whoever comes next has as many as before."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_files_left_by_a_kill_in_the_middle_of_a_write_are_in_nobodys_way(whole: dict[str, bytes]) -> None:
    for name in (".spec.json.x1", "last/.fold-0.json.x2", "baseline/constant/0/.done.json.x3"):
        Path("whole", name).write_bytes(np.random.default_rng(0).bytes(10))
    Path("whole/metrics.json").unlink()
    assert main(["resume", "whole"]) == 0
    left = {name: content for name, content in _content(Path("whole")).items() if not Path(name).name.startswith(".")}
    assert differing(whole, left) == []
