"""Data too large for the time or the memory: samples, further rows in files, and what these must not change."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import fathom
from fathom import afford, prepare, recipe, sampling, training_memory
from fathom.afford import Stock, choose_sample
from fathom.batches import Batches, Tensors
from fathom.compute import Budget
from fathom.data import Examples, Table
from fathom.duplicates import row_hashes
from fathom.fields import category
from fathom.fields.parts import identifier, values
from fathom.sources import delimited, parquet
from fathom.sources.parts import cuts
from fathom.sources.parts.choose import open_any, stream_any
from fathom.sources.parts.join import rows_of
from fathom.stored import RowFiles, Writer, layout
from fathom.styles import Size

from .conftest import people, write_csv

pytestmark = pytest.mark.usefixtures("patient")
QUICK = {"train__epochs": 2, "train__precision": "fp32", "threads": 1, "explain_rows": 0, "quiet": True, "model": "mlp"}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "BYTES", 1 << 10)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "people.csv", people(3000), without=("wealth",))


@pytest.fixture
def pq_file(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    number = random.normal(size=3000)
    number[random.random(3000) < 0.05] = np.nan
    whole = [None if i < 500 and i % 7 == 0 else int(v) for i, v in enumerate(random.integers(0, 50, 3000))]
    word = random.choice(["ash", "elm", "oak"], size=3000)
    label = np.where(np.nan_to_num(number) + (word == "oak") + random.normal(size=3000) > 0.4, "yes", "no")
    table = pa.table({"number": number, "whole": pa.array(whole, pa.int64()), "word": word, "label": label})
    pq.write_table(table, tmp_path / "trees.parquet", row_group_size=700)
    return tmp_path / "trees.parquet"


def _whole(path: Path) -> tuple[Table, Table]:
    """The table as opened, and as put together from its pieces."""
    stream = stream_any(path)
    assert stream is not None
    assert len(stream.sizes) > 3
    pieces = [table for piece in range(len(stream.sizes)) for table in stream.read(piece)]
    return open_any(path), stream.finish(rows_of(pieces))


def _assert_equal(one: Table, other: Table) -> None:
    assert list(one.columns) == list(other.columns)
    for name, found in one.columns.items():
        assert (found.dtype, found.tolist() == other.columns[name].tolist()) == (other.columns[name].dtype, True), name
    assert [one.places[row] for row in range(len(one))] == [other.places[row] for row in range(len(other))]
    assert (one.left_out, one.options, one.summary, one.target) == (
        other.left_out,
        other.options,
        other.summary,
        other.target,
    )


@pytest.mark.usefixtures("small_pieces")
def test_pieces_of_a_csv_make_the_table_that_opening_makes(csv: Path) -> None:
    lines = csv.read_text().replace("cook", "café").splitlines()
    lines[1500] = lines[1500] + ",one cell more"
    csv.write_bytes("\n".join(lines).encode() + b"\n31,20,c\xffok,yes\n")
    one, other = _whole(csv)
    assert len(one.left_out) == 2
    _assert_equal(one, other)


@pytest.mark.usefixtures("small_pieces")
def test_a_csv_whose_cells_reach_over_lines_is_not_cut(csv: Path) -> None:
    text = csv.read_text()
    csv.write_text(text.replace("cook", '"a\ncook"', 1))
    assert stream_any(csv) is None


def test_pieces_of_parquet_make_the_table_that_opening_makes(pq_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_AT_A_TIME", 300)
    one, other = _whole(pq_file)
    assert one.columns["label"].dtype == object
    assert np.array_equal(one.columns["number"], other.columns["number"], equal_nan=True)
    assert np.array_equal(one.columns["whole"], other.columns["whole"], equal_nan=True)
    assert (one.columns["word"] == other.columns["word"]).all()
    assert (one.places.line == other.places.line).all()
    assert (one.summary, one.target) == (other.summary, other.target)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("pieces", [None, 7])
def test_a_sample_is_the_same_again_and_the_further_rows_are_all_others(csv: Path, pieces: int | None) -> None:
    wanted = recipe.from_mapping({"sample": {"rows": 400, "pieces": pieces}, "seed": 3})
    stream = stream_any(csv)
    assert stream is not None
    sample, again = sampling.sample_of(stream, wanted), sampling.sample_of(stream, wanted)
    further = list(sampling.further_rows(stream, wanted, sample))
    lines = np.concatenate([table.places.line for table in further])
    assert abs(len(sample) - 400) <= 60
    assert (sample.places.line == again.places.line).all()
    assert sorted([*sample.places.line, *lines]) == list(range(2, 3002))
    assert sample.places.line.max() > 2500 > 500 > sample.places.line.min(), "from everywhere in the file"


def _examples() -> Examples:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (300, 9, 7, 3), np.uint8)
    inputs = {"numbers": random.normal(size=(300, 4)).astype(np.float32), "picture": pixels}
    return Examples(inputs, {"numbers": {"form": "numbers"}, "picture": {"form": "pixels"}}, {}, 300)  # type: ignore[arg-type]


def _files(examples: Examples, folder: Path) -> RowFiles:
    writer = Writer(folder)
    for rows in np.array_split(np.arange(len(examples)), 7):
        some = examples.take(rows).inputs
        writer.append({name: layout(values, examples.about[name]["form"]) for name, values in some.items()})  # type: ignore[arg-type]
    return writer.written()


def test_batches_from_files_are_those_from_memory(tmp_path: Path) -> None:
    examples, cpu, targets = _examples(), torch.device("cpu"), torch.arange(300)
    rows = np.arange(20, 290)
    held = Batches(Tensors(examples, cpu), targets, rows, 32, seed=5)
    filed = Tensors(examples, cpu, files=_files(examples, tmp_path))
    read = Batches(filed, lambda rows: torch.from_numpy(rows), rows.astype(np.int32), 32, seed=5)
    for one, other in zip(held.epoch(1), read.epoch(1), strict=True):
        assert isinstance(one.inputs, dict) and isinstance(other.inputs, dict)
        assert torch.equal(one.targets, other.targets)  # type: ignore[arg-type]
        for name in one.inputs:
            assert torch.equal(one.inputs[name], other.inputs[name]), name


@pytest.fixture
def sampled(csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fathom.Run:
    monkeypatch.setattr(cuts, "BYTES", 1 << 10)
    return fathom.fit(csv, target="rich", sample__rows=900, baselines={"linear": {}}, out=tmp_path / "run", **QUICK)


def test_a_run_on_a_sample_trains_on_further_rows_and_repeats(sampled: fathom.Run, tmp_path: Path) -> None:
    rows = sampled.metrics["rows"]
    used = rows["train"] + rows["validate"] + rows["test"]
    assert 600 < used < 1000
    assert rows["further"] > 1900
    assert "sample" in (sampled.path / "log.txt").read_text()
    assert not (sampled.path / "cache").exists()
    again = fathom.fit(recipe=sampled.path / "recipe.yaml", out=tmp_path / "again", quiet=True)
    assert again.metrics["rows"] == rows
    for name in ("model.safetensors", "predictions.parquet", "split.parquet"):
        assert (sampled.path / name).read_bytes() == (again.path / name).read_bytes(), name


def test_no_further_row_is_a_copy_of_one_that_judges(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People have few ages, hours and jobs: many rows are there twice."""
    from fathom import further

    monkeypatch.setattr(cuts, "BYTES", 1 << 10)
    seen: list[np.ndarray] = []
    judging: list[np.ndarray] = []
    usable, begin = further._Sieve.usable, further._Sieve.__init__

    def noted(self: Any, table: Table) -> tuple[Table, np.ndarray]:
        kept, targets = usable(self, table)
        seen.append(row_hashes({name: kept.columns[name] for name in self.columns}))
        return kept, targets

    def begun(self: Any, contest: Any, prepared: Any) -> None:
        begin(self, contest, prepared)
        rows = np.union1d(contest.divided.judged, contest.divided.test)
        judging.append(row_hashes({name: prepared.table.columns[name][rows] for name in prepared.kinds}))

    monkeypatch.setattr(further._Sieve, "usable", noted)
    monkeypatch.setattr(further._Sieve, "__init__", begun)
    options: dict[str, Any] = QUICK | {"train__epochs": 1, "baselines": {"constant": {}}, "drop": ["hours"]}
    run = fathom.fit(csv, target="rich", sample__rows=900, out=tmp_path / "run", **options)
    assert len(np.concatenate(seen)) == run.metrics["rows"].get("further", 0)
    assert not np.isin(np.concatenate(seen), judging[0]).any()
    assert "a copy of a row that judges" in (run.path / "log.txt").read_text()


