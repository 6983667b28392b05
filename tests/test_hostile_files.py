"""Data and weights from elsewhere made to do harm: archives, arrays, folders of weights, GGUF files."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fathom import data
from fathom.data import File
from fathom.errors import UserError
from fathom.network import build
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.sources.parts import unpacking
from fathom.sources.parts.choose import open_any
from fathom.weights import gpt2

from .hostile import TRACE, change, claiming, npz_of, pickled, pickled_arrays, safetensors_of, tensor

GOOD = ("a/1.png", "a/2.png", "b/1.png", "b/2.png")


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    trace = tmp_path / "trace"
    monkeypatch.setenv(TRACE, str(trace))
    yield
    assert not trace.exists(), "what stands in a file was run"


def dot() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 4), (1, 2, 3)).save(sink, "PNG")
    return sink.getvalue()


def zipped(path: Path, *names: str, packed: int = zipfile.ZIP_STORED, content: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name in GOOD:
            archive.writestr(name, dot())
        for name in names:
            archive.writestr(name, content or dot())
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, to, size
    return info


def tarred(path: Path, *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for name in GOOD:
            archive.addfile(entry(name, size=len(dot())), io.BytesIO(dot()))
        for info in more:
            archive.addfile(info, io.BytesIO(bytes(info.size)) if info.isfile() else None)
    return path


OUTSIDE = ["../../evil.png", "/etc/evil.png", "C:/evil.png", "..\\evil.png", "a/../../evil.png", "\\\\host\\evil.png"]


def test_members_of_a_zip_that_lead_out_are_left_out(tmp_path: Path) -> None:
    table = open_any(zipped(tmp_path / "x.zip", *OUTSIDE))
    assert len(table) == 4
    assert [one.why for one in table.left_out] == ["its path leads out of the archive"] * len(OUTSIDE)


SPECIAL = {
    "it is a link": [entry("a/s.png", tarfile.SYMTYPE, "/etc/passwd"),
                     entry("a/h.png", tarfile.LNKTYPE, "/etc/passwd")],
    "it is no file": [entry("a/c.png", tarfile.CHRTYPE), entry("a/b.png", tarfile.BLKTYPE),
                      entry("a/f.png", tarfile.FIFOTYPE)],
    "its path leads out of the archive": [entry("../../x.png"), entry("/etc/x.png")],
}  # fmt: skip


@pytest.mark.parametrize("why", SPECIAL)
def test_members_of_a_tar_that_are_no_files_here_are_left_out(why: str, tmp_path: Path) -> None:
    table = open_any(tarred(tmp_path / "x.tar", *SPECIAL[why]))
    assert len(table) == 4
    assert [one.why for one in table.left_out] == [why] * len(SPECIAL[why])


def test_a_link_in_a_zip_and_a_name_used_twice_are_left_out(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/1.png", dot())
    table = open_any(path)
    assert len(table) == 4
    assert [one.why for one in table.left_out] == [
        "another file of this name comes later in the archive",
        "it is a link",
    ]


def test_an_archive_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip").read_bytes()
    table = open_any(zipped(tmp_path / "x.zip", "a/quine.zip", content=inner))
    assert [one.why for one in table.left_out] == ["it is not a picture"]


def bomb_zip(path: Path) -> Path:
    return zipped(path / "x.zip", "a/3.png", packed=zipfile.ZIP_DEFLATED, content=bytes(100_000_000))


def bomb_gz(path: Path) -> Path:
    (path / "x.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 30_000_000, mtime=0))
    return path / "x.csv.gz"


def bomb_tar(path: Path) -> Path:
    """It says of a member that it has a terabyte, and would have all of it unpacked to see what comes next."""
    head = entry("a/1.png", size=1 << 40).tobuf(tarfile.GNU_FORMAT)
    (path / "x.tar.gz").write_bytes(gzip.compress(head + bytes(10_000_000)))
    return path / "x.tar.gz"


def bomb_npz(path: Path) -> Path:
    content = npz_of(claiming("(12500000,)"), name="x.npy", body=bytes(100_000_000), packed=zipfile.ZIP_DEFLATED)
    (path / "x.npz").write_bytes(content)
    return path / "x.npz"


@pytest.mark.parametrize("make", [bomb_zip, bomb_gz, bomb_tar, bomb_npz])
def test_bombs_are_refused_before_they_fill_the_memory(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.\S+ has .* bytes, which unpack to .* or more.*unpack it"):
        open_any(make(tmp_path))


def test_what_packs_well_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LARGE", 1000)
    text = "a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(5000))
    for ending in ("", ".gz"):
        (tmp_path / f"x.csv{ending}").write_bytes(gzip.compress(text.encode()) if ending else text.encode())
        assert len(open_any(tmp_path / f"x.csv{ending}")) == 5000


def test_a_picture_that_fills_the_memory_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MOST_BYTES", 1000)
    path = zipped(tmp_path / "x.zip", "a/3.png", content=bytes(2000))
    for file in (File("a/3.png", str(path)), File(str(path))):
        with pytest.raises(OSError, match="it has more than 1,000 bytes"):
            file.read()
    assert len(File("a/1.png", str(path)).read()) == len(dot())


def damaged(path: Path, offset: int, value: int) -> Path:
    """An archive whose first member says something else of itself, in both places where it does."""
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x03\x04") + 6 + offset] = value
    content[content.find(b"PK\x01\x02") + 8 + offset] = value
    path.write_bytes(content)
    return path


def test_members_that_are_locked_or_packed_in_an_unknown_way_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="locked with a password"):
        open_any(damaged(zipped(tmp_path / "x.zip"), 0, 1))
    with pytest.raises(OSError, match="cannot be unpacked: That compression method is not supported"):
        File("a/1.png", str(damaged(zipped(tmp_path / "y.zip"), 2, 77))).read()
    broken = zipped(tmp_path / "z.zip")
    broken.write_bytes(broken.read_bytes().replace(dot(), dot()[:-4] + b"oops", 1))
    with pytest.raises(OSError, match="cannot be unpacked: Bad CRC"):
        File("a/1.png", str(broken)).read()


ARRAYS: dict[str, tuple[bytes, str]] = {
    "pickle": (pickled(), "Arrays of Python objects are pickles and are not opened"),
    "objects": (pickled_arrays().replace(b"weights", b"x_train"), "pickles and are not opened"),
    "terabytes": (npz_of(claiming("(1000000000000,)"), name="x.npy"), "Unable to allocate"),
    "more than counts": (npz_of(claiming(f"({10**30},)"), name="x.npy"), "cannot be read as .npz"),
    "below zero": (npz_of(claiming("(-1,)"), name="x.npy"), "negative dimensions"),
    "cut off": (npz_of(claiming("(9,)"), name="x.npy"), "EOF"),
    "a header of code": (npz_of("__import__('os').getcwd()\n", name="x.npy"), "malformed node"),
    "a header nested deeply": (npz_of("(" * 4000, name="x.npy"), "cannot be read as .npz"),
    "records": (npz_of(claiming("(2,)", "V8"), name="x.npy", body=bytes(16)), "is no column"),
    "complex numbers": (npz_of(claiming("(2,)", "<c16"), name="x.npy", body=bytes(32)), "is no column"),
    "no array": (npz_of("", name="x.txt"), "holds x.txt"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_hostile_arrays_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(ARRAYS[name][0])
    with pytest.raises(UserError, match=ARRAYS[name][1]) as told:
        open_any(path)
    assert "x.npz" in str(told.value)


ENDINGS = ["csv", "parquet", "jsonl", "pkl", "pickle", "npy", "pt", "zip", "tar", "csv.gz", "txt"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_pickle_by_any_name_is_not_opened(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(pickled())
    with pytest.raises(UserError, match=rf"x\.{ending}"):
        open_any(path)


# Folders of weights and GGUF files


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    blueprint = gpt2.EXAMPLES[0]
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    return save_pretrained(model, blueprint, tmp_path / "weights")


def named(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def setting(key: str, value: object) -> Callable[[Path], None]:
    return lambda folder: change(folder / "config.json", key, value)


def indexed(part: object) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": part}}))

    return made


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickled())


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle as weights": (named("model.safetensors", pickled()), "is not a whole safetensors file"),
    "pickled weights alone": (only_pickled, "pickled weights .* are not read"),
    "pickle as config": (named("config.json", pickled()), "cannot be read as JSON"),
    "pickle as tokenizer": (named("tokenizer.json", pickled()), "tokenizer.json is damaged"),
    "header of exabytes": (named("model.safetensors", safetensors_of({}, length=1 << 62)), "not a whole safetensors"),
    "shape of terabytes": (
        named("model.safetensors", safetensors_of(tensor([10**12], [0, 4 * 10**12]))),
        "not a whole safetensors",
    ),
    "a part outside": (indexed("../model-1.safetensors"), "has no file ../model-1.safetensors"),
    "a part at the root": (indexed("/etc/passwd"), "has no file /etc/passwd"),
    "a part that is no name": (indexed(7), "has no weight_map"),
    "nested deeply": (named("config.json", b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
    "endless digits": (named("config.json", b'{"n_embd": ' + b"9" * 5000 + b"}"), "cannot be read as JSON"),
    "not UTF-8": (named("config.json", b'{"a": "\xff"}'), "cannot be read as JSON"),
    "a list": (named("config.json", b"[]"), "holds no JSON object"),
    "code of its own": (setting("model_type", "os.system"), "is not known"),
    "a dunder name": (setting("model_type", "__init__"), "is not known"),
    "a family that is a list": (setting("model_type", ["gpt2"]), "wrong kind"),
    "as wide as the world": (setting("n_embd", 10**12), "too large|at most"),
    "without end": (setting("n_layer", 10**12), "too large|at most"),
    "a trillion words": (setting("vocab_size", 10**12), "too large|at most"),
    "a width that is no number": (setting("n_embd", "__import__('os')"), "given width=__import__"),
    "NaN": (setting("layer_norm_epsilon", float("nan")), "layer_norm_epsilon|norm_eps|eps"),
    "a width below zero": (setting("n_embd", -8), "expected at least 1|describes no gpt2"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_hostile_folders_of_weights_are_refused(name: str, weights: Path) -> None:
    harm, told = FOLDERS[name]
    harm(weights)
    with pytest.raises(UserError, match=told):
        from_pretrained(weights)


def gguf(tensors: int, settings: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, settings) + rest


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


STRING, ARRAY, UINT8 = 8, 9, 0
KEY = text(b"general.architecture")
GGUFS = {
    "nothing but its name": b"GGUF",
    "exabytes of settings": gguf(0, 1 << 62),
    "exabytes of tensors": gguf(1 << 62, 0),
    "a text of exabytes": gguf(0, 1, KEY + struct.pack("<I", STRING) + text(b"llama", 1 << 62)),
    "a list of exabytes": gguf(0, 1, KEY + struct.pack("<IIQ", ARRAY, UINT8, 1 << 62)),
    "a list in a list in a list": gguf(0, 1, KEY + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 3000),
    "a type that is none": gguf(0, 1, KEY + struct.pack("<I", 4_000_000)),
    "a key without end": gguf(0, 1, struct.pack("<Q", 1 << 63)),
    "a tensor of exabytes": gguf(1, 0, text(b"a") + struct.pack("<IQQIQ", 2, 1 << 40, 1 << 40, 0, 0)),
    "a tensor of a thousand axes": gguf(1, 0, text(b"a") + struct.pack("<I", 1000) + bytes(8000)),
    "a tensor beyond the file": gguf(1, 0, text(b"a") + struct.pack("<IQIQ", 1, 4, 0, 1 << 60)),
    "a tensor of an unknown type": gguf(1, 0, text(b"a") + struct.pack("<IQIQ", 1, 4, 9999, 0)),
    "a version to come": gguf(0, 0, version=999),
    "code for an architecture": gguf(0, 1, KEY + struct.pack("<I", STRING) + text(b"os.system")),
    "a pickle": pickled(),
}


@pytest.mark.parametrize("name", GGUFS)
def test_hostile_gguf_files_are_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    path = tmp_path / "x.gguf"
    path.write_bytes(GGUFS[name])
    with pytest.raises(UserError, match=r"x\.gguf|os\.system"):
        from_pretrained(path)


def test_a_column_of_names_does_not_open_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "x.csv").write_text("image,label\n" + "pipe.png,1\n/dev/zero.png,0\n" * 5)
    table = open_any(tmp_path / "x.csv")
    assert all(isinstance(value, str) for value in table.columns["image"])


def test_names_that_lead_out_of_the_folder_of_a_table_are_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("secret.txt", "data/1.txt", "data/2.txt"):
        (tmp_path / name).write_text("some words")
    names = ["1.txt", "2.txt", "../secret.txt", str(tmp_path / "secret.txt")]
    (tmp_path / "data" / "x.csv").write_text("text,label\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    table = open_any(tmp_path / "data" / "x.csv")
    assert f"text names text files in {tmp_path / 'data'}, 2 of them outside of it: opened" in table.notes


def test_every_column_of_a_good_archive_is_there(tmp_path: Path) -> None:
    """What is refused above is refused for its harm: the same without it is opened."""
    assert len(open_any(zipped(tmp_path / "x.zip"))) == len(open_any(tarred(tmp_path / "x.tar"))) == 4
    np.savez(tmp_path / "x.npz", x=np.eye(4), y=np.arange(4))
    assert len(open_any(tmp_path / "x.npz")) == 4
