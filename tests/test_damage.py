"""Files of a run that are damaged (cut short, a bit flipped, of another run, gone) are named where they are read, and
`fathom resume` makes them again from what is whole, to the same end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fathom
from fathom import networks, run
from fathom import states as states_of
from fathom.checksums import checksum, is_whole, mismatch, record
from fathom.cli import main
from fathom.doctor.finding import Finding
from fathom.doctor.watch import Watch
from fathom.run import SEAL, RunFolder
from fathom.states import load_checkpoint, save_checkpoint

from .conftest import people, write_csv
from .test_bad_cases import differing
from .test_fit import _content
from .test_training import recipe, trainer

ROW = '{"age": 40, "hours": 30, "job": "cook"}'
SETTINGS = ["train.epochs=4", "train.batch_size=16", "train.accumulate=2", "train.average=0.5", "split.folds=1",
            "model=mlp", "model.width=8", "threads=1", "train.precision=fp32", "explain_rows=20",
            "baselines={constant: {}, linear: {bends: 0, penalty: 1.0}, boosted_trees: {trees: 5}}"]  # fmt: skip


def fit(data: Path, out: Path, seed: int = 0) -> int:
    words = ["fit", str(data), "--target", "rich", "--quiet", "--out", str(out), "--seed", str(seed)]
    return main([*words, *SETTINGS])


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, patient: None) -> Path:
    """`whole` and, killed in the middle of its training, `stopped`; `other` and `halted` likewise with another seed."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_csv(folder / "people.csv", people(90), without=("wealth",))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        for seed, whole in enumerate(("whole", "other")):
            assert fit(data, folder / whole, seed) == 0
        saves: list[int] = []

        def save_and_die(*given: Any) -> None:
            save_checkpoint(*given)
            saves.append(1)
            if len(saves) % 3 == 0:
                raise Killed

        patch.setattr(networks, "save_checkpoint", save_and_die)
        for seed, stopped in enumerate(("stopped", "halted")):
            with pytest.raises(Killed):
                fit(data, folder / stopped, seed)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def copy(runs: Path, tmp_path: Path) -> Callable[[str], Path]:
    threads = torch.get_num_threads()
    yield lambda name: Path(shutil.copytree(runs / name, tmp_path / "run"))
    torch.set_num_threads(threads)


def cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def lose(path: Path, other: Path) -> None:
    path.unlink()


HARMS = [cut, flip, swap, lose]


def test_a_checksum_sees_every_flipped_bit_and_every_cut() -> None:
    content = np.random.default_rng(0).bytes(200)
    kept = checksum(content)
    assert mismatch(content, kept) == ""
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        assert "its checksum is" in mismatch(bytes(changed), kept)
    assert all("bytes" in mismatch(content[:end], kept) for end in range(len(content)))


def test_a_record_is_whole_however_it_is_laid_out_and_not_when_a_value_changed() -> None:
    value = {"step": 3, "loss": 0.1 + 0.2, "worst": float("inf"), "name": "ü", "pairs": [[1, 2.5]], "none": None}
    kept = json.loads(json.dumps(record(value), indent=3))
    assert is_whole(kept) and is_whole(dict(reversed(kept.items())))
    for key, changed in {"step": 4, "loss": 0.3, "worst": 1.0, "name": "u", "pairs": [[1, 2]], "none": 0}.items():
        assert not is_whole(kept | {key: changed}), key
    assert not is_whole(value) and not is_whole({**kept, "more": 1})


def test_every_file_of_a_finished_run_that_matters_is_sealed(runs: Path) -> None:
    names = {path.relative_to(runs / "whole").as_posix() for path in (runs / "whole").rglob("*") if path.is_file()}
    sealed = set(json.loads((runs / "whole" / SEAL).read_text())["files"])
    unsealed = {name for name in names - sealed if not name.startswith("last/")}
    assert unsealed == {SEAL, "format.json", "summary.json", "recipe.yaml", "report.html", "log.txt", "lock"}
    assert {"model.safetensors", "predictions.parquet", "spec.json", "baseline/linear/0/linear.npz"} <= sealed


