"""Each field by itself: what it takes for its own, and what it makes of missing, unseen and broken values."""

from __future__ import annotations

import csv
import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fathom.data import File, Places, Table
from fathom.encode import encode, fit_fields
from fathom.errors import UserError
from fathom.fields import category, image, number, text
from fathom.fields import datetime as moment
from fathom.fields.parts import dates, pictures
from fathom.fields.parts.choose import guess
from fathom.fields.parts.identifier import carries_nothing, is_identifier
from fathom.fields.parts.tokenizer import tokenizer_of
from fathom.fields.parts.values import distinct

QUICK = settings(max_examples=40, deadline=None)


def objects(*values: Any) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def kind_of(values: list[Any] | np.ndarray, name: str = "column") -> str:
    return guess(name, values if isinstance(values, np.ndarray) else objects(*values))[0]


# ---- numbers


def test_numbers_are_read_in_many_spellings() -> None:
    given_ = objects("1", " 2.5 ", "-3e2", "1,234,567", "$4.50", "12 %", "+7", "−8", ".5")
    assert number.read(given_).tolist() == [1, 2.5, -300, 1234567, 4.5, 12, 7, -8, 0.5]


def test_words_marks_and_infinities_among_numbers_are_missing() -> None:
    given_ = objects("1", "?", "NA", "none", "-", "inf", "1e400", "1_000", "0x1F", "ten", None, True, 3)
    assert number.read(given_).tolist()[-1] == 3
    assert np.flatnonzero(np.isfinite(number.read(given_))).tolist() == [0, 12]


def test_digits_of_other_scripts_are_missing_with_and_without_words_beside_them() -> None:
    assert np.isnan(number.read(objects("１", "٣"))).all()
    assert np.isnan(number.read(objects("１", "ten"))).all()


def test_a_number_spec_counts_the_words_among_its_numbers() -> None:
    spec = number.fit(objects(*"123456789", "ten", "ten", "many", "?", None))
    assert spec["words"] == {"ten": 2, "many": 1}
    assert (spec["missing"], spec["integer"], spec["minimum"], spec["maximum"]) == (5, True, 1, 9)


def test_a_few_words_among_numbers_leave_it_a_number_and_many_do_not() -> None:
    many = [str(i) for i in range(90)]
    kind, why = guess("rooms", objects(*many, *["10+"] * 5))
    assert kind == "number"
    assert "10+" in why.why
    assert kind_of([*many, *(f"word {i}" for i in range(30))]) != "number"


def test_decimal_commas_are_decided_on_training_values() -> None:
    spec = number.fit(objects("3,14", "2,5", "1.234,5"))
    assert spec["decimal"] == ","
    assert number.encode(objects("1,5", "7"), spec)["numbers"][:, 0].tolist() == [1.5, 7]
    assert number.fit(objects("1,234", "12,345,678.5"))["maximum"] == 12345678.5


def test_few_distinct_numbers_stay_numbers_but_codes_do_not() -> None:
    assert kind_of(["1", "2", "3"] * 50, "Pclass") == "number"
    assert kind_of(["0", "1"] * 50) == "number"
    assert kind_of(["00501", "10001", "94105"] * 50, "area") == "category"
    assert kind_of(["501", "10001", "94105"] * 50, "zip_code") == "category"
    assert kind_of(np.asarray([3, 7, 7] * 50), "user_id") == "category"
    assert kind_of(np.asarray([0.5, 1, 2])) == "number"
    assert kind_of(np.asarray([True, False])) == "category"


def test_constant_and_empty_number_columns_have_deviation_one() -> None:
    for values in (objects("0.1", "0.1", "0.1"), objects(None, "?"), np.full(3, np.nan)):
        spec = number.fit(values)
        assert spec["constant"]
        assert spec["std"] == 1.0


def test_large_numbers_that_float32_would_merge_are_kept_apart() -> None:
    seconds = np.arange(1_600_000_000, 1_600_000_100)
    spec = number.fit(seconds)
    encoded = number.encode(seconds, spec)
    assert len(np.unique(encoded["numbers"])) == 100
    assert number.decode(encoded, spec).tolist() == seconds.tolist()
    assert abs(spec["mean"]) < 100


@QUICK
@given(st.lists(st.one_of(st.none(), st.floats(width=32, allow_nan=False), st.text(max_size=4)), min_size=1))
def test_any_values_make_a_finite_number_spec(values: list[Any]) -> None:
    spec = number.fit(objects(*values))
    assert np.isfinite([spec["mean"], spec["std"], spec["median"], *spec["quantiles"]]).all()
    assert spec["std"] > 0
    assert not np.isinf(number.encode(objects(*values), spec)["numbers"]).any()


