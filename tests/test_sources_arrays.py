"""Arrays: IDX and .npz files, NumPy and frames from Python, the built-in samples."""

from __future__ import annotations

import datetime
import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.errors import UserError
from fathom.sources import arrays, frame, idx, npz
from fathom.sources.parts.choose import open_any
from fathom.task import find_target


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_set(folder: Path, part: str, count: int, prefix: str = "") -> None:
    pictures = np.arange(count * 20).reshape(count, 5, 4) % 256
    (folder / f"{prefix}{part}-images-idx3-ubyte").write_bytes(idx_bytes(pictures))
    labels = gzip.compress(idx_bytes(np.arange(count) % 3))
    (folder / f"{prefix}{part}-labels-idx1-ubyte.gz").write_bytes(labels)


def test_idx_set_from_its_folder_or_any_file(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 7)
    write_set(tmp_path, "t10k", 3)
    for path in (tmp_path, tmp_path / "train-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte.gz"):
        table = open_any(path)
        assert table.columns["image"].shape == (10, 5, 4)
        assert table.columns["label"].dtype == np.int64
        assert table.parts is not None
        assert table.parts.tolist() == ["train"] * 7 + ["test"] * 3
        assert table.target == "label"
    assert np.array_equal(table.columns["image"][1].ravel(), np.arange(20, 40))
    assert table.places[7] == f"{tmp_path / 't10k-images-idx3-ubyte'}:1"
    assert len(idx.open(tmp_path / "t10k-images-idx3-ubyte", beside=False)) == 3


def test_idx_errors_name_the_file(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 7)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte.gz"
    whole = images.read_bytes()
    images.write_bytes(whole[:-5])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte is cut off: 135 bytes.*7×5×4 = 140"):
        idx.open(tmp_path)
    images.write_bytes(whole + b"x")
    with pytest.raises(UserError, match="has something at its end"):
        idx.open(tmp_path)
    images.write_bytes(b"\x89PNG" + whole)
    with pytest.raises(UserError, match="is not an IDX file: it begins with 89 50 4e 47"):
        idx.open(tmp_path)
    images.write_bytes(whole)
    labels.write_bytes(gzip.compress(idx_bytes(np.zeros(6))))
    with pytest.raises(UserError, match=r"has 7 pictures and .* has labels of the shape"):
        idx.open(tmp_path)


def test_idx_pictures_without_labels_can_be_opened(tmp_path: Path) -> None:
    write_set(tmp_path, "t10k", 3)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    table = idx.open(tmp_path)
    assert list(table.columns) == ["image"]
    assert table.target is None


def test_two_idx_sets_in_a_folder_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 2, "emnist-digits-")
    write_set(tmp_path, "train", 2, "emnist-letters-")
    with pytest.raises(UserError, match="holds 2 sets of IDX files: emnist-digits, emnist-letters"):
        idx.open(tmp_path)
    assert len(idx.open(tmp_path / "emnist-letters-train-images-idx3-ubyte")) == 2


@pytest.mark.parametrize(
    "keys", [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")]
)
def test_npz_with_official_parts(tmp_path: Path, keys: tuple[str, ...]) -> None:
    x, y = np.zeros((5, 4, 4), np.uint8), np.arange(5).reshape(5, 1)
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (x, y, x[:2], y[:2]))))
    table = npz.open(tmp_path / "a.npz")
    assert table.parts is not None
    assert table.parts.tolist() == ["train"] * 5 + ["test"] * 2
    assert table.columns["image"].shape == (7, 4, 4)
    assert table.columns["label"].tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert table.target == "label"


def test_npz_scales_and_orders_pictures(tmp_path: Path) -> None:
    unit = np.linspace(0, 1, 2 * 3 * 6 * 5).reshape(2, 3, 6, 5)
    np.savez(tmp_path / "a.npz", images=unit, labels=np.eye(2))
    table = npz.open(tmp_path / "a.npz")
    assert table.columns["image"].shape == (2, 6, 5, 3)
    assert (table.columns["image"].min(), table.columns["image"].max()) == (0, 255)
    assert table.columns["label"].tolist() == [0, 1]
    np.savez(tmp_path / "b.npz", x=np.full((2, 4, 4, 1), 200.0), y=[b"cat", b"dog"])
    table = npz.open(tmp_path / "b.npz")
    assert table.columns["image"].shape == (2, 4, 4)
    assert table.columns["image"].max() == 200
    assert table.columns["label"].tolist() == ["cat", "dog"]