@pytest.mark.parametrize("harm", HARMS)
def test_each_damaged_file_of_a_finished_run_is_named_and_nothing_else(
    harm: Callable[[Path, Path], None], runs: Path, copy: Callable[[str], Path]
) -> None:
    folder = RunFolder.open(copy("whole"))
    assert folder.damaged() == []
    for name in json.loads(folder.inside(SEAL).read_text())["files"]:
        path, other = folder.inside(name), runs / "other" / name
        content = path.read_bytes()
        if harm is swap and other.read_bytes() == content:
            continue  # the table of rows left out, which both runs have empty
        harm(path, other)
        told = folder.damaged()
        assert len(told) == 1 and told[0].startswith(f"{path} is {'missing' if harm is lose else 'damaged'}"), told
        path.write_bytes(content)


READERS = {
    "model.safetensors": ["predict", "--candidate", "mlp"],
    "config.json": ["predict", "--candidate", "mlp"],
    "baseline/linear/0/linear.npz": ["predict", "--candidate", "linear"],
    "baseline/boosted_trees/0/trees.txt": ["predict", "--candidate", "boosted_trees"],
    "baseline/constant/0/done.json": ["predict", "--candidate", "constant"],
    "spec.json": ["predict"],
    "metrics.json": ["evaluate"],
    "predictions.parquet": ["report"],
    "reference/train.parquet": ["doctor", "--on"],
    SEAL: ["predict"],
}