# ---- categories and labels


def test_categories_come_by_frequency_then_alphabet() -> None:
    spec = category.fit(objects("b", "a", "c", "c", None, " a "))
    assert spec["classes"] == ["a", "c", "b"]
    encoded = category.encode(objects("c", "new", None, "a"), spec)["categories"][:, 0]
    assert encoded.tolist() == [2, 0, 0, 1]
    assert category.decode({"categories": encoded[:, None]}, spec).tolist() == ["c", None, None, "a"]


def test_rare_categories_share_one_code_and_unseen_ones_do_not_take_it() -> None:
    values = objects(*["often"] * 998, "once", "single")
    spec = category.fit(values)
    assert spec["classes"] == ["often"]
    assert category.encode(objects("once", "single", "unseen"), spec)["categories"][:, 0].tolist() == [2, 2, 0]
    assert category.describe(spec)["categories"]["sizes"] == [3]
    assert category.fit(values[1:])["rare"] == []  # 999 rows: one of them may matter


def test_the_number_of_categories_is_capped() -> None:
    spec = category.fit(objects(*[f"v{i}" for i in range(50)] * 2), most=10)
    assert (len(spec["classes"]), len(spec["rare"])) == (10, 40)


def test_one_value_has_one_spelling_whatever_its_type() -> None:
    for value in (1, 1.0, "1", "1.0", " 1 ", np.int8(1), np.float32(1)):
        assert distinct([value]).words == ["1"]
    assert distinct([True, 1, "True"]).words == ["True", "1"]
    assert distinct(["01", "1e3", "1.50", np.float32(0.1)]).words == ["01", "1e3", "1.50", "0.1"]


def test_none_is_an_answer_in_a_category_and_nothing_in_a_number() -> None:
    assert "none" in category.fit(objects("none", "guarantor", "?", "NA", "Na"))["classes"]
    assert category.fit(objects("none", "guarantor", "?", "NA", "Na"))["missing"] == 2
    assert number.fit(objects("1", "none"))["words"] == {}


def test_target_classes_are_in_natural_order() -> None:
    assert category.fit_target(objects("10", "9", "1"))["classes"] == ["1", "9", "10"]
    assert category.fit_target(objects("b", "A", None, "c"))["classes"] == ["A", "b", "c"]
    spec = category.fit_target(objects("no", "yes"))
    assert category.encode_target(objects("yes", "?", "perhaps", "no"), spec).tolist() == [1, -1, -1, 0]


def test_labels_that_differ_by_blanks_case_or_a_full_stop_are_aligned_and_it_is_said() -> None:
    spec = category.fit_target(objects("<=50K", ">50K"))
    aligned, note = category.align(objects(" <=50K.", ">50k", ">50K", "other", None), spec)
    assert aligned.tolist() == ["<=50K", ">50K", ">50K", "other", None]
    assert note is not None
    assert "'<=50K.' as '<=50K'" in note
    assert category.align(objects(">50K"), spec)[1] is None


def test_ambiguous_labels_are_never_aligned() -> None:
    spec = category.fit_target(objects("us", "US", "de"))
    assert category.align(objects("Us", "DE"), spec)[0].tolist() == ["Us", "de"]


@QUICK
@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)), min_size=1))
def test_every_trained_category_comes_back(values: list[Any]) -> None:
    spec = category.fit(objects(*values))
    codes = category.encode(objects(*values), spec)["categories"]
    assert (codes == 0).sum() == spec["missing"]
    again = category.encode(category.decode({"categories": codes}, spec), spec)["categories"]
    assert (again == codes).all()


# ---- dates


@pytest.mark.parametrize(
    "spelling",
    [
        "2011-02-13", "2011/2/13", "13.02.2011", "2/13/2011", "13-02-11", "20110213", "13 Feb 2011", "Feb 13, 2011",
        "13-Feb-11", "February 13th, 2011", "Sun, 13 Feb 2011", "2011-02-13T00:00:00Z", "2/13/2011 12:00 AM",
        "2011-02-13 00:00:00.000", "2011-02-13T02:00:00+02:00", "Sun Feb 13 00:00:00 2011",
    ],
)  # fmt: skip
def test_dates_are_read_in_many_spellings(spelling: str) -> None:
    order = dates.choose_order([spelling])
    assert str(dates.read([spelling], order.way)[0]) == "2011-02-13T00:00:00.000000"