def test_npz_errors(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickle.npz", x=np.array([{"a": 1}], object), y=[1])
    with pytest.raises(UserError, match="pickles and are not opened"):
        npz.open(tmp_path / "pickle.npz")
    np.savez(tmp_path / "short.npz", x=np.ones((3, 2)), y=[1])
    with pytest.raises(UserError, match="x has 3 rows and y has 1"):
        npz.open(tmp_path / "short.npz")
    np.savez(tmp_path / "odd.npz", weights=np.ones(3))
    with pytest.raises(UserError, match=r"holds weights\. Expected x and y"):
        npz.open(tmp_path / "odd.npz")
    np.savez(tmp_path / "standard.npz", x=np.full((2, 4, 4), -1.5), y=[0, 1])
    with pytest.raises(UserError, match=r"numbers from -1\.5 to -1\.5.*before they are standardised"):
        npz.open(tmp_path / "standard.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(UserError, match=r"bad\.npz cannot be read as \.npz"):
        npz.open(tmp_path / "bad.npz")


def test_pairs_and_matrices() -> None:
    table = arrays.open((np.arange(6.0).reshape(3, 2), ["a", "b", "a"]))
    assert list(table.columns) == ["x0", "x1", "label"]
    assert table.target == "label"
    assert arrays.open(np.ones((3, 2)), target=1).target == "x1"
    assert arrays.open((["one text", "another"], [0, 1])).columns["text"].tolist() == ["one text", "another"]
    assert arrays.open(np.zeros((2, 4, 4), np.uint8)).columns["image"].shape == (2, 4, 4)
    with pytest.raises(UserError, match="X has 3 rows and y has 2"):
        arrays.open((np.ones((3, 2)), [1, 2]))
    with pytest.raises(UserError, match=r"shape \(0, 2\)"):
        arrays.open(np.ones((0, 2)))


def test_dicts_and_rows() -> None:
    table = arrays.open({"age": [1, None, 3], "photo": np.zeros((3, 2, 2)), "city": ["a", "b", None]}, target="city")
    assert np.isnan(table.columns["age"][1])
    assert table.columns["photo"].dtype == np.uint8
    assert table.columns["city"].tolist() == ["a", "b", None]
    assert arrays.open({"x_train": np.ones((2, 3)), "y_train": [0, 1]}).target == "label"
    one = arrays.open({"age": 39, "city": "Oslo"})
    assert (len(one), one.columns["age"].dtype) == (1, np.int64)
    assert arrays.open([{"a": 1}, {"a": 2, "b": "x"}]).columns["b"].tolist() == [None, "x"]
    with pytest.raises(UserError, match="different lengths: a 2, b 1"):
        arrays.open({"a": [1, 2], "b": [1]})


def test_columns_called_x_or_data_are_columns_where_others_are_not_inputs_or_labels() -> None:
    table = arrays.open({"x": [1, 2, 3], "weight": [4, 5, 6], "label": ["a", "b", "a"]})
    assert list(table.columns) == ["x", "weight", "label"]
    assert arrays.open({1: [1, 2], 2: [3, 4]}).columns["2"].tolist() == [3, 4]


def test_a_number_of_a_column_counts_from_where_the_source_does(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((3, 4)))
    for table in (open_any(np.ones((3, 4))), open_any(tmp_path / "a.npz")):
        assert [find_target(table, number)[0] for number in (0, 3, -1)] == ["x0", "x3", "x3"]
        with pytest.raises(UserError, match="no column number 4, counted from 0"):
            find_target(table, 4)
    (tmp_path / "a.csv").write_text("a,b,c\n" + "1,2,3\n" * 20)
    assert [find_target(open_any(tmp_path / "a.csv"), number)[0] for number in (1, "3")] == ["a", "c"]


def test_pandas_columns_of_arrow_and_sparse_ones_are_opened() -> None:
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    day = datetime.date(2020, 1, 1)
    data = pd.DataFrame(
        {
            "whole": pd.Series([1, 2, 3], dtype=pd.ArrowDtype(pa.int64())),
            "gap": pd.Series([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
            "real": pd.Series([1.5, None, 3], dtype=pd.ArrowDtype(pa.float32())),
            "flag": pd.Series([True, False, None], dtype=pd.ArrowDtype(pa.bool_())),
            "word": pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pa.string())),
            "day": pd.Series([day, None, day], dtype=pd.ArrowDtype(pa.date32())),
            "when": pd.Series([day, None, day], dtype=pd.ArrowDtype(pa.timestamp("us", "Europe/Berlin"))),
            "thin": pd.arrays.SparseArray([0, 0, 2]),
            "part": pd.arrays.SparseArray([np.nan, 0, 1.5]),
        }
    )
    table = frame.open(data)
    kinds = {name: values.dtype.kind for name, values in table.columns.items()}
    assert "".join(kinds.values()) == "iffOOMMif"
    assert table.columns["whole"].tolist() == [1, 2, 3]
    assert table.columns["thin"].tolist() == [0, 0, 2]
    assert np.isnan(table.columns["gap"][1]) and np.isnan(table.columns["part"][0])
    assert table.columns["real"].dtype == np.float32
    assert table.columns["day"][0] == np.datetime64("2020-01-01") and np.isnat(table.columns["day"][1])
    assert "when: moments are taken in UTC" in table.notes


def test_pandas_types_are_kept_right() -> None:
    pd = pytest.importorskip("pandas")
    when = pd.Series(pd.to_datetime(["2020-01-01 12:00", None, "2020-01-02 00:00"])).dt.tz_localize("Europe/Berlin")
    data = pd.DataFrame(
        {
            "kind": pd.Categorical(["a", None, "b"]),
            "level": pd.Categorical([3, 1, 3]),
            "whole": pd.array([1, None, 3], "Int64"),
            "full": pd.array([1, 2, 3], "Int64"),
            "flag": pd.array([True, None, False], "boolean"),
            "yes": [True, False, True],
            "when": when,
            "took": pd.to_timedelta([1, 2, 3], "min"),
            "mixed": [1, "x", None],
            "numbers": np.array([1, 2.5, None], object),
            "days": [datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 3)],
        }
    )
    columns = frame.open(data, target="kind").columns
    assert columns["kind"].tolist() == ["a", None, "b"]
    assert columns["level"].tolist() == ["3", "1", "3"]
    assert columns["whole"].dtype == np.float64
    assert columns["full"].dtype == np.int64
    assert columns["flag"].tolist() == ["True", None, "False"]
    assert columns["yes"].dtype == bool
    assert columns["when"][0] == np.datetime64("2020-01-01T11:00")
    assert np.isnat(columns["when"][1])
    assert columns["took"].tolist() == [60, 120, 180]
    assert columns["mixed"].tolist() == ["1", "x", None]
    assert columns["numbers"].dtype == np.float64
    assert columns["days"].dtype.kind == "M"


def test_polars_and_pyarrow_frames() -> None:
    pl = pytest.importorskip("polars")
    data = pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [datetime.date(2020, 1, 1), None]})
    data = data.with_columns(d=pl.col("b").cast(pl.Categorical), e=pl.col("a").is_null())
    for given in (data, data.to_arrow()):
        columns = open_any(given).columns
        assert np.isnan(columns["a"][1])
        assert columns["b"].tolist() == columns["d"].tolist() == ["x", "y"]
        assert columns["c"].dtype.kind == "M"
        assert columns["e"].dtype == bool
    with pytest.raises(UserError, match="collect"):
        open_any(data.lazy())


