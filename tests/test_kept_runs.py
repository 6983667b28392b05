"""Run folders of every format that there was open today and give the answers that they gave then.

They were made by make_kept_runs.py, each with the code of its time; a new format brings a folder of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import fathom
from fathom import recipe as recipes
from fathom.cli import main
from fathom.run import FORMAT, RunFolder

from .make_kept_runs import HERE, RUNS, answered, csv, people

KEPT = sorted(path.parent for path in HERE.glob("*/*/answers.json"))


def test_there_are_runs_of_every_format_and_kind_and_they_are_small() -> None:
    for number in range(1, FORMAT + 1):
        places = {path for path in KEPT if path.parent.name == f"format-{number}"}
        assert {path.name for path in places} == set(RUNS), f"make them: python tests/make_kept_runs.py format-{number}"
        for place in places:
            assert json.loads((place / "run" / "format.json").read_text()) == {"format": number}
            assert sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize("place", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_run_of_any_format_answers_as_it_did(place: Path) -> None:
    kept = json.loads((place / "answers.json").read_text())
    found = answered(fathom.load(place / "run"), kept["rows"])
    assert found.keys() == kept["answers"].keys()
    for candidate, columns in kept["answers"].items():
        assert found[candidate].keys() == columns.keys()
        for name, values in columns.items():
            if isinstance(values[0], str):
                assert found[candidate][name] == values, (candidate, name)
            else:
                np.testing.assert_allclose(found[candidate][name], values, rtol=1e-4, atol=1e-6, err_msg=candidate)


@pytest.mark.parametrize("place", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_command_that_reads_a_run_takes_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(place / "run", tmp_path / "run")
    assert main(["report", str(copy)]) == 0
    assert "Where it was made" in (copy / "report.html").read_text()
    assert main(["doctor", str(copy)]) == 0
    assert main(["resume", str(copy)]) == 0
    capsys.readouterr()
    assert main(["runs", "--in", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert json.loads((copy / "metrics.json").read_text())["advised"] in listed and "not readable" not in listed


def test_a_run_of_an_earlier_format_under_way_begins_its_training_anew_in_todays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], patient: None
) -> None:
    folder = Path(shutil.copytree(HERE / "format-1" / "classes" / "run", tmp_path / "run"))
    given = recipes.load(folder / "recipe.yaml")
    given.data = str(csv(tmp_path, people(240), "pay"))
    (folder / "recipe.yaml").write_text(recipes.dump(given))
    (folder / "metrics.json").unlink()
    (folder / "last").mkdir()
    (folder / "last" / "fold-0.json").write_text('{"step": 7, "epoch": 1, "average_steps": 7}')
    (folder / "last" / "fold-0-step-7.safetensors").write_bytes(b"of format 1")
    assert main(["resume", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count("was fitted by an earlier Fathom") == 3 and "Damaged" not in said
    assert "after step" not in said and "epoch   1/" in said
    assert RunFolder.open_finished(folder).format == FORMAT and RunFolder(folder).damaged() == []
    assert all("fold-0-step-" in path.name and "-7" not in path.name for path in (folder / "last").iterdir())
