"""Trained weights in and out: folders in the layout of the Hugging Face hub, and GGUF files.

What a reader would get wrong: nothing is skipped. A tensor that the model needs and the files lack, or that the files
hold and nobody asked for, ends in an error, because a model with one random layer still answers.

    >>> import tempfile
    >>> blueprint = Blueprint("gpt2", {"text": {"form": "stream", "vocabulary": 50, "length": 16}}, 50, {"depth": 1})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = from_pretrained(save_pretrained(_built(blueprint), blueprint, folder))
    >>> again.blueprint.options["hidden"]
    256
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fathom import rooms
from fathom.errors import UserError
from fathom.gguf_file import gguf_in, read_gguf
from fathom.gguf_tokenizer import tokenizer_of
from fathom.hub_folder import PROCESSOR, folder_of, read_settings, read_tensors, read_tokenizer, write_folder
from fathom.network import build
from fathom.weights.parts import llama_gguf
from fathom.weights.parts.blueprint import Blueprint, reading
from fathom.weights.parts.preprocessor import KEYS, processor_for
from fathom.weights.parts.unread import note_on_unread

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SHOWN = 5  # names in an error
# Options that nothing is lost of: the shapes of the tensors, or the family itself, would tell of a difference.
CHECKED_OTHERWISE = ("size", "width", "depth", "blocks", "channels", "all_strides")
TRAINING_ONLY = ("drop*", "balance", "norm_momentum", "mirror")  # change no answer


@dataclass(frozen=True)
class Pretrained:
    """A model with its weights, in eval mode, and what came with it.

    `notes` say what was chosen for lack of a word in the files, or could not be read; they were given as warnings too.
    """

    model: nn.Module
    blueprint: Blueprint
    tokenizer: Tokenizer | None = None
    notes: tuple[str, ...] = ()

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the folder that `from_pretrained`, here and in `transformers`, reads. Raises UserError if it exists."""
        return save_pretrained(self.model, self.blueprint, folder, tokenizer=self.tokenizer)


def from_pretrained(source: str | Path) -> Pretrained:
    """Weights from a folder, a GGUF file, or by their name on the Hugging Face hub ("HuggingFaceTB/SmolLM2-135M").

    A folder without config.json that holds one .gguf file stands for that file. The model is in float32, whatever the
    file has, and in eval mode. Raises UserError for an unknown family, settings that are not supported and tensors that
    are missing or left over.
    """
    gguf = gguf_in(source)
    loaded = _from_folder(folder_of(source)) if gguf is None else _from_gguf(gguf)
    for note in loaded.notes:
        warnings.warn(note, stacklevel=2)
    return loaded


def _from_folder(folder: Path) -> Pretrained:
    settings = read_settings(folder)
    with reading(settings.where):
        family = family_of(settings)
        blueprint = family.read(settings)
        try:
            model = _built(blueprint)
        except UserError as error:
            raise UserError(f"{settings.where} describes no {blueprint.model}: {error}") from None
    notes = [note_on_unread(settings)]
    load(model, read_tensors(folder), family, blueprint, where=str(folder))
    tokenizer, note = read_tokenizer(folder)
    notes.append(note)
    pixels = [about for about in blueprint.inputs.values() if about["form"] == "pixels"]
    if pixels and KEYS[0] not in settings:
        notes.append(_note_on_pixels(blueprint, pixels[0]))
    return Pretrained(model.eval(), blueprint, tokenizer, tuple(filter(None, notes)))


def _note_on_pixels(blueprint: Blueprint, about: Mapping[str, Any]) -> str:
    mean, std = (", ".join(f"{number:g}" for number in about[name]) for name in ("mean", "std"))
    return (
        f"There is no {PROCESSOR} that says how pixels are scaled. Taken is what is usual for {blueprint.model}: mean "
        f"{mean} and deviation {std} of pixels in 0..1."
    )


def _from_gguf(path: Path) -> Pretrained:
    file = read_gguf(path)
    blueprint = llama_gguf.read(file.settings, file.tensors, file.shapes)
    model = _built(blueprint)
    load(model, file.tensors, llama_gguf, blueprint, where=str(path))
    tokenizer, note = tokenizer_of(file.settings)
    return Pretrained(model.eval(), blueprint, tokenizer, (note,) if note else ())


def _built(blueprint: Blueprint) -> nn.Module:
    return build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)