def test_a_frame_and_a_series_are_a_pair() -> None:
    pd = pytest.importorskip("pandas")
    table = open_any((pd.DataFrame({"a": [1, 2]}), pd.Series(["x", "y"], name="kind")))
    assert (table.target, table.columns["kind"].tolist()) == ("kind", ["x", "y"])


def test_sources_load_neither_frames_nor_torch() -> None:
    code = (
        "import sys; from fathom.sources.parts.choose import open_any; open_any({'a': [1, 2]});"
        "assert not {'torch', 'pandas', 'polars', 'sklearn', 'pyarrow'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@pytest.mark.parametrize(
    ("name", "rows", "target", "kinds"),
    [("digits", 1797, "label", 10), ("breast-cancer", 569, "diagnosis", 2), ("wine", 178, "cultivar", 3)],
)
def test_samples(name: str, rows: int, target: str, kinds: int) -> None:
    table = open_any(name)
    assert (len(table), table.target, len(set(table.columns[target].tolist()))) == (rows, target, kinds)


def test_digits_are_bytes_and_classes_have_names() -> None:
    assert open_any("digits").columns["image"].max() == 255
    assert set(open_any("breast-cancer").columns["diagnosis"]) == {"malignant", "benign"}
    assert open_any("diabetes").target == "progression"


def test_a_path_of_a_samples_name_wins_and_is_said(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wine").mkdir()
    (tmp_path / "wine" / "a.csv").write_text("a,b\n1,2\n3,4\n")
    table = open_any("wine")
    assert len(table) == 2
    assert "not the built-in sample" in table.notes[0]


@pytest.mark.data
def test_mnist() -> None:
    if "FATHOM_DATA" not in os.environ:
        pytest.skip("FATHOM_DATA does not name the real data sets")
    table = open_any(Path(os.environ["FATHOM_DATA"]) / "mnist")
    assert table.columns["image"].shape == (70_000, 28, 28)
    assert table.parts is not None
    assert int((table.parts == "test").sum()) == 10_000
    assert np.bincount(table.columns["label"][table.parts == "test"])[:3].tolist() == [980, 1135, 1032]