def test_groups_and_the_future_stay_where_they_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "BYTES", 1 << 10)
    rows = [row | {"day": str(number), "town": f"t{number % 60}"} for number, row in enumerate(people(3000))]
    data = write_csv(tmp_path / "days.csv", rows, without=("wealth",))
    options: dict[str, Any] = QUICK | {"train__epochs": 1, "baselines": {"constant": {}}, "sample__rows": 900}
    by_group = fathom.fit(data, target="rich", group="town", out=tmp_path / "group", **options)
    by_time = fathom.fit(data, target="rich", time="day", out=tmp_path / "time", **options)
    assert "of a 'town' that judges" in (by_group.path / "log.txt").read_text()
    assert "not before the rows that judge" in (by_time.path / "log.txt").read_text()
    assert by_time.metrics["rows"]["further"] < 0.8 * 2100


def test_data_that_fits_is_taken_whole(csv: Path) -> None:
    wanted = recipe.from_mapping({"target": "rich"})
    stock = afford.survey(wanted, csv)
    choose_sample(stock, wanted, Budget(3600))
    assert wanted.sample.rows is None
    _assert_equal(stock.read(wanted), open_any(csv))


@pytest.mark.parametrize(
    ("pilot", "budget", "rows"),
    [
        (afford.Pilot(seconds=1e-6, seconds_a_piece=0, bytes=100), 1000.0, None),
        (afford.Pilot(seconds=1e-2, seconds_a_piece=0, bytes=100), 1000.0, 25_000),
        (afford.Pilot(seconds=1e-6, seconds_a_piece=0, bytes=50_000), 1000.0, 5_000),
    ],
    ids=["all", "time", "memory"],
)
def test_rows_are_as_many_as_time_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, pilot: afford.Pilot, budget: float, rows: int | None
) -> None:
    table = open_any({"x": np.arange(100_000.0), "y": np.arange(100_000) % 2})
    stock = Stock(None, table, sampling.pieces_of(table))
    monkeypatch.setattr(afford, "FEW_VALUES", 0)
    monkeypatch.setattr(afford, "_pilot", lambda *_: pilot)
    monkeypatch.setattr(afford, "resident_bytes", lambda: 500e6)
    monkeypatch.setattr(Budget, "slowness", 1.0)
    wanted = recipe.from_mapping({"memory": 1e9})
    choose_sample(stock, wanted, Budget(budget))
    found = wanted.sample.rows
    assert found == rows or (found is not None and rows is not None and abs(found - rows) < 0.02 * rows)