def save_pretrained(
    model: nn.Module, blueprint: Blueprint, folder: str | Path, *, tokenizer: Tokenizer | None = None
) -> Path:
    """Write config.json, model.safetensors and what goes with them into a new folder, under the other library's names.

    Options that the blueprint leaves unsaid (sizes that follow from `size` or `depth`) are those of the model. Raises
    UserError where the folder exists, and on options that this layout cannot say; of those that matter for further
    training only, such as a drop_path, there is a warning.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty. Name a new folder.")
    family = _family_for(blueprint)
    blueprint = resolved(model, blueprint, family)
    settings = family.write(blueprint)
    note = _check_kept(model, blueprint, family, settings)
    if note:
        warnings.warn(note, stacklevel=2)
    tensors = {
        theirs: _turned(tensor, ours, family).contiguous()
        for ours, theirs, tensor in _pairs(model, family.names(blueprint))
    }
    write_folder(folder, settings, tensors, processor=processor_for(blueprint), tokenizer=tokenizer)
    return folder


def _check_kept(model: nn.Module, blueprint: Blueprint, family: ModuleType, settings: Mapping[str, Any]) -> str:
    """A note on what these settings lose for further training, or "". Raises UserError where they lose more."""
    again = family_of(settings).read(settings)
    unsaid = rooms.options(rooms.find("models", blueprint.model).build)
    built = family.measured(model) if hasattr(family, "measured") else {}
    # An option of which the built model says otherwise had no effect.
    said = {n: v for n, v in blueprint.options.items() if v is not None and built.get(n, v) == v}
    taken = {**said, **{name: value for name, value in unsaid.items() if value is not None}, **again.options}
    lost = {name: value for name, value in said.items() if taken[name] != value and name not in CHECKED_OTHERWISE}
    mirrored = {about["form"]: about.get("mirror") for about in again.inputs.values()}
    for about in blueprint.inputs.values():
        if about.get("mirror", mirrored.get(about["form"])) != mirrored.get(about["form"]):
            lost["mirror"] = about["mirror"]
    if not lost:
        return ""
    told = ", ".join(f"{name}={value}" for name, value in lost.items())
    told = f"The layout of {settings['model_type']} cannot say {told}"
    if not all(_matches(name, TRAINING_ONLY) for name in lost):
        raise UserError(f"{told}. These weights cannot be written as such.")
    return f"{told}, which matters for further training only. Say it again to whoever trains these weights on."


def resolved(model: nn.Module, blueprint: Blueprint, family: ModuleType) -> Blueprint:
    """The blueprint with every option that the built model tells. Families whose sizes have names need none."""
    if not hasattr(family, "measured"):
        return blueprint
    given = {name: value for name, value in blueprint.options.items() if value is not None}
    return replace(blueprint, options=family.measured(model) | given)


def load(
    model: nn.Module, tensors: Mapping[str, Tensor], family: ModuleType, blueprint: Blueprint, *, where: str
) -> None:
    """Copy tensors under the other library's names into the model. Raises UserError unless they match one to one."""
    names: dict[str, str] = family.names(resolved(model, blueprint, family))
    if hasattr(family, "tidied"):
        tensors = family.tidied(tensors, blueprint)
    copies = _copies(tensors, names, family)
    _check_complete(tensors, names, [*family.LEFT_OVER, *copies], f"{where} are not those of {blueprint.model}")
    for copy, original in copies.items():
        if not torch.equal(tensors[copy].float(), tensors[original].float()):
            raise UserError(
                f"{where} holds {copy} and {original}, which are one matrix by its settings, but they differ. If they "
                'are two, its config.json should say "tie_word_embeddings": false.'
            )
    with torch.no_grad():
        for ours, theirs, place in _pairs(model, names):
            tensor = _turned(tensors[theirs], ours, family)
            if tensor.shape != place.shape:
                raise UserError(
                    f"Tensor {theirs} in {where} has the shape {list(tensor.shape)}; its settings ask for "
                    f"{list(place.shape)}."
                )
            place.copy_(tensor)


def _copies(tensors: Mapping[str, Tensor], names: Mapping[str, str], family: ModuleType) -> dict[str, str]:
    """Tensors that a file may hold a second time, and the name of the first."""
    wanted = set(names.values())
    known: Mapping[str, str] = getattr(family, "DUPLICATES", {})
    return {
        copy: names[ours] for copy, ours in known.items() if copy in tensors and copy not in wanted and ours in names
    }


def _check_complete(tensors: Mapping[str, Tensor], names: Mapping[str, str], dropped: list[str], told: str) -> None:
    wanted = set(names.values())
    missing = [name for name in names.values() if name not in tensors]
    over = [name for name in tensors if name not in wanted and not _matches(name, dropped)]
    if missing or over:
        found = [f"{len(n)} {what} ({_some(n)})" for n, what in ((missing, "missing"), (over, "left over")) if n]
        raise UserError(f"The tensors in {told}: {', '.join(found)}.")


def family_of(config: Mapping[str, Any]) -> ModuleType:
    """The file of weights/ that reads this config. Raises UserError on an unknown model_type, or a contradiction."""
    found = config.get("model_type")
    known = {kind: family for family in rooms.every("weights").values() for kind in family.MODEL_TYPES}
    if found not in known:
        raise UserError(f"config.json has model_type '{found}', which is not known. {rooms.nearest(str(found), known)}")
    named = (config.get("architectures") or [""])[0]
    other = _kind_of(named, known)
    if other not in (None, found):
        raise UserError(
            f"config.json contradicts itself: model_type '{found}', but architectures=['{named}'], which is a "
            f"'{other}'. Correct the one that is wrong."
        )
    return known[found]


def _kind_of(architecture: str, known: Mapping[str, ModuleType]) -> str | None:
    """The longest model_type that the name of a class begins with: 'mamba2' for Mamba2ForCausalLM."""
    begins = [kind for kind in known if architecture.lower().startswith(kind.replace("_", ""))]
    return max(begins, key=len, default=None)


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
    return tensor.T if _matches(name, family.TRANSPOSED) else tensor


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