@pytest.mark.parametrize("harm", [cut, flip, swap])
def test_commands_refuse_what_is_damaged_with_the_remedy(
    harm: Callable[[Path, Path], None], runs: Path, copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy("whole")
    for name, (command, *options) in READERS.items():
        content = (folder / name).read_bytes()
        harm(folder / name, runs / "other" / name)
        data = {"predict": [ROW], "report": [], "doctor": []}.get(command, [str(runs / "people.csv")])
        more = [str(runs / "people.csv")] if command == "doctor" else []
        capsys.readouterr()
        assert main([command, str(folder), *data, *options, *more]) == 2, name
        said = capsys.readouterr().err
        assert "is damaged" in said and (name in said or name == SEAL), said
        assert f"`fathom resume {folder}` makes it again" in said, said
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("model.safetensors", flip),
        ("baseline/boosted_trees/0/trees.txt", cut),
        ("spec.json", swap),
        ("predictions.parquet", lose),
        ("manifest.json", flip),
        (SEAL, cut),
    ],
)
def test_resume_mends_a_finished_run_to_the_last_bit(
    name: str,
    harm: Callable[[Path, Path], None],
    runs: Path,
    copy: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = copy("whole")
    harm(folder / name, runs / "other" / name)
    assert main(["resume", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"Damaged    {folder / name} is " in said and "makes it again" not in said, "that is being done"
    assert differing(_content(runs / "whole"), _content(folder)) == []
    assert RunFolder.open(folder).damaged() == []


# Trainings that are under way


def states(folder: Path, ending: str) -> list[Path]:
    """The files of the states of fold 0, the last first."""
    return sorted((folder / "last").glob(f"fold-0-step-*{ending}"), key=lambda p: -int(p.stem.split("-")[3]))


def test_two_generations_are_kept_while_a_training_is_under_way_and_one_after(runs: Path) -> None:
    for ending, count in {".json": 2, ".safetensors": 2}.items():
        assert len(states(runs / "stopped", ending)) == count
        assert len(states(runs / "whole", ending)) == 1


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("ending", [".json", ".safetensors"])
def test_resume_takes_the_state_before_a_damaged_one_and_ends_the_same(
    ending: str,
    harm: Callable[[Path, Path], None],
    runs: Path,
    copy: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = copy("stopped")
    last, before = states(folder, ending)
    harm(last, states(runs / "halted", ending)[0])
    capsys.readouterr()
    assert main(["resume", str(folder)]) == 0
    said = capsys.readouterr().out
    if harm is lose and ending == ".json":  # as before it was written: no damage
        assert "Damaged" not in said and f"after step {before.stem.split('-')[3]} " in said
    else:
        assert f"Damaged    {last} is " in said
        assert f"fold 1 after the state before it: step {before.stem.split('-')[3]} " in said
    assert differing(_content(runs / "whole"), _content(folder)) == []


def test_a_whole_state_of_another_run_is_not_taken(
    runs: Path, copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy("stopped")
    for path in (folder / "last").iterdir():
        path.unlink()
    shutil.copytree(runs / "halted" / "last", folder / "last", dirs_exist_ok=True)
    shutil.rmtree(folder / "baseline" / "linear")
    shutil.copytree(runs / "halted" / "baseline" / "linear", folder / "baseline" / "linear")
    assert main(["resume", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count("is of another run.") == 3 and "It is fitted again." in said
    assert "fold 1 from its beginning: no state of it is whole" in said
    assert differing(_content(runs / "whole"), _content(folder)) == []


def test_what_the_doctor_found_in_a_finished_fold_is_kept(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Finding("T6", "seen", "cause", "remedy", "exact", evidence={"epochs": [np.float64(1.5), np.int64(2)]})
    monkeypatch.setattr(Watch, "report", lambda self: [made] if self.step else [])

    def dies_in_the_second_fold(folder: RunFolder, fold: int, saved: Any) -> None:
        if fold == 1:
            raise Killed
        save_checkpoint(folder, fold, saved)

    folds = [word.replace("folds=1", "folds=2") for word in SETTINGS]
    monkeypatch.setitem(globals(), "SETTINGS", folds)
    with monkeypatch.context() as patch:
        patch.setattr(networks, "save_checkpoint", dies_in_the_second_fold)
        with pytest.raises(Killed):
            fit(runs / "people.csv", tmp_path / "run")
    assert main(["resume", str(tmp_path / "run")]) == 0
    found = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert [one["fold"] for one in found if one.get("seen") == "seen"] == [0, 1]


def test_metrics_of_epochs_that_were_kept_do_not_hang_on_the_table(runs: Path, copy: Callable[[str], Path]) -> None:
    folder = copy("stopped")
    (folder / "metrics.csv").write_bytes(b"\xff\x00")
    assert main(["resume", str(folder)]) == 0
    assert differing(_content(runs / "whole"), _content(folder)) == []


def test_data_that_changed_since_the_run_began_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = people(90)
    data = write_csv(tmp_path / "people.csv", rows, without=("wealth",))
    folder = Path(shutil.copytree(runs / "stopped", tmp_path / "run"))
    text = (folder / "recipe.yaml").read_text().replace(str(runs / "people.csv"), str(data))
    (folder / "recipe.yaml").write_text(text)
    rows[7]["hours"] = "71"
    for changed, what in ((rows, "other values in column 'hours'"), (rows[:-1], "89 rows, 90 when the run began")):
        write_csv(data, changed, without=("wealth",))
        assert main(["resume", str(folder)]) == 2
        assert f"The data of {folder} has changed: {what}" in capsys.readouterr().err
    write_csv(data, people(90), without=("wealth",))
    assert main(["resume", str(folder)]) == 0


def test_a_kill_at_any_write_of_a_state_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every write and removal, also where a step is kept twice, the state before is whole, or the new one."""
    folder, kept = RunFolder.create(tmp_path / "run"), []
    made = trainer(recipe(epochs=3))
    made.keep = lambda one: kept.append(one.checkpoint())
    made.run()
    kept.append(made.checkpoint())  # the same step, with the best weights
    assert kept[3].progress.step == kept[2].progress.step
    put, unlink = run.put, Path.unlink

    def dying(after: int) -> None:
        calls = iter(range(after))

        def counted(function: Callable[..., None]) -> Callable[..., None]:
            def called(*given: Any, **more: Any) -> None:
                if next(calls, None) is None:
                    raise Killed
                function(*given, **more)

            return called

        monkeypatch.setattr(run, "put", counted(put))
        monkeypatch.setattr(Path, "unlink", counted(unlink))

    for number, checkpoint in enumerate(kept):
        for after in range(9):
            dying(after)
            try:
                save_checkpoint(folder, 0, checkpoint)
                ended = True
            except Killed:
                ended = False
            monkeypatch.undo()
            told: list[str] = []
            found = load_checkpoint(folder, 0, told.append)
            assert told == []
            assert all(states_of.read_state(folder, 0, step) for step in states_of.steps_kept(folder, 0)), "no torso"
            whole = [one for one in kept[max(0, number - 1) : number + 1] if found and _same(one, found)]
            assert whole or (found is None and number == 0)
            if ended:
                break
        assert ended and after >= 2, "a state is two writes, and removals"
        assert _same(checkpoint, found)
    assert len(os.listdir(folder.inside("last"))) == 4


def test_states_beyond_the_one_that_was_taken_up_are_forgotten(tmp_path: Path) -> None:
    """Or a later one, found to be damaged, would stand in the way of those that are kept after it was passed over."""
    folder, kept = RunFolder.create(tmp_path / "run"), []
    made = trainer(recipe(epochs=4))
    made.keep = lambda one: kept.append(one.checkpoint())
    made.run()
    for checkpoint in (kept[0], kept[1], kept[3]):
        save_checkpoint(folder, 0, checkpoint)
    damaged, before = states(folder.path, ".safetensors")
    flip(damaged, before)
    assert _same(load_checkpoint(folder, 0), kept[1])
    save_checkpoint(folder, 0, kept[2])
    assert states_of.steps_kept(folder, 0) == [kept[2].progress.step, kept[1].progress.step]
    assert _same(load_checkpoint(folder, 0), kept[2])


def _same(one: Any, other: Any) -> bool:
    return one.progress == other.progress and all(torch.equal(v, other.weights[n]) for n, v in one.weights.items())


def test_a_run_that_is_killed_before_it_is_sealed_is_not_finished(runs: Path, copy: Callable[[str], Path]) -> None:
    folder = copy("whole")
    (folder / SEAL).unlink()
    with pytest.raises(fathom.UserError, match="is not finished. Continue it with `fathom resume"):
        fathom.load(folder)
    assert main(["resume", str(folder)]) == 0
    assert differing(_content(runs / "whole"), _content(folder)) == []


# What a run says of data that it knows


def told(command: str, folder: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([command, str(folder), str(data)]) == 0
    return capsys.readouterr().err


def test_a_run_says_when_it_is_used_on_its_own_rows_and_when_they_changed(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(runs / "whole", tmp_path / "run"))
    own = write_csv(tmp_path / "people.csv", people(90), without=("wealth",))
    text = (folder / "recipe.yaml").read_text().replace(str(runs / "people.csv"), str(own))
    (folder / "recipe.yaml").write_text(text)
    unlabelled = write_csv(tmp_path / "same.csv", people(90), without=("wealth", "rich"))
    for command in ("predict", "evaluate"):
        assert "made from these very rows" in told(command, folder, own, capsys)
        assert (
            told(command, folder, write_csv(tmp_path / "new.csv", people(90, seed=1)), capsys).count("made from") == 0
        )
    assert "made from these very rows" in told("predict", folder, unlabelled, capsys)
    write_csv(own, people(80), without=("wealth",))
    for command in ("predict", "evaluate"):
        assert f"{own} has changed since the run was made from it: 80 rows, 90 when" in told(
            command, folder, own, capsys
        )