@pytest.mark.parametrize(
    "word", ["2011-03-04T08", "2011-03-04T08:00:00.1234567", "0000-01-01", "2011-03-04", "２０１１-03-04"]
)
def test_a_date_does_not_depend_on_the_rows_beside_it(word: str) -> None:
    alone = dates.read([word])[0]
    for other in ("2012-01-31", "3/4/2011", "a word"):
        assert dates.read([word, other])[0] == alone or np.isnat([dates.read([word, other])[0], alone]).all(), other


def test_day_or_month_first_is_decided_from_the_values() -> None:
    assert moment.fit(objects("3/4/2011", "13/4/2011"))["way"] == "day-first"
    assert moment.fit(objects("3/4/2011", "4/13/2011"))["way"] == "month-first"
    in_order = moment.fit(objects("10/01/2011", "11/01/2011", "12/01/2011", "01/02/2011", "02/02/2011"))
    assert (in_order["way"], in_order["ambiguous"]) == ("day-first", False)


def test_an_ambiguous_order_is_assumed_and_said() -> None:
    slashes, points = moment.fit(objects("3/4/2011", "3/4/2011")), moment.fit(objects("3.4.2011"))
    assert (slashes["way"], points["way"]) == ("month-first", "day-first")
    assert slashes["ambiguous"]
    assert "assumed" in slashes["why_way"]


def test_a_date_that_does_not_exist_is_missing() -> None:
    spec = moment.fit(objects("2011-02-27", "2011-02-28"))
    encoded = moment.encode(objects("2011-02-29", "2011-02-28", "soon", None), spec)["numbers"]
    assert np.isnan(encoded[:, 0]).tolist() == [True, False, True, True]


def test_only_parts_that_vary_in_training_are_encoded() -> None:
    days = objects("2011-03-01", "2011-03-02", "2011-03-05")
    assert moment.fit(days)["parts"] == ["days", "day", "weekday", "weekday sin", "weekday cos"]
    assert moment.fit(days[:1])["parts"] == ["days"]
    hours = moment.fit(objects("2011-03-01 10:00", "2011-03-01 16:30"), name="seen")
    assert moment.describe(hours)["numbers"]["names"] == [
        "seen: days",
        "seen: hour",
        "seen: hour sin",
        "seen: hour cos",
    ]
    encoded = moment.encode(objects("2011-03-01 16:30"), hours)["numbers"]
    np.testing.assert_allclose(encoded[0, :2], [6.5 / 24, 16.5], rtol=1e-6)


def test_weekdays_and_months_are_right() -> None:
    parts = moment._parts(
        np.asarray(["1969-12-31T23:00", "2024-02-29T12:00"], "datetime64[us]"), np.datetime64(0, "us")
    )
    assert [parts[p].tolist() for p in ("year", "month", "day", "weekday", "hour")] == [
        [1969, 2024], [12, 2], [31, 29], [2, 3], [23, 12],
    ]  # fmt: skip


def test_seconds_since_1970_need_a_name_that_says_so() -> None:
    seconds = np.asarray([1_600_000_000, 1_600_090_000, 1_600_180_000])
    assert kind_of(seconds, "timestamp") == "datetime"
    assert kind_of(seconds, "price") == "number"
    assert str(moment.timestamps(seconds, moment.fit(seconds, name="timestamp"))[0]) == "2020-09-13T12:26:40.000000"


def test_eight_digits_are_dates_only_where_all_of_them_are() -> None:
    days = [f"2011{month:02}{day:02}" for month in (1, 2, 12) for day in range(1, 28)]
    assert kind_of(days) == "datetime"
    assert kind_of([*days, "20111345"]) == "number"


@QUICK
@given(st.lists(st.datetimes(), min_size=2, max_size=5))
def test_written_dates_are_read_back(moments: list[Any]) -> None:
    values = np.asarray(moments, "datetime64[s]")
    spec = moment.fit(values)
    assert (moment.timestamps(values.astype(str).astype(object), spec) == values).all()


# ---- text


