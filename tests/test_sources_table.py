"""Tables on disk: what is found out of a text file, what is refused, and official parts beside."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.data import File, Table
from fathom.errors import UserError
from fathom.sources import delimited, jsonl, parquet
from fathom.sources.parts.choose import open_any
from fathom.sources.parts.join import join

PEOPLE = "name,age\n" + "".join(f"person {i},{20 + i}\n" for i in range(30))


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def real(name: str) -> Path:
    if "FATHOM_DATA" not in os.environ:
        pytest.skip("FATHOM_DATA does not name the real data sets")
    return Path(os.environ["FATHOM_DATA"]) / name


# What is found out


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    table = delimited.open(write(tmp_path / "a.csv", PEOPLE.replace(",", delimiter)))
    assert list(table.columns) == ["name", "age"]
    assert table.columns["age"][3] == "23"


def test_semicolons_within_a_cell_are_no_delimiter(tmp_path: Path) -> None:
    lines = "".join(f"{i},drama;comedy,{i * 2}\n" for i in range(20))
    assert list(delimited.open(write(tmp_path / "a.csv", "id,genres,n\n" + lines)).columns) == ["id", "genres", "n"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encoding_is_found(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.csv", PEOPLE.replace("person", "crème"), encoding)
    table = delimited.open(path)
    assert list(table.columns) == ["name", "age"]
    assert table.columns["name"][0] == "crème 0"


def test_one_old_byte_in_the_last_line_is_not_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(PEOPLE.encode() * 3 + b"caf\xe9,3\n")
    table = delimited.open(path)
    assert table.columns["name"][-1] == "café"
    assert any("cp1252" in n for n in table.notes)


def test_a_damaged_byte_in_utf8_leaves_its_row_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(PEOPLE.replace("person", "crème").encode() + b"x\xff,3\n")
    table = delimited.open(path)
    assert [left.where for left in table.left_out] == [f"{path}:32"]
    assert table.columns["name"][0] == "crème 0"


def test_line_of_a_row_counts_newlines_within_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'name,age\n"two\nlines",1\nx,2\nbroken\n"a ""b"" c",3\n' + "y,4\n" * 10)
    table = delimited.open(path)
    assert table.columns["name"][:3].tolist() == ["two\nlines", "x", 'a "b" c']
    assert [table.places[i] for i in range(3)] == [f"{path}:2", f"{path}:4", f"{path}:6"]
    assert table.left_out[0] == (f"{path}:5", "1 value where 2 were expected")


def test_a_quote_never_closed_costs_one_row(tmp_path: Path) -> None:
    lines = [f'"person, {i}",{i}\n' for i in range(300)]
    lines[100] = '"person 100,100\n'
    table = delimited.open(write(tmp_path / "a.csv", "name,age\n" + "".join(lines)))
    assert len(table) == 299
    assert [left.where.rsplit(":")[-1] for left in table.left_out] == ["102"]


def test_quotes_in_tab_separated_sentences_do_not_swallow_lines(tmp_path: Path) -> None:
    lines = [f"a sentence number {i}\t{i % 2}\n" for i in range(40)]
    lines[10], lines[20] = '" he said\t0\n', 'well " so\t1\n'
    lines[11] = 'why" not\t1\n'
    table = delimited.open(write(tmp_path / "a.tsv", "".join(lines)))
    assert len(table) == 40
    assert table.columns["column_1"][10] == '" he said'


def test_blanks_after_the_delimiter_are_stripped_and_empty_cells_are_none(tmp_path: Path) -> None:
    table = delimited.open(write(tmp_path / "a.csv", 'a, b, c\n1, "x, y", \n2,  z ,5\n'))
    assert table.columns["b"].tolist() == ["x, y", "z"]
    assert table.columns["c"].tolist() == [None, "5"]


def test_a_row_with_a_nul_byte_is_left_out(tmp_path: Path) -> None:
    table = delimited.open(write(tmp_path / "a.csv", PEOPLE + "x\0y,3\n"))
    assert len(table) == 30
    assert table.left_out[0].why == "it holds a NUL byte"


def test_empty_and_repeated_names_are_made_unique_and_said(tmp_path: Path) -> None:
    table = delimited.open(write(tmp_path / "a.csv", "id,,id,id_2\n" + "x,1,2,3\n" * 5))
    assert list(table.columns) == ["id", "column_2", "id_3", "id_2"]
    assert any("repeats the name 'id'" in n for n in table.notes)


def test_a_header_one_shorter_than_its_rows_is_that_of_row_names(tmp_path: Path) -> None:
    table = delimited.open(write(tmp_path / "a.csv", "size,price\n" + "".join(f"r{i},{i},{i}\n" for i in range(9))))
    assert list(table.columns) == ["row_name", "size", "price"]
    assert len(table) == 9


def test_excel_separator_line_is_obeyed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sep=;\nname;age\n" + "a;1\n" * 3)
    table = delimited.open(path)
    assert list(table.columns) == ["name", "age"]
    assert table.places[0] == f"{path}:3"


def test_columns_between_blanks(tmp_path: Path) -> None:
    table = delimited.open(write(tmp_path / "a.data", " 1.5   2  3\n10.5  22  4\n 2.5   1  9\n"))
    assert [v.tolist() for v in table.columns.values()] == [["1.5", "10.5", "2.5"], ["2", "22", "1"], ["3", "4", "9"]]


@pytest.mark.parametrize("delimiter", ["tab", ";", "\\t"])
def test_a_given_delimiter_is_obeyed(tmp_path: Path, delimiter: str) -> None:
    text = PEOPLE.replace(",", ";" if delimiter == ";" else "\t")
    assert len(delimited.open(write(tmp_path / "a.csv", text), delimiter=delimiter).columns) == 2


@pytest.mark.parametrize(
    ("text", "is_headed"),
    [
        ("age,job\n39,clerk\n50,boss\n", True),
        ("39,clerk\n50,boss\n28,clerk\n", False),
        ("1,2\n3,4\n", False),
        ("label,0,1,2\n5,0,0,9\n3,0,1,2\n", True),
        ("country,1990,1991,1992\nPeru,5,6,7\nChad,3,4,5\n", True),
        ("A11,x\nA12,y\nA11,x\n", False),
        ("text,label\n" + "a film that is good to see,pos\nnot a film that i like,neg\n" * 9, True),
        ("a film that is good to see,pos\nnot a film that i like,neg\n" * 9, False),
        ("name,city\nAnn,Oslo\nBob,Rome\n", True),
        ("date,value\n2011-01-01,x\n2011-01-02,y\n", True),
        ("2011-01-01,x\n2011-01-02,y\n", False),
    ],
)
def test_header_is_found(tmp_path: Path, text: str, is_headed: bool) -> None:
    table = delimited.open(write(tmp_path / "a.csv", text))
    assert ("column_1" not in table.columns) == is_headed


def test_header_can_be_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,2\n3,4\n")
    assert list(delimited.open(path, header=True).columns) == ["1", "2"]
    assert len(delimited.open(write(tmp_path / "b.csv", "age,city\n"), header=False)) == 1


def test_what_was_found_out_opens_a_single_row_the_same_way(tmp_path: Path) -> None:
    table = delimited.open(write(tmp_path / "a.csv", "clerk;1,5\nboss;2,5\nclerk;3,5\n"))
    assert table.options == {"header": False, "delimiter": ";", "numbers": {"column_2": "decimal comma"}}
    row = delimited.open(write(tmp_path / "b.csv", "boss;4,5\n"), **table.options)
    assert [v.tolist() for v in row.columns.values()] == [["boss"], ["4.5"]]


def test_target_by_name_or_by_number_from_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", PEOPLE)
    assert delimited.open(path, target="age").target == "age"
    assert delimited.open(path, target=2).target == "age"
    assert delimited.open(path, target="2").target == "age"
    assert delimited.open(path, target=-1).target == "age"
    with pytest.raises(UserError, match="Did you mean 'age'"):
        delimited.open(path, target="agge")
    with pytest.raises(UserError, match="no column number 3"):
        delimited.open(path, target=3)


# Numbers in other spellings


def decimals(tmp_path: Path, delimiter: str, *values: str) -> list[str]:
    text = f"n{delimiter}x\n" + "".join(f'"{v}"{delimiter}w\n' for v in values)
    return delimited.open(write(tmp_path / "a.csv", text), delimiter=delimiter).columns["n"].tolist()


def test_decimal_comma_becomes_a_point(tmp_path: Path) -> None:
    assert decimals(tmp_path, ";", "1,5", "-2", "NA", "1.234,75", ",5") == ["1.5", "-2", "NA", "1234.75", ".5"]


def test_thousands_commas_go(tmp_path: Path) -> None:
    assert decimals(tmp_path, ",", "1,500", "2", "12,345,678.5") == ["1500", "2", "12345678.5"]


def test_a_comma_between_commas_is_never_decimal(tmp_path: Path) -> None:
    assert decimals(tmp_path, ",", "1,500", "2,250") == ["1500", "2250"]
    assert decimals(tmp_path, ",", "1,5", "2,2") == ["1,5", "2,2"]


def test_thousands_points_go_only_where_they_cannot_be_decimal(tmp_path: Path) -> None:
    assert decimals(tmp_path, ";", "1.234.567", "1.500") == ["1234567", "1500"]
    assert decimals(tmp_path, ";", "1.234", "1.500") == ["1.234", "1.500"]


def test_a_point_before_three_digits_is_no_decimal_point_beside_decimal_commas(tmp_path: Path) -> None:
    assert decimals(tmp_path, ";", "1,5", "1.234", "12.345.678") == ["1.5", "1234", "12345678"]


@pytest.mark.parametrize(
    ("delimiter", "first", "later", "expected"),
    [
        (";", ["3,141", "2,5", "10,75"], ["3,141", "abc", "1.234"], ["3.141", "abc", "1234"]),
        (";", ["3,141", "2,5", "abc"], ["3,141", "2,5"], ["3,141", "2,5"]),
        (";", ["950", "1.234", "1.234.567"], ["1.234", "7"], ["1234", "7"]),
        (";", ["1.234", "1.5"], ["1.234.567", "1.500"], ["1.234.567", "1.500"]),
        (",", ["1,500", "2"], ["1,234", "x", "1234"], ["1234", "x", "1234"]),
        (";", ["3", "4"], ["3,5", "4"], ["3.5", "4"]),  # nothing told how these are written
    ],
)
def test_further_data_is_read_as_the_first_was(
    tmp_path: Path, delimiter: str, first: list[str], later: list[str], expected: list[str]
) -> None:
    def written(name: str, values: list[str]) -> Path:
        lines = "".join(f'"{v}"{delimiter}w\n' for v in values)
        return write(tmp_path / name, f"n{delimiter}x\n" + lines)

    table = delimited.open(written("a.csv", first), delimiter=delimiter)
    again = delimited.open(written("b.csv", later), **table.options)
    assert again.columns["n"].tolist() == expected
    assert join(table, again).columns["n"].tolist()[len(first) :] == expected


def test_numbers_that_look_otherwise_than_they_are_read_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "n;x\n" + "1,5;w\n" * 5)
    assert delimited.open(path, numbers={"n": "as written"}).columns["n"][0] == "1,5"
    notes = delimited.open(path, numbers={"n": "as written"}).notes
    assert "what looks like decimal comma is read as in the training data in n" in notes
    with pytest.raises(UserError, match="Did you mean 'decimal comma'"):
        delimited.open(path, numbers={"n": "decimal commas"})


@pytest.mark.parametrize("odd", ["1,5,2", "a1,5", "1,5 kg"])
def test_one_odd_value_leaves_the_column_as_it_is(tmp_path: Path, odd: str) -> None:
    assert decimals(tmp_path, ";", *["1,5"] * 300, odd)[0] == "1,5"


def test_unquoted_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    table = delimited.open(write(tmp_path / "a.csv", "a;b;c\n" + "1,5;2,5;3,5\n" * 5))
    assert [v[0] for v in table.columns.values()] == ["1.5", "2.5", "3.5"]
    assert "decimal comma in a, b, c" in table.notes


# What is refused


def refuse(path: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        open_any(path)
    assert str(path) in str(caught.value)


def test_wrong_files_are_refused_by_name_and_remedy(tmp_path: Path) -> None:
    refuse(write(tmp_path / "empty.csv", ""), "is empty")
    refuse(write(tmp_path / "blank.csv", " \n\n"), "is empty")
    refuse(write(tmp_path / "header.csv", "age,city\n"), "no rows below it")
    picture = tmp_path / "picture.csv"
    Image.new("RGB", (9, 9)).save(picture, format="png")
    refuse(picture, "looks like a PNG picture")
    noise = tmp_path / "noise.csv"
    noise.write_bytes(np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes())
    refuse(noise, "is not a text file")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(PEOPLE.encode() * 99)[:-40])
    refuse(cut, "damaged gzip")
    ragged = write(tmp_path / "ragged.csv", "a,b,c\n" + "".join(",".join("x" * (i % 9 + 1)) + "\n" for i in range(90)))
    refuse(ragged, "rows do not fit")


def test_missing_paths_name_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "titanic.csv", PEOPLE)
    with pytest.raises(UserError, match=r"There is no .*titanc\.csv.*Did you mean .*titanic\.csv"):
        open_any(tmp_path / "titanc.csv")
    with pytest.raises(UserError, match="Did you mean digits"):
        open_any("digit")


def test_unknown_kinds_say_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.xlsx\. Save the sheet as CSV"):
        open_any(write(tmp_path / "a.xlsx", "x"))
    with pytest.raises(UserError, match=r"nothing is recognised: .*1 \.xlsx file"):
        open_any(tmp_path)
    with pytest.raises(UserError, match="type int cannot be opened"):
        open_any(3)


def test_an_encoding_that_does_not_fit_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(PEOPLE.encode() + b"caf\xe9,3\n")
    with pytest.raises(UserError, match=r"a\.csv:32 is not utf-8"):
        delimited.open(path, encoding="utf-8")
    with pytest.raises(UserError, match="no encoding 'utf-88'"):
        delimited.open(path, encoding="utf-88")


def test_gz_names_are_not_believed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress(PEOPLE.encode()))
    write(tmp_path / "b.csv.gz", PEOPLE)
    assert len(delimited.open(tmp_path / "a.csv")) == len(delimited.open(tmp_path / "b.csv.gz")) == 30


# Official parts beside


def test_official_files_beside_are_used_and_said(tmp_path: Path) -> None:
    write(tmp_path / "x-train.csv", PEOPLE)
    write(tmp_path / "x-test.csv.gz", "age,name\n1,a\n2,b\n")
    write(tmp_path / "x-dev.csv", "name,age\nc,3\n")
    write(tmp_path / "y-test.csv", "name,age\nc,3\n")
    table = delimited.open(tmp_path / "x-train.csv")
    assert table.parts is not None
    assert [int((table.parts == p).sum()) for p in ("train", "validate", "test")] == [30, 1, 2]
    assert table.columns["age"][-2:].tolist() == ["1", "2"]
    assert any("x-test.csv.gz (test, 2 rows)" in n for n in table.notes)
    assert table.name == "x"
    assert delimited.open(tmp_path / "x-train.csv", beside=False).parts is None
    assert open_any(tmp_path / "x-train.csv", alone=True).parts is None


def test_a_test_file_without_the_target_is_not_used_and_said(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    write(tmp_path / "people" / "train.csv", PEOPLE)
    write(tmp_path / "people" / "test.csv", "name\na\nb\n")
    table = delimited.open(tmp_path / "people")
    assert table.parts is None
    assert any("test.csv lies beside but is not used: it has no column 'age'" in n for n in table.notes)
    assert table.name == "people"


def test_a_broken_test_file_is_not_used_and_said(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", PEOPLE)
    write(tmp_path / "test.csv", "")
    assert any("not used" in n and "is empty" in n for n in delimited.open(tmp_path / "train.csv").notes)


def test_the_dialect_of_a_headerless_train_file_holds_for_its_test_file(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "39,clerk\n50,boss\n28,clerk\n")
    write(tmp_path / "test.csv", "clerk,boss\n1,clerk\n")  # alone its first row would be taken for a header
    assert len(delimited.open(tmp_path / "train.csv")) == 5


def test_a_folder_of_unrelated_tables_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", PEOPLE)
    write(tmp_path / "b.csv", PEOPLE)
    with pytest.raises(UserError, match=r"2 tables and none is called train: a\.csv, b\.csv"):
        open_any(tmp_path)


def test_join_takes_columns_by_name_and_marks_the_test_rows(tmp_path: Path) -> None:
    main = delimited.open(write(tmp_path / "a.csv", PEOPLE))
    test = delimited.open(write(tmp_path / "b.csv", "extra,age,name\nz,1,q\n"))
    joined = join(main, test)
    assert joined.parts is not None
    assert joined.parts[-1] == "test"
    assert joined.columns["name"][-1] == "q"
    assert joined.places[30] == f"{tmp_path / 'b.csv'}:2"
    assert "extra" not in joined.columns
    with pytest.raises(UserError, match="has no column 'age'"):
        join(main, delimited.open(write(tmp_path / "c.csv", "name,years\nq,1\n")))
    with pytest.raises(UserError, match="only the main one has a header"):
        join(main, delimited.open(write(tmp_path / "d.csv", "1,2\n3,4\n")))


def test_join_replaces_the_official_test_rows(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", PEOPLE)
    write(tmp_path / "test.csv", "name,age\na,1\n")
    joined = join(delimited.open(tmp_path), delimited.open(write(tmp_path / "own.csv", "name,age\nb,2\nc,3\n")))
    assert joined.parts is not None
    assert joined.columns["name"][joined.parts == "test"].tolist() == ["b", "c"]


# Files that a table names


def test_columns_of_picture_names_are_opened_and_missing_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for i in range(19):
        Image.new("L", (3, 3)).save(tmp_path / "img" / f"{i}.png")
    lines = "".join(f"img/{i}.png,{i % 2}\n" for i in range(20))
    path = write(tmp_path / "labels.csv", "photo,label\n" + lines)
    table = open_any(tmp_path)  # the folder: its one table, not its one folder of pictures
    assert isinstance(table.columns["photo"][0], File)
    assert table.columns["photo"][0].read().startswith(b"\x89PNG")
    assert table.left_out == ((f"{path}:21", "photo: img/19.png does not exist"),)


def test_columns_of_text_file_names_are_read(tmp_path: Path) -> None:
    write(tmp_path / "1.txt", "crème", "cp1252")
    write(tmp_path / "2.txt", "two")
    table = delimited.open(write(tmp_path / "t.csv", "doc,label\n1.txt,4\n2.txt,5\n"))
    assert table.columns["doc"].tolist() == ["crème", "two"]


def test_names_of_absent_files_stay_words(tmp_path: Path) -> None:
    table = delimited.open(write(tmp_path / "t.csv", "doc,label\n1.png,4\n2.png,5\n"))
    assert table.columns["doc"].tolist() == ["1.png", "2.png"]


# JSON lines and Parquet


def test_json_lines_keep_types_and_leave_out_broken_lines(tmp_path: Path) -> None:
    text = '{"a": 1, "b": {"c": "x"}, "d": true}\n\n{"a": 2.5, "d": false, "e": [1, 2]}\nnot json\n[1]\n'
    text += '{"a": null, "d": true}\n'
    path = write(tmp_path / "t.jsonl", text)
    table = jsonl.open(path, target="d")
    assert table.columns["a"].dtype == np.float64
    assert table.columns["b.c"].tolist() == ["x", None, None]
    assert table.columns["d"].dtype == bool
    assert table.columns["e"].tolist() == [None, "[1, 2]", None]
    assert [left.where for left in table.left_out] == [f"{path}:4", f"{path}:5"]
    assert table.places[2] == f"{path}:6"


def test_json_strings_may_hold_unicode_line_separators(tmp_path: Path) -> None:
    assert len(jsonl.open(write(tmp_path / "t.jsonl", '{"a": "x\u2028y"}\n{"a": "z"}\n'))) == 2


def test_a_json_array_is_refused_with_the_form_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one JSON object a line"):
        jsonl.open(write(tmp_path / "t.jsonl", '[{"a": 1},\n {"a": 2}]\n'))


def test_parquet_keeps_types_with_gaps(tmp_path: Path) -> None:
    import datetime
    import decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    day = datetime.datetime(2020, 1, 2, 3)
    table = pa.table(
        {
            "whole": [1, 2, 3],
            "gaps": pa.array([1, None, 3]),
            "word": ["a", None, " "],
            "kind": pa.array(["u", "v", "u"]).dictionary_encode(),
            "flag": [True, False, True],
            "flag_gaps": [True, None, False],
            "when": [day, None, day],
            "price": pa.array([decimal.Decimal("1.50"), decimal.Decimal("2"), decimal.Decimal("3")]),
            "lists": [[1], [2], [3]],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    read = parquet.open(tmp_path / "t.parquet").columns
    assert read["whole"].dtype == np.int64
    assert np.isnan(read["gaps"][1])
    assert read["word"].tolist() == ["a", None, None]
    assert read["kind"].tolist() == ["u", "v", "u"]
    assert read["flag"].dtype == bool
    assert read["flag_gaps"].tolist() == ["true", None, "false"]
    assert read["when"].dtype == np.dtype("datetime64[us]")
    assert np.isnat(read["when"][1])
    assert read["price"].tolist() == [1.5, 2, 3]
    assert read["price"].dtype == np.float64
    assert "lists" not in read
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match=r"bad\.parquet cannot be read as Parquet"):
        parquet.open(tmp_path / "bad.parquet")


# Speed and real data


def test_fifty_thousand_rows_are_read_in_seconds(tmp_path: Path) -> None:
    row = ", ".join(["39", "State-gov", "77516"] * 5)
    path = write(tmp_path / "a.csv", (row + "\n") * 50_000)
    start = time.process_time()
    assert len(delimited.open(path)) == 50_000
    assert time.process_time() - start < 5


REAL = [
    ("adult", 48_842, 15, False, 48_842 - 32_561),
    ("bank_marketing", 45_211, 17, False, 0),
    ("bike_sharing", 17_379, 16, True, 0),
    ("california_housing", 20_640, 10, True, 0),
    ("credit_g/german.csv", 1_000, 21, False, 0),
    ("credit_g/credit_readable.csv.gz", 1_000, 21, True, 0),
    ("diamonds", 53_940, 10, True, 0),
    ("titanic", 891, 12, True, 0),
    ("wine_quality/winequality-red.csv", 1_599, 12, False, 0),
    ("wine_quality/winequality-white.csv", 4_898, 12, False, 0),
    ("ag_news", 7_600, 3, False, 0),
    ("sst2/train.tsv.gz", 9_613, 2, False, 1_821),
    ("sst5", 11_855, 2, False, 2_210),
    ("trec", 5_452, 2, False, 0),
    ("timeseries_small/airline-passengers.csv", 144, 2, True, 0),
]


@pytest.mark.data
@pytest.mark.parametrize(("name", "rows", "columns", "is_headed", "tests"), REAL)
def test_real_tables(name: str, rows: int, columns: int, is_headed: bool, tests: int) -> None:
    table: Table = open_any(real(name))
    assert (len(table), len(table.columns), table.left_out) == (rows, columns, ())
    assert ("column_1" not in table.columns) == is_headed
    assert int((table.parts == "test").sum() if table.parts is not None else 0) == tests
