"""A folder in the layout of the Hugging Face hub: config.json, *.safetensors, tokenizer.json, preprocessor_config.json.

What a reader would get wrong: a model's settings stand in two files. Mean and deviation of pixels are in
preprocessor_config.json (or inside processor_config.json); read together with config.json they are one mapping, which
the files of weights/ read and write. Nothing here knows what any setting means.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Settings, reading
from fathom.weights.parts.preprocessor import KEYS, pixel_scaling

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")  # what begins with a dot or a slash is a path
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
PROCESSOR = "preprocessor_config.json"
NEEDED = ["config.json", WEIGHTS]
TOKENIZER = "tokenizer.json"
OTHER_TOKENIZERS = ["vocab.txt", "vocab.json", "merges.txt", "*.model"]  # the same in older files, which are not read
# Not *.safetensors: some folders hold all weights a second time, under the names of another library.
FILES = [*NEEDED, "model-*.safetensors", INDEX, TOKENIZER, *OTHER_TOKENIZERS, PROCESSOR, "processor_config.json"]


def folder_of(source: str | Path) -> Path:
    """The folder itself, or what the hub has under that name. Raises UserError where there is neither."""
    folder = Path(source)
    if os.path.isdir(folder):
        return folder
    if os.path.exists(folder) or not HUB_NAME.fullmatch(str(source)):
        raise UserError(f"{source} is neither a folder with config.json, nor a .gguf file, nor a name on the hub.")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(
            f"There is no folder {source}. To fetch it from the Hugging Face hub: pip install 'fathom-dl[hub]'"
        ) from None
    try:
        return Path(snapshot_download(str(source), allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"There is no folder {source}, and the Hugging Face hub did not give it either: "
            f"{str(error).splitlines()[0]} Offline, name a folder that holds {', '.join(NEEDED)}."
        ) from None


def read_settings(folder: Path) -> Settings:
    """All that config.json says, and how the preprocessor scales pixels, where there is one."""
    config = _json(folder / "config.json")
    with reading(f"The preprocessor's file in {folder}"):
        scaling = pixel_scaling(_processor(folder))
    return Settings(config | scaling, where=str(folder / "config.json"))


def _processor(folder: Path) -> Mapping[str, Any]:
    if (folder / PROCESSOR).exists():
        return _json(folder / PROCESSOR)
    whole = folder / "processor_config.json"
    found = _json(whole).get("image_processor") if whole.exists() else None
    return found if isinstance(found, dict) else {}


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of model.safetensors, or of the parts that its index names. Raises UserError on missing parts."""
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return _part(folder, WEIGHTS)
    places = _json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(part, str) for part in places.values()):
        raise UserError(f"{folder / INDEX} has no weight_map that says in which file each tensor is.")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        part = _part(folder, name)
        twice = sorted(set(part) & set(tensors))
        if twice:
            raise UserError(f"{folder / name} holds {twice[0]}, which another part of {INDEX} holds too.")
        tensors |= part
    return tensors


def _part(folder: Path, name: str) -> dict[str, Tensor]:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        named = f", which {INDEX} names" if name != WEIGHTS else ""
        raise UserError(
            f"{folder} has no file {name}{named}. Expected safetensors; pickled weights (.bin) are not read."
        )
    try:
        return load_file(path)
    # The header is JSON of whoever wrote it: types without a name, shapes that no memory holds.
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}.") from None


def read_tokenizer(folder: Path) -> tuple[Tokenizer | None, str]:
    """The tokenizer and a note on one that is not read, "" where there is nothing to say."""
    path = folder / TOKENIZER
    if not path.exists():
        others = sorted(file.name for kind in OTHER_TOKENIZERS for file in folder.glob(kind))
        return None, (
            f"{folder} has no {TOKENIZER}, and its tokenizer in {', '.join(others)} is not read." if others else ""
        )
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path)), ""
    except Exception as error:  # noqa: BLE001 (it raises nothing more particular)
        raise UserError(f"{path} is damaged and cannot be read: {error}.") from None


def write_folder(
    folder: Path,
    settings: Mapping[str, Any],
    tensors: dict[str, Tensor],
    *,
    processor: Mapping[str, Any],
    tokenizer: Tokenizer | None,
) -> None:
    """All files or none: they are made in a folder beside it, which then takes its name."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            save_file(tensors, made / WEIGHTS, metadata={"format": "pt"})
            _write(made / "config.json", {name: value for name, value in settings.items() if name not in KEYS})
            if processor:
                _write(made / PROCESSOR, processor)
            if tokenizer is not None:
                tokenizer.save(str(made / TOKENIZER))
            made.chmod(0o755)  # mkdtemp makes it readable by its owner only
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be written: {error}. Make room, or name another folder.") from None


def _write(path: Path, found: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}. Expected a folder with {', '.join(NEEDED)}.") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply.") from None
    except (OSError, ValueError) as error:  # ValueError: no JSON, no UTF-8, a number of thousands of digits
        raise UserError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object.")
    return found