def test_unseen_characters_and_special_words_are_ordinary_text() -> None:
    spec = text.fit(objects("good film", "bad film", "good good film"))
    strange = objects("[PAD] [CLS]", "日本語 🎬 \x00", "\ud800 half", "ｆｉｌｍ ﬁlm", "e\u0301" * 3)
    tokens = text.encode(strange, spec)["tokens"]
    assert tokens.values.min() >= 1
    rows = [tokens.values[a:b] for a, b in zip(tokens.starts[:-1], tokens.starts[1:])]
    assert all((row == 1).sum() == 1 and row[0] == 1 for row in rows)
    assert text.encode(objects("é"), spec)["words"][0] == text.encode(objects("e\u0301"), spec)["words"][0]


def test_empty_texts_are_the_first_token_alone() -> None:
    spec = text.fit(objects("some words", "some more words", None))
    encoded = text.encode(objects("", None, "   ", float("nan"), "NA"), spec)
    assert encoded["tokens"].values.tolist() == [1] * 5
    assert encoded["words"].tolist() == [""] * 5


def test_a_column_without_any_text_still_has_a_tokenizer() -> None:
    spec = text.fit(objects(None, ""))
    assert text.encode(objects("words come later"), spec)["tokens"].values.min() >= 1


def test_words_are_tokenized_as_the_whole_text_would_be() -> None:
    sentences = objects("It's not the film's fault, 1999 was 3.5% worse!", "-- don't  you\tthink so?", "ÄÖ ßtraße x2")
    spec = text.fit(np.repeat(sentences, 3))
    tokenizer = tokenizer_of(spec)
    tokens = text.encode(sentences, spec | {"length": 999})["tokens"]
    whole = [tokenizer.encode(" ".join(sentence.split())).ids for sentence in sentences]
    assert [tokens.values[a:b].tolist() for a, b in zip(tokens.starts[:-1], tokens.starts[1:])] == whole


def test_long_texts_are_cut_at_the_length() -> None:
    spec = text.fit(objects(*["a b c"] * 99, "a " * 5_000), longest=64)
    assert spec["length"] <= 64
    assert np.diff(text.encode(objects("a " * 9_999), spec)["tokens"].starts)[0] == spec["length"]


def test_texts_in_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Grüße aus Köln".encode("cp1252"))
    (tmp_path / "b.txt").write_bytes(b"\x00\x01")
    values = objects(*(File(str(tmp_path / name)) for name in ("a.txt", "b.txt", "c.txt")))
    assert text.sniff("text", values) is not None
    assert list(text.broken(values)) == [1, 2]
    assert text.texts(values[:1])[0] == "Grüße aus Köln"


@QUICK
@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_any_text_is_tokenized(values: list[str]) -> None:
    spec = text.fit(objects("an apple", "two apples"))
    tokens = text.encode(objects(*values), spec)["tokens"]
    assert len(tokens.starts) == len(values) + 1
    assert tokens.values.min() >= 1


# ---- pictures