def test_of_a_long_text_the_beginning_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(afford, "PIECES_A_SECOND", 1)
    monkeypatch.setattr(afford, "LEAST_PIECES", 30)
    book = tmp_path / "book.txt"
    book.write_text(
        "\n\n".join(f"Chapter {n}. It was a dark night, and {n} owls flew over it." * 12 for n in range(80))
    )
    wanted = recipe.from_mapping({"data": str(book), "budget": 30.0, "task": "language"})
    stock = afford.survey(wanted, str(book))
    assert len(stock.table or ()) > 40
    choose_sample(stock, wanted, Budget(30))
    table = stock.read(wanted)
    assert len(table) == 30
    assert table.places.line[0] == 1
    assert prepare.read(wanted, str(book)).columns["text"].tolist() == table.columns["text"].tolist()


@pytest.mark.parametrize(
    ("memory", "batch", "accumulate", "at_once"), [(1e12, 256, 2, None), (60e6, 32, 16, None), (14e6, 8, 64, 256)]
)
def test_batches_are_cut_into_parts_that_fit(
    monkeypatch: pytest.MonkeyPatch, memory: float, batch: int, accumulate: int, at_once: int | None
) -> None:
    monkeypatch.setattr(training_memory, "resident_bytes", lambda: 0.0)
    monkeypatch.setattr(training_memory, "need_of", lambda *_: training_memory.Need(0.0, 1e6, 2e4))
    wanted = recipe.from_mapping({"memory": memory, "train": {"batch_size": 256, "accumulate": 2}})
    contest: Any = SimpleNamespace(recipe=wanted, task=SimpleNamespace(kind="classify"))
    assert training_memory.keep_within(contest, Size({}, 1, 1, ""))
    train = wanted.train
    assert (train.batch_size, train.accumulate, train.predict_rows) == (batch, accumulate, at_once)
    wanted.memory = 1e6
    assert not training_memory.keep_within(contest, Size({}, 1, 1, ""))


