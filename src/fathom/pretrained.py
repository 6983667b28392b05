"""Trained weights in and out, in the file layout of the Hugging Face hub: config.json, *.safetensors, tokenizer.json.

What a reader would get wrong: nothing is skipped. A tensor that the model needs and the files lack, or that the files
hold and nobody asked for, ends in an error, because a model with one random layer still answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fathom import rooms
from fathom.errors import UserError
from fathom.network import build
from fathom.weights.parts.blueprint import Blueprint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json"]
SHOWN = 5  # names in an error


@dataclass(frozen=True)
class Pretrained:
    """A model with its weights, in eval mode, and what came with it."""

    model: nn.Module
    blueprint: Blueprint
    tokenizer: Tokenizer | None = None

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the folder that `from_pretrained`, here and in `transformers`, reads. Raises UserError if it exists."""
        return save_pretrained(self.model, self.blueprint, folder, tokenizer=self.tokenizer)


def from_pretrained(source: str | Path) -> Pretrained:
    """Weights from a folder, or by their name on the Hugging Face hub ("HuggingFaceTB/SmolLM2-135M").

    The model is in float32 and eval mode. Raises UserError for an unknown family, settings that are not supported and
    tensors that are missing or left over.
    """
    folder = _folder(source)
    config = _json(folder / "config.json")
    family = family_of(config)
    blueprint = family.read(config)
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    load(model, read_tensors(folder), family, blueprint, where=str(folder))
    return Pretrained(model.eval(), blueprint, _tokenizer(folder))


def save_pretrained(
    model: nn.Module, blueprint: Blueprint, folder: str | Path, *, tokenizer: Tokenizer | None = None
) -> Path:
    """Write config.json, model.safetensors and tokenizer.json into a new folder, under the other library's names."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} exists and is not empty. Name a new folder.")
    family = _family_for(blueprint)
    config = family.write(blueprint)
    tensors = {
        theirs: _turned(tensor, ours, family).contiguous()
        for ours, theirs, tensor in _pairs(model, family.names(blueprint))
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def load(
    model: nn.Module, tensors: Mapping[str, Tensor], family: ModuleType, blueprint: Blueprint, *, where: str
) -> None:
    """Copy tensors under the other library's names into the model. Raises UserError unless they match one to one."""
    names: dict[str, str] = family.names(blueprint)
    missing = [theirs for theirs in names.values() if theirs not in tensors]
    wanted = set(names.values())
    over = [name for name in tensors if name not in wanted and not any(fnmatchcase(name, p) for p in family.LEFT_OVER)]
    if missing or over:
        told = [f"{len(n)} {what} ({_some(n)})" for n, what in ((missing, "missing"), (over, "left over")) if n]
        raise UserError(f"The tensors in {where} are not those of {blueprint.model}: {', '.join(told)}.")
    with torch.no_grad():
        for ours, theirs, place in _pairs(model, names):
            tensor = _turned(tensors[theirs], ours, family)
            if tensor.shape != place.shape:
                raise UserError(
                    f"Tensor {theirs} in {where} has the shape {list(tensor.shape)}; its config.json asks for "
                    f"{list(place.shape)}."
                )
            place.copy_(tensor)


def family_of(config: Mapping[str, Any]) -> ModuleType:
    """The file of weights/ that reads this config. Raises UserError naming the nearest model_type."""
    found = config.get("model_type")
    known = {kind: family for family in rooms.every("weights").values() for kind in family.MODEL_TYPES}
    if found not in known:
        raise UserError(f"config.json has model_type '{found}', which is not known. {rooms.nearest(str(found), known)}")
    return known[found]


def _family_for(blueprint: Blueprint) -> ModuleType:
    families = [f for f in rooms.every("weights").values() if blueprint.model == f.MODEL]
    if not families:
        raise UserError(f"{blueprint.model} has no counterpart whose file layout could be written.")
    return families[0]


def _pairs(model: nn.Module, names: Mapping[str, str]) -> Iterator[tuple[str, str, Tensor]]:
    state = model.state_dict()
    assert set(names) == set(state), f"names() differ from the model's: {sorted(set(names) ^ set(state))[:SHOWN]}"
    for ours, theirs in names.items():
        yield ours, theirs, state[ours]


def _turned(tensor: Tensor, name: str, family: ModuleType) -> Tensor:
    """Matrices that the other library keeps as [in, out]."""
    return tensor.T if any(fnmatchcase(name, pattern) for pattern in family.TRANSPOSED) else tensor


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of model.safetensors, or of the parts that its index names."""
    index = folder / "model.safetensors.index.json"
    parts = sorted(set(_json(index)["weight_map"].values())) if index.exists() else ["model.safetensors"]
    tensors: dict[str, Tensor] = {}
    for part in parts:
        path = folder / part
        if Path(part).name != part or not path.is_file():
            raise UserError(f"{folder} has no file {part}. Expected safetensors; pickled weights (.bin) are not read.")
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is not a whole safetensors file: {error}.") from None
    return tensors


def _folder(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists() or not HUB_NAME.fullmatch(str(source)):
        raise UserError(f"{source} is neither a folder with config.json nor a name on the Hugging Face hub.")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(
            f"There is no folder {source}. To fetch it from the Hugging Face hub: pip install 'fathom-dl[hub]'"
        ) from None
    try:
        return Path(snapshot_download(str(source), allow_patterns=FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"There is no folder {source}, and the Hugging Face hub did not give it either: "
            f"{str(error).splitlines()[0]} Offline, name a folder that holds {', '.join(FILES[:2])}."
        ) from None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}. Expected a folder with {', '.join(FILES)}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object.")
    return found


def _tokenizer(folder: Path) -> Tokenizer | None:
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