def half(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Left half white, right half black."""
    picture = np.zeros((height, width), np.uint8)
    picture[:, : width // 2] = 255
    return Image.fromarray(picture).convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "I;16", "F"])
def test_every_mode_of_a_picture_is_read_the_same(mode: str) -> None:
    if mode in ("I;16", "F"):
        scale = 65_535 if mode == "I;16" else 0.75
        picture = Image.fromarray(
            (np.asarray(half(40, 30, "L")) / 255 * scale).astype({"F": "float32"}.get(mode, "uint16"))
        )
    else:
        picture = half(40, 30, mode)
    small = pictures.shrink(saved(picture, "TIFF"))
    assert small.shape == (30, 40)
    assert small[:, :18].min() >= (190 if mode == "F" else 250)
    assert small[:, 22:].max() <= 5


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert (pictures.shrink(saved(clear, "PNG")) == 255).all()


def test_pictures_stand_upright_by_their_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    small = pictures.shrink(saved(half(40, 30), "JPEG", exif=exif.tobytes()))
    assert small.shape == (40, 30)
    assert small[:15].mean() > 250
    assert small[25:].mean() < 5


def test_the_first_frame_of_an_animation_counts() -> None:
    animation = saved(Image.new("RGB", (9, 9), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert pictures.shrink(animation)[0, 0].tolist() == [255, 0, 0]


def test_large_pictures_are_shrunk_with_their_shape_kept() -> None:
    assert pictures.shrink(saved(half(1000, 500), "JPEG")).shape == (128, 256)
    assert pictures.shrink(saved(half(4000, 20), "PNG")).shape == (3, 512)


def test_unreadable_pictures_are_named_and_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = saved(Image.fromarray(rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)), "JPEG")
    contents = {"good.jpg": good, "cut.jpg": good[: len(good) // 2], "text.png": b"no picture", "empty.png": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    values = objects(*(File(str(tmp_path / name)) for name in [*contents, "absent.png"]), None)
    broken = image.broken(values)
    assert list(broken) == [1, 2, 3, 4]
    assert broken[4] == "there is no such file"
    spec = image.fit(values[:1])
    with pytest.raises(UserError, match=r"4 pictures cannot be read, the first is row 1, .*cut\.jpg"):
        image.encode(values, spec)
    assert image.encode(values[[0, 5]], spec)["pixels"].shape == (2, 80, 80, 3)


def test_decompression_bombs_are_refused() -> None:
    bomb = saved(Image.new("1", (12_000, 12_000)), "PNG")
    with pytest.warns(Image.DecompressionBombWarning):
        broken = image.broken(objects(bomb))
    assert "refused" in broken[0]


def test_each_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image.forget()
    half(50, 40).save(tmp_path / "a.png")
    values = objects(File(str(tmp_path / "a.png")), str(tmp_path / "a.png"))
    decoded: list[Any] = []
    shrink = pictures.shrink
    monkeypatch.setattr(pictures, "shrink", lambda *args: decoded.append(1) or shrink(*args))
    assert image.broken(values[:1]) == {}
    image.encode(values, image.fit(values))
    assert len(decoded) == 1
    half(50, 40).rotate(180).save(tmp_path / "a.png", compress_level=0)
    image.broken(values[:1])
    assert len(decoded) == 2  # the file changed


def test_pictures_in_archives_are_read(tmp_path: Path) -> None:
    content = saved(half(20, 20), "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/1.png", content)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("x/1.png")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    values = objects(File("x/1.png", str(tmp_path / "a.zip")), File("x/1.png", str(tmp_path / "a.tar.gz")))
    assert image.broken(values) == {}
    pixels = image.encode(values, image.fit(values))["pixels"]
    assert (pixels[0] == pixels[1]).all()


def test_the_frame_follows_the_data_and_one_dial() -> None:
    small = np.zeros((4, 28, 20), np.uint8)
    assert [image.fit(small)[key] for key in ("height", "width", "channels")] == [28, 20, 1]
    photos = objects(*(np.asarray(half(w, 200)) for w in (200, 300, 260)))
    assert image.fit(photos)["height"] == 128
    assert image.fit(photos, size=64)["width"] == 64
    assert image.fit(photos, size=160)["working"] == 160
    long = image.fit(objects(*(np.asarray(half(600, 100)) for _ in range(3))))
    assert (long["how"], long["height"]) == ("pad", 128)
    with pytest.raises(UserError, match="size=96"):
        image.fit(small, size=0)


def test_pixels_that_are_not_uint8_are_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match="uint8"):
        image.fit(np.zeros((3, 8, 8)))


def test_any_form_of_a_picture_is_encoded_alike(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    spec = image.fit(pixels)
    Image.fromarray(pixels[0]).save(tmp_path / "0.png")
    forms = objects(pixels[0], Image.fromarray(pixels[0]), str(tmp_path / "0.png"), tmp_path / "0.png")
    for encoded in image.encode(forms, spec)["pixels"]:
        assert (encoded == pixels[0]).all()


def test_pictures_with_a_left_and_a_right_are_not_mirrored() -> None:
    rng = np.random.default_rng(0)
    sided = rng.integers(0, 100, (200, 16, 16), dtype=np.uint8)
    sided[:, 4:12, 2:6] += 60
    spec = image.fit(sided)
    assert not spec["mirror"]
    assert "of the time" in spec["why_mirror"]
    assert image.fit(rng.integers(0, 256, (200, 16, 16), dtype=np.uint8))["mirror"]
    few = image.fit(sided[:5])
    assert not few["mirror"]
    assert "too few" in few["why_mirror"]


def test_names_of_pictures_in_a_table_are_pictures() -> None:
    assert kind_of([f"pictures/{i}.jpg" for i in range(50)]) == "image"
    assert is_identifier("photo", objects(*(f"pictures/{i:05}.jpg" for i in range(50)))) is None


# ---- columns that carry nothing


def test_running_numbers_and_unique_ids_carry_nothing() -> None:
    assert is_identifier("PassengerId", objects(*map(str, range(1, 200))))
    assert is_identifier("row", np.arange(50))
    assert is_identifier("order_id", np.random.default_rng(0).permutation(10_000)[:200] + 5_000_000)
    assert is_identifier("hash", objects(*(f"{i * 7919:012x}" for i in range(100))))
    assert is_identifier("state", objects(*(f"name{chr(65 + i)}" for i in range(26))))


def test_measurements_dates_and_texts_are_no_identifiers() -> None:
    rng = np.random.default_rng(0)
    assert is_identifier("weight", rng.permutation(100_000)[:500]) is None
    assert is_identifier("year", np.arange(1900, 2000)) is None
    assert is_identifier("x", rng.random(500)) is None
    assert is_identifier("day", objects(*(f"2011-01-{i:02}" for i in range(1, 31)))) is None
    assert is_identifier("review", objects(*(f"I saw it {i} times and liked it" for i in range(50)))) is None
    assert is_identifier("id", np.arange(5)) is None  # five rows prove nothing


def test_constant_and_empty_columns_carry_nothing() -> None:
    assert "all values are missing" in str(carries_nothing("x", objects(None, "?", "")))
    assert "same value" in str(carries_nothing("x", objects("a", "a")))
    assert carries_nothing("x", objects("a", None)) is None


def test_a_column_of_no_known_kind_is_refused() -> None:
    with pytest.raises(UserError, match="of no known kind"):
        guess("x", np.zeros((3, 2)))


# ---- real tables

KINDS = {
    "adult/adult-train.csv.gz": "number category number category number category category category category category "
    "number number number category category",
    "california_housing/housing.csv.gz": "number " * 9 + "category",
    "credit_g/german.csv": "category number category category number category category number category category number "
    "category number category category number category number category category number",
    "wine_quality/winequality-red.csv": "number " * 12,
    "diamonds/diamonds.csv.gz": "number category category category number number number number number number",
    "bike_sharing/bike_sharing_hourly.csv.gz": "datetime " + "number " * 15,
    "bank_marketing/bank-full.csv.gz": "number category category category category number category category category "
    "number category number number number number category category",
    "sst2/train.tsv.gz": "text number",
    "ag_news/test.csv.gz": "number text text",
    "titanic/titanic.csv": "drop number number text category number number number drop number category category",
}
HEADERS = ("california_housing", "diamonds", "bike_sharing", "titanic")


@pytest.mark.data
@pytest.mark.parametrize("path", KINDS)
def test_columns_of_real_tables_are_known(path: str) -> None:
    if "FATHOM_DATA" not in os.environ:
        pytest.skip("FATHOM_DATA does not name the folder of real data")
    content = (Path(os.environ["FATHOM_DATA"]) / path).read_bytes()
    lines = (gzip.decompress(content) if path.endswith(".gz") else content).decode("latin-1")
    rows = list(csv.reader(io.StringIO(lines), delimiter="\t" if ".tsv" in path else ","))
    names = rows.pop(0) if path.startswith(HEADERS) else [f"column {i}" for i in range(len(rows[0]))]
    found = []
    for name, cells in zip(names, zip(*(row for row in rows if row))):
        values = objects(*(cell or None for cell in cells))
        found.append("drop" if carries_nothing(name, values) else guess(name, values)[0])
    assert found == KINDS[path].split()


def test_edges_spread_over_the_range_where_one_value_dominates() -> None:
    """Nine rows in ten are 0: plain quantiles would leave a handful of edges for all the rest."""
    random = np.random.default_rng(0)
    values = np.concatenate([np.zeros(9_000), np.exp(random.normal(7, 1, 1_000))])
    edges = number.fit(values)["quantiles"]
    assert len(edges) >= 40
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(float(np.float32(values.max())))
    assert set(edges) <= set(np.float32(values).astype(float))


# ---- all together


@pytest.mark.parametrize(("name", "other"), [("numbers", "price"), ("categories", "shop")])
def test_a_text_whose_name_is_taken_by_numbers_or_categories_is_refused(name: str, other: str) -> None:
    texts = objects(*[f"a text of {i} words or so" for i in range(20)])
    beside = np.arange(20.0) if name == "numbers" else objects(*["north", "south"] * 10)
    table = Table("t", {name: texts, other: beside}, Places.of_rows("t.csv", 20), "rows")
    kinds = {name: "text", other: "number" if name == "numbers" else "category"}
    specs = fit_fields(table, kinds, dict.fromkeys(kinds, ""), np.arange(20))
    with pytest.raises(UserError, match=f"column '{name}' holds tokens.*--drop {name}"):
        encode(table, specs)
    assert list(encode(table, {name: specs[name]}).inputs) == [name]