def test_what_a_forward_pass_leaves_is_counted(tmp_path: Path, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A net twice as wide leaves twice as much for the way back, and has four times the weights."""
    found: list[training_memory.Need] = []

    def look(contest: Any, smallest: Size) -> None:
        for width in (256, 512):
            size = Size({"width": width, "members": 2, "bins": 8}, 1, 1, "")
            found.append(training_memory.need_of(contest, size))

    monkeypatch.setattr("fathom.plan.refuse_too_little", look)
    options = QUICK | {"train__epochs": 1, "baselines": {"constant": {}}, "memory": "100GB"}
    fathom.fit(csv, target="rich", out=tmp_path / "run", **options)  # type: ignore[arg-type]
    one, two = found[:2]
    assert 1.7 < two.a_row / one.a_row < 2.3
    assert 2.5 < (two.fixed - training_memory.JUDGING) / (one.fixed - training_memory.JUDGING) < 4.5


def test_too_little_memory_is_refused_with_what_would_do(csv: Path, tmp_path: Path) -> None:
    with pytest.raises(fathom.UserError, match=r"--memory allows 1 MB; .* need .* Say --memory \d"):
        fathom.fit(csv, target="rich", memory="1MB", out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["2 goats", "GB", "-1GB", "0", "inf"])
def test_memory_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(fathom.UserError, match="memory"):
        fathom.fit("digits", memory=text)


def test_a_forecast_stands_beside_what_it_took(sampled: fathom.Run) -> None:
    found = json.loads((sampled.path / "forecast.json").read_text())
    assert set(found["forecast"]) == set(found["measured"])
    assert found["forecast"]["epochs"] == found["measured"]["epochs"] == 2
    assert found["measured"]["memory"] > 1e8
    log = (sampled.path / "log.txt").read_text()
    assert log.index("Forecast") < log.index("epoch   1/2") < log.index("Took")


def test_numbers_with_fractions_are_guessed_as_by_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    columns = [
        random.normal(size=300),
        random.integers(0, 9, 300) / 2,
        np.full(300, 0.5),
        np.array([1.5, np.nan] * 150),
    ]
    quick = [(category.sniff("id", v), identifier.carries_nothing("id", v)) for v in columns]
    for module in (category, identifier):
        monkeypatch.setattr(module, "has_fractions", lambda values: False)
    assert values.has_fractions(columns[0])
    assert quick == [(category.sniff("id", v), identifier.carries_nothing("id", v)) for v in columns]
    assert quick[2][1] is not None, "one value only"


def test_sources_in_pieces_take_the_options_of_opening() -> None:
    from fathom.rooms import options

    for source in (delimited, parquet):
        assert options(source.stream) == options(source.open)
