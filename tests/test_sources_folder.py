"""Folders and archives of class folders: layouts, parts, what is left out, hostile archives."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from fathom.errors import UserError
from fathom.sources import folder, text_folder
from fathom.sources.parts.choose import open_any


def png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 3), shade).save(buffer, "PNG")
    return buffer.getvalue()


def lay(root: Path, *names: str, content: bytes | None = None) -> Path:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if content is not None else png(i))
    return root


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(name, png(i))
    return path


def tarred(path: Path, *names: str, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = len(png(i))
            archive.addfile(info, io.BytesIO(png(i)))
    return path


FLOWERS = ("rose/1.jpg", "rose/2.PNG", "tulip/3.jpeg")


def test_class_folders(tmp_path: Path) -> None:
    table = folder.open(lay(tmp_path / "photos", *FLOWERS))
    assert table.columns["label"].tolist() == ["rose", "rose", "tulip"]
    assert table.columns["image"][2].read() == png(2)
    assert table.places[2] == str(tmp_path / "photos/tulip/3.jpeg")
    assert table.summary == "3 images in 2 classes (one folder per class)"
    assert (table.name, table.target, table.parts) == ("photos", "label", None)


@pytest.mark.parametrize(
    ("train", "validate", "test"),
    [("train", "val", "test"), ("Training", "DEV", "Test"), ("train", "valid", "testing")],
)
def test_official_part_folders(tmp_path: Path, train: str, validate: str, test: str) -> None:
    names = [f"{part}/{name}" for part in (train, validate, test) for name in FLOWERS]
    table = folder.open(lay(tmp_path, *names))
    assert table.parts is not None
    by_part = {p: int((table.parts == p).sum()) for p in ("train", "validate", "test")}
    assert by_part == {"train": 3, "validate": 3, "test": 3}
    assert set(table.columns["label"]) == {"rose", "tulip"}


def test_classes_may_be_called_like_parts(tmp_path: Path) -> None:
    table = folder.open(lay(tmp_path, "train/1.png", "plane/2.png"))
    assert table.parts is None
    assert set(table.columns["label"]) == {"train", "plane"}


def test_class_missing_in_a_part_is_said(tmp_path: Path) -> None:
    table = folder.open(lay(tmp_path, "train/rose/1.png", "train/tulip/2.png", "test/rose/3.png"))
    assert "the test part has no tulip" in table.notes


def test_a_wrapping_folder_is_looked_through_but_one_class_is_a_class(tmp_path: Path) -> None:
    assert set(folder.open(lay(tmp_path / "a", "flowers/rose/1.png", "flowers/tulip/2.png")).columns["label"]) == {
        "rose",
        "tulip",
    }
    assert set(folder.open(lay(tmp_path / "b", "rose/1.png", "rose/2.png")).columns["label"]) == {"rose"}


def test_other_files_are_listed_and_hidden_ones_skipped(tmp_path: Path) -> None:
    lay(
        tmp_path, *FLOWERS, "rose/.hidden.png", "__MACOSX/rose/._1.png", "rose/Thumbs.db", "rose/notes.txt", "loose.png"
    )
    (tmp_path / "lily").mkdir()
    table = folder.open(tmp_path)
    assert {(os.path.basename(left.where), left.why) for left in table.left_out} == {
        ("notes.txt", "it is not a picture"),
        ("loose.png", "the picture lies in no class folder"),
    }
    assert len(table) == 3
    assert any("empty folders" in n and "lily" in n for n in table.notes)


def test_pictures_without_class_folders_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, "1.png", "2.png")
    with pytest.raises(UserError, match=r"holds 2 pictures.*no class folders.*Put the pictures of each class"):
        open_any(tmp_path)


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz", "tar.bz2"])
def test_archives_are_read_in_place(tmp_path: Path, ending: str) -> None:
    names = [f"flowers/{name}" for name in FLOWERS]
    path = tmp_path / f"f.{ending}"
    mode = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2"}.get(ending)
    (zipped(path, *names) if mode is None else tarred(path, *names, mode=mode))
    table = open_any(path)
    assert table.columns["label"].tolist() == ["rose", "rose", "tulip"]
    assert table.columns["image"][1].read() == png(1)
    assert table.name == "f"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_a_folder_with_one_archive_is_that_archive(tmp_path: Path) -> None:
    zipped(tmp_path / "f.zip", *FLOWERS)
    (tmp_path / "README.md").write_text("flowers")
    assert len(open_any(tmp_path)) == 3


def test_paths_out_of_an_archive_and_links_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("rose/1.png", "tulip/2.png", "../../rose/3.png", "/etc/rose/4.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png())
            archive.addfile(info, io.BytesIO(png()))
        link = tarfile.TarInfo("rose/5.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    table = folder.open(path)
    assert len(table) == 2
    assert sorted(left.why for left in table.left_out) == ["it is a link"] + ["its path leads out of the archive"] * 2


def test_damaged_and_empty_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(UserError, match=r"bad\.zip cannot be read as an archive"):
        open_any(tmp_path / "bad.zip")
    whole = tarred(tmp_path / "whole.tar.gz", *[f"rose/{i}.png" for i in range(50)], mode="w:gz")
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[:200])
    with pytest.raises(UserError, match=r"cut\.tar\.gz cannot be read as an archive"):
        open_any(tmp_path / "cut.tar.gz")
    with pytest.raises(UserError, match="an archive in which nothing is recognised"):
        open_any(zipped(tmp_path / "other.zip", "a/b.wav"))


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    lay(tmp_path, *FLOWERS)
    (tmp_path / "rose" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(folder.open(tmp_path)) == 3


def test_texts_in_class_folders(tmp_path: Path) -> None:
    lay(tmp_path, "train/pos/1.txt", content=b"good")
    lay(tmp_path, "train/neg/2.txt", content="crème brûlée".encode("cp1252"))
    lay(tmp_path, "test/pos/3.txt", content=b"\xef\xbb\xbffine")
    lay(tmp_path, "test/neg/4.txt", content=b"  \n")
    lay(tmp_path, "test/neg/5.txt", content=png())
    lay(tmp_path, "README.txt", content=b"about")
    table = open_any(tmp_path)
    assert dict(zip(table.columns["text"], table.columns["label"])) == {
        "good": "pos",
        "crème brûlée": "neg",
        "fine": "pos",
    }
    assert table.parts is not None
    assert sorted(table.parts) == ["test", "train", "train"]
    reasons = {os.path.basename(left.where): left.why for left in table.left_out}
    assert reasons["4.txt"] == "it is empty"
    assert "not a text file" in reasons["5.txt"]
    assert "README.txt" in reasons
    assert table.summary == "3 texts in 2 classes (one folder per class); 2 train, 1 test"


def test_texts_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("reviews/pos/1.txt", "good")
        archive.writestr("reviews/neg/1.txt", "bad")
    assert text_folder.open(tmp_path / "t.zip").columns["text"].tolist() == ["good", "bad"]


@pytest.mark.data
def test_hymenoptera() -> None:
    if "FATHOM_DATA" not in os.environ:
        pytest.skip("FATHOM_DATA does not name the real data sets")
    table = open_any(Path(os.environ["FATHOM_DATA"]) / "hymenoptera")
    assert table.parts is not None
    assert [int((table.parts == p).sum()) for p in ("train", "validate")] == [132, 70]
    assert set(table.columns["label"]) == {"ants", "bees"}
